"""What the daemon counts, in plain numbers; ``exposition`` makes the text that scrapers read.

The counters of Prometheus's library take a lock, which a single event loop does not need; they cost four times as much,
about 3 % of a cached read over HTTP. The number of series is bounded for all that clients may send: the values of
labels come from closed sets or are limited in number.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aliciacfg.errors import ErrorCode
from aliciacfg.model.records import Cause

Transport = Literal["mqtt", "http"]
Outcome = Literal["success"] | ErrorCode

OTHER = "other"
"""The label that stands for all operations or services without a label of their own."""

BOUNDS_SECONDS = (0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)
"""The upper bounds of a meter's intervals: from the time of a cached read to that of a write on a slow disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The state of other parts at one moment.

    Attributes:
        cache_hits: The number since the start.
        cache_misses: The number since the start.
        revisions: The number of revisions committed since the start, by cause.
        outbox_pending: The number of retained messages that the broker has not confirmed yet.
        outbox_oldest_seconds: The age of the oldest of them; 0 if there are none.
        drift: The number of current findings by kind.
        alerts: The number of active alerts by kind.
        broker_connected: Whether the broker is connected.
        replica_lag_seconds: For how many seconds memory may lack what other daemons committed.
        replica_lag_commits: The number of transactions that it did not hold when this was last compared.
        plans_superseded: The number of plans made anew since the start because another daemon came first.
        leading: Whether this daemon leads its home.
        leader_changes: How often another daemon began to lead since the start, this one included.
        replicas: The number of daemons of the home by state.
        event_streams: The number of clients that read events.
    """

    cache_hits: int = 0
    cache_misses: int = 0
    revisions: Mapping[Cause, int]
    outbox_pending: int = 0
    outbox_oldest_seconds: float = 0.0
    drift: Mapping[str, int]
    alerts: Mapping[str, int]
    broker_connected: bool = False
    replica_lag_seconds: float = 0.0
    replica_lag_commits: int = 0
    plans_superseded: int = 0
    leading: bool = True
    leader_changes: int = 0
    replicas: Mapping[str, int] = field(default_factory=lambda: {"ready": 1})
    event_streams: int = 0


class Meter:
    """Counts and times the requests of one operation over one transport; made by ``Metrics.meter``.

    Attributes:
        outcomes: The number of answered requests by outcome.
        seconds: Their total duration.
        buckets: The number of requests for each interval between two bounds; the last interval has no upper bound.
    """

    __slots__ = ("buckets", "outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = {}
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS_SECONDS) + 1)

    def answered(self, seconds: float, outcome: Outcome = "success", times: int = 1) -> None:
        """Count a request that was answered after ``seconds``; with ``times``, so many that took as long each."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + times
        self.seconds += seconds * times
        self.buckets[bisect_left(BOUNDS_SECONDS, seconds)] += times


class Metrics:
    """The counters of the daemon.

    Attributes:
        version: The version of the daemon.
        validation_errors: The number of writes refused because of their content.
    """

    def __init__(self, *, operations: Iterable[str], version: str, max_services: int = 1000) -> None:
        """Start all counters at zero.

        Args:
            operations: The operations that get a label of their own.
            version: The version of the daemon.
            max_services: The largest number of services that get a label of their own.
        """
        self._operations = frozenset(operations)
        self.version = version
        self._max_services = max_services
        # By operation and transport.
        self._meters: dict[tuple[str, Transport], Meter] = {}
        # The number of reads by service.
        self._accesses: dict[str, int] = {}
        self.validation_errors = 0

    @property
    def messages_processed(self) -> int:
        """The number of requests answered since the start."""
        return sum(count for meter in self._meters.values() for count in meter.outcomes.values())

    @property
    def errors(self) -> int:
        """The number of requests refused or failed since the start."""
        return self.messages_processed - sum(meter.outcomes.get("success", 0) for meter in self._meters.values())

    @property
    def meters(self) -> Mapping[tuple[str, Transport], Meter]:
        """The meters that were asked for, by operation and transport."""
        return self._meters

    @property
    def accesses(self) -> Mapping[str, int]:
        """The number of reads by service."""
        return self._accesses

    def meter(self, operation: str, transport: Transport) -> Meter:
        """Return the meter of an operation; all unknown operations share one."""
        name = operation if operation in self._operations else OTHER
        return self._meters.setdefault((name, transport), Meter())

    def accessed(self, service: str, times: int = 1) -> None:
        """Count reads of the configuration of a service; call it only for a configuration that exists."""
        accesses = self._accesses
        if service not in accesses and len(accesses) >= self._max_services:
            service = OTHER
        accesses[service] = accesses.get(service, 0) + times
