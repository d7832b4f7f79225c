"""TLS to the broker: a real Mosquitto that has a certificate and asks for one."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import amqtt.broker
import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.connecting import Dialer, Session, accepts_without_proof, connect_client
from aliciacfg.mqtt.messages import Inbound, Will
from aliciacfg.mqtt.packet_limit import PacketLimit
from brokers import Broker
from certificates import Authority, Pair
from commands import aliciacfg
from daemons import Daemon
from machine import SECONDS, free_port, listens, wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("config_service", "voice_router")

NAMED = "require_certificate true\nuse_identity_as_username true\n"
# Longer than any test: what is noticed only after it is not noticed.
NEVER_SECONDS = 10 * SECONDS


@dataclass
class TlsBroker:
    """A Mosquitto with a plain listener, to look in by, and one with TLS."""

    broker: Broker
    port: int
    pair: Pair

    def stop(self) -> None:
        self.broker.stop()


@pytest.fixture
def make_broker(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., TlsBroker]]:
    """Makes brokers that run, and ends them."""
    made: list[TlsBroker] = []

    def make(pair: Pair | None = None, config: str = "") -> TlsBroker:
        port = free_port()
        shown = pair or authority.issue(f"broker{len(made)}")
        listener = f"listener {port} 127.0.0.1\ncafile {authority.file}\ncertfile {shown.cert}\nkeyfile {shown.key}\n"
        directory = tmp_path / f"broker{len(made)}"
        made.append(TlsBroker(Broker(directory, config=listener + config).start(), port, shown))
        # It opens its listeners one after another.
        wait_until(lambda: listens(port), why="Mosquitto listens with TLS")
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def certificates(authority: Authority, tmp_path: Path) -> dict[str, Pair]:
    """Of brokers and clients, by what is to be said of them."""
    stranger = Authority(tmp_path)
    return {
        "good": authority.issue("good"),
        "for another name": authority.issue("named", "broker.example"),
        "expired": authority.issue("gone", expired=True),
        "config_service": authority.issue("ours", common_name="config_service"),
        "of a stranger": stranger.issue("theirs", common_name="config_service"),
        "expired, ours": authority.issue("past", common_name="config_service", expired=True),
    }


@dataclass(frozen=True)
class Case:
    """The broker's certificate and demand, our authority and certificate, and the error that we report."""

    shown: str
    asks: bool
    believed: str | None
    own: str | None
    why: str


@pytest.mark.parametrize(
    "case",
    [
        Case("good", False, "stranger", None, "not signed by a trusted authority"),
        Case("good", False, "stranger", None, "set MQTT_TLS_CA to the authority's file"),
        Case("for another name", False, "authority", None, "for another name"),
        Case("for another name", False, "authority", None, "connect by a name in it"),
        Case("expired", False, "authority", None, "expired; renew it"),
        Case("good", True, "authority", None, "set MQTT_TLS_CERT and its key"),
        Case("good", True, "authority", "of a stranger", "does not trust the certificate of MQTT_TLS_CERT"),
        Case("good", True, "authority", "expired, ours", "certificate of MQTT_TLS_CERT has expired; renew it"),
        Case("good", False, None, None, "If it speaks TLS there, set MQTT_TLS_CA"),
    ],
    ids=lambda case: case.why,
)
async def test_why_there_is_no_connection_is_told_at_once(
    make_broker: Callable[..., TlsBroker],
    authority: Authority,
    certificates: dict[str, Pair],
    tmp_path: Path,
    case: Case,
):
    """With what to do; not after a timeout, and not as one."""
    broker = await asyncio.to_thread(make_broker, certificates[case.shown], NAMED if case.asks else "")
    pair = None if case.own is None else certificates[case.own]
    files = {"authority": authority.file, "stranger": tmp_path / "ca.pem"}
    address = BrokerAddress(
        "127.0.0.1",
        broker.port,
        tls_ca=None if case.believed is None else str(files[case.believed]),
        tls_cert=None if pair is None else str(pair.cert),
        tls_key=None if pair is None else str(pair.key),
    )
    async with asyncio.timeout(SECONDS):
        with pytest.raises(BrokerUnavailable) as caught:
            async with connect_client(address, timeout_seconds=NEVER_SECONDS):
                pass
    assert case.why in str(caught.value)
    assert str(caught.value).startswith(f"127.0.0.1:{broker.port}: ")


