"""A disk that hangs, cannot be read, is full, or loses what it was given to keep; and a database that is locked."""

import asyncio
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aliciacfg.documents import find, yaml_reader
from aliciacfg.storage.sqlite.schema import MIGRATIONS
from commands import aliciacfg
from daemons import Daemon, HttpAnswer
from failing_disk import FailingDisk, Fault
from machine import wait_until
from mqtt_clients import client
from soak import rarely
from stored_rows import before_the_codes, before_this_version, schema_version


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    """A disk that fails under the database of the daemon ``home``."""
    return FailingDisk(tmp_path / "disk", "/home/data/")


@pytest.fixture
def home(make_daemon: Callable[..., Daemon], disk: FailingDisk) -> Daemon:
    """A daemon with two services on that disk, not started."""
    return make_daemon(environ=dict(disk.environ)).keep_services("voice_router", "stt_service")


# What SQLite says of each.
REASONS = {"full": "full", "read_only": "read", "write_fails": "disk I/O error"}


def patch(daemon: Daemon, number: int) -> HttpAnswer:
    return daemon.http("PATCH", "/config/voice_router", {"limits": {"counter": number}})


def counter(daemon: Daemon) -> object:
    return daemon.config("voice_router")["config"].get("limits", {}).get("counter")


def saved(daemon: Daemon) -> object:
    """Write the home elsewhere, as a backup and as files; return the counter of the latter."""
    with tempfile.TemporaryDirectory() as elsewhere:
        for command, target in (("backup", "home.zip"), ("export", "home")):
            done = aliciacfg(daemon, command, f"{elsewhere}/{target}")
            assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
        assert sorted(path.name for path in Path(elsewhere).iterdir()) == ["home", "home.zip"]
        overlay = yaml_reader.load(Path(elsewhere, "home/overlays/dev/voice_router.yaml").read_text(), file="").value
    return find(overlay, "/limits/counter")


def keepalive(daemon: Daemon) -> int:
    return daemon.config("voice_router")["config"]["mqtt_config"]["keepalive"]


def status(daemon: Daemon) -> str:
    return daemon.http("GET", "/health").json["status"]


def told(daemon: Daemon) -> str:
    """What health says about the store's writes."""
    return daemon.http("GET", "/health").json["alerts"]["store:write"]


def ready(daemon: Daemon) -> bool:
    return daemon.http("GET", "/ready").status == 200


def alerts(daemon: Daemon) -> list[str]:
    return sorted(name for name in daemon.http("GET", "/health").json["alerts"] if name.startswith("store"))


def test_a_sync_that_hangs_is_told_and_holds_up_nothing_but_writes(home: Daemon, disk: FailingDisk):
    """Degraded and not ready after two seconds; all goes on when the disk does."""
    home.start()
    answers: list[int] = []
    with disk.failing("sync_hangs"):
        writer = threading.Thread(target=lambda: answers.append(patch(home, 1).status))
        writer.start()
        wait_until(lambda: status(home) == "degraded")
        assert (ready(home), alerts(home)) == (False, ["store:slow"])
        assert counter(home) is None
        assert home.http("GET", "/config/voice_router/history").status == 200
    writer.join()
    assert answers == [200]
    wait_until(lambda: ready(home))
    assert (status(home), alerts(home), counter(home)) == ("healthy", [], 1)


def test_a_stop_has_a_deadline_even_if_the_disk_hangs(home: Daemon, disk: FailingDisk):
    """Within ten seconds the process ends with a code of its own; the log says what is lost, the bus that it ended."""
    home.start()
    assert patch(home, 1).status == 200
    disk.set("sync_hangs")
    writers = [threading.Thread(target=patch_until_it_ends, args=(home, number)) for number in (2, 3)]
    for writer in writers:
        writer.start()
        wait_until(lambda: status(home) == "degraded")
    assert home.process is not None
    home.process.send_signal(signal.SIGTERM)
    assert home.wait_exit() == 10
    (forced,) = home.logged("stop_forced")
    assert min(forced["writes_unknown"], forced["writes_lost"]) >= 1
    assert asyncio.run(retained_status(home)) == "offline"
    for writer in writers:
        writer.join()
    disk.set()
    home.start()
    assert counter(home) in {1, 2}


async def retained_status(daemon: Daemon) -> str:
    """The status in the health that the broker keeps."""
    topic = "alicia/system/health/config_service"
    async with client(daemon.broker_port) as mqtt:
        return (await mqtt.retained(topic))[topic].json["payload"]["status"]


def patch_until_it_ends(daemon: Daemon, number: int) -> None:
    try:
        patch(daemon, number)
    except Exception:  # noqa: BLE001 - the connection ends in one of many ways
        return


