"""Which daemon of a home does what must happen once.

A lease in the database decides: its holder leads until it ends, and renews it before that. This module knows the
end of the present lease by this daemon's own clock, so a daemon that was stopped and goes on later, as with SIGSTOP,
knows that it no longer leads before it can do anything.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from aliciacfg.cancellation import end_task
from aliciacfg.replicas.clock import boottime
from aliciacfg.replicas.turns import Turns


class Leadership:
    """Whether this daemon leads.

    Attributes:
        term: How often it has begun to lead.
    """

    def __init__(self, *, clock: Callable[[], float] = boottime) -> None:
        """Begin without a lease.

        Args:
            clock: Seconds; never goes back.
        """
        self.term = 0
        self._clock = clock
        # The end of the lease, on the clock.
        self._until = -math.inf
        # Whether the end of the lease is still to be noticed.
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self._turns = Turns()

    @classmethod
    def single(cls) -> "Leadership":
        """Return the leadership of a daemon that serves its home alone."""
        made = cls()
        made.term, made._until, made._held = 1, math.inf, True
        return made

    @property
    def leading(self) -> bool:
        """Whether this daemon leads now."""
        return self._until == math.inf or self._clock() < self._until

    def now(self) -> float:
        """Return the time on the clock of ``hold``, to be taken before a renewal is asked for."""
        return self._clock()

    def hold(self, seconds: float, *, asked: float) -> None:
        """Note that the lease was granted or renewed.

        Args:
            seconds: For how long.
            asked: ``now()`` from before it was asked for: the database may have begun the lease at any time since.
        """
        if self._held and not self.leading:
            # It ended, and someone else may have led since: what runs has to stop before it begins anew.
            self.lose()
        self._until = asked + seconds
        if not self.leading:
            self._until = -math.inf
            return
        if not self._held:
            self._held = True
            self.term += 1
            self._turns.notify()
        self._set_timer()

    def lose(self) -> None:
        """Note that this daemon does not lead any more; harmless if it does not."""
        self._until = -math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            self._held = False
            self._turns.notify()

    async def changed(self, leading: bool) -> None:
        """Wait until ``self.leading`` equals ``leading``."""
        await self._turns.until(lambda: self.leading is leading)

    async def while_leading(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run something while this daemon leads: from the beginning of each term until it ends, or until it returns.

        Its errors are raised. Returns for a daemon that serves its home alone, when ``work`` does.
        """
        if self._until == math.inf:
            await work()
            return
        while True:
            await self.changed(leading=True)
            term = self.term
            await self._run(work, term)
            await self._turns.until(lambda term=term: not self._goes_on(term))

    async def _run(self, work: Callable[[], Awaitable[object]], term: int) -> None:
        """Run something until a term ends; raise its error, if it has one before."""

        async def run() -> None:
            await work()

        ended = asyncio.create_task(self._turns.until(lambda: not self._goes_on(term)), name="end of the term")
        task = asyncio.create_task(run(), name="while leading")
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            over = task.done()
        finally:
            ended.cancel()
            await end_task(task)
        if over:
            task.result()

    def _goes_on(self, term: int) -> bool:
        return self.term == term and self.leading

    def _set_timer(self) -> None:
        """Have the end of the lease noticed when it comes."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._until - self._clock()), self._look)

    def _look(self) -> None:
        """End the term if the lease has ended; the event loop has another clock, so it may not have."""
        if self.leading:
            self._set_timer()
        else:
            self.lose()