async def test_a_broker_without_tls_on_this_port_is_told(make_broker: Callable[..., TlsBroker], authority: Authority):
    """The port is a likely mistake."""
    broker = await asyncio.to_thread(make_broker)
    address = BrokerAddress("127.0.0.1", broker.broker.port, tls_ca=str(authority.file))
    with pytest.raises(BrokerUnavailable, match="check whether this port serves TLS"):
        async with connect_client(address, timeout_seconds=NEVER_SECONDS):
            pass


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_messages_go_both_ways(
    make_broker: Callable[..., TlsBroker],
    authority: Authority,
    certificates: dict[str, Pair],
    protocol: Literal["5", "3.1.1"],
):
    """With a client certificate: many at once, and one of many TLS records."""
    broker = await asyncio.to_thread(make_broker, None, NAMED)
    ours = certificates["config_service"]
    address = BrokerAddress(
        "127.0.0.1", broker.port, tls_ca=str(authority.file), tls_cert=str(ours.cert), tls_key=str(ours.key)
    )
    sent = [b"%d" % number for number in range(500)] + [bytes(300_000)]
    received: list[bytes] = []
    complete = asyncio.Event()

    def receive(message: Inbound) -> bool:
        received.append(message.payload)
        if len(received) == len(sent):
            complete.set()
        return True

    session = Session("named", Will("gone", b""), 2**20)
    connection = await Dialer(address, SECONDS).open(protocol, PacketLimit(2**20), session=session)
    async with contextlib.aclosing(connection):
        assert connection.protocol == protocol
        connection.receive(receive)
        await connection.subscribe(["there"])
        for payload in sent:
            connection.send("there", payload)
        await connection.publish("kept", b"retained", retain=True)
        async with asyncio.timeout(SECONDS):
            await complete.wait()
    assert received == sent
    async with client(broker.broker.port) as plain:
        assert (await plain.retained("kept"))["kept"].payload == b"retained"


async def test_a_broker_that_asks_for_certificates_does_not_accept_anybody(
    make_broker: Callable[..., TlsBroker], authority: Authority, certificates: dict[str, Pair]
):
    """The certificate is the proof; a broker that accepts any client is detected over TLS too."""
    ours = certificates["config_service"]
    for config, accepts in ((NAMED, False), ("", True)):
        broker = await asyncio.to_thread(make_broker, None, config)
        address = BrokerAddress(
            "127.0.0.1", broker.port, "config_service", "secret", str(authority.file), str(ours.cert), str(ours.key)
        )
        assert await accepts_without_proof(address) is accepts


def over_tls(daemon: Daemon, authority: Authority, pair: Pair | None = None) -> Daemon:
    daemon.environ["MQTT_TLS_CA"] = str(authority.file)
    if pair is not None:
        daemon.environ |= {"MQTT_TLS_CERT": str(pair.cert), "MQTT_TLS_KEY": str(pair.key)}
    return daemon


async def test_the_daemon_is_who_its_certificate_says(
    make_broker: Callable[..., TlsBroker],
    make_daemon: Callable[..., Daemon],
    authority: Authority,
    certificates: dict[str, Pair],
    tmp_path: Path,
):
    """The access list uses the common name: the daemon may publish, and a service gets answers over TLS."""
    acl = tmp_path / "acl"
    acl.write_text(
        "user config_service\ntopic readwrite #\n\nuser voice_router\ntopic write alicia/config/get/voice_router\n"
        "topic read alicia/reply/voice_router/#\n"
    )
    acl.chmod(0o644)
    broker = await asyncio.to_thread(make_broker, None, f"{NAMED}acl_file {acl}\n")
    daemon = over_tls(make_daemon(broker_port=broker.port), authority, certificates["config_service"])
    await asyncio.to_thread(daemon.start)
    assert f"mqtts://127.0.0.1:{broker.port}" in daemon.ready_line
    context = authority.context()
    service = authority.issue("service", common_name="voice_router")
    context.load_cert_chain(service.cert, service.key)
    async with client(broker.port, tls_context=context) as mqtt:
        answer = "alicia/reply/voice_router/1"
        await mqtt.subscribe(answer)
        await mqtt.publish("alicia/config/get/voice_router", ResponseTopic=answer)
        assert (await mqtt.until(answer)).json["config"]["service_name"] == "voice_router"
    await asyncio.to_thread(daemon.stop)


