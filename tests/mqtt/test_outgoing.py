"""What the daemon publishes besides retained messages, with and without a connection."""

import json

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt.messages import Reply
from aliciacfg.mqtt.outgoing import Outgoing
from fakebus import FakeConnection

REPLY = Reply("alicia/reply/x", b"{}", True, 1, None)


def alerted(connection: FakeConnection) -> list[tuple[str, str]]:
    """Topic and message of each published alert."""
    return [(topic, json.loads(payload)["message"]) for topic, payload in connection.sent]


def test_alerts_wait_until_the_connection_is_opened():
    """In order; an attached connection is not enough, since another daemon may turn out to serve the broker."""
    alerts = Alerts(lambda: 0.0)
    outgoing, connection = Outgoing(alerts), FakeConnection()
    alerts.emit("tamper", "first")
    outgoing.attach(connection)
    alerts.emit("drift", "second")
    assert connection.sent == []
    outgoing.open()
    alerts.emit("tamper", "third")
    assert alerted(connection) == [
        ("alicia/config/alert/tamper", "first"),
        ("alicia/config/alert/drift", "second"),
        ("alicia/config/alert/tamper", "third"),
    ]


def test_active_alerts_are_published_on_every_connection():
    """Once each, also those that were raised while the broker was away; what merely happened is not repeated."""
    alerts = Alerts(lambda: 0.0)
    outgoing = Outgoing(alerts)
    alerts.raise_("open_access", "lasting")
    alerts.emit("tamper", "happened")
    seen: list[list[str]] = []
    for _ in range(2):
        connection = FakeConnection()
        outgoing.attach(connection)
        outgoing.open()
        outgoing.detach()
        seen.append([message for _, message in alerted(connection)])
    assert seen == [["happened", "lasting"], ["lasting"]]


def test_of_many_waiting_alerts_the_newest_are_kept():
    """A broker that is away for days costs no memory."""
    alerts = Alerts(lambda: 0.0)
    outgoing, connection = Outgoing(alerts), FakeConnection()
    for number in range(150):
        alerts.emit("tamper", str(number))
    outgoing.attach(connection)
    outgoing.open()
    assert [message for _, message in alerted(connection)] == [str(number) for number in range(50, 150)]


def test_answers_need_a_connection_that_is_attached():
    """Requests that the broker held are answered before alerts are published; without a connection they are lost."""
    outgoing, connection = Outgoing(Alerts(lambda: 0.0)), FakeConnection()
    outgoing.answer(REPLY)
    outgoing.attach(connection)
    outgoing.answer(REPLY)
    outgoing.send("alicia/devices/discovery", b"?")
    outgoing.detach()
    outgoing.answer(REPLY)
    outgoing.send("alicia/devices/discovery", b"?")
    assert connection.answers == [REPLY]
    assert connection.sent == [("alicia/devices/discovery", b"?")]


async def test_a_denied_message_is_alerted_by_its_topic():
    """Once for each topic; whatever else happens is for the caller."""
    alerts = Alerts(lambda: 0.0)
    outgoing, connection = Outgoing(alerts), FakeConnection(denied={"a", "b"})
    for topic in ("a", "a", "b", "c"):
        await outgoing.publish_optional(connection, topic, b"x", retain=True)
    assert connection.published == [("c", b"x", True)]
    assert sorted(alerts.active) == ["undelivered:a", "undelivered:b"]
    assert "Let config_service write there" in alerts.active["undelivered:a"]
    connection.gone = True
    with pytest.raises(BrokerUnavailable):
        await outgoing.publish_optional(connection, "c", b"x")
