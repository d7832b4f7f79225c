"""The client for services with a real daemon on a real Mosquitto: secrets, restarts, a restored backup, deletion."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.client import Broker, ConfigClient, NotFound, Unavailable
from brokers import Broker as Mosquitto
from builders import valid_config
from commands import aliciacfg
from daemons import Daemon, serving
from inprocess import eventually
from machine import free_port
from mqtt_clients import client

SERVICE = "voice_router"
MAX_SESSIONS = ("/settings/max_sessions",)


class VoiceRouter(msgspec.Struct, frozen=True):
    max_sessions: int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of two services for the tests that leave it running."""
    with serving(tmp_path_factory.mktemp("home"), lambda made: made.keep_services(SERVICE, "tts_service")) as made:
        yield made


def config_client(
    port: int, directory: Path, service: str = SERVICE, kind: Any = VoiceRouter, **options: Any
) -> ConfigClient[Any]:
    options.setdefault("snapshot_dir", directory / "state")
    return ConfigClient(service, kind, broker=Broker(host="127.0.0.1", port=port), **options)


async def enter(config: ConfigClient[Any]) -> None:
    async with config:
        pass


async def patch(port: int, service: str = SERVICE, **settings: object) -> dict[str, Any]:
    """What the daemon answers to a change of a service's settings."""
    async with client(port) as writer:
        return (await writer.ask(f"alicia/config/patch/{service}", {"patch": {"settings": settings}})).json


async def test_a_change_arrives_typed_and_is_reported_when_the_loop_comes_back(home: Daemon, tmp_path: Path):
    """The daemon lists the instance as current only then; states that passed meanwhile are one change."""
    async with config_client(home.broker_port, tmp_path, instance="copy-1") as config:
        assert (config.current.source, config.current.stale) == ("live", False)
        assert config.current.config["mqtt_config"]["password"] == "***"
        assert list(config.current.redacted) == ["/mqtt_config/password"]
        assert "recipient new voice_router" in config.current.redacted["/mqtt_config/password"]
        changes = config.changes()
        for number in (31, 32, 33):
            answer = await patch(home.broker_port, max_sessions=number)
        await eventually(lambda: config.current.settings.max_sessions == 33)
        change = await anext(changes)
        assert change.settings == VoiceRouter(33)
        assert change.changed == change.restart_required == MAX_SESSIONS
        assert (change.revision, change.checksum) == (answer["revision"], answer["checksum"])
        (seen,) = home.http("GET", f"/config/{SERVICE}/instances").json["instances"]
        assert (seen["instance"], seen["status"], seen["current"]) == ("copy-1", "applied", False)
        following = asyncio.ensure_future(anext(changes))
        await eventually(lambda: home.http("GET", f"/config/{SERVICE}/instances").json["instances"][0]["current"])
    # The iterator ends with the client.
    with pytest.raises(StopAsyncIteration):
        await following


async def test_a_recipient_key_that_is_made_later_opens_the_secrets(home: Daemon, tmp_path: Path):
    """The sealed message is a change, and the snapshot holds nothing of the secret; a second key works too."""
    key_file = tmp_path / "tts.key"
    new = ["recipient", "new", "tts_service", "--key-file", str(key_file)]
    async with config_client(home.broker_port, tmp_path, "tts_service", dict, key_file=key_file) as config:
        assert "recipient new tts_service" in config.current.redacted["/mqtt_config/password"]
        made = aliciacfg(home, *new)
        assert (made.returncode, key_file.stat().st_mode & 0o777) == (0, 0o600)
        opened = await anext(config.changes())
        assert opened.changed == ("/mqtt_config/password", "/settings/azure_speech_key")
        assert not opened.redacted
        password = opened.config["mqtt_config"]["password"]
        assert len(password) > 8
        # The file that is there is registered again, and another key seals the same secrets: nothing changes for the
        # program.
        for more in ((), ("--add",)):
            before = config.current.sequence
            assert aliciacfg(home, *new, *more).returncode == 0
            await eventually(lambda before=before: config.current.sequence > before)
        assert config.current.config == opened.config
        assert password not in repr(config.current)
        numbers = config.current.numbers
    assert password not in (tmp_path / "state" / "aliciacfg-tts_service.json").read_text()
    async with config_client(free_port(), tmp_path, "tts_service", dict, key_file=key_file) as config:
        assert (config.current.source, config.current.stale, config.current.numbers) == ("snapshot", True, numbers)
        assert config.current.config["mqtt_config"]["password"] == password


