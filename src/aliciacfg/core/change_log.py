"""The last changes that readers are told of, in the order in which they became durable, for those who watch them.

Each has a place, ``(epoch, sequence)``, that is the same on all daemons of a home. So a reader who knows one goes on
after it, at any of them: from the log, or, if that does not reach back so far, from the newest revision of each
configuration that changed since.
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


@dataclass(slots=True)
class Logged:
    """One change.

    Attributes:
        number: 0, 1, 2 and so on in the order of the log.
        event: What readers are told.
        encoded: What a transport made of it, once for all its readers; empty before.
    """

    number: int
    event: ChangeEvent | EnvironmentEvent | ResetEvent
    encoded: bytes = b""

    @property
    def position(self) -> Position:
        """The place of the change."""
        return Position(self.event.epoch, self.event.sequence)


def _nothing() -> None:
    return


class ChangeLog:
    """The last changes; register ``on_commit`` with ``Commits``.

    Attributes:
        position: The place of the newest change that is durable.
        end: The number of the next change.
        on_added: Called when there are more.
    """

    def __init__(self, state: State, *, capacity: int = CAPACITY) -> None:
        """Begin after everything that a state holds, of which nothing is pending."""
        self._state = state
        self._capacity = capacity
        self._active = state.active
        self._items: deque[Logged] = deque()
        self.position = Position(state.epoch, state.sequence)
        # All changes after this place are in the log.
        self._floor = self.position
        self.end = 0
        self.on_added: Callable[[], None] = _nothing

    def on_commit(self, plan: Plan) -> None:
        """Add what readers are told of a durable plan."""
        if not plan.sequence and plan.activates is None and not plan.raises_epoch:
            return
        self.position = max(self.position, Position(self._state.epoch, plan.sequence or self.position.sequence))
        before = self.end
        if plan.raises_epoch:
            # Whatever else the plan holds: everything is read again.
            self._add(ResetEvent(reason="epoch", epoch=self.position.epoch, sequence=self.position.sequence))
        else:
            self._add_changes(plan)
        active, self._active = self._active, self._state.active
        if self._active != active:
            self._add(
                EnvironmentEvent(
                    environment=self._active,
                    previous=active or None,
                    epoch=self.position.epoch,
                    sequence=self.position.sequence,
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

    def number_after(self, position: Position) -> int | None:
        """Return the number of the first change after a place; None if the log does not reach back so far."""
        for item in reversed(self._items):
            if item.position == position:
                return item.number + 1
        if position >= self.position:
            # Another daemon of the home may be ahead of this one.
            return self.end
        if position < self._floor:
            return None
        return next((item.number for item in self._items if item.position > position), self.end)

    def newest_since(self, position: Position, most: int) -> list[ChangeEvent] | None:
        """Return the newest revision of each configuration that changed after a place of this epoch.

        Args:
            position: The place.
            most: The largest number of events.

        Returns:
            None if there are more.
        """
        found = self._state.changed_after(position.sequence)
        if len(found) > most:
            return None
        found.sort(key=lambda record: record.home_sequence)
        return [_change(record, self._state.epoch, coalesced=True) for record in found]

    def _add_changes(self, plan: Plan) -> None:
        """Add the revisions of a plan, and the configurations that readers see differently with the same revision."""
        records: list[RecordHead] = list(plan.records)
        revisions = len(records)
        if plan.activates is None and plan.told:
            # With another environment everything is read again.
            known = {(record.environment, record.service) for record in records}
            told = [ConfigId(item.environment, item.service) for item in plan.told]
            entries = (self._state.committed(config_id) for config_id in told if config_id not in known)
            records += [entry.record for entry in entries if entry.record is not None]
        skipped = max(0, len(records) - self._capacity)
        if skipped:
            self._items.clear()
            self._floor = Position(self._state.epoch, records[skipped - 1].home_sequence)
            self.end += skipped
        for index, record in enumerate(records[skipped:], start=skipped):
            self._add(_change(record, self._state.epoch, told=index >= revisions))

    def _add(self, event: ChangeEvent | EnvironmentEvent | ResetEvent) -> None:
        if len(self._items) >= self._capacity:
            self._floor = max(self._floor, self._items.popleft().position)
        self._items.append(Logged(self.end, event))
        self.end += 1


def _change(record: RecordHead, epoch: int, *, told: bool = False, coalesced: bool = False) -> ChangeEvent:
    """Return the event for a revision.

    Args:
        record: The revision, with the place of this change.
        epoch: The epoch of the home.
        told: Whether the revision itself was told before.
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
        changed=[] if told else _first(record.changed),
        changed_count=0 if told else len(record.changed),
        restart_required=[] if told else _first(record.restart_required),
        restart_required_count=0 if told else len(record.restart_required),
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
