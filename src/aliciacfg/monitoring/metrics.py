"""What the daemon counts and measures of itself; the only module that imports prometheus_client.

Requests are counted where they are answered, in plain numbers: the library's own counters, which lock for threads that
are not here, cost four times as much, and some 3 % of a cached read over HTTP. They become series only when somebody
asks for the metrics, and so does what other parts know anyway (``Readings``): nothing has to be kept in step. Whatever
requesters send, the number of series is bounded: labels come from closed sets, or end at a limit.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
"""The label of whatever has none of its own."""

_OPENMETRICS = "application/openmetrics-text"
# From a cached read to a write that waits for a slow disk.
_BOUNDS_SECONDS = (0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as a scraper sees it.

    Attributes:
        name: In the Prometheus text format; OpenMetrics leaves ``_total`` and ``_info`` to the samples.
        kind: Its type.
        labels: Their names.
        help: One line.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    help: str


_REQUESTS = Family(
    "aliciacfg_requests_total", "counter", ("operation", "transport", "outcome"), "Requests that were answered."
)
_LATENCY = Family(
    "aliciacfg_request_duration_seconds", "histogram", ("operation", "transport"), "From the request to its answer."
)
_ACCESSES = Family("aliciacfg_accesses_total", "counter", ("service",), "Configurations that were read.")
_INVALID = Family("aliciacfg_validation_failures_total", "counter", (), "Writes refused because of their content.")
_HITS = Family("aliciacfg_cache_hits_total", "counter", (), "Reads that an answer was ready for.")
_MISSES = Family("aliciacfg_cache_misses_total", "counter", (), "Reads whose answer had to be made.")
_REVISIONS = Family("aliciacfg_revisions_total", "counter", ("cause",), "Revisions that were committed.")
_PENDING = Family("aliciacfg_outbox_pending", "gauge", (), "Retained messages that the broker is not seen to hold yet.")
_OLDEST = Family("aliciacfg_outbox_oldest_seconds", "gauge", (), "How long what waits longest has been waiting.")
_DRIFT = Family("aliciacfg_drift", "gauge", ("kind",), "What is not as it should be, now.")
_ALERTS = Family("aliciacfg_alerts", "gauge", ("kind",), "Alerts that stand.")
_BROKER = Family("aliciacfg_broker_connected", "gauge", (), "1 while the broker is connected.")
_BUILD = Family("aliciacfg_build_info", "info", ("version",), "Which program this is.")

FAMILIES = (
    _REQUESTS, _LATENCY, _ACCESSES, _INVALID, _HITS, _MISSES, _REVISIONS, _PENDING, _OLDEST, _DRIFT, _ALERTS, _BROKER,
    _BUILD,
)  # fmt: skip
"""Every metric but those of the process (``process_…``), which are the library's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What other parts know, at one moment.

    Attributes:
        cache_hits: Since the start.
        cache_misses: Since the start.
        revisions: Committed since the start, by cause.
        outbox_pending: Messages that the bus has not been seen to hold.
        outbox_oldest_seconds: How long what waits longest has been waiting; 0 if nothing waits.
        drift: What drifts now, by kind.
        alerts: What stands now, by kind.
        broker_connected: Whether the bus is there.
    """

    cache_hits: int = 0
    cache_misses: int = 0
    revisions: Mapping[Cause, int]
    outbox_pending: int = 0
    outbox_oldest_seconds: float = 0.0
    drift: Mapping[str, int]
    alerts: Mapping[str, int]
    broker_connected: bool = False


class Meter:
    """Counts and times the requests of one operation over one transport; made by ``Metrics.meter``.

    Attributes:
        outcomes: How many requests were answered, by what came of them.
        seconds: How long they took together.
        buckets: How many took at most as long as the bound of the same index, and longer than the one before; the
            last one has no bound.
    """

    __slots__ = ("buckets", "outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[Outcome, int] = {}
        self.seconds = 0.0
        self.buckets = [0] * (len(_BOUNDS_SECONDS) + 1)

    def answered(self, seconds: float, outcome: Outcome = "success") -> None:
        """A request was answered after ``seconds``."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.seconds += seconds
        self.buckets[bisect_left(_BOUNDS_SECONDS, seconds)] += 1


class Metrics:
    """Everything that is counted as it happens.

    Attributes:
        validation_errors: Writes refused because of their content.
    """

    def __init__(self, *, operations: Iterable[str], version: str, max_services: int = 1000) -> None:
        """Begin at zero.

        Args:
            operations: The names that get a label of their own.
            version: The daemon's.
            max_services: The most services that get a label of their own.
        """
        self._operations = frozenset(operations)
        self._version = version
        self._max_services = max_services
        self._meters: dict[tuple[str, Transport], Meter] = {}
        self._accesses: dict[str, int] = {}
        self._process = ProcessCollector(registry=None)
        self.validation_errors = 0

    @property
    def messages_processed(self) -> int:
        """Requests answered since the start."""
        return sum(count for meter in self._meters.values() for count in meter.outcomes.values())

    @property
    def errors(self) -> int:
        """Those of them that were refused or failed."""
        return self.messages_processed - sum(meter.outcomes.get("success", 0) for meter in self._meters.values())

    def meter(self, operation: str, transport: Transport) -> Meter:
        """What counts the requests of an operation; those of all that is none share one."""
        name = operation if operation in self._operations else OTHER
        return self._meters.setdefault((name, transport), Meter())

    def accessed(self, service: str) -> None:
        """The configuration of a service was read; call it only for one that exists."""
        accesses = self._accesses
        if service not in accesses and len(accesses) >= self._max_services:
            service = OTHER
        accesses[service] = accesses.get(service, 0) + 1

    def exposition(self, accept: str, readings: Readings) -> tuple[bytes, str]:
        """Everything as text, and its content type.

        Args:
            accept: The media types that the scraper takes: OpenMetrics if it is among them, else Prometheus' own.
            readings: What other parts know.
        """
        # Not the header itself: the library stumbles over a version in it that is no number.
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
    """What the library's encoders take."""

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


def _cumulative(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """Each bound with how many took at most as long."""
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
