"""The log of the last published changes, in the order in which they became durable, for readers of ``GET /events``.

A reader goes on after the place up to which it knows everything: the highest ``(epoch, sequence)`` of the changes so
far. That grows with the order of the commits, which is the same on all daemons of a home, so the reader may do that at
any of them. The sequence of a single change may be lower: where daemons share a database, one of them may have planned
a change of another service before it knew of the last ones.

If the log does not reach back so far, it yields the newest revision of each configuration that changed since.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aliciacfg.api.events import MAX_POINTERS, ChangeEvent, EnvironmentEvent, ResetEvent
from aliciacfg.core.plan import Plan
from aliciacfg.core.state import State
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Position, RecordHead

CAPACITY = 1024
"""So many changes are kept."""

# What the places of one change may take; a name may be as long as a configuration.
_MAX_POINTER_CHARACTERS = 8 * 1024


# Where daemons share a database, a change may have a lower place than one that was made so long before it: one of them
# may lag that long, and the clocks of their machines differ.
_OVERLAP_SECONDS = 10.0


@dataclass(slots=True)
class Logged:
    """One change.

    Attributes:
        number: 0, 1, 2 and so on in the order of the log.
        place: Up to which a reader knows everything that has this change, too.
        event: The event that readers receive.
        encoded: What a transport made of it, once for all its readers; empty before.
    """

    number: int
    place: Position
    event: ChangeEvent | EnvironmentEvent | ResetEvent
    encoded: bytes = b""


def _nothing() -> None:
    return


class ChangeLog:
    """The last changes; register ``on_commit`` with ``Commits``.

    Attributes:
        place: Up to which a reader knows everything that has all changes; it never falls.
        end: The number of the next change.
        on_added: Called when there are more.
    """

    def __init__(self, state: State, *, shared: bool = False, capacity: int = CAPACITY) -> None:
        """Begin after everything that a state holds, of which nothing is pending.

        Args:
            state: The state.
            shared: Whether other daemons change it, too.
            capacity: So many changes are kept.
        """
        self._state = state
        self._shared = shared
        self._capacity = capacity
        self._active = state.active
        self._items: deque[Logged] = deque()
        self.place = Position(state.epoch, state.sequence)
        # All changes after this place are in the log.
        self._floor = self.place
        self.end = 0
        self.on_added: Callable[[], None] = _nothing

    def on_commit(self, plan: Plan) -> None:
        """Append the published changes of a durable plan."""
        if not plan.sequence and plan.activates is None and not plan.raises_epoch:
            return
        before, epoch = self.end, self._state.epoch
        if not plan.raises_epoch:
            self._add_changes(plan)
        self.place = max(self.place, Position(epoch, plan.sequence or self.place.sequence))
        if plan.raises_epoch:
            # With anything else in the plan: everything is read again.
            self._add(ResetEvent(reason="epoch", epoch=epoch, sequence=self.place.sequence))
        active, self._active = self._active, self._state.active
        if self._active != active:
            self._add(
                EnvironmentEvent(
                    environment=self._active, previous=active or None, epoch=epoch, sequence=self.place.sequence
                )
            )
        if self.end != before:
            self.on_added()

    def after(self, number: int) -> Iterator[Logged] | None:
        """Return the changes from a number on; None if they are not all in the log any more."""
        first = self.end - len(self._items)
        if number < first:
            return None
        start = number - first
        # A slice of a deque takes as long, and every reader that keeps up is near its end.
        return (self._items[index] for index in range(start, len(self._items)))

    def may_know(self, place: Position) -> bool:
        """Return whether a reader of this home can know a place of this epoch: only of another daemon one ahead."""
        return self._shared or place <= self.place

    def number_after(self, place: Position) -> int | None:
        """Return the number of the first change that a reader may not know who knows everything up to a place.

        Where others change the state, that may be one that it knows.

        Args:
            place: The place, of this epoch.

        Returns:
            None if the log does not reach back so far.
        """
        if place > self.place:
            # Another daemon of the home is ahead of this one.
            return self.end
        if place < self._floor:
            return None
        first = next((item for item in self._items if item.place >= place), None)
        if first is None:
            return self.end
        # Of several changes with one place, only the first one is surely known; with the place of a message that was no
        # change, not even that.
        return first.number + (first.place == place and not self._shared)

    def newest_since(self, place: Position, most: int) -> list[ChangeEvent] | None:
        """Return the newest revision of each configuration that may have changed after a place of this epoch.

        Args:
            place: The place.
            most: The largest number of events.

        Returns:
            None if there are more.
        """
        overlap = _OVERLAP_SECONDS if self._shared else 0.0
        found = self._state.changed_after(place.sequence, overlap_seconds=overlap)
        if len(found) > most:
            return None
        found.sort(key=lambda record: record.home_sequence)
        return [_change(record, self._state.epoch, coalesced=True) for record in found]

    def _add_changes(self, plan: Plan) -> None:
        """Add the revisions of a plan, and the configurations that readers see differently with the same revision."""
        records: list[RecordHead] = list(plan.records)
        revisions = len(records)
        if plan.activates is None and plan.renewals:
            # With another environment everything is read again.
            known = {(record.environment, record.service) for record in records}
            renewed = [ConfigId(item.environment, item.service) for item in plan.renewals]
            entries = (self._state.committed(config_id) for config_id in renewed if config_id not in known)
            records += [entry.record for entry in entries if entry.record is not None]
        skipped = max(0, len(records) - self._capacity)
        if skipped:
            self._items.clear()
            self._raise(records[skipped - 1].home_sequence)
            self._floor = self.place
            self.end += skipped
        for index, record in enumerate(records[skipped:], start=skipped):
            self._add(_change(record, self._state.epoch, renewed=index >= revisions))

    def _raise(self, sequence: int) -> None:
        self.place = max(self.place, Position(self._state.epoch, sequence))

    def _add(self, event: ChangeEvent | EnvironmentEvent | ResetEvent) -> None:
        self._raise(event.sequence)
        if len(self._items) >= self._capacity:
            self._floor = self._items.popleft().place
        self._items.append(Logged(self.end, self.place, event))
        self.end += 1


def _change(record: RecordHead, epoch: int, *, renewed: bool = False, coalesced: bool = False) -> ChangeEvent:
    """Return the event for a revision.

    Args:
        record: The revision, with the place of this change.
        epoch: The epoch of the home.
        renewed: Whether it is an earlier revision in a new place, which changed nothing in it.
        coalesced: As in the event.
    """
    return ChangeEvent(
        service=record.service,
        environment=record.environment,
        revision=record.revision,
        version=record.version,
        checksum=record.checksum,
        timestamp=record.timestamp,
        epoch=epoch,
        sequence=record.home_sequence,
        author=record.author,
        cause=record.cause,
        comment=record.comment,
        breaking=record.breaking,
        changed=[] if renewed else _first(record.changed),
        changed_count=0 if renewed else len(record.changed),
        restart_required=[] if renewed else _first(record.restart_required),
        restart_required_count=0 if renewed else len(record.restart_required),
        deleted=record.deleted,
        coalesced=coalesced,
    )


def _first(pointers: list[str]) -> list[str]:
    """Return as many of the first places as an event may list."""
    first = pointers if len(pointers) <= MAX_POINTERS else pointers[:MAX_POINTERS]
    if sum(map(len, first)) <= _MAX_POINTER_CHARACTERS:
        return first
    room, fitting = _MAX_POINTER_CHARACTERS, list[str]()
    for pointer in first:
        room -= len(pointer)
        if room < 0:
            break
        fitting.append(pointer)
    return fitting
