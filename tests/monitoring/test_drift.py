"""Findings of drift and their alerts."""

from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.drift import Drift, Finding


def made(heard: list[Alert]) -> Drift:
    alerts = Alerts(lambda: 1.0)
    alerts.listen(heard.append)
    return Drift(alerts, lambda: 2.0)


def test_each_finding_is_told_once_for_as_long_as_it_lasts():
    """A finding is reported once until it is removed, and ``replace`` removes those that are missing."""
    heard: list[Alert] = []
    drift = made(heard)
    for _ in range(3):
        drift.report("row", "a", "is wrong", service="one")
    drift.replace("file", {"x": Finding("was changed"), "y": Finding("was changed")})
    drift.replace("file", {"y": Finding("was changed again")})
    assert [(item.kind, item.subject, item.message) for item in drift.items] == [
        ("row", "a", "is wrong"),
        ("file", "y", "was changed again"),
    ]
    assert drift.counts == {"retained": 0, "file": 1, "row": 1, "instance": 0}
    drift.remove("row", "a")
    drift.report("row", "a", "is wrong")
    assert [alert.message for alert in heard] == ["is wrong", "was changed", "was changed", "is wrong"]
    assert drift.found == {"retained": 0, "file": 2, "row": 2, "instance": 0}


def test_there_is_a_bounded_amount_of_drift():
    """A large number of findings neither fills the memory nor floods the bus."""
    heard: list[Alert] = []
    drift = made(heard)
    for number in range(3000):
        drift.report("retained", f"topic {number}", "wrong")
    assert len(drift.items) == len(heard) == 1000
    drift.remove("retained", "topic 0")
    drift.report("retained", "topic 2999", "wrong")
    assert len(drift.items) == 1000
