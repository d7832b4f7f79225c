"""A home whose ``keys.json`` is lost and turns up again, with real daemons and commands."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from brokers import Broker
from commands import aliciacfg
from daemons import Daemon
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("voice_router",)

SETTING = '{"settings": {"max_sessions": 11}}'


def volume(daemon: Daemon) -> object:
    return daemon.config("voice_router")["config"]["settings"]["max_sessions"]


async def retained(broker: Broker) -> object:
    async with client(broker.port) as bus:
        return await bus.retained("alicia/config/#")


def doctor(daemon: Daemon, about: str) -> dict[str, str]:
    found = json.loads(aliciacfg(daemon, "doctor").stdout)
    return next(finding for finding in found if finding["about"] == about)


@pytest.mark.sqlite("its keys are in the database: tests/storage/test_shared_keys.py")
def test_a_key_file_that_is_put_back_over_the_new_one_loses_nothing(
    make_daemon: Callable[..., Daemon], broker: Broker, tmp_path: Path
):
    """The start without it says so until it was added; the start with it in place is refused, and names the way."""
    daemon = make_daemon().keep_services("voice_router").start()
    aliciacfg(daemon, "patch", "voice_router", SETTING)
    daemon.stop()
    lost = tmp_path / "lost.json"
    shutil.move(daemon.data / "keys.json", lost)
    assert "put it back before the next start" in doctor(daemon, "keys")["remedy"]
    daemon.start()
    assert "keys.json was lost (see `aliciacfg status`), " in daemon.ready_line
    daemon.stop()
    new = tmp_path / "new.json"
    shutil.copy(daemon.data / "keys.json", new)
    before = asyncio.run(retained(broker))
    stored = (daemon.data / "aliciacfg.db").read_bytes()

    shutil.copy(lost, daemon.data / "keys.json")
    refused = aliciacfg(daemon, "serve")
    assert refused.returncode == 8
    home = json.loads(aliciacfg(daemon, "keys", "show", "--data-dir", str(daemon.data)).stdout)["home"]
    assert f"holds the keys of home {home}, but those of home " in refused.stderr
    assert "aliciacfg keys add --from FILE" in refused.stderr
    assert "Traceback" not in refused.stderr
    database = doctor(daemon, "database")
    assert database["level"] == "fail"
    assert "those of home" in database["message"]
    assert "those of home" in json.loads(aliciacfg(daemon, "check").stdout)["store"]["problem"]
    rotated = aliciacfg(daemon, "keys", "rotate")
    assert (rotated.returncode, json.loads(lost.read_text())) == (
        1,
        json.loads((daemon.data / "keys.json").read_text()),
    )
    assert asyncio.run(retained(broker)) == before
    assert (daemon.data / "aliciacfg.db").read_bytes() == stored

    shutil.copy(new, daemon.data / "keys.json")
    daemon.start()
    assert volume(daemon) == 11
    assert "Do not copy it over the new one" in daemon.http("GET", "/health").json["alerts"]["adopted"]
    assert doctor(daemon, "keys")["level"] == "warn"
    added = aliciacfg(daemon, "keys", "add", "--from", str(lost))
    assert added.returncode == 0, added.stderr
    assert "adopted" not in daemon.http("GET", "/health").json["alerts"]
    daemon.stop()
    daemon.start()
    assert "keys.json" not in daemon.ready_line
    assert volume(daemon) == 11


@pytest.mark.sqlite("its keys are in the database: tests/storage/test_shared_keys.py")
def test_the_loss_of_a_key_file_is_acknowledged(make_daemon: Callable[..., Daemon]):
    """While the daemon runs or not; what is said once is not said again."""
    daemon = make_daemon().keep_services("voice_router")
    for running in (False, True):
        daemon.start()
        daemon.stop()
        (daemon.data / "keys.json").unlink()
        daemon.start()
        if not running:
            daemon.stop()
        assert "is acknowledged" in aliciacfg(daemon, "keys", "acknowledge", "-o", "table").stdout
        assert "othing to acknowledge" in aliciacfg(daemon, "keys", "acknowledge", "-o", "table").stdout
    assert "adopted" not in daemon.http("GET", "/health").json["alerts"]
    daemon.stop()
