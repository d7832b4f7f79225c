"""What begins, what waits while the broker holds others back, and what is refused before anything is done."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from aliciacfg.mqtt.admission import Admission, Job
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.messages import Inbound
from inprocess import eventually


class Trial:
    """Jobs that run until they are told to end.

    Attributes:
        begun: Their topics.
        refused: The topics of those that were refused.
        acknowledged: The topics of those that were acknowledged late.
        congested: Whether answers pile up.
        spared: An answer topic for which they do not.
    """

    def __init__(self, *, max_bytes: int = 1000, max_writes: int = 2) -> None:
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.acknowledged: list[str] = []
        self.congested = False
        self.spared: str | None = None
        self._ends: dict[str, asyncio.Event] = {}
        self.background = BackgroundTasks(self._unexpected)
        self.admission = Admission(
            self.background,
            acknowledge=lambda inbound: self.acknowledged.append(inbound.topic),
            congested=lambda topic: self.congested and topic != self.spared,
            max_bytes=max_bytes,
            max_writes=max_writes,
        )

    def _unexpected(self, name: str, error: Exception) -> None:
        raise AssertionError(name) from error

    def submit(self, topic: str, *, writes: bool = True, qos: int = 1, size: int = 0, sender: str = "") -> bool:
        end = self._ends[topic] = asyncio.Event()

        async def work() -> None:
            self.begun.append(topic)
            await end.wait()

        inbound = Inbound(topic, bytes(size), qos, False, identifier=qos)
        job = Job(inbound, sender, work, lambda _: self.refused.append(topic), writes, "job", sender)
        return self.admission.submit(job)

    async def finish(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        for _ in range(3):
            await asyncio.sleep(0)


@asynccontextmanager
async def trial(*, max_bytes: int = 1000, opened: bool = True) -> AsyncGenerator[Trial, None]:
    made = Trial(max_bytes=max_bytes)
    async with made.background.running():
        if opened:
            made.admission.open()
        yield made
        for end in made._ends.values():
            end.set()


async def test_beyond_the_writes_that_run_others_wait_and_the_broker_holds_back():
    """In the order in which they came; none is refused. At QoS 0 there is nothing to hold back."""
    async with trial() as made:
        assert [made.submit(name) for name in "abcd"] == [True, True, False, False]
        assert made.submit("e", qos=0) is True
        await asyncio.sleep(0)
        assert made.begun == ["a", "b"]
        await made.finish("a")
        assert (made.begun, made.acknowledged) == (["a", "b", "c"], ["c"])
        await made.finish("b", "c")
        assert (made.begun, made.acknowledged) == ([*"abcde"], ["c", "d"])
        assert made.refused == []


async def test_reads_go_on_while_writes_wait():
    """A slow disk does not hold them up."""
    async with trial() as made:
        for name in "abcd":
            made.submit(name)
        assert made.submit("get", writes=False) is True
        await asyncio.sleep(0)
        assert made.begun == ["a", "b", "get"]
        assert made.admission.is_free("", "")


async def test_senders_take_turns():
    """Who sends hundreds of requests waits for them; a neighbour's single one is next."""
    async with trial(max_bytes=10**6) as made:
        flood = [f"flood {number}" for number in range(300)]
        for name in flood:
            made.submit(name, sender="flooder")
        for name in ("one", "two"):
            made.submit(name, sender="neighbour")
        await asyncio.sleep(0)
        for name in (*flood[:4], "one", "two"):
            await made.finish(name)
        assert made.begun[:7] == [*flood[:3], "one", flood[3], "two", flood[4]]
        assert made.acknowledged == made.begun[2:]


async def test_nothing_begins_while_answers_pile_up():
    """Neither reads nor writes; afterwards both do."""
    async with trial() as made:
        made.congested = True
        assert not made.admission.is_free("", "")
        assert [made.submit("set"), made.submit("get", writes=False)] == [False, False]
        made.congested = False
        made.admission.pump()
        await asyncio.sleep(0)
        assert sorted(made.begun) == ["get", "set"]


async def test_what_is_over_the_budget_is_refused_before_it_begins():
    """In bytes, of what waits and of what runs; when some has ended there is room again."""
    async with trial(max_bytes=100) as made:
        assert made.submit("a", size=90) is True
        assert made.submit("b", size=90) is True
        assert made.refused == ["b"]
        await made.finish("a")
        made.submit("c", size=90)
        await made.finish()
        assert (made.begun, made.refused) == (["a", "c"], ["b"])


