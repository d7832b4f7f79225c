"""Metrics: the right counts over both transports, in a bounded number of series."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from aliciacfg import __version__
from aliciacfg.monitoring.metrics import OTHER
from brokers import Broker
from daemons import Daemon
from exposition import REQUESTS, Series, series, value
from machine import SECONDS, wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("stt_service", "tts_service", "voice_router")

DURATIONS = "aliciacfg_request_duration_seconds_count"


def scrape(daemon: Daemon) -> Series:
    answer = daemon.http("GET", "/metrics")
    assert answer.status == 200
    return series(answer.body)


class Watch:
    """What changed in a daemon's metrics since this object was made."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._before = scrape(daemon)
        self._after: Series = {}

    def look(self) -> "Watch":
        self._after = scrape(self._daemon)
        return self

    def __call__(self, name: str, **labels: str) -> float:
        return value(self._after, name, **labels) - value(self._before, name, **labels)


@pytest.mark.sqlite("shared subscriptions are one for each operation: other topics are not heard")
async def test_requests_over_both_transports_are_counted_by_what_came_of_them(shared: Daemon):
    """Operation, transport and outcome of each; as many durations as requests; accesses by service."""
    watch = Watch(shared)
    assert shared.http("GET", "/config/voice_router").status == 200
    etag = shared.http("GET", "/config/voice_router").headers["ETag"]
    assert shared.http("GET", "/config/voice_router", headers={"If-None-Match": etag}).status == 304
    assert shared.http("GET", "/config/nobody").status == 404
    assert shared.http("GET", "/config/a%20b").status == 400
    assert shared.http("GET", "/config/voice_router", headers={"Host": "evil.example"}).status == 403
    assert shared.http("PATCH", "/config/voice_router", {"limits": {"a": "b"}}).status == 422
    assert shared.http("DELETE", "/configs").status == 405
    assert shared.http("GET", "/nothing/here").status == 404
    async with client(shared.broker_port) as mqtt:
        for _ in range(3):
            assert (await mqtt.ask("alicia/config/get/stt_service")).json["status"] == "success"
        assert (await mqtt.ask("alicia/config/get/stt_service", {"revision": 1})).json["status"] == "success"
        assert (await mqtt.ask("alicia/config/get/nobody")).json["code"] == "not_found"
        assert (await mqtt.ask("alicia/config/list", {"limit": "x"})).json["code"] == "invalid_request"
        assert (await mqtt.ask("alicia/config/frob/x")).json["code"] == "not_found"
        assert "status" in (await mqtt.ask("alicia/system/health/check")).json
    watch.look()

    def outcomes(operation: str, transport: str) -> dict[str, float]:
        return {
            outcome: count
            for outcome in ("success", "not_found", "invalid_request", "forbidden", "validation_failed")
            if (count := watch(REQUESTS, operation=operation, transport=transport, outcome=outcome))
        }

    assert outcomes("get", "http") == {"success": 3, "not_found": 1, "invalid_request": 1, "forbidden": 1}
    assert outcomes("patch", "http") == {"validation_failed": 1}
    # The scrape that began the watch is one of those beside the operations.
    assert outcomes(OTHER, "http") == {"success": 1, "not_found": 1, "invalid_request": 1}
    assert outcomes("get", "mqtt") == {"success": 4, "not_found": 1}
    assert outcomes("list", "mqtt") == {"invalid_request": 1}
    assert outcomes(OTHER, "mqtt") == {"not_found": 1}
    assert outcomes("health", "mqtt") == {"success": 1}
    assert watch(DURATIONS, operation="get", transport="http") == 6
    assert watch(DURATIONS, operation="get", transport="mqtt") == 5
    assert 0 < watch("aliciacfg_request_duration_seconds_sum", operation="get", transport="mqtt") < SECONDS
    assert watch("aliciacfg_accesses_total", service="voice_router") == 3
    assert watch("aliciacfg_accesses_total", service="stt_service") == 4
    assert watch("aliciacfg_validation_failures_total") == 1


