"""The daemon's metrics; the only module that imports prometheus_client.

Adapters count requests in plain numbers. The library's own counters take a lock, which a single event loop does not
need; they cost four times as much, about 3 % of a cached read over HTTP. Series are made from the numbers, and from the
state of other parts (``Readings``), only when the metrics are read. The number of series is bounded whatever clients
send: the values of labels come from closed sets or are limited in number.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, get_args

from prometheus_client import Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

from aliciacfg.errors import ErrorCode
from aliciacfg.model.records import Cause, DriftKind

Transport = Literal["mqtt", "http"]
Outcome = Literal["success"] | ErrorCode

OTHER = "other"
"""The label that stands for all operations or services without a label of their own."""

_STATES = ("ready", "not_ready", "gone")
_OPENMETRICS = "application/openmetrics-text"
# From the time of a cached read to that of a write on a slow disk.
_BOUNDS_SECONDS = (0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family.

    Attributes:
        name: The name in the Prometheus text format; in OpenMetrics only the samples have ``_total`` and ``_info``.
        kind: The type.
        labels: The names of its labels.
        help: A description in one line.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    help: str


_REQUESTS = Family(
    "aliciacfg_requests_total", "counter", ("operation", "transport", "outcome"), "Requests that were answered."
)
_LATENCY = Family(
    "aliciacfg_request_duration_seconds", "histogram", ("operation", "transport"), "Time from a request to its answer."
)
_ACCESSES = Family("aliciacfg_accesses_total", "counter", ("service",), "Configurations that were read.")
_INVALID = Family("aliciacfg_validation_failures_total", "counter", (), "Writes refused because of their content.")
_HITS = Family("aliciacfg_cache_hits_total", "counter", (), "Reads that were answered from the cache.")
_MISSES = Family("aliciacfg_cache_misses_total", "counter", (), "Reads that were not answered from the cache.")
_REVISIONS = Family("aliciacfg_revisions_total", "counter", ("cause",), "Revisions that were committed.")
_PENDING = Family("aliciacfg_outbox_pending", "gauge", (), "Retained messages that the broker has not confirmed yet.")
_OLDEST = Family("aliciacfg_outbox_oldest_seconds", "gauge", (), "Age of the oldest waiting message in seconds.")
_DRIFT = Family("aliciacfg_drift", "gauge", ("kind",), "Current differences from the state in the store.")
_ALERTS = Family("aliciacfg_alerts", "gauge", ("kind",), "Active alerts.")
_BROKER = Family("aliciacfg_broker_connected", "gauge", (), "1 while the broker is connected.")
_LAG = Family("aliciacfg_replica_lag_seconds", "gauge", (), "For so long memory may lack what other daemons committed.")
_LAG_COMMITS = Family("aliciacfg_replica_lag_commits", "gauge", (), "Transactions of other daemons not in memory yet.")
_SUPERSEDED = Family(
    "aliciacfg_plans_superseded_total", "counter", (), "Changes planned anew because another daemon came first."
)
_LEASE = Family("aliciacfg_lease_held", "gauge", (), "1 while this daemon leads its home.")
_LEASE_CHANGES = Family("aliciacfg_lease_changes_total", "counter", (), "Times that another daemon began to lead.")
_REPLICAS = Family("aliciacfg_replicas", "gauge", ("state",), "Daemons of the home: ready, not_ready or gone.")
_STREAMS = Family("aliciacfg_event_streams", "gauge", (), "Clients that read events over HTTP.")
_BUILD = Family("aliciacfg_build_info", "info", ("version",), "The version of the daemon.")

FAMILIES = (
    _REQUESTS, _LATENCY, _ACCESSES, _INVALID, _HITS, _MISSES, _REVISIONS, _PENDING, _OLDEST, _DRIFT, _ALERTS, _BROKER,
    _LAG, _LAG_COMMITS, _SUPERSEDED, _LEASE, _LEASE_CHANGES, _REPLICAS, _STREAMS, _BUILD,
)  # fmt: skip
"""Every metric except those of the process (``process_…``), which the library provides."""


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
        self.buckets = [0] * (len(_BOUNDS_SECONDS) + 1)

    def answered(self, seconds: float, outcome: Outcome = "success", times: int = 1) -> None:
        """Count a request that was answered after ``seconds``; with ``times``, so many that took as long each."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + times
        self.seconds += seconds * times
        self.buckets[bisect_left(_BOUNDS_SECONDS, seconds)] += times