async def test_before_the_connection_is_ready_nothing_begins_and_nothing_is_held_back():
    """The messages that make it ready come behind. Nor is a read answered at once: another daemon may serve there."""
    async with trial(opened=False) as made:
        assert not made.admission.is_free("", "")
        assert made.submit("a") is True
        await asyncio.sleep(0)
        assert made.begun == []
        made.admission.open()
        await asyncio.sleep(0)
        assert (made.begun, made.acknowledged) == (["a"], [])


async def test_what_waits_is_forgotten_with_the_connection():
    """The broker delivers again what was not acknowledged; what runs goes on."""
    async with trial(max_bytes=100) as made:
        for name in "abc":
            made.submit(name, size=30)
        await asyncio.sleep(0)
        made.admission.close()
        await made.finish("a", "b")
        made.admission.open()
        assert made.begun == ["a", "b"]
        assert made.submit("d", size=90) is True
        assert made.refused == []


async def test_what_was_acknowledged_before_the_opening_is_done_after_the_next_one():
    """The broker has forgotten it, so it outlives a connection that is lost before it is opened."""
    async with trial() as made:
        made.admission.close()
        assert made.submit("acknowledged", qos=1) is True
        made.submit("at QoS 0", qos=0)
        made.admission.close()
        made.admission.open()
        await asyncio.sleep(0)
        assert made.begun == ["acknowledged"]
        await made.finish("acknowledged")


async def test_a_stop_finishes_what_was_acknowledged_and_leaves_the_rest_to_the_broker():
    """The next daemon gets it."""
    async with trial() as made:
        for name in "abc":
            made.submit(name)
        stopping = asyncio.create_task(made.admission.stop())
        await asyncio.sleep(0)
        assert made.submit("d") is False
        assert not stopping.done()
        await made.finish("a", "b")
        await eventually(stopping.done)
        assert (made.begun, made.acknowledged) == (["a", "b"], [])


@pytest.mark.parametrize("qos", [0, 1])
async def test_too_many_are_refused(qos: int):
    """Where a broker does not hold back."""
    async with trial(max_bytes=10**9) as made:
        for number in range(2 + 4_000):
            made.submit(str(number), qos=qos)
        assert made.refused == []
        assert made.submit("more", qos=qos) is True
        assert made.refused == ["more"]
        made.admission.close()


async def test_jobs_that_wait_are_not_slower_than_those_that_come():
    """One follows the other at once, not at the next turn of the loop; a job that fails stops none."""
    reported: list[str] = []
    background = BackgroundTasks(lambda name, error: reported.append(f"{name}: {error}"))
    admission = Admission(background, acknowledge=lambda _: None, congested=lambda _: False)
    done: list[int] = []

    def job(number: int) -> Job:
        async def work() -> None:
            done.append(number)
            if number == 20:
                raise RuntimeError("a fault")

        inbound = Inbound(str(number), b"", 1, False, identifier=1)
        return Job(inbound, "", work, lambda _: None, writes=False, name="job")

    async with background.running():
        for number in range(100):
            admission.submit(job(number))
        admission.open()
        await admission.stop()
    assert sorted(done) == list(range(100))
    assert reported == ["job: a fault"]


async def test_a_flood_holds_up_only_its_own_client():
    """A read of another one begins before what waits, is not refused with the rest, and may begin in a congestion."""
    async with trial(max_bytes=10**9) as made:
        made.congested = True
        for number in range(4_001):
            made.submit(str(number), writes=False)
        assert made.refused == ["4000"]
        assert made.submit("other", writes=False, sender="two") is False
        made.spared = "three"
        assert made.admission.is_free("three", "three")
        assert made.submit("spared", writes=False, sender="three") is True
        await asyncio.sleep(0)
        assert (made.begun, made.refused) == (["spared"], ["4000"])
        made.congested = False
        made.admission.pump()
        await asyncio.sleep(0)
        assert made.begun[1:4] == ["0", "other", "1"]
        made.admission.close()


async def test_a_stop_forgets_of_a_flood_what_the_broker_delivers_again():
    """What was acknowledged is done, in the order in which it came; nothing else is."""
    async with trial() as made:
        made.congested = True
        for name, qos in (("a", 0), ("b", 1), ("c", 0), ("d", 1)):
            made.submit(name, writes=False, qos=qos)
        stopping = asyncio.create_task(made.admission.stop())
        await asyncio.sleep(0)
        made.congested = False
        made.admission.pump()
        await asyncio.sleep(0)
        await made.finish("a", "c")
        await eventually(stopping.done)
        assert (made.begun, made.acknowledged) == (["a", "c"], [])
