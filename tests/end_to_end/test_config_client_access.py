"""The client for services at a broker with TLS, passwords and the generated access list."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from access_rules import EXAMPLE, load
from aliciacfg.client import Broker, ConfigClient, SettingsError, Unavailable
from aliciacfg.mqtt.broker.access_list import access_list
from aliciacfg.mqtt.broker.passwords import password_file
from brokers import Broker as Mosquitto
from certificates import Authority
from machine import free_port, listens, wait_until
from mqtt_clients import client

SERVICE = "stt_service"
DAEMON = "config_service"
UPDATE = {
    "service": SERVICE,
    "environment": "dev",
    "version": "1.0.0",
    "revision": 1,
    "sequence": 1,
    "epoch": 1,
    "checksum": "c1",
    "config": {"settings": {"model": "small"}},
}


@dataclass
class Guarded:
    """A broker that knows its users; ``port`` speaks TLS."""

    plain: Mosquitto
    port: int
    authority: Path

    def client(self, user: str, **broker: Any) -> ConfigClient[Any]:
        given = {"password": f"pw {user}", "username": user, "tls_ca": str(self.authority), **broker}
        return ConfigClient(
            SERVICE, default={}, broker=Broker(host="localhost", port=self.port, **given), snapshots=False
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    rules = load(EXAMPLE)
    users = {user: f"pw {user}" for user in [*rules.names, DAEMON, "stranger"]}
    for name, text in (("acl", access_list(rules)), ("passwords", password_file(users, iterations=1000))):
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
    pair, port = authority.issue("client-broker"), free_port()
    config = (
        f"acl_file {directory / 'acl'}\npassword_file {directory / 'passwords'}\n"
        f"listener {port} 127.0.0.1\ncafile {authority.file}\ncertfile {pair.cert}\nkeyfile {pair.key}\n"
        "allow_anonymous false\n"
    )
    broker = Mosquitto(directory / "broker", config=config).start()
    wait_until(lambda: listens(port))
    yield Guarded(broker, port, authority.file)
    broker.stop()


async def test_a_service_reads_and_reports_under_its_own_name(guarded: Guarded):
    """The question, its answer, the update and the report are what the list lets it have."""
    async with client(guarded.plain.port, username=DAEMON, password=f"pw {DAEMON}") as daemon:
        await daemon.subscribe("alicia/config/#")

        async def answer() -> None:
            question = await daemon.until(f"alicia/config/get/{SERVICE}/{SERVICE}")
            await daemon.publish(question.json["reply_to"], {"status": "success", **UPDATE})

        answering = asyncio.create_task(answer())
        async with guarded.client(SERVICE) as config:
            await answering
            assert config.current.settings == {"model": "small"}
            assert (await daemon.until(f"alicia/config/applied/{SERVICE}")).json["status"] == "applied"
            update = {**UPDATE, "sequence": 2, "revision": 2, "config": {"settings": {"model": "large"}}}
            await daemon.publish(f"alicia/config/update/{SERVICE}", update, retain=True)
            assert (await anext(config.changes())).changed == ("/settings/model",)


async def test_who_may_not_ask_learns_what_to_look_at(guarded: Guarded, monkeypatch: pytest.MonkeyPatch):
    """The broker drops the question silently; the topic that it may not publish is named."""
    monkeypatch.setattr("aliciacfg.client.link.ANSWER_SECONDS", 0.2)
    for user, problem, broker in (
        ("stranger", f"does the broker let this user publish alicia/config/get/{SERVICE}/stranger", {}),
        (SERVICE, "check MQTT_USERNAME and MQTT_PASSWORD", {"password": "wrong"}),
        (SERVICE, "MQTT_TLS_CA", {"tls_ca": None}),
    ):
        async with guarded.client(user, **broker) as config:
            assert isinstance(config.problem, Unavailable)
            assert problem in str(config.problem)
    with pytest.raises(SettingsError, match=r"MQTT_TLS_CA: .* contains no certificate"):
        async with guarded.client(SERVICE, tls_ca=__file__):
            pass