class Metrics:
    """The counters of the daemon, and the text that scrapers read.

    Attributes:
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
        self._version = version
        self._max_services = max_services
        # By operation and transport.
        self._meters: dict[tuple[str, Transport], Meter] = {}
        # The number of reads by service.
        self._accesses: dict[str, int] = {}
        self._process = ProcessCollector(registry=None)
        self.validation_errors = 0

    @property
    def messages_processed(self) -> int:
        """The number of requests answered since the start."""
        return sum(count for meter in self._meters.values() for count in meter.outcomes.values())

    @property
    def errors(self) -> int:
        """The number of requests refused or failed since the start."""
        return self.messages_processed - sum(meter.outcomes.get("success", 0) for meter in self._meters.values())

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

    def exposition(self, accept: str, readings: Readings) -> tuple[bytes, str]:
        """Return all metrics as text, and the content type of the text.

        Args:
            accept: The scraper's ``Accept`` header; the format is OpenMetrics if the header has it, otherwise the
                Prometheus text format.
            readings: The state of other parts.
        """
        # The library raises an error for a malformed version in the header, so it does not get the header itself.
        encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
        return encode(_Collected([*self._counted(), *_read(readings), *self._process.collect()])), content_type

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(_REQUESTS.name, _REQUESTS.help, labels=_REQUESTS.labels)
        latency = HistogramMetricFamily(_LATENCY.name, _LATENCY.help, labels=_LATENCY.labels)
        for labels, meter in self._meters.items():
            for outcome, count in meter.outcomes.items():
                requests.add_metric([*labels, outcome], count)
            latency.add_metric(labels, _cumulative(meter.buckets), meter.seconds)
        yield requests
        yield latency
        yield _counters(_ACCESSES, self._accesses)
        yield CounterMetricFamily(_INVALID.name, _INVALID.help, self.validation_errors)
        yield InfoMetricFamily(_BUILD.name.removesuffix("_info"), _BUILD.help, {"version": self._version})


class _Collected:
    """Metrics in the form of a registry, which the library's encoders expect."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _read(readings: Readings) -> Iterator[Metric]:
    yield CounterMetricFamily(_HITS.name, _HITS.help, readings.cache_hits)
    yield CounterMetricFamily(_MISSES.name, _MISSES.help, readings.cache_misses)
    yield _counters(_REVISIONS, {cause: readings.revisions.get(cause, 0) for cause in get_args(Cause)})
    yield GaugeMetricFamily(_PENDING.name, _PENDING.help, readings.outbox_pending)
    yield GaugeMetricFamily(_OLDEST.name, _OLDEST.help, readings.outbox_oldest_seconds)
    yield _gauges(_DRIFT, {kind: readings.drift.get(kind, 0) for kind in get_args(DriftKind)})
    yield _gauges(_ALERTS, readings.alerts)
    yield GaugeMetricFamily(_BROKER.name, _BROKER.help, readings.broker_connected)
    yield GaugeMetricFamily(_LAG.name, _LAG.help, readings.replica_lag_seconds)
    yield GaugeMetricFamily(_LAG_COMMITS.name, _LAG_COMMITS.help, readings.replica_lag_commits)
    yield CounterMetricFamily(_SUPERSEDED.name, _SUPERSEDED.help, readings.plans_superseded)
    yield GaugeMetricFamily(_LEASE.name, _LEASE.help, readings.leading)
    yield CounterMetricFamily(_LEASE_CHANGES.name, _LEASE_CHANGES.help, readings.leader_changes)
    yield GaugeMetricFamily(_STREAMS.name, _STREAMS.help, readings.event_streams)
    yield _gauges(_REPLICAS, {state: readings.replicas.get(state, 0) for state in _STATES})


def _cumulative(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """Return each upper bound with the number of requests that took at most as long."""
    bounds = [*map(str, _BOUNDS_SECONDS), "+Inf"]
    return list(zip(bounds, accumulate(buckets), strict=True))


def _counters(family: Family, values: Mapping[str, float]) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    for label, value in values.items():
        metric.add_metric([label], value)
    return metric


def _gauges(family: Family, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for label, value in values.items():
        metric.add_metric([label], value)
    return metric
