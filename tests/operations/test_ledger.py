"""Answers to writes, kept so that a repetition of a request is not carried out again."""

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import PatchRequest, WriteRequest
from aliciacfg.errors import Answered, Busy, Conflict, Unavailable, Unconfirmed
from aliciacfg.operations import patience
from aliciacfg.operations.ledger import Ledger, closed, opened
from inprocess import eventually

ASKING = Caller("voice_router", "mqtt")
ANSWER = Answer(b'{"revision":2}', "etag", created=True)


class Kept:
    """The table of kept answers, of which only what a ledger reads is there."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], bytes] = {}
        self.asked = 0

    async def answer(self, requester: str, request_id: str) -> bytes | None:
        self.asked += 1
        return self.answers.get((requester, request_id))


class Daemon:
    """One daemon, and how often it carried something out."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.carried_out = 0
        self.stands_still = False
        self.ledger = Ledger(kept, b"key", lambda: self.stands_still)  # pyright: ignore[reportArgumentType]

    async def carry_out(self, caller: Caller) -> Answer:
        """Write, and keep the answer in the same transaction; a write whose answer is there already is superseded."""
        await asyncio.sleep(0)
        if caller.answer_key is not None:
            if (found := self.kept.answers.get(caller.answer_key)) is not None:
                raise Answered(found)
            self.kept.answers[caller.answer_key] = closed(ANSWER)
        self.carried_out += 1
        return ANSWER

    async def ask(
        self,
        request: WriteRequest,
        *,
        operation: str = "patch",
        caller: Caller = ASKING,
        carry_out: Callable[[Caller], Awaitable[Answer]] | None = None,
    ) -> Answer:
        return await self.ledger.once(operation, caller, "voice_router", request, carry_out or self.carry_out)


def patch(volume: int = 1, **fields: Any) -> PatchRequest:
    return PatchRequest(patch={"settings": {"volume": volume}}, **{"request_id": "7", **fields})


def test_an_answer_is_what_it_was():
    """With its tag, and whether the configuration was new."""
    assert opened(closed(ANSWER)) == ANSWER


async def test_a_repeated_request_is_answered_with_what_was_kept():
    """By another daemon, too; it is carried out once."""
    kept = Kept()
    first, second = Daemon(kept), Daemon(kept)
    for daemon in (first, first, second):
        assert await daemon.ask(patch()) == ANSWER
    assert (first.carried_out, second.carried_out) == (1, 0)


async def test_nobody_waits_for_ever_for_a_database_that_stands_still(monkeypatch: pytest.MonkeyPatch):
    """The requester is told that it is not known what becomes of the write, which goes on; a repetition joins it."""
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(patience, "_LOOK_SECONDS", 0.01)
    daemon, goes_on = Daemon(Kept()), asyncio.Event()

    async def carry_out(caller: Caller) -> Answer:
        await goes_on.wait()
        return await daemon.carry_out(caller)

    waiting = asyncio.create_task(daemon.ask(patch(), carry_out=carry_out))
    # Not while it answers, however long the write takes.
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    daemon.stands_still = True
    with pytest.raises(Unconfirmed, match="not known whether this will be written"):
        await waiting
    for request_id in ("7", None):
        with pytest.raises(Unconfirmed):
            await daemon.ask(patch(request_id=request_id), carry_out=carry_out)
    again = asyncio.create_task(daemon.ask(patch(), carry_out=carry_out))
    goes_on.set()
    assert await again == ANSWER
    # The other one is that without an id.
    assert daemon.carried_out == 2


async def test_repetitions_of_a_write_that_hangs_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    """However long the database stands still: what only waits for the first one ends with its requester."""
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 0.01)
    daemon, goes_on = Daemon(Kept()), asyncio.Event()
    daemon.stands_still = True

    async def carry_out(caller: Caller) -> Answer:
        await goes_on.wait()
        return await daemon.carry_out(caller)

    before = asyncio.all_tasks()
    for _ in range(20):
        with pytest.raises(Unconfirmed):
            await daemon.ask(patch(), carry_out=carry_out)
    assert len(asyncio.all_tasks() - before) <= 2
    goes_on.set()
    assert await daemon.ask(patch(), carry_out=carry_out) == ANSWER
    assert daemon.carried_out == 1


async def test_a_write_that_nobody_waits_for_is_cancelled():
    """As before: a caller over HTTP that is gone."""
    daemon, ended = Daemon(Kept()), asyncio.Event()

    async def carry_out(_caller: Caller) -> Answer:
        try:
            return await asyncio.Event().wait() and ANSWER
        finally:
            ended.set()

    asking = asyncio.create_task(daemon.ask(patch(), carry_out=carry_out))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert (asking.cancelled(), ended.is_set()) == (True, True)


