"""What happens in a home, for readers who watch it: each gets what it may know, in order, and without bound on time.

A reader has no queue of its own but a place in the log of changes, so a slow one takes no memory: it goes on where it
was, or, if the log does not reach back so far any more, gets the event to read everything again. States such as the
health are sent as they are when the reader takes them, without those in between.
"""

import asyncio
from collections.abc import Callable

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Busy
from aliciacfg.model.records import Position
from aliciacfg.operations import event_reader
from aliciacfg.operations.event_reader import EventFilter, EventReader
from aliciacfg.operations.event_shares import EventShares
from aliciacfg.operations.event_states import Event, FeedParts, States

# Readers are woken at once for a change, and not again before this time is over: with 100 readers each time costs some
# milliseconds.
_PAUSE_SECONDS = 0.1
# How often states are compared with what they were.
_TICK_SECONDS = 0.25


class EventFeed:
    """Wakes readers when there is something for them; without readers it does nothing.

    Attributes:
        most: The largest number of readers.
        encode: Makes of an event what a transport sends.
    """

    def __init__(self, parts: FeedParts, *, most: int) -> None:
        self._parts = parts
        self.most = most
        self.encode: Callable[[Event], bytes] = lambda event: event.data
        self._readers: set[EventReader] = set()
        self._shares = EventShares()
        self._states = States(parts)
        self._waking: asyncio.TimerHandle | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._woken_at = 0.0
        self.closed = False
        parts.log.on_added = self._wake_soon
        parts.instances.when_changed = self._states.note_instances

    @property
    def count(self) -> int:
        """The number of readers."""
        return len(self._readers)

    def check_room(self, caller: Caller, most: int) -> None:
        """Return if a caller may have another reader.

        Args:
            caller: The caller.
            most: The largest number of readers, as far as the transport is concerned.

        Raises:
            Busy: There are as many as there may be, or the daemon stops.
        """
        if self.closed:
            raise Busy("The daemon stops; connect again when it has started.")
        self._shares.check(caller, min(most, self.most))

    def open(
        self,
        caller: Caller,
        most: int,
        *,
        identify: Callable[[], Caller],
        wanted: EventFilter,
        last: Position | str | None,
    ) -> EventReader:
        """Return a new reader, which has to be closed.

        Args:
            caller: As for ``check_room``.
            most: As for ``check_room``.
            identify: Returns who reads, and raises Unauthorized once its token is not valid any more.
            wanted: What it asks for.
            last: The place that it knows; None if it knows none, a text if it is not a place.
        """
        if self._ticking is None:
            # Before the reader exists, so that it gets no event for what happened earlier.
            self._states.refresh()
        reader = EventReader(self._parts, self._states, self, identify, wanted, last)
        self._shares.add(reader, caller, min(most, self.most))
        self._readers.add(reader)
        if self._ticking is None:
            self._tick_later()
        return reader

    def remove(self, reader: EventReader) -> None:
        """Forget a reader. Safe to call twice."""
        self._readers.discard(reader)
        self._shares.remove(reader)
        if not self._readers:
            self._stop_timers()

    def close(self) -> None:
        """Have all readers end, present and future. Safe to call twice."""
        self.closed = True
        self._stop_timers()
        self._wake()

    def _stop_timers(self) -> None:
        for timer in (self._waking, self._ticking):
            if timer is not None:
                timer.cancel()
        self._waking = self._ticking = None

    def _wake_soon(self) -> None:
        """Wake all readers, at once or when the pause since the last time is over."""
        if self._waking is not None or not self._readers:
            return
        loop = asyncio.get_running_loop()
        self._waking = loop.call_later(max(0.0, self._woken_at + _PAUSE_SECONDS - loop.time()), self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._woken_at = asyncio.get_running_loop().time()
        for reader in self._readers:
            reader.wake()

    def _tick_later(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        """Compare the states with what they were; have all readers look after themselves from time to time."""
        self._tick_later()
        if self._states.refresh() or self._woken_at + event_reader.CHECK_SECONDS <= asyncio.get_running_loop().time():
            self._wake()