@pytest.mark.parametrize(
    ("shown", "config", "why"),
    [
        ("of a stranger", "", "set MQTT_TLS_CA to the authority's file"),
        ("for another name", "", "connect by a name in it"),
        ("expired", "", "renew it"),
        ("good", NAMED, "set MQTT_TLS_CERT"),
    ],
)
def test_the_daemon_says_why_and_tries_on(
    make_broker: Callable[..., TlsBroker],
    make_daemon: Callable[..., Daemon],
    authority: Authority,
    certificates: dict[str, Pair],
    shown: str,
    config: str,
    why: str,
):
    """Each attempt is logged with a remedy; HTTP serves meanwhile; the daemon connects once the cause is removed."""
    corrected = authority.issue("corrected")
    certificates[shown].copy_to(corrected)
    broker = make_broker(corrected, config)
    daemon = over_tls(make_daemon(broker_port=broker.port), authority)
    daemon.environ["ALICIACFG_LOG_LEVEL"] = "debug"
    daemon.spawn()
    wait_until(lambda: len(daemon.logged("broker_lost")) >= 3)
    assert all(why in entry["reason"] for entry in daemon.logged("broker_lost"))
    daemon.url = daemon.logged("listening")[0]["url"]
    assert daemon.config("voice_router")["revision"] == 1
    broker.stop()
    authority.issue("good").copy_to(corrected)
    broker.broker.config = broker.broker.config.replace(NAMED, "")
    broker.broker.start()
    daemon.wait_ready()


async def test_a_broker_of_3_1_1_is_served_over_tls(make_daemon: Callable[..., Daemon], authority: Authority):
    """Found out by itself, as without TLS."""
    pair = authority.issue("older")
    port = free_port()
    listener = {
        "type": "tcp",
        "bind": f"127.0.0.1:{port}",
        "ssl": True,
        "certfile": str(pair.cert),
        "keyfile": str(pair.key),
    }
    plugins: dict[str, Any] = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False}}
    older = amqtt.broker.Broker({"listeners": {"default": listener}, "plugins": plugins})
    await older.start()
    try:
        daemon = over_tls(make_daemon(broker_port=port), authority)
        await asyncio.to_thread(daemon.start)
        assert (await asyncio.to_thread(daemon.first_logged, "broker_connected"))["protocol"] == "MQTT 3.1.1"
        await asyncio.to_thread(daemon.stop)
    finally:
        await older.shutdown()


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"MQTT_TLS_CA": "nowhere.pem"}, "MQTT_TLS_CA: nowhere.pem cannot be read"),
        ({"MQTT_TLS_CERT": "ours.pem"}, "MQTT_TLS_CERT needs MQTT_TLS_CA"),
        ({"MQTT_TLS_CA": "{ca}", "MQTT_TLS_CERT": "ours.pem"}, "MQTT_TLS_CERT: ours.pem cannot be read"),
        ({"MQTT_TLS_CA": "{ca}", "MQTT_TLS_KEY": "ours.key"}, "MQTT_TLS_KEY is set without MQTT_TLS_CERT"),
    ],
)
def test_files_that_cannot_be_used_are_told_at_start(
    make_daemon: Callable[..., Daemon], authority: Authority, environ: dict[str, str], why: str
):
    """By setting and file, with exit code 8."""
    daemon = make_daemon(environ={name: value.format(ca=authority.file) for name, value in environ.items()})
    assert daemon.spawn().wait_exit() == 8
    assert why in daemon.log.read_text()


def test_files_that_vanish_later_end_no_daemon(
    make_broker: Callable[..., TlsBroker], make_daemon: Callable[..., Daemon], authority: Authority, tmp_path: Path
):
    """The files are read at each connection: a problem is logged, and the daemon retries until they are back."""
    believed = tmp_path / "believed.pem"
    believed.write_bytes(authority.file.read_bytes())
    broker = make_broker()
    daemon = over_tls(make_daemon(broker_port=broker.port), authority)
    daemon.environ["MQTT_TLS_CA"] = str(believed)
    daemon.start()
    believed.unlink()
    broker.stop()
    broker.broker.start()
    told = f"MQTT_TLS_CA: {believed} cannot be read: No such file or directory"
    wait_until(lambda: any(entry["reason"] == told for entry in daemon.logged("broker_lost")))
    believed.write_bytes(authority.file.read_bytes())
    wait_until(lambda: len(daemon.logged("broker_connected")) == 2)


@pytest.mark.parametrize("by", ["environment", "option"])
def test_the_commands_ask_over_tls(
    make_broker: Callable[..., TlsBroker],
    make_daemon: Callable[..., Daemon],
    authority: Authority,
    tmp_path: Path,
    by: str,
):
    """With MQTT_TLS_CA or --ca; with the wrong one they say so."""
    broker = make_broker()
    daemon = over_tls(make_daemon(broker_port=broker.port), authority).start()

    def get(file: Path) -> subprocess.CompletedProcess[str]:
        environ = {"MQTT_TLS_CA": str(file)} if by == "environment" else {}
        option = ["--ca", str(file)] if by == "option" else []
        return aliciacfg(daemon, *option, "get", "voice_router", environ=environ)

    assert json.loads(get(authority.file).stdout)["service_name"] == "voice_router"
    refused = get(Authority(tmp_path).file)
    assert refused.returncode == 7
    assert "set MQTT_TLS_CA to the authority's file" in refused.stderr
