"""The daemon's metrics as text for scrapers; the only module that imports prometheus_client.

Series are made from what was counted and from the state of other parts (``Readings``), each time that they are read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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

from aliciacfg.model.records import Cause, DriftKind
from aliciacfg.monitoring.metrics import BOUNDS_SECONDS, Metrics, Readings

_STATES = ("ready", "not_ready", "gone")
_OPENMETRICS = "application/openmetrics-text"


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


def exposition(metrics: Metrics, readings: Readings, accept: str) -> tuple[bytes, str]:
    """Return all metrics as text, and the content type of the text.

    Args:
        metrics: What was counted.
        readings: The state of other parts.
        accept: The scraper's ``Accept`` header; the format is OpenMetrics if the header has it, otherwise the
            Prometheus text format.
    """
    # The library raises an error for a malformed version in the header, so it does not get the header itself.
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(_Collected([*_counted(metrics), *_read(readings), *_process().collect()])), content_type


@cache
def _process() -> ProcessCollector:
    return ProcessCollector(registry=None)


def _counted(metrics: Metrics) -> Iterator[Metric]:
    requests = CounterMetricFamily(_REQUESTS.name, _REQUESTS.help, labels=_REQUESTS.labels)
    latency = HistogramMetricFamily(_LATENCY.name, _LATENCY.help, labels=_LATENCY.labels)
    for labels, meter in metrics.meters.items():
        for outcome, count in meter.outcomes.items():
            requests.add_metric([*labels, outcome], count)
        latency.add_metric(labels, _cumulative(meter.buckets), meter.seconds)
    yield requests
    yield latency
    yield _counters(_ACCESSES, metrics.accesses)
    yield CounterMetricFamily(_INVALID.name, _INVALID.help, metrics.validation_errors)
    yield InfoMetricFamily(_BUILD.name.removesuffix("_info"), _BUILD.help, {"version": metrics.version})


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
    bounds = [*map(str, BOUNDS_SECONDS), "+Inf"]
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