async def test_a_commit_that_fails_in_its_sync_is_unknown(home: Daemon, disk: FailingDisk):
    """The answer says so; the daemon finds out, and what it says then survives a kill."""
    await asyncio.to_thread(home.start)
    assert patch(home, 1).status == 200
    with disk.failing("sync_fails"):
        # What the broker confirmed of the first write may fail before it, and refuse what waits behind.
        wait_until(lambda: "not known whether this was written" in patch(home, 2).json["message"])
        refused = patch(home, 3)
        assert (refused.status, "finding out" in refused.json["message"]) == (503, True)
        assert (status(home), alerts(home), ready(home)) == ("unhealthy", ["store:write"], False)
    await asyncio.to_thread(wait_until, lambda: ready(home))
    told = home.config("voice_router")
    home.kill()
    await asyncio.to_thread(home.start)
    assert home.config("voice_router") == told
    assert patch(home, 4).status == 200
    assert home.config("voice_router")["revision"] == told["revision"] + 1


async def test_a_commit_that_failed_in_its_sync_is_whole_or_absent_after_a_kill(home: Daemon, disk: FailingDisk):
    """Killed before it found out: the next start takes what the disk holds, and all parts agree on it."""
    await asyncio.to_thread(home.start)
    assert patch(home, 1).status == 200
    disk.set("sync_fails")
    assert patch(home, 2).status == 503
    home.kill()
    disk.set()
    await asyncio.to_thread(home.start)
    found = home.config("voice_router")
    assert counter(home) in {1, 2}
    history = home.http("GET", "/config/voice_router/history").json["revisions"]
    assert [item["revision"] for item in history] == list(range(found["revision"], 0, -1))
    assert home.http("GET", "/drift").json["drift"] == []


def test_an_unreadable_disk_serves_what_is_in_memory(home: Daemon, disk: FailingDisk):
    """Current configurations are answered, the history is not; health says so without anybody asking, until it ends."""
    home.environ["ALICIACFG_CACHE_TTL_SECONDS"] = "0"
    home.start()
    assert patch(home, 1).status == 200
    with disk.failing("read_fails"):
        wait_until(lambda: status(home) == "unhealthy")
        assert (alerts(home), ready(home), counter(home)) == (["store:read"], False, 1)
        for path in (
            "/config/voice_router?pointer=/version", "/config/schema/voice_router", "/configs?include=config",
            "/config/voice_router/explain", "/config/compare/voice_router?env1=dev&env2=dev", "/environments",
            "/config/voice_router/instances", "/drift", "/metrics", "/keys/current",
        ):  # fmt: skip
            assert home.http("GET", path).status == 200, path
        assert home.http("POST", "/config/validate", {"service": "voice_router", "config": {}}).status == 200
        old = home.http("GET", "/config/voice_router?revision=1")
        assert (old.status, old.json.get("code")) == (503, "unavailable")
    wait_until(lambda: ready(home))
    assert (status(home), alerts(home)) == ("healthy", [])
    assert home.http("GET", "/config/voice_router?revision=1").status == 200


def test_a_read_that_hangs_is_told_and_holds_up_nothing_in_memory(home: Daemon, disk: FailingDisk):
    """The daemon notices by itself, and that it is over, too."""
    home.start()
    assert patch(home, 1).status == 200
    with disk.failing("read_hangs"):
        wait_until(lambda: status(home) == "unhealthy")
        assert (alerts(home), ready(home), counter(home)) == (["store:read"], False, 1)
    wait_until(lambda: ready(home))
    assert (status(home), alerts(home)) == ("healthy", [])


@pytest.mark.parametrize("fault", [rarely("full"), "read_only"])
def test_a_start_on_a_disk_that_cannot_be_written_serves_what_is_there(home: Daemon, disk: FailingDisk, fault: Fault):
    """After a clean stop: everything is answered, writes are not, and the daemon recovers alone."""
    home.start()
    assert patch(home, 1).status == 200
    before = home.config("voice_router")
    assert home.stop() == 0
    with disk.failing(fault):
        home.start()
        assert (home.config("voice_router"), status(home), alerts(home)) == (before, "unhealthy", ["store:write"])
        refused = patch(home, 2)
        assert (refused.status, refused.json["code"], ready(home)) == (503, "unavailable", False)
        assert home.http("GET", "/config/voice_router/history").json["revisions"][0]["revision"] == 2
        assert home.http("GET", "/config/voice_router/explain").status == 200
        # What is there can be saved to another disk, though there is neither room for a copy nor for a socket.
        assert saved(home) == 1
    wait_until(lambda: ready(home))
    assert (status(home), alerts(home)) == ("healthy", [])
    assert patch(home, 3).json["revision"] == 3
    assert home.http("GET", "/drift").json["drift"] == []


@pytest.mark.parametrize("fault", ["full", rarely("read_only")])
def test_a_start_after_a_kill_on_a_disk_that_cannot_be_written_misses_nothing(
    home: Daemon, disk: FailingDisk, fault: Fault
):
    """What only the write-ahead log holds is served, too; changed files are loaded when there is room."""
    home.start()
    assert patch(home, 1).status == 200
    home.kill()
    assert (home.data / "aliciacfg.db-wal").stat().st_size > 0
    base = home.environments / "base.yaml"
    base.write_text(base.read_text().replace("keepalive: 60", "keepalive: 50"))
    with disk.failing(fault):
        assert saved(home) == 1
        home.start()
        assert (counter(home), status(home), patch(home, 2).status) == (1, "unhealthy", 503)
        assert keepalive(home) == 60
        # With a daemon that has a socket.
        assert saved(home) == 1
    wait_until(lambda: keepalive(home) == 50)
    wait_until(lambda: status(home) == "healthy")
    assert (counter(home), patch(home, 3).status) == (1, 200)


