"""Alerts: events, and conditions that stand."""

import pytest

from aliciacfg.documents import encode
from aliciacfg.errors import Problem
from aliciacfg.monitoring.alerts import Alert, Alerts

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


def test_an_alert_as_json_leaves_out_what_it_does_not_say(alerts: Alerts):
    """An alert always has kind, message and timestamp; service and problems only if there are any."""
    assert encode(alerts.emit("tamper", "x")) == b'{"kind":"tamper","message":"x","timestamp":12.5}'