@pytest.mark.sqlite("a copy of the file is put back; a server is restored with `aliciacfg restore`, or its own means")
async def test_it_follows_a_home_through_everything(
    broker: Mosquitto, make_daemon: Callable[..., Daemon], tmp_path: Path
):
    """A restart of the daemon, a restored database, a broker that forgot everything, another environment."""
    daemon = make_daemon().keep_services(SERVICE)
    shutil.copy(daemon.environments / "dev.yaml", daemon.environments / "lab.yaml")
    daemon.start()
    port = daemon.broker_port
    await patch(port, max_sessions=40)
    async with config_client(port, tmp_path) as config:
        first = config.current
        changes = config.changes()
        # A backup, and a change that it lacks.
        daemon.stop()
        assert not config.current.stale
        shutil.copytree(daemon.data, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
        daemon.start()
        assert (await patch(port, max_sessions=41))["revision"] == first.revision + 1
        assert (await anext(changes)).settings.max_sessions == 41
        # The restored database begins a new epoch; what it holds is older, and counts.
        daemon.stop()
        shutil.rmtree(daemon.data)
        shutil.copytree(tmp_path / "backup", daemon.data)
        daemon.start()
        restored = await anext(changes)
        assert restored.settings.max_sessions == 40
        assert restored.epoch > first.epoch
        # A broker that forgets everything; the daemon publishes anew.
        broker.kill()
        await eventually(lambda: config.current.stale)
        assert config.current.source == "live"
        broker.wipe()
        broker.start()
        await eventually(lambda: not config.current.stale)
        assert config.current.settings.max_sessions == 40
        # Another environment, whose revisions begin at 1.
        async with client(port) as admin:
            assert (await admin.ask("alicia/config/activate/lab")).json["status"] == "success"
        moved = await anext(changes)
        assert (moved.environment, moved.revision, moved.settings.max_sessions) == ("lab", 1, 10)


async def test_a_deletion_is_told_apart_and_a_return_is_a_change(home: Daemon, tmp_path: Path):
    """The program keeps its last values; this machine's disk forgets them; and what comes back is followed."""
    document = valid_config(settings={"max_sessions": 7, "greeting": "hello"})
    async with client(home.broker_port) as admin:
        assert (await admin.ask("alicia/config/set/bell", {"config": document})).json["revision"] == 1
        async with config_client(home.broker_port, tmp_path, "bell") as config:
            snapshot = tmp_path / "state" / "aliciacfg-bell.json"
            await eventually(snapshot.exists)
            changes = config.changes()
            document["settings"]["greeting"] = ""
            await admin.ask("alicia/config/set/bell", {"config": document})
            emptied = await anext(changes)
            assert (emptied.deleted, emptied.config["settings"]["greeting"]) == (False, "")
            assert (await admin.ask("alicia/config/delete/bell")).json["status"] == "success"
            gone = await anext(changes)
            assert (gone.deleted, gone.changed, gone.settings) == (True, (), VoiceRouter(7))
            assert (config.deleted, config.current.stale) == (True, True)
            await eventually(lambda: not snapshot.exists())
            with pytest.raises(NotFound):
                await config.refresh()
            await admin.ask("alicia/config/set/bell", {"config": document})
            back = await anext(changes)
            assert (back.deleted, back.revision, config.deleted) == (False, 4, False)


async def test_without_a_configuration_nothing_starts_but_with_a_default(home: Daemon, tmp_path: Path):
    """Not found is an answer, and unavailable is none; both name the remedy."""
    with pytest.raises(NotFound, match="aliciacfg service add nobody"):
        await enter(config_client(home.broker_port, tmp_path, "nobody"))
    async with config_client(home.broker_port, tmp_path, "nobody", default=VoiceRouter(1)) as config:
        assert (config.current.source, config.current.settings.max_sessions) == ("default", 1)
        assert isinstance(config.problem, NotFound)
        async with client(home.broker_port) as admin:
            await admin.ask("alicia/config/set/nobody", {"config": valid_config(settings={"max_sessions": 2})})
        change = await anext(config.changes())
        assert (change.source, change.settings.max_sessions) == ("live", 2)
        assert set(MAX_SESSIONS) < set(change.changed)
    port = free_port()
    with pytest.raises(Unavailable):
        await enter(config_client(port, tmp_path, "anybody", timeout_seconds=0.1))
    async with config_client(port, tmp_path, "anybody", default=VoiceRouter(1)) as config:
        assert isinstance(config.problem, Unavailable)
        assert "Connection refused; if the broker is elsewhere, set MQTT_BROKER" in str(config.problem)
