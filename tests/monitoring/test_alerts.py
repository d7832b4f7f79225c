"""Alerts: events, and conditions that stand."""

import pytest

from aliciacfg.documents import encode
from aliciacfg.errors import Problem
from aliciacfg.monitoring.alerts import Alert, Alerts
from inprocess import eventually

PROBLEM = Problem("/a", "is missing")


@pytest.fixture
def heard() -> list[Alert]:
    return []


@pytest.fixture
def alerts(heard: list[Alert]) -> Alerts:
    made = Alerts(lambda: 12.5)
    made.listen(heard.append)
    return made


def test_an_event_is_told_to_every_listener_each_time(alerts: Alerts, heard: list[Alert]):
    """Every listener gets an event with time, service and problems, and it is not active afterwards."""
    also: list[Alert] = []
    alerts.listen(also.append)
    for _ in range(2):
        alerts.emit("tamper", "Somebody wrote.", service="bell", problems=[PROBLEM])
    assert heard == also == [Alert("tamper", "Somebody wrote.", 12.5, service="bell", problems=(PROBLEM,))] * 2
    assert alerts.active == {}


def test_a_condition_is_told_once_for_as_long_as_it_is_the_same(alerts: Alerts, heard: list[Alert]):
    """A condition is reported again only if its message or its problems change."""
    alerts.raise_("undelivered", "It waits.")
    alerts.raise_("undelivered", "It waits.")
    assert len(heard) == 1
    alerts.raise_("undelivered", "It waits still.")
    alerts.raise_("undelivered", "It waits still.", problems=[PROBLEM])
    alerts.raise_("undelivered", "It waits still.", problems=[PROBLEM])
    assert len(heard) == 3
    assert alerts.active == {"undelivered": "It waits still."}
    assert alerts.active_alerts == [heard[-1]]


def test_a_condition_that_is_over_can_come_back(alerts: Alerts, heard: list[Alert]):
    """A cleared condition is reported again when it returns; clearing twice is no error."""
    alerts.raise_("store", "The disk is full.")
    alerts.clear("store")
    alerts.clear("store")
    assert alerts.active == {}
    alerts.raise_("store", "The disk is full.")
    assert len(heard) == 2


def test_conditions_of_one_kind_are_told_apart_by_what_they_are_of(alerts: Alerts, heard: list[Alert]):
    """Conditions of one kind are raised and cleared separately."""
    alerts.raise_("undecryptable", "Lost.", of="dev")
    alerts.raise_("undecryptable", "Lost.", of="prod")
    assert [alert.kind for alert in heard] == ["undecryptable"] * 2
    alerts.clear("undecryptable")
    assert len(alerts.active) == 2
    alerts.clear("undecryptable", of="dev")
    assert list(alerts.active.values()) == ["Lost."]


def test_an_alert_as_json_leaves_out_what_it_does_not_say(alerts: Alerts, heard: list[Alert]):
    """An alert always has kind, message and timestamp; service and problems only if there are any."""
    alerts.emit("tamper", "x")
    assert encode(heard[0]) == b'{"kind":"tamper","message":"x","timestamp":12.5}'


async def test_an_event_that_comes_again_is_counted(alerts: Alerts, heard: list[Alert]):
    """It is told at once, and once more when a second is over, with how often it came."""
    for _ in range(4):
        alerts.emit("tamper", "Somebody wrote.", service="bell", problems=[PROBLEM])
    alerts.emit("tamper", "Somebody wrote.", service="lamp", problems=[PROBLEM])
    alerts.emit("tamper", "Somebody wrote.", service="bell")
    assert [(alert.service, len(alert.problems)) for alert in heard] == [("bell", 1), ("lamp", 1), ("bell", 0)]
    heard.clear()
    alerts.report_counted()
    again = "Somebody wrote. (This happened 3 times more.)"
    assert heard == [Alert("tamper", again, 12.5, service="bell", problems=(PROBLEM,))]
    alerts.emit("tamper", "Somebody wrote.", service="lamp", problems=[PROBLEM])
    assert len(heard) == 2
    alerts.emit("tamper", "Somebody wrote.", service="bell", problems=[PROBLEM])
    assert len(heard) == 2
    alerts.report_counted()
    assert heard[2].message == "Somebody wrote. (This happened once more.)"
    alerts.report_counted()
    assert len(heard) == 3


async def test_what_was_counted_is_told_after_a_second(
    alerts: Alerts, heard: list[Alert], monkeypatch: pytest.MonkeyPatch
):
    """Also where nothing else happens; a condition is told at once whatever was counted."""
    monkeypatch.setattr("aliciacfg.monitoring.alerts._AGAIN_SECONDS", 0.01)
    alerts.emit("tamper", "Somebody wrote.")
    alerts.emit("tamper", "Somebody wrote.")
    alerts.raise_("tamper", "Somebody wrote.")
    assert len(heard) == 2
    await eventually(lambda: len(heard) == 3)


async def test_events_that_all_differ_are_told_each(
    alerts: Alerts, heard: list[Alert], monkeypatch: pytest.MonkeyPatch
):
    """Beyond those that are counted, which are a bounded number."""
    monkeypatch.setattr("aliciacfg.monitoring.alerts._MAX_COUNTED", 2)
    for _ in range(2):
        for number in range(4):
            alerts.emit("tamper", f"Somebody wrote {number}.")
    assert [alert.message[-2] for alert in heard] == ["0", "1", "2", "3", "2", "3"]


def test_what_the_log_has_already_is_not_logged_again(alerts: Alerts, heard: list[Alert]):
    """Every other listener gets it all the same."""
    logged: list[Alert] = []
    alerts.log_with(logged.append)
    alerts.emit("drift", "It was changed.", logged=True)
    alerts.raise_("validation_failed", "It was refused.", logged=True)
    alerts.emit("tamper", "Somebody wrote.")
    assert [alert.kind for alert in heard] == ["drift", "validation_failed", "tamper"]
    assert [alert.kind for alert in logged] == ["tamper"]
