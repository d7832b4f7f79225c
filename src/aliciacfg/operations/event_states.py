"""The events of ``GET /events``, and those of states: each is sent as it is when a reader takes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.api.answers.monitoring import DriftItem
from aliciacfg.api.events import (
    DATA,
    AuditEvent,
    ChangeEvent,
    DriftEvent,
    EnvironmentEvent,
    EventData,
    EventKind,
    HealthEvent,
    HelloEvent,
    ResetEvent,
    TokensEvent,
)
from aliciacfg.core.change_log import ChangeLog
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.model.records import Position
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.operations.health import Health
from aliciacfg.storage.write_queue import WriteQueue

_MAX_DRIFT = 100
KINDS: Mapping[type, EventKind] = {struct: kind for kind, struct in DATA.items()}
"""The kind of an event by the type of its data."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedParts:
    """What the feed reports.

    Attributes:
        state: Has the active environment.
        log: Has the changes.
        authorizer: Decides who may know what, and has the tokens.
        queue: Counts the writes with entries for the audit log.
        files: Know which edits are refused.
        drift: Has the findings.
        instances: Have the reports of services.
        health: Has the health and who is online.
    """

    state: State
    log: ChangeLog
    authorizer: Authorizer
    queue: WriteQueue
    files: LoadedFiles
    drift: Drift
    instances: Instances
    health: Health


@dataclass(slots=True)
class States:
    """The states that readers receive, each with the number of its last change."""

    parts: FeedParts
    number: int = 0
    health: Event | None = None
    health_number: int = 0
    drift: Event | None = None
    drift_number: int = 0
    files_number: int = 0
    instances: dict[str, int] = field(default_factory=dict[str, int])
    online: dict[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])
    online_number: int = 0
    tokens: Event = field(default_factory=lambda: event_of(TokensEvent()))
    tokens_number: int = 0
    audit: Event = field(default_factory=lambda: event_of(AuditEvent()))
    audit_number: int = 0
    _token_changes: int = 0
    _audited: int = 0
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
                self.online_number = self._next()
                self.online[service] = self.online_number, online
        if parts.authorizer.token_changes != self._token_changes:
            self._token_changes, self.tokens_number = parts.authorizer.token_changes, self._next()
        if parts.queue.audited != self._audited:
            self._audited, self.audit_number = parts.queue.audited, self._next()
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


def event_of(data: EventData) -> Event:
    """Return an event of its own."""
    kind = KINDS[type(data)]
    if isinstance(data, HelloEvent | ChangeEvent | EnvironmentEvent | ResetEvent):
        return Event(kind, documents.encode(data), Position(data.epoch, data.sequence))
    return Event(kind, documents.encode(data))
