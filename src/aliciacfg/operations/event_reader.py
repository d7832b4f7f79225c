"""A reader of the events: its place in the log, its rights, and its next event."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol, Self

from msgspec import UnsetType

from aliciacfg import __version__
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.refused_edits import RefusedEdit
from aliciacfg.api.events import (
    ChangeEvent,
    EndEvent,
    EnvironmentEvent,
    FilesEvent,
    HelloEvent,
    InstancesEvent,
    OnlineEvent,
    ResetEvent,
)
from aliciacfg.core.change_log import Logged
from aliciacfg.errors import OperationError, Unauthorized
from aliciacfg.model.records import Position
from aliciacfg.model.sorted_names import SortedNames
from aliciacfg.operations.event_states import KINDS, Event, FeedParts, States, event_of

OPERATION = "events"
"""What the access rules and the audit log call it."""

CHECK_SECONDS = 1.0
"""How often a reader's token is looked up though neither rules nor tokens changed: it may expire."""

# So many events a reader takes at a time, and gets for what it missed before this daemon started.
_MAX_TAKEN = 256
_MAX_TAKEN_BYTES = 64 * 1024
_MAX_MISSED = 1000
_ALWAYS = frozenset({"hello", "reset", "end"})


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a reader asks for; an empty set means all.

    Attributes:
        services: The services of changes, instances and registrations.
        environments: The environments of changes.
        kinds: The kinds of events; ``hello``, ``reset`` and ``end`` come in any case.
    """

    services: Collection[str] = ()
    environments: Collection[str] = ()
    kinds: Collection[str] = ()

    def has(self, kind: str) -> bool:
        """Return whether a reader wants events of a kind."""
        return not self.kinds or kind in self.kinds or kind in _ALWAYS

    def concerns(self, service: str) -> bool:
        """Return whether a reader wants to know of a service."""
        return not self.services or service in self.services


class Feed(Protocol):
    """What a reader asks of the feed that it is of.

    Attributes:
        closed: Whether all readers have to end.
        encode: Makes of an event what the transport sends.
    """

    closed: bool
    encode: Callable[[Event], bytes]

    def remove(self, reader: "EventReader") -> None:
        """Forget a reader."""
        ...


class EventReader:
    """One reader: its place in the log, and what it knows of the states.

    Attributes:
        ended: Whether ``take`` has returned the last event.
    """

    def __init__(
        self,
        parts: FeedParts,
        states: States,
        feed: Feed,
        identify: Callable[[], Caller],
        wanted: EventFilter,
        last: Position | str | None,
    ) -> None:
        self._parts = parts
        self._states = states
        self._feed = feed
        self._identify = identify
        self._filter = wanted
        self._last = last
        self._woken = asyncio.Event()
        self._woken.set()
        # Events that go before all others.
        self._first: list[Event] = []
        self._begun = False
        self._next = parts.log.end
        # The number of the last change of a state that the reader knows. Kinds without a first state, such as reports
        # of instances, are sent from now on.
        self._seen, self._seen_news = -1, states.number
        self._checked_at = float("-inf")
        self._changes = -1
        self._readable: SortedNames | None = None
        self._administers = False
        self._gives_way = False
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.remove(self)

    def give_way(self) -> None:
        """End soon, because another caller needs the place."""
        self._gives_way = True
        self.wake()

    def wake(self) -> None:
        """Have ``wait`` return."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Wait until there may be more to take, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    def take(self) -> list[bytes]:
        """Return the next events as the transport sends them; none if nothing happened that the reader may know."""
        self._woken.clear()
        end = self._end_reason()
        if end is not None:
            self.ended = True
            return [self._encoded(event_of(EndEvent(reason=end)))]
        if not self._begun:
            self._begin()
        taken = [self._encoded(event) for event in self._first]
        self._first = []
        taken += self._take_changes()
        if self._seen != self._states.number:
            taken += [self._encoded(event) for event in self._take_states() if self._filter.has(event.kind)]
        return taken

    @property
    def place(self) -> Position | None:
        """The place up to which the reader has all events; None while there is more to take."""
        log = self._parts.log
        return log.place if self._begun and self._next == log.end and not self._first else None

    def _end_reason(self) -> Literal["unauthorized", "forbidden", "busy", "stopping"] | None:
        """Look after the reader's rights; return why it has to end, if it has."""
        if self._feed.closed:
            return "stopping"
        if self._gives_way:
            return "busy"
        authorizer, now = self._parts.authorizer, asyncio.get_running_loop().time()
        if authorizer.changes == self._changes and now < self._checked_at + CHECK_SECONDS:
            return None
        try:
            caller = self._identify()
            authorizer.check(caller, "read_any", operation=OPERATION)
        except Unauthorized:
            return "unauthorized"
        except OperationError:
            return "forbidden"
        self._checked_at = now
        if authorizer.changes != self._changes:
            self._note_access(caller)
        return None

    def _note_access(self, caller: Caller) -> None:
        """Note what a caller may know from now on; have it read everything again if that is something else."""
        access = self._parts.authorizer.access
        before = None if self._changes < 0 else (_listed(self._readable), self._administers)
        self._changes = self._parts.authorizer.changes
        self._readable = access.readable(caller)
        self._administers = access.decide(caller, "admin", operation=OPERATION).allowed
        if before is not None and before != (_listed(self._readable), self._administers):
            self._seen = -1
            self._reset("access")

    def _may_read(self, service: str) -> bool:
        return self._readable is None or service in self._readable

    def _begin(self) -> None:
        """Begin with where the reader is, and with what it missed."""
        self._begun = True
        parts, position = self._parts, self._parts.log.place
        missed = self._missed()
        health = parts.health.now()
        hello = HelloEvent(
            epoch=position.epoch,
            sequence=position.sequence,
            environment=parts.state.active,
            version=__version__,
            instance=health.instance,
            replica=None if isinstance(health.replica, UnsetType) else health.replica.name,
            resumed=missed is not None,
        )
        first = event_of(hello)
        if missed is None:
            self._first.append(first)
            if isinstance(self._last, Position) and self._last.epoch != position.epoch:
                self._reset("epoch")
            elif self._last is not None:
                self._reset("unknown_id")
            return
        # A reader that is cut off before it has the events that it missed must ask for them again.
        first.position = self._last if isinstance(self._last, Position) else position
        self._first.append(first)
        self._first += [event_of(event) for event in missed if self._is_wanted(event)]

    def _missed(self) -> list[ChangeEvent] | None:
        """Return what the reader missed and the log does not have; None if that is not known."""
        last, log = self._last, self._parts.log
        if not isinstance(last, Position) or last.epoch != log.place.epoch or not log.may_know(last):
            return None
        number = log.number_after(last)
        if number is not None:
            self._next = number
            return []
        return log.newest_since(last, _MAX_MISSED)

    def _reset(self, reason: Literal["unknown_id", "epoch", "slow", "access"]) -> None:
        position = self._parts.log.place
        self._next = self._parts.log.end
        self._first.append(event_of(ResetEvent(reason=reason, epoch=position.epoch, sequence=position.sequence)))

    def _take_changes(self) -> list[bytes]:
        log = self._parts.log
        if self._next == log.end:
            return []
        found = log.after(self._next)
        if found is None:
            self._reset("slow")
            first = [self._encoded(event) for event in self._first]
            self._first = []
            return first
        taken: list[bytes] = []
        size = 0
        for item in islice(found, _MAX_TAKEN):
            self._next += 1
            if self._is_wanted(item.event):
                taken.append(self._encoded_item(item))
                size += len(taken[-1])
                if size > _MAX_TAKEN_BYTES:
                    break
        if self._next != log.end:
            self._woken.set()
        return taken

    def _is_wanted(self, event: ChangeEvent | EnvironmentEvent | ResetEvent) -> bool:
        """Return whether the reader may and wants to know of an event."""
        if not isinstance(event, ChangeEvent):
            return self._filter.has(KINDS[type(event)])
        wanted = self._filter
        return (
            self._may_read(event.service)
            and wanted.has("change")
            and wanted.concerns(event.service)
            and (not wanted.environments or event.environment in wanted.environments)
        )

    def _take_states(self) -> Iterator[Event]:
        """Yield the states that changed since the last call."""
        states, seen = self._states, self._seen
        self._seen = states.number
        if states.health is not None and states.health_number > seen:
            yield states.health
        if states.files_number > seen:
            yield event_of(FilesEvent(refused_edits=self._refused_edits()))
        if states.drift is not None and states.drift_number > seen and self._administers:
            yield states.drift
        if states.online_number > seen:
            online = {
                service: is_online
                for service, (number, is_online) in states.online.items()
                if number > seen and self._may_read(service) and self._filter.concerns(service)
            }
            if online or seen < 0:
                yield event_of(OnlineEvent(services=online))
        since, self._seen_news = self._seen_news, states.number
        if states.tokens_number > since and self._administers:
            yield states.tokens
        if states.audit_number > since and self._administers:
            yield states.audit
        for service in states.changed_instances(since):
            if self._may_read(service) and self._filter.concerns(service):
                yield event_of(InstancesEvent(service=service))

    def _refused_edits(self) -> list[RefusedEdit]:
        readable = self._readable
        return self._parts.files.refused_edits(sees=lambda name: name is None or readable is None or name in readable)

    def _encoded(self, event: Event) -> bytes:
        if not event.encoded:
            event.encoded = self._feed.encode(event)
        return event.encoded

    def _encoded_item(self, item: Logged) -> bytes:
        if not item.encoded:
            event = event_of(item.event)
            event.position = item.place
            item.encoded = self._feed.encode(event)
        return item.encoded


def _listed(names: SortedNames | None) -> list[str] | None:
    return None if names is None else list(names)
