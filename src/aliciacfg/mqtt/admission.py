"""Admission of what the bus asks for: what begins now, what waits, and what is refused before anything is done.

Senders take turns, and what of one waits does not have another one refused, so that a flood holds up only itself.
What waits was not acknowledged, so that the broker holds back what comes after it, and delivers it again if the daemon
does not live to see its turn. That is no bound: QoS 0 is not acknowledged, and Mosquitto 2.0 delivers up to
``max_inflight_messages`` others for each acknowledgement. So there is a limit on number and bytes, too.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from aliciacfg.errors import Busy
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.messages import Inbound

MAX_BYTES = 32 * 1024 * 1024
"""The budget for the payloads of all messages that wait or are being worked on."""

_MAX_WRITES = 2048
# Reads hardly ever wait; each may make an answer as large as a packet can be.
_MAX_READS = 16
_MAX_WAITING = 4_000
# How much more may wait so that senders of which nothing waits are not refused because of others.
_SPARE = 2
_TURN_SECONDS = 0.005


class Job(msgspec.Struct, frozen=True, eq=False):
    """A message that asks for something.

    Attributes:
        inbound: The message.
        answer_topic: Where its answer is expected to go.
        work: Makes the coroutine that does it.
        refuse: Called instead if there is no room.
        writes: Whether it may wait for the disk.
        name: Of the task.
        sender: Who asks, as far as that is known; senders take turns.
    """

    inbound: Inbound
    answer_topic: str
    work: Callable[[], Coroutine[Any, Any, None]]
    refuse: Callable[[Busy], None]
    writes: bool
    name: str
    sender: str = ""

    @property
    def size(self) -> int:
        """The bytes that it takes from the budget."""
        return len(self.inbound.topic) + len(self.inbound.payload)


_Waiting = tuple[Job, bool]
"""A job, and whether the broker holds back others for it."""


class _Lane:
    """Jobs of one kind. Those of a sender begin in the order in which they came; senders take turns.

    Attributes:
        limit: How many run at a time.
        running: How many run.
        waiting: How many wait.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting = 0
        # By sender; the first one is next.
        self._queues: dict[str, deque[_Waiting]] = {}

    def waits(self, sender: str) -> bool:
        """Return whether a job of a sender waits."""
        return sender in self._queues

    @property
    def next_topic(self) -> str:
        """The answer topic of the job that is next; there is one."""
        return next(iter(self._queues.values()))[0][0].answer_topic

    def add(self, job: Job, *, held: bool) -> None:
        """Have a job wait."""
        self._queues.setdefault(job.sender, deque()).append((job, held))
        self.waiting += 1

    def take(self) -> _Waiting:
        """Remove the job that is next; there is one."""
        sender = next(iter(self._queues))
        queue = self._queues.pop(sender)
        taken = queue.popleft()
        if queue:
            self._queues[sender] = queue
        self.waiting -= 1
        return taken

    def drop(self, keeps: Callable[[Job, bool], bool]) -> int:
        """Remove what waits but for that which ``keeps`` says, of a job and whether it is held; return its bytes."""
        waiting = [item for queue in self._queues.values() for item in queue]
        self._queues.clear()
        self.waiting = 0
        dropped = 0
        for job, held in waiting:
            if keeps(job, held):
                self.add(job, held=held)
            else:
                dropped += job.size
        return dropped