def test_a_wait_that_was_asked_for_is_no_latency(shared: Daemon):
    """What wait_seconds waits is left out; the request is counted and timed all the same."""
    etag = shared.http("GET", "/config/tts_service").headers["ETag"]
    watch = Watch(shared)
    began = time.monotonic()
    waited = shared.http("GET", "/config/tts_service?wait_seconds=1", headers={"If-None-Match": etag})
    took = time.monotonic() - began
    assert waited.status == 304
    watch.look()
    assert watch(DURATIONS, operation="get", transport="http") == 1
    assert 0 < watch("aliciacfg_request_duration_seconds_sum", operation="get", transport="http") < took - 0.5


@pytest.mark.sqlite("shared subscriptions are one for each operation: other topics are not heard")
async def test_made_up_names_make_no_series(shared: Daemon):
    """Dozens of operations, services, environments and paths that do not exist leave their number as it was."""
    codes: set[Any] = set()

    async def ask(mqtt: Any, number: int) -> None:
        codes.add((await mqtt.ask(f"alicia/config/frob{number}/x")).json["code"])
        codes.add((await mqtt.ask(f"alicia/config/get/made_up_{number}")).json["code"])
        for path in (f"/made/up/{number}", f"/config/made_up_{number}", f"/config/tts_service?environment=e{number}"):
            codes.add(shared.http("GET", path).json["code"])
        codes.add(shared.http("POST", f"/config/made_up_{number}/unset", {"pointer": "/x"}).json["code"])

    async with client(shared.broker_port) as mqtt:
        await ask(mqtt, 0)
        # The first one is counted, too.
        scrape(shared)
        before = scrape(shared)
        for number in range(1, 60):
            await ask(mqtt, number)
    after = scrape(shared)
    assert codes == {"not_found"}
    assert after.keys() == before.keys()
    assert not [labels for _, labels in after if "made_up" in str(labels) or "frob" in str(labels)]
    assert value(after, REQUESTS, operation="get", transport="mqtt", outcome="not_found") >= 60


def test_revisions_and_the_build_are_told(daemon: Daemon):
    """Those of the files at a first start, then one for each write that changes something."""
    found = scrape(daemon)
    assert value(found, "aliciacfg_revisions_total", cause="file") >= len(HOME_SERVICES)
    assert value(found, "aliciacfg_build_info", version=__version__) == 1
    assert value(found, "aliciacfg_broker_connected") == 1
    assert value(found, "process_resident_memory_bytes") > 1_000_000
    before = daemon.http("GET", "/health").json
    for number in (1, 2, 2):
        assert daemon.http("PATCH", "/config/bell?dry_run=true", {"limits": {"n": 3}}).status == 404
        assert daemon.http("PATCH", "/config/tts_service", {"limits": {"n": number}}).status == 200
    health = daemon.http("GET", "/health").json
    assert health["errors"] == before["errors"] + 3
    # The first question about health counts as well.
    assert health["messages_processed"] == before["messages_processed"] + 7
    found = scrape(daemon)
    assert value(found, "aliciacfg_revisions_total", cause="api") == 2
    assert value(found, REQUESTS, operation="patch", transport="http", outcome="success") == 3


def test_a_read_is_one_hit_or_one_miss(make_daemon: Callable[..., Daemon]):
    """Without a cache every read misses once; with one, a read after a write hits."""
    cold = make_daemon(environ={"ALICIACFG_CACHE_TTL_SECONDS": "0"}).start()
    watch = Watch(cold)
    for _ in range(5):
        cold.config("voice_router")
    cold.http("GET", "/config/nobody")
    watch.look()
    assert watch("aliciacfg_cache_misses_total") == 5
    assert watch("aliciacfg_cache_hits_total") == 0
    assert watch("aliciacfg_accesses_total", service="voice_router") == 5
    assert cold.http("GET", "/health").json["cache_hit_rate"] == 0


