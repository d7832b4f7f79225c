"""Nothing acknowledged is lost over restarts and a full disk; faults under load are in tests/faults."""

import asyncio
import resource
from collections.abc import Callable

import pytest

from daemons import Daemon
from machine import wait_until

# The services of its daemons.
HOME_SERVICES = ("voice_router",)


async def test_revisions_count_up_without_gap_over_restarts(daemon: Daemon):
    """Revision, version and overlay go on where they were; nothing is announced anew."""
    daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 11}})
    before = daemon.config("voice_router")
    assert daemon.stop() == 0
    await asyncio.to_thread(daemon.start)
    assert daemon.config("voice_router") == before
    after = daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 12}}).json
    assert (after["revision"], after["version"]) == (3, "1.0.2")


@pytest.mark.sqlite("its disk is full: that of a server is its own")
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
    not_ready = daemon.http("GET", "/ready")
    assert (not_ready.status, "store" in not_ready.json["reason"]) == (503, True)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    await asyncio.to_thread(wait_until, lambda: daemon.http("GET", "/ready").status == 200)
    written = daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 5}})
    assert (written.status, written.json["revision"]) == (200, 2)


@pytest.mark.sqlite("its database is not in the data directory")
async def test_a_damaged_database_is_told_with_its_remedy(daemon: Daemon):
    """A file that is no database stops the start with a message that says so."""
    await asyncio.to_thread(daemon.stop)
    for file in daemon.data.glob("aliciacfg.db*"):
        file.unlink()
    (daemon.data / "aliciacfg.db").write_bytes(b"this is no database" * 1000)
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    assert "restore it from a backup" in daemon.log.read_text()
