"""Backups of a running daemon, restored: services follow, and what the commands say."""

import asyncio
import json
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from brokers import Broker
from commands import aliciacfg, typed
from daemons import Daemon, wait_nothing_pending
from machine import SECONDS
from mqtt_clients import client

PASSPHRASE = "correct horse battery"
# Writes before the backup begins.
_BEFORE = 5


class Writer:
    """Changes one service all the time, and notes what was answered."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.begun = threading.Event()
        self.answered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._ended.is_set():
            number = self.answered + 1
            patch = {"settings": {"max_sessions": number}}
            assert self._daemon.http("PATCH", "/config/voice_router", patch).status == 200
            self.answered = number
            if number > _BEFORE:
                self.begun.set()


async def test_a_backup_under_load_is_a_state_that_existed_and_services_follow_its_restore(
    make_daemon: Callable[..., Daemon], broker: Broker, tmp_path: Path
):
    """The chain is whole, no answered write from before is missing, and a subscriber ends with what was restored."""
    daemon = make_daemon().keep_services("voice_router", "tts_service")
    await asyncio.to_thread(daemon.start)
    archive = tmp_path / "backup.zip"
    with Writer(daemon) as writer:
        await asyncio.to_thread(writer.begun.wait)
        before = writer.answered
        done = await asyncio.to_thread(aliciacfg, daemon, "backup", str(archive))
        after = writer.answered
    assert done.returncode == 0, done.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    assert not list(daemon.data.glob(".snapshot-*"))
    restoring = ("restore", str(archive))
    refused = await asyncio.to_thread(aliciacfg, daemon, *restoring)
    assert (refused.returncode, "the daemon on the data directory data runs (pid " in refused.stderr) == (9, True)
    tried = await asyncio.to_thread(aliciacfg, daemon, *restoring, "--dry-run")
    assert (tried.returncode, json.loads(tried.stdout)["epoch"]) == (0, 2), tried.stderr
    assert not list(daemon.data.glob(".snapshot-*"))
    await asyncio.to_thread(wait_nothing_pending, daemon)
    async with client(broker.port) as mqtt:
        await mqtt.subscribe("alicia/config/update/voice_router")
        held = (await mqtt.next()).json
        await asyncio.to_thread(daemon.kill)
        end = time.monotonic() + SECONDS
        # A database that others may share counts as used for some seconds after its daemon was killed.
        while (done := await asyncio.to_thread(aliciacfg, daemon, *restoring)).returncode == 9:
            assert time.monotonic() < end, done.stderr
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["epoch"] == 2
        await asyncio.to_thread(daemon.start)
        update = (await mqtt.until("alicia/config/update/voice_router")).json
        assert (update["epoch"], update["sequence"]) > (held["epoch"], held["sequence"])
        assert update["revision"] > held["revision"]
        assert before <= update["config"]["settings"]["max_sessions"] <= after + 1
    await asyncio.to_thread(wait_nothing_pending, daemon)
    assert daemon.http("GET", "/health").json["alerts"] == {}
    assert not await asyncio.to_thread(broken_rows, daemon)


def broken_rows(daemon: Daemon) -> list[str]:
    """What is not as it was written, in a copy of the database of a running daemon."""
    store = json.loads(aliciacfg(daemon, "check", "-e", "dev").stdout)["store"]
    assert store["problem"] is None
    return store["broken"]


def empty(daemon: Daemon) -> Daemon:
    """A machine on which there is nothing yet."""
    for name in ("environments", "schemas"):
        shutil.rmtree(daemon.directory / name)
    return daemon


@pytest.mark.sqlite("takes the keys from keys.json; on a server: tests/backups/test_server_home.py")
def test_a_new_machine_is_set_up_by_somebody_who_types_the_passphrase(make_daemon: Callable[..., Daemon]):
    """It is asked twice without being shown; another one at the restore is told as such."""
    daemon = make_daemon().keep_services("voice_router")
    daemon.start()
    # Public development passwords are in variables; this one is a secret.
    assert daemon.http("PATCH", "/config/voice_router", {"settings": {"api_key": "open-sesame"}}).status == 200
    seen = typed(daemon, "backup", "b.zip", "--with-keys", keys=f"{PASSPHRASE}\n{PASSPHRASE}\n")
    assert "verified" in seen
    assert PASSPHRASE not in seen
    with zipfile.ZipFile(daemon.directory / "b.zip") as archive:
        assert {"database", "keys", "manifest.json"} <= set(archive.namelist())
        secrets = (
            "open-sesame",
            *(key["private"] for key in json.loads((daemon.data / "keys.json").read_text())["keys"]),
        )
        assert not [name for name in archive.namelist() for text in secrets if text.encode() in archive.read(name)]
    daemon.stop()
    other = empty(make_daemon("other"))
    file = str(daemon.directory / "b.zip")
    assert "the passphrase is another one" in typed(other, "restore", file, keys="wrong horse battery\n")
    assert not other.data.exists() or not list(other.data.glob("*.db"))
    assert "1 configuration put back" in typed(other, "restore", file, keys=f"{PASSPHRASE}\n")
    other.start()
    answer = other.http("GET", "/config/voice_router").json
    assert (answer["config"]["settings"]["api_key"], answer["epoch"]) == ("***", 2)
    assert other.http("GET", "/health").json["alerts"] == {}
