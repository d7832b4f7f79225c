"""The only way to change a configuration: plan on the heads, one at a time, and commit in that order."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import State
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Cause, Write
from aliciacfg.storage.write_queue import WriteQueue

Listener = Callable[[Plan], None]
"""Applies a durable plan to one part; must not raise."""


class Commits:
    """Owns the planning lock and the heads of the state; plans are durable in the order in which they were made.

    Attributes:
        last_update: Unix seconds of the newest revision since the start; None before the first.
        revisions: Revisions that were committed since the start, by cause.
    """

    def __init__(self, *, state: State, queue: WriteQueue) -> None:
        self._state = state
        self._queue = queue
        # Held from the first look at a head until the plan on it is submitted, so that two plans never build on the
        # same head.
        self._planning = asyncio.Lock()
        # Called in this order for each durable plan.
        self._listeners: list[Listener] = []
        self.last_update: float | None = None
        self.revisions: Counter[Cause] = Counter()
        queue.listen_abort(state.abort)

    def listen(self, *listeners: Listener) -> None:
        """Register functions that are called in the event loop for each durable plan, in the order of registration.

        They run before the change that made the plan goes on, so that a caller who has the answer also sees its
        effects. A plan that writes nothing calls no listener.
        """
        self._listeners += listeners

    @asynccontextmanager
    async def change(
        self, context: ChangeContext, *, dry_run: bool = False, exclusive: bool = False
    ) -> AsyncGenerator[Plan, None]:
        """Make a plan and commit it: ``async with commits.change(context) as plan``.

        The block adds to the plan; its end waits until the plan is durable. A block that raises changes nothing.

        Args:
            context: The reason for the change.
            dry_run: Drop the plan at the end of the block.
            exclusive: Let no other plan begin before this one is durable or has failed, even if the caller is
                cancelled, because others build on more than its entries: on the active environment, the epoch, the
                files, or the keys.

        Raises:
            Busy: Too many writes wait; nothing was changed.
            Unconfirmed: The store failed while it wrote; it is not known whether anything was changed.
            Unavailable: The store cannot write; nothing was changed.
        """
        if not dry_run:
            # Before the lock, which a write that hangs may hold.
            self._queue.check_open()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._planning)
            if not dry_run:
                # While it is not known whether a write was made, nothing can build on it.
                self._queue.check_open()
            plan = Plan(self._state, context)
            yield plan
            if dry_run:
                return
            durable = self._submit(plan)
            if exclusive:
                stack.pop_all()
                durable.add_done_callback(lambda _: self._planning.release())
        # A cancellation ends the wait, but neither the write nor its hold on the lock.
        await asyncio.shield(durable)

    async def flush(self) -> None:
        """Wait until every plan that was submitted before is durable.

        Raises:
            Unavailable: The store cannot write.
        """
        await self._queue.flush()

    def _submit(self, plan: Plan) -> asyncio.Future[None]:
        """Submit a plan; the result is done when it is durable."""
        if plan.generation != self._state.generation:
            raise Unavailable("The store could not write what this change builds on. Nothing was changed.")
        write = plan.write
        if write == Write():
            return self._unchanged(plan)
        committed = self._queue.submit(write, lambda: self._committed(plan))
        self._state.plan(plan.entries)
        return committed

    def _unchanged(self, plan: Plan) -> asyncio.Future[None]:
        # The answer "unchanged" is true only when the pending write before it is durable.
        if any(self._state.is_pending(config_id) for config_id in plan.entries):
            return self._queue.submit(Write(), lambda: self._call_back(plan))
        # The content of a record may be known only now, after a start with broken files.
        self._state.refresh(plan.entries)
        self._call_back(plan)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def _call_back(self, plan: Plan) -> None:
        for callback in plan.on_commit:
            callback()

    def _committed(self, plan: Plan) -> None:
        self._state.commit(plan.entries)
        if plan.activates is not None:
            self._state.active = plan.activates
        self._state.epoch = max(self._state.epoch, plan.epoch)
        if plan.records:
            self.last_update = plan.records[-1].timestamp
            self.revisions.update(record.cause for record in plan.records)
        self._call_back(plan)
        for listener in self._listeners:
            listener(plan)
