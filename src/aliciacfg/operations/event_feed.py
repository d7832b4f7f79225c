"""What happens in a home, for readers who watch it: each gets what it may know, in order, and without bound on time.

A reader has no queue of its own but a place in the log of changes, so a slow one takes no memory: it goes on where it
was, or, if the log does not reach back so far any more, is told to read everything again. States such as the health
are told as they are when the reader takes them; what they were in between is not.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Self

from msgspec import UnsetType

from aliciacfg import __version__, documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers import DriftItem, RefusedEdit
from aliciacfg.api.events import (
    DATA,
    ChangeEvent,
    DriftEvent,
    EndEvent,
    EnvironmentEvent,
    EventData,
    EventKind,
    FilesEvent,
    HealthEvent,
    HelloEvent,
    InstancesEvent,
    OnlineEvent,
    ResetEvent,
)
from aliciacfg.core.change_log import ChangeLog, Logged
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.errors import Busy, OperationError, Unauthorized
from aliciacfg.model.records import Position
from aliciacfg.model.sorted_names import SortedNames
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.operations.health import Health

OPERATION = "events"
"""What the access rules and the audit log call it."""

# Readers are woken at once for a change, and not again before this time is over: with 100 readers each time costs some
# milliseconds.
_PAUSE_SECONDS = 0.1
# How often states are compared with what they were.
_TICK_SECONDS = 0.25
# How often a reader's token is looked up though neither rules nor tokens changed: it may expire.
_CHECK_SECONDS = 1.0
# So many events a reader takes at a time, and gets for what it missed before this daemon started.
_MAX_TAKEN = 256
_MAX_TAKEN_BYTES = 64 * 1024
_MAX_MISSED = 1000
_MAX_DRIFT = 100
_KINDS: Mapping[type, EventKind] = {struct: kind for kind, struct in DATA.items()}
_ALWAYS = frozenset({"hello", "reset", "end"})


@dataclass(slots=True)
class Event:
    """One event for one or more readers.

    Attributes:
        kind: Its kind.
        data: Its fields as JSON.
        position: The place in the order of the home; None for a state.
        encoded: What the transport made of it; empty before.
    """

    kind: EventKind
    data: bytes
    position: Position | None = None
    encoded: bytes = b""


@dataclass(frozen=True, slots=True)
class Wanted:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedParts:
    """What the feed tells of.

    Attributes:
        state: Has the active environment.
        log: Has the changes.
        authorizer: Decides who may know what.
        files: Know which edits are refused.
        drift: Has the findings.
        instances: Have the reports of services.
        health: Has the health and who is online.
    """

    state: State
    log: ChangeLog
    authorizer: Authorizer
    files: LoadedFiles
    drift: Drift
    instances: Instances
    health: Health


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
        self._states = _States(parts)
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

    def check_room(self, most: int) -> None:
        """Return if there is room for another reader.

        Args:
            most: The largest number of readers, as far as the transport is concerned.

        Raises:
            Busy: There are as many as there may be.
        """
        most = min(most, self.most)
        if self.closed or self.count >= most:
            raise Busy(
                f"{self.count} event streams are open, and {most} may be (ALICIACFG_MAX_EVENT_STREAMS, and fewer where "
                "the system allows few open files); close one, or try again later."
            )

    def open(self, identify: Callable[[], Caller], wanted: Wanted, last: Position | str | None) -> "EventReader":
        """Return a new reader, which has to be closed.

        Args:
            identify: Returns who reads, and raises Unauthorized once its token is not valid any more.
            wanted: What it asks for.
            last: The place that it knows; None if it knows none, a text if it is not a place.
        """
        reader = EventReader(self._parts, self._states, self, identify, wanted, last)
        self._readers.add(reader)
        if self._ticking is None:
            self._states.refresh()
            self._tick_later()
        return reader

    def remove(self, reader: "EventReader") -> None:
        """Forget a reader. Safe to call twice."""
        self._readers.discard(reader)
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
        if self._states.refresh() or self._woken_at + _CHECK_SECONDS <= asyncio.get_running_loop().time():
            self._wake()


@dataclass(slots=True)
class _States:
    """What readers are told of states, each with the number of its last change."""

    parts: FeedParts
    number: int = 0
    health: Event | None = None
    health_number: int = 0
    drift: Event | None = None
    drift_number: int = 0
    files_number: int = 0
    instances: dict[str, int] = field(default_factory=dict[str, int])
    online: dict[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])
    _files: tuple[object, object] = (None, None)
    _found: list[DriftItem] | None = None
    _compared: int = 0

    def note_instances(self, service: str) -> None:
        """Note that reports about a service changed."""
        self.number += 1
        # The last one that changed is the last of the dictionary.
        self.instances.pop(service, None)
        self.instances[service] = self.number

    def refresh(self) -> bool:
        """Compare all states with what they were; return whether one changed since the last call."""
        parts = self.parts
        health = documents.encode(HealthEvent.of(parts.health.now()))
        if self.health is None or self.health.data != health:
            self.health, self.health_number = Event("health", health), self._next()
        found = parts.drift.items
        if found != self._found:
            self._found = list(found)
            data = DriftEvent(drift=found[:_MAX_DRIFT], count=len(found))
            self.drift, self.drift_number = Event("drift", documents.encode(data)), self._next()
        files = (parts.files.refused, parts.files.sources)
        if files[0] is not self._files[0] or files[1] is not self._files[1]:
            self._files, self.files_number = files, self._next()
        for service, online in parts.health.services_online.items():
            known = self.online.get(service)
            if known is None or known[1] != online:
                self.online[service] = self._next(), online
        compared, self._compared = self._compared, self.number
        return self.number != compared

    def _next(self) -> int:
        self.number += 1
        return self.number

    def changed_instances(self, seen: int) -> Iterator[str]:
        """Yield the services whose reports changed after a number, the last one first."""
        for service in reversed(self.instances):
            if self.instances[service] <= seen:
                return
            yield service


class EventReader:
    """One reader: its place in the log, and what it knows of the states.

    Attributes:
        ended: Whether ``take`` has returned the last event.
    """

    def __init__(
        self,
        parts: FeedParts,
        states: _States,
        feed: EventFeed,
        identify: Callable[[], Caller],
        wanted: Wanted,
        last: Position | str | None,
    ) -> None:
        self._parts = parts
        self._states = states
        self._feed = feed
        self._identify = identify
        self._wanted = wanted
        self._last = last
        self._woken = asyncio.Event()
        self._woken.set()
        # What is to be told before anything else.
        self._first: list[Event] = []
        self._begun = False
        self._next = parts.log.end
        # The number of the last change of a state that the reader knows; those of instances are told from now on.
        self._seen, self._seen_instances = -1, states.number
        self._checked_at = float("-inf")
        self._changes = -1
        self._readable: SortedNames | None = None
        self._sees_drift = False
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.remove(self)

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
            return [self._encoded(_event(EndEvent(reason=end)))]
        if not self._begun:
            self._begin()
        taken = [self._encoded(event) for event in self._first]
        self._first = []
        taken += self._changes_told()
        if self._seen != self._states.number:
            taken += [self._encoded(event) for event in self._states_told() if self._wanted.has(event.kind)]
        return taken

    @property
    def place(self) -> Position | None:
        """The place up to which the reader has been told everything; None while there is more to take."""
        log = self._parts.log
        return log.place if self._begun and self._next == log.end and not self._first else None

    def _end_reason(self) -> Literal["unauthorized", "forbidden", "stopping"] | None:
        """Look after the reader's rights; return why it has to end, if it has."""
        if self._feed.closed:
            return "stopping"
        authorizer, now = self._parts.authorizer, asyncio.get_running_loop().time()
        if authorizer.changes == self._changes and now < self._checked_at + _CHECK_SECONDS:
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
        before = None if self._changes < 0 else (_listed(self._readable), self._sees_drift)
        self._changes = self._parts.authorizer.changes
        self._readable = access.readable(caller)
        self._sees_drift = access.decide(caller, "admin", operation="drift").allowed
        if before is not None and before != (_listed(self._readable), self._sees_drift):
            self._seen = -1
            self._reset("access")

    def _may_read(self, service: str) -> bool:
        return self._readable is None or service in self._readable

    def _begin(self) -> None:
        """Tell the reader where it is, and what it missed."""
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
        first = _event(hello)
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
        self._first += [_event(event) for event in missed if self._tells(event)]

    def _missed(self) -> list[ChangeEvent] | None:
        """Return what the reader missed and the log does not have; None if it cannot be told."""
        last, log = self._last, self._parts.log
        if not isinstance(last, Position) or last.epoch != log.place.epoch:
            return None
        number = log.number_after(last)
        if number is not None:
            self._next = number
            return []
        return log.newest_since(last, _MAX_MISSED)

    def _reset(self, reason: Literal["unknown_id", "epoch", "slow", "access"]) -> None:
        position = self._parts.log.place
        self._next = self._parts.log.end
        self._first.append(_event(ResetEvent(reason=reason, epoch=position.epoch, sequence=position.sequence)))

    def _changes_told(self) -> list[bytes]:
        log = self._parts.log
        if self._next == log.end:
            return []
        found = log.after(self._next)
        if found is None:
            self._reset("slow")
            told = [self._encoded(event) for event in self._first]
            self._first = []
            return told
        told: list[bytes] = []
        size = 0
        for item in islice(found, _MAX_TAKEN):
            self._next += 1
            if self._tells(item.event):
                told.append(self._encoded_item(item))
                size += len(told[-1])
                if size > _MAX_TAKEN_BYTES:
                    break
        if self._next != log.end:
            self._woken.set()
        return told

    def _tells(self, event: ChangeEvent | EnvironmentEvent | ResetEvent) -> bool:
        """Return whether the reader may and wants to know of an event."""
        if not isinstance(event, ChangeEvent):
            return self._wanted.has(_KINDS[type(event)])
        wanted = self._wanted
        return (
            self._may_read(event.service)
            and wanted.has("change")
            and wanted.concerns(event.service)
            and (not wanted.environments or event.environment in wanted.environments)
        )

    def _states_told(self) -> Iterator[Event]:
        """Yield the states that changed since the last call."""
        states, seen = self._states, self._seen
        self._seen = states.number
        if states.health is not None and states.health_number > seen:
            yield states.health
        if states.files_number > seen:
            yield _event(FilesEvent(refused_edits=self._refused_edits()))
        if states.drift is not None and states.drift_number > seen and self._sees_drift:
            yield states.drift
        online = {
            service: is_online
            for service, (number, is_online) in states.online.items()
            if number > seen and self._may_read(service) and self._wanted.concerns(service)
        }
        if online or seen < 0:
            yield _event(OnlineEvent(services=online))
        since, self._seen_instances = self._seen_instances, states.number
        for service in states.changed_instances(since):
            if self._may_read(service) and self._wanted.concerns(service):
                yield _event(InstancesEvent(service=service))

    def _refused_edits(self) -> list[RefusedEdit]:
        readable = self._readable
        return self._parts.files.refused_edits(sees=lambda name: name is None or readable is None or name in readable)

    def _encoded(self, event: Event) -> bytes:
        if not event.encoded:
            event.encoded = self._feed.encode(event)
        return event.encoded

    def _encoded_item(self, item: Logged) -> bytes:
        if not item.encoded:
            event = _event(item.event)
            event.position = item.place
            item.encoded = self._feed.encode(event)
        return item.encoded


def _event(data: EventData) -> Event:
    """Return an event of its own."""
    kind = _KINDS[type(data)]
    if isinstance(data, HelloEvent | ChangeEvent | EnvironmentEvent | ResetEvent):
        return Event(kind, documents.encode(data), Position(data.epoch, data.sequence))
    return Event(kind, documents.encode(data))


def _listed(names: SortedNames | None) -> list[str] | None:
    return None if names is None else list(names)
