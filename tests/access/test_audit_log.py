"""Entries of the audit log that the database cannot take at first."""

import asyncio

import pytest

from aliciacfg.access import audit_log
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.errors import Busy, OperationError, Unavailable, Unconfirmed
from aliciacfg.model.records import Write
from inprocess import CALLER


class FakeQueue:
    """A write queue whose answers a test sets.

    Attributes:
        refusal: What ``submit`` raises.
        failure: What the writes fail with.
        written: What each write that did not fail delivered of which service.
    """

    def __init__(self) -> None:
        self.refusal: OperationError | None = None
        self.failure: OperationError | None = None
        self.written: list[str | None] = []

    def submit(self, write: Write) -> "asyncio.Future[None]":
        if self.refusal is not None:
            raise self.refusal
        done = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            done.set_exception(self.failure)
        else:
            self.written += [entry.service for entry in write.audit]
            done.set_result(None)
        return done


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def log(queue: FakeQueue) -> AuditLog:
    return AuditLog(queue, lambda: 1.0)  # pyright: ignore[reportArgumentType]


async def deliver(log: AuditLog, *services: str) -> None:
    for service in services:
        log.record_delivery(CALLER, service, "dev", 1)
    # Futures call back in the next turn.
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("name", "error"), [("failure", Unavailable("full")), ("refusal", Unavailable("hangs")), ("refusal", Busy("many"))]
)
async def test_what_cannot_be_written_waits(log: AuditLog, queue: FakeQueue, name: str, error: OperationError):
    """In order, however often it fails, and is written once."""
    setattr(queue, name, error)
    await deliver(log, "bell", "lamp")
    log.flush()
    await asyncio.sleep(0)
    setattr(queue, name, None)
    await deliver(log, "door")
    log.flush()
    log.flush()
    assert queue.written == ["door", "bell", "lamp"]


async def test_what_may_have_been_written_is_not_written_twice(log: AuditLog, queue: FakeQueue):
    """The database answers later whether it was."""
    queue.failure = Unconfirmed("lost")
    await deliver(log, "bell")
    queue.failure = None
    log.flush()
    assert queue.written == []


async def test_what_waits_is_bounded(log: AuditLog, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch):
    """The first ones stay."""
    monkeypatch.setattr(audit_log, "_MAX_UNWRITTEN", 2)
    queue.failure = Unavailable("full")
    await deliver(log, "bell", "lamp", "door")
    queue.failure = None
    log.flush()
    assert queue.written == ["bell", "lamp"]


async def test_the_end_leaves_nothing_that_can_be_written(log: AuditLog, queue: FakeQueue):
    """When the daemon stops, what waits and the summaries of the last minute are written."""
    running = asyncio.create_task(log.run())
    queue.failure = Unavailable("full")
    await deliver(log, "bell")
    queue.failure = None
    for _ in range(3):
        log.record_refusal(CALLER, "get", "lamp", Unavailable("no"))
    running.cancel()
    await asyncio.wait({running})
    assert queue.written == ["lamp", "bell", "lamp"]