@pytest.mark.parametrize("error", [Busy("Try again."), KeyError("a fault")])
async def test_only_a_fault_is_logged_of_a_write_that_nobody_waits_for_any_more(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """One that was cancelled and is refused all the same, and one that was given up while the database stood still."""
    monkeypatch.setattr(patience, "_PATIENCE_SECONDS", 0.01)
    daemon, goes_on = Daemon(Kept()), asyncio.Event()

    async def carry_out(_caller: Caller) -> Answer:
        with contextlib.suppress(asyncio.CancelledError):
            await goes_on.wait()
        raise type(error)(*error.args)

    cancelled = asyncio.create_task(daemon.ask(patch(), carry_out=carry_out))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
    daemon.stands_still = True
    with pytest.raises(Unconfirmed):
        await daemon.ask(patch(), carry_out=carry_out)
    goes_on.set()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    del cancelled
    gc.collect()
    logged = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert len(logged) == (0 if isinstance(error, Busy) else 2)
    assert all("nobody waited for any more" in text for text in logged)


async def test_a_request_that_was_not_repeated_costs_no_question():
    """The database is asked where a request is refused, or was answered already."""
    daemon = Daemon(Kept())
    for number in range(3):
        await daemon.ask(patch(request_id=str(number)))
    assert (daemon.carried_out, daemon.kept.asked) == (3, 0)


@pytest.mark.parametrize(
    "different",
    [
        {"request": patch(request_id="8")},
        {"request": patch(2)},
        {"caller": Caller("admin", "mqtt")},
        {"operation": "set"},
        {"request": patch(environment="prod")},
    ],
)
async def test_another_request_is_carried_out(different: dict[str, Any]):
    """Another id, content, requester or operation: programs use an id again."""
    daemon = Daemon(Kept())
    await daemon.ask(patch())
    await daemon.ask(**{"request": patch(), **different})
    assert daemon.carried_out == 2


@pytest.mark.parametrize(
    "unknown",
    [
        {"request": patch(request_id=None)},
        {"request": patch(dry_run=True)},
        {"caller": Caller(None, "mqtt")},
        {"operation": "recipient"},
    ],
)
async def test_what_nobody_can_be_said_to_repeat_is_not_kept(unknown: dict[str, Any]):
    """Without an id or a requester; a dry run; an operation that gives the same answer again."""
    daemon = Daemon(Kept())
    for _ in range(2):
        await daemon.ask(**{"request": patch(), **unknown})
    assert (daemon.carried_out, daemon.kept.answers) == (2, {})


async def test_a_repeated_request_that_would_be_refused_is_answered_with_what_was_kept():
    """Its expected revision is that of before it was carried out; over HTTP the condition may be missing now."""
    kept = Kept()
    await Daemon(kept).ask(patch(expected_revision=1))

    async def refuse(_: Caller) -> Answer:
        raise Conflict("The revision is 2.", revision=2, checksum="")

    daemon = Daemon(kept)
    assert await daemon.ask(patch(expected_revision=1), carry_out=refuse) == ANSWER
    assert await daemon.ledger.kept("patch", ASKING, "voice_router", patch()) == ANSWER
    with pytest.raises(Conflict):
        await daemon.ask(patch(3), carry_out=refuse)


async def test_what_cannot_be_written_is_not_looked_up():
    """The database that would be asked is what is away."""
    daemon = Daemon(Kept())

    async def fail(_: Caller) -> Answer:
        raise Unavailable("The database is away.")

    with pytest.raises(Unavailable):
        await daemon.ask(patch(), carry_out=fail)
    assert daemon.kept.asked == 0


async def test_a_request_that_comes_again_while_it_is_carried_out_waits():
    """Both get the same answer; if the first one fails, the second one is carried out."""
    daemon = Daemon(Kept())
    assert await asyncio.gather(*(daemon.ask(patch()) for _ in range(5))) == [ANSWER] * 5
    assert daemon.carried_out == 1

    async def fail(_: Caller) -> Answer:
        await asyncio.sleep(0)
        raise Unavailable("The database is away.")

    failing = asyncio.create_task(daemon.ask(patch(2), carry_out=fail))
    await asyncio.sleep(0)
    assert await daemon.ask(patch(2)) == ANSWER
    with pytest.raises(Unavailable):
        await failing
    assert daemon.carried_out == 2


def test_the_key_of_a_request_shows_nothing_of_it():
    """A digest without a key could be compared with that of each likely secret."""
    one, two = (Ledger(Kept(), key, bool) for key in (b"one", b"two"))  # pyright: ignore[reportArgumentType]
    keys = [ledger.key("patch", ASKING, "voice_router", patch()) for ledger in (one, one, two)]
    assert keys[0] == keys[1] != keys[2]