class Admission:
    """Begins jobs while there is room, reads apart from writes: a slow disk does not hold up reads."""

    def __init__(
        self,
        background: BackgroundTasks,
        *,
        acknowledge: Callable[[Inbound], None],
        congested: Callable[[str], bool],
        max_bytes: int = MAX_BYTES,
        max_writes: int = _MAX_WRITES,
    ) -> None:
        """Admit nothing yet.

        Args:
            background: Runs the jobs.
            acknowledge: Has the broker deliver another message in place of one that waited.
            congested: Whether so many answers wait to be sent that nothing should begin that is answered on a topic.
            max_bytes: The budget for payloads.
            max_writes: How many jobs that may wait for the disk run at a time.
        """
        self._background = background
        self._acknowledge = acknowledge
        self._congested = congested
        self._max_bytes = max_bytes
        self._reads = _Lane(_MAX_READS)
        self._writes = _Lane(max_writes)
        self._bytes = 0
        self._open = False
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def opened(self) -> bool:
        """Whether jobs begin: the present connection is ready for them."""
        return self._open

    def reads_are_free(self) -> bool:
        """Return whether any read may be answered at once that adds to no congestion: none waits."""
        return self._open and not self._reads.waiting

    def is_free(self, sender: str, answer_topic: str) -> bool:
        """Return whether a read may be answered at once, without overtaking others or adding to a congestion."""
        return self._open and not self._reads.waits(sender) and not self._congested(answer_topic)

    def open(self) -> None:
        """Begin what waits; from now on the broker holds back messages while others wait."""
        self._open = True
        self.pump()

    def close(self) -> None:
        """Drop what waits, as the connection is gone, but for what the broker does not deliver again.

        That is what was acknowledged although it waits, because it came before the opening; it begins after the next
        one. At QoS 0 no client relies on it.
        """
        self._open = False
        for lane in (self._reads, self._writes):
            self._bytes -= lane.drop(lambda job, held: not held and job.inbound.identifier != 0)
        self._settle()

    async def stop(self) -> None:
        """Finish what was acknowledged; leave what the broker keeps, and what comes from now on, to the next daemon."""
        self._stopping = True
        for lane in (self._reads, self._writes):
            self._bytes -= lane.drop(lambda _job, held: not held)
        self._settle()
        await self._idle.wait()

    async def wait_idle(self) -> None:
        """Wait until everything that was submitted is done."""
        await self._idle.wait()

    def submit(self, job: Job) -> bool:
        """Begin, keep or refuse a job; return whether its message is to be acknowledged now."""
        if self._stopping:
            return False
        lane = self._writes if job.writes else self._reads
        alone = not lane.waits(job.sender)
        most = _MAX_WAITING * _SPARE if alone else _MAX_WAITING
        if self._bytes + job.size > self._max_bytes or self._reads.waiting + self._writes.waiting >= most:
            job.refuse(Busy("Too many requests wait; try again in a second."))
            return True
        self._bytes += job.size
        self._idle.clear()
        if alone and self._has_room(lane, job.answer_topic):
            self._begin(lane, job)
            return True
        # Before the opening nothing may be held back: the messages that lead to it come behind.
        held = self._open and job.inbound.identifier != 0
        lane.add(job, held=held)
        return not held

    def pump(self) -> None:
        """Begin what waits, as far as there is room."""
        for lane in (self._reads, self._writes):
            while lane.waiting and self._has_room(lane, lane.next_topic):
                self._begin(lane, self._next(lane))

    def _next(self, lane: _Lane) -> Job:
        job, held = lane.take()
        if held:
            self._acknowledge(job.inbound)
        return job

    def _has_room(self, lane: _Lane, answer_topic: str) -> bool:
        return self._open and lane.running < lane.limit and not self._congested(answer_topic)

    def _begin(self, lane: _Lane, job: Job) -> None:
        lane.running += 1
        self._background.start(self._run(lane, job), name=job.name)

    async def _run(self, lane: _Lane, job: Job) -> None:
        """Do a job, and go on with others that wait: a job for each turn of the loop would be slower than they come."""
        clock = asyncio.get_running_loop().time
        end = clock() + _TURN_SECONDS
        try:
            await self._do(job)
            while lane.waiting and self._open and not self._congested(lane.next_topic) and clock() < end:
                await self._do(self._next(lane))
        finally:
            lane.running -= 1
            self.pump()
            self._settle()

    async def _do(self, job: Job) -> None:
        try:
            await job.work()
        finally:
            self._bytes -= job.size

    def _settle(self) -> None:
        if not any(lane.running or lane.waiting for lane in (self._reads, self._writes)):
            self._idle.set()