def test_the_administrators_token_of_a_start_on_a_full_disk_is_stored_later(
    home: Daemon, disk: FailingDisk, tmp_path: Path
):
    """When there is room, although the environment that the start moves to is refused then."""
    home.start()
    assert home.stop() == 0
    file = tmp_path / "token"
    home.environ |= {"ALICIACFG_ADMIN_TOKEN_FILE": str(file), "ENVIRONMENT": "staging"}
    there = home.environments / "staging.yaml"
    there.write_text((home.environments / "dev.yaml").read_text())
    with disk.failing("full"):
        home.start()
        home.first_logged("start_not_stored")
        there.write_text("services: [\n")
    bearer = {"Authorization": f"Bearer {file.read_text().strip()}"}
    wait_until(lambda: home.http("GET", "/tokens", headers=bearer).status == 200, why="the token is known")
    assert home.http("GET", "/tokens").status == 401


@pytest.mark.parametrize("fault", ["full", rarely("read_only")])
def test_a_first_start_on_a_disk_that_cannot_be_written_says_so(home: Daemon, disk: FailingDisk, fault: Fault):
    """With the place, the reason and what to do; exit code 8, no traceback, no advice about backups."""
    with disk.failing(fault):
        home.data.mkdir()
        home.spawn()
        assert home.wait_exit() == 8
    told = home.log.read_text()
    assert "data" in told
    assert ("free some space" in told) if fault == "full" else ("mount it for writing" in told)
    assert "backup" not in told


@pytest.mark.parametrize("fault", ["full", rarely("read_only"), rarely("write_fails")])
def test_a_database_of_the_version_before_is_served_from_a_disk_that_cannot_be_written(
    home: Daemon, disk: FailingDisk, fault: Fault
):
    """The upgrade fails, so writes are refused, with the reason; it is made when the disk works again."""
    home.start()
    assert patch(home, 1).status == 200
    before = home.config("voice_router")
    assert home.stop() == 0
    before_this_version(home.data / "aliciacfg.db")
    with disk.failing(fault):
        home.start()
        assert (home.config("voice_router"), status(home), alerts(home)) == (before, "unhealthy", ["store:write"])
        assert REASONS[fault] in told(home)
        assert patch(home, 2).status == 503
    wait_until(lambda: ready(home))
    assert patch(home, 3).json["revision"] == 3
    assert home.stop() == 0
    assert schema_version(home.data / "aliciacfg.db") == len(MIGRATIONS)


@pytest.mark.parametrize("fault", ["full", rarely("read_only"), rarely("write_fails")])
def test_a_database_of_an_older_version_that_cannot_be_upgraded_says_why(home: Daemon, disk: FailingDisk, fault: Fault):
    """Its columns are others, so it cannot be served; the start that fails tells what is wrong with the disk."""
    home.start()
    assert home.stop() == 0
    before_the_codes(home.data / "aliciacfg.db")
    with disk.failing(fault):
        home.spawn()
        assert home.wait_exit() == 8
    text = home.log.read_text()
    assert ("cannot be upgraded" in text, REASONS[fault] in text, "backup" in text) == (True, True, False)
    home.start()
    assert patch(home, 1).status == 200


def test_a_database_that_is_locked_is_served_and_written_when_it_is_free(home: Daemon):
    """Another program holds a write lock at the start: reads are answered, writes refused, until it lets go."""
    home.start()
    assert patch(home, 1).status == 200
    assert home.stop() == 0
    with closing(sqlite3.connect(home.data / "aliciacfg.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        home.start()
        assert counter(home) == 1
        refused = patch(home, 2)
        assert (refused.status, "end that program" in refused.json["message"]) == (503, True)
        assert status(home) == "unhealthy"
        # Nobody is sent to look at the disk.
        assert "another program has locked the database" in told(home)
        assert "disk" not in told(home)
        other.execute("ROLLBACK")
        wait_until(lambda: ready(home))
    assert patch(home, 3).json["revision"] == 3


def test_a_database_that_cannot_even_be_read_is_waited_for(home: Daemon):
    """Another program holds every lock: the daemon says so, ends at SIGTERM, and starts when it lets go."""
    home.start()
    assert home.stop() == 0
    with closing(sqlite3.connect(home.data / "aliciacfg.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE anything (x)")
        home.spawn()
        wait_until(lambda: home.logged("database_locked"))
        assert home.stop() == 0
        home.spawn()
        wait_until(lambda: len(home.logged("database_locked")) > 1)
        other.execute("ROLLBACK")
    home.wait_ready()
    assert patch(home, 3).status == 200