def test_reads_of_what_is_cached_hit(shared: Daemon):
    """The plain read and the one with a query alike."""
    shared.config("voice_router")
    watch = Watch(shared)
    shared.config("voice_router")
    shared.config("voice_router", "?environment=dev")
    watch.look()
    assert watch("aliciacfg_cache_hits_total") == 2
    assert watch("aliciacfg_cache_misses_total") == 0


def test_the_outbox_shows_how_long_the_bus_is_behind(daemon: Daemon, broker: Broker):
    """While the broker is away the age of what waits rises, and writes say that they wait; then nothing waits."""
    broker.kill()
    wait_until(lambda: value(scrape(daemon), "aliciacfg_broker_connected") == 0)
    assert value(scrape(daemon), "aliciacfg_outbox_oldest_seconds") == 0
    written = daemon.http("PATCH", "/config/tts_service", {"limits": {"n": 1}})
    assert (written.status, written.json["waits_for_broker"]) == (200, True)
    first = scrape(daemon)
    assert value(first, "aliciacfg_outbox_pending") == 1
    # A newer change of the same service does not make it look younger.
    assert daemon.http("PATCH", "/config/tts_service", {"limits": {"n": 2}}).status == 200
    second = scrape(daemon)
    assert value(second, "aliciacfg_outbox_pending") == 1
    age = "aliciacfg_outbox_oldest_seconds"
    assert 0 < value(first, age) < value(second, age)
    broker.start()
    wait_until(lambda: value(scrape(daemon), "aliciacfg_broker_connected") == 1)
    wait_until(lambda: value(scrape(daemon), "aliciacfg_outbox_pending") == 0)
    assert value(scrape(daemon), age) == 0
    assert "waits_for_broker" not in daemon.http("PATCH", "/config/tts_service", {"limits": {"n": 3}}).json


def test_standing_alerts_and_drift_are_counted_by_kind(make_daemon: Callable[..., Daemon]):
    """Only their kind is a label: their subject may be any name."""
    daemon = make_daemon(environ={"ALICIACFG_PROTECTED_MODE": "off"}).start()
    found = scrape(daemon)
    assert {labels: count for (name, labels), count in found.items() if name == "aliciacfg_alerts"} == {
        frozenset({("kind", "open_access")}): 1
    }
    (daemon.environments / "dev.yaml").write_text("services: [")
    wait_until(lambda: value(scrape(daemon), "aliciacfg_alerts", kind="validation_failed") == 1)
    wait_until(lambda: value(scrape(daemon), "aliciacfg_drift", kind="file") == 1)
    assert value(scrape(daemon), "aliciacfg_drift", kind="retained") == 0


def test_no_secret_is_shown(daemon: Daemon):
    """Neither a stored one, nor one in a refused write, nor one sent where a name belongs."""
    planted = "planted-secret-4711"
    stored = daemon.http("PATCH", "/config/voice_router", {"mqtt_config": {"password": planted}})
    assert stored.status == 200
    bad = {"mqtt_config": {"password": planted, "port": planted}}
    assert daemon.http("PATCH", "/config/voice_router", bad).status == 422
    assert daemon.http("GET", f"/config/{planted}").status == 404
    assert daemon.http("GET", f"/{planted}?token={planted}").status == 404
    assert planted.encode() not in daemon.http("GET", "/metrics").body


def test_metrics_over_http_are_negotiated_and_guarded(shared: Daemon):
    """Text or OpenMetrics by the Accept header, never cached; a foreign page is refused."""
    plain = shared.http("GET", "/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["Cache-Control"] == "no-store"
    negotiated = shared.http("GET", "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert negotiated.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert negotiated.body.endswith(b"# EOF\n")
    assert shared.http("GET", "/metrics", headers={"Host": "evil.example"}).status == 403
    assert shared.http("POST", "/metrics", {}).status == 405
