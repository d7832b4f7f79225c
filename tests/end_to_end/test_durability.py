"""Nothing acknowledged is lost: kill -9, a full disk, restarts, two daemons."""

import asyncio
import resource
import threading
import urllib.error
from collections.abc import Callable

import pytest

from brokers import Broker
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client
from repository import SERVICES

WRITERS = ["voice_router", "stt_service", "tts_service", "ai_service"]


def write_until_it_dies(daemon: Daemon, service: str, acknowledged: dict[str, int], stop: threading.Event) -> None:
    """Count one number up; remember the last one that was acknowledged."""
    number = 0
    while not stop.is_set():
        number += 1
        try:
            answer = daemon.http("PATCH", f"/config/{service}", {"limits": {"counter": number}})
        except (urllib.error.URLError, OSError, ConnectionError):
            return
        except Exception:  # noqa: BLE001 - http.client raises many kinds when its peer is killed
            return
        if answer.status == 200:
            acknowledged[service] = number


async def kill_and_check(daemon: Daemon, broker: Broker, rounds: int, seconds: float) -> None:
    """Kill -9 in the middle of writes, start again: every acknowledged write is there and announced."""
    for _ in range(rounds):
        acknowledged: dict[str, int] = {}
        stop = threading.Event()
        threads = [
            threading.Thread(target=write_until_it_dies, args=(daemon, service, acknowledged, stop))
            for service in WRITERS
        ]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(wait_until, lambda seen=acknowledged: len(seen) == len(WRITERS))
        await asyncio.sleep(seconds)
        daemon.kill()
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(daemon.start)
        await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/health").json["outbox_pending"] == 0)
        async with client(broker.port) as mqtt:
            retained = await mqtt.retained("alicia/config/update/#")
        assert sorted(topic.rpartition("/")[2] for topic in retained) == SERVICES
        for service in SERVICES:
            now = daemon.config(service)
            update = retained[f"alicia/config/update/{service}"].json
            assert (update["revision"], update["config"]) == (now["revision"], now["config"])
            if service in acknowledged:
                assert now["config"]["limits"]["counter"] >= acknowledged[service]


async def test_kill_9_during_writes_loses_nothing_acknowledged(daemon: Daemon, broker: Broker):
    """Two rounds of kill -9 under four writers."""
    await kill_and_check(daemon, broker, rounds=2, seconds=0.3)


@pytest.mark.soak
async def test_kill_9_again_and_again(daemon: Daemon, broker: Broker):
    """Fifty rounds of kill -9 under four writers."""
    await kill_and_check(daemon, broker, rounds=50, seconds=0.2)


async def test_revisions_count_up_without_gap_over_restarts(daemon: Daemon):
    """Revision, version and overlay go on where they were; nothing is announced anew."""
    daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 11}})
    before = daemon.config("voice_router")
    assert daemon.stop() == 0
    await asyncio.to_thread(daemon.start)
    assert daemon.config("voice_router") == before
    after = daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 12}}).json
    assert (after["revision"], after["version"]) == (3, "1.0.2")


async def test_a_full_disk_refuses_writes_and_serves_reads(make_daemon: Callable[..., Daemon]):
    """When the database cannot grow, writes are `unavailable`, nothing changes, and reads go on."""
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    assert daemon.process is not None
    wal = daemon.data / "aliciacfg.db-wal"
    before = daemon.config("voice_router")
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, hard))
    refused = daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 5}})
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert daemon.config("voice_router") == before
    assert daemon.http("GET", "/health").json["status"] == "unhealthy"
    assert daemon.http("GET", "/ready").status == 503
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/ready").status == 200)
    written = daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 5}})
    assert (written.status, written.json["revision"]) == (200, 2)


async def test_a_damaged_database_is_told_with_its_remedy(daemon: Daemon):
    """A file that is no database stops the start with a message that says so."""
    await asyncio.to_thread(daemon.stop)
    for file in daemon.data.glob("aliciacfg.db*"):
        file.unlink()
    (daemon.data / "aliciacfg.db").write_bytes(b"this is no database" * 1000)
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    assert "restore it from a backup" in daemon.log.read_text()
