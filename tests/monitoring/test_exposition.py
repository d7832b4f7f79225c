"""Metric families, their labels, and the bounded number of their series."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from aliciacfg.monitoring.exposition import FAMILIES, exposition
from aliciacfg.monitoring.metrics import OTHER, Metrics, Readings
from exposition import REQUESTS, series, value

NOTHING = Readings(revisions={}, drift={}, alerts={})


def made() -> Metrics:
    return Metrics(operations=["get", "set"], version="1.2.3", max_services=3)


def test_the_families_are_the_ones_declared():
    """Each with its type, help and labels in the text format; beside them only what the library says of the process."""
    metrics = made()
    metrics.meter("get", "http").answered(0.001)
    metrics.accessed("bell")
    text, content_type = exposition(metrics, Readings(revisions={}, drift={}, alerts={"open_access": 1}), "")
    assert content_type.startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in parse_text(text.decode()) if not family.name.startswith("process_")}
    assert len(found) == len(FAMILIES)
    for family in FAMILIES:
        # The parser, too, takes the suffix of a counter for no part of the name; the text format knows no info.
        shown = found[family.name.removesuffix("_total")]
        assert shown.documentation == family.help
        assert shown.type == ("gauge" if family.kind == "info" else family.kind)
        for sample in shown.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample


@pytest.mark.parametrize("version", ["", ";version=1.0.0", ";version=0.0.1", ";version=x.y", ";version=9.9.9;q=0.5"])
def test_openmetrics_for_who_asks_for_it(version: str):
    """Its strict parser takes the text, whatever version the header claims to want."""
    metrics = made()
    metrics.meter("set", "mqtt").answered(0.1, "conflict")
    text, content_type = exposition(metrics, NOTHING, f"application/openmetrics-text{version},*/*;q=0.1")
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    names = {family.name for family in parse_openmetrics(text.decode())}
    assert {family.name.removesuffix("_total").removesuffix("_info") for family in FAMILIES} <= names


def test_what_readings_say_is_shown_and_what_they_leave_out_is_zero():
    """Every cause and kind has a sample from the start, so that a rate can be taken of the first."""
    readings = Readings(
        cache_hits=5,
        cache_misses=2,
        revisions={"file": 22},
        outbox_pending=3,
        outbox_oldest_seconds=1.5,
        drift={"retained": 1},
        alerts={"undelivered": 2},
        broker_connected=True,
    )
    found = series(exposition(made(), readings, "")[0])
    assert value(found, "aliciacfg_cache_hits_total") == 5
    assert value(found, "aliciacfg_cache_misses_total") == 2
    assert value(found, "aliciacfg_outbox_pending") == 3
    assert value(found, "aliciacfg_outbox_oldest_seconds") == 1.5
    assert value(found, "aliciacfg_broker_connected") == 1
    assert value(found, "aliciacfg_alerts", kind="undelivered") == 2
    assert value(found, "aliciacfg_revisions_total", cause="file") == 22
    assert found["aliciacfg_revisions_total", frozenset({("cause", "rollback")})] == 0
    assert value(found, "aliciacfg_drift", kind="retained") == 1
    assert found["aliciacfg_drift", frozenset({("kind", "instance")})] == 0
    assert value(found, "aliciacfg_build_info", version="1.2.3") == 1


def test_operations_that_are_none_share_a_label():
    """A thousand made-up names make as many series as one."""
    metrics = made()
    metrics.meter("frob", "mqtt").answered(0.001, "not_found")
    before = series(exposition(metrics, NOTHING, "")[0])
    for number in range(1000):
        metrics.meter(f"frob{number}", "mqtt").answered(0.001, "not_found")
    after = series(exposition(metrics, NOTHING, "")[0])
    assert after.keys() == before.keys()
    assert value(after, REQUESTS, operation=OTHER, transport="mqtt", outcome="not_found") == 1001


def test_services_beyond_the_limit_share_a_label():
    """The first services keep their labels."""
    metrics = made()
    for name in ["a", "b", "c", "d", "e", "a"]:
        metrics.accessed(name)
    found = series(exposition(metrics, NOTHING, "")[0])
    shown = {dict(labels)["service"]: count for (name, labels), count in found.items() if "accesses" in name}
    assert shown == {"a": 2, "b": 1, "c": 1, OTHER: 2}
