"""More requests at once than the daemon answers at once: each gets one answer, and the connection stays."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.replicas.readiness import LAGGING
from daemons import Daemon
from machine import wait_until

# The services of its daemons.
HOME_SERVICES = ("voice_router",)

TOPIC = "alicia/reply/flood"
READS = 1_500
# More than run at a time, and than the broker delivers before one is acknowledged.
WRITES = 1_500


class Flood:
    """A client that sends all requests before it reads an answer.

    Attributes:
        answers: How often each request was answered, by its number.
        statuses: How many answers had each status or code.
    """

    def __init__(self, port: int) -> None:
        self.answers: Counter[int] = Counter()
        self.statuses: Counter[str] = Counter()
        self._subscribed = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.max_inflight_messages_set(0)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(TOPIC, qos=1)
        assert self._subscribed.wait(10)

    def _on_message(self, _client: object, _userdata: object, message: MQTTMessage) -> None:
        sent: Any = message.properties
        self.answers[int.from_bytes(sent.CorrelationData, "big")] += 1
        code = "busy" if b'"code":"busy"' in message.payload else dict(sent.UserProperty)["status"]
        self.statuses["unchanged" if b'"unchanged":true' in message.payload else code] += 1

    def send(self, number: int, topic: str, payload: str = "", *, qos: int = 1) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = TOPIC
        properties.CorrelationData = number.to_bytes(4, "big")
        self.client.publish(topic, payload, qos, properties=properties)


@contextmanager
def flood(daemon: Daemon) -> Iterator[Flood]:
    made = Flood(daemon.broker_port)
    yield made
    made.client.disconnect()
    made.client.loop_stop()


def watch(daemon: Daemon, stop: threading.Event, reasons: set[str]) -> threading.Thread:
    """Note why the daemon is not ready; empty while it is."""

    def look() -> None:
        while not stop.wait(0.2):
            reasons.add(daemon.http("GET", "/ready").json.get("reason", ""))

    thread = threading.Thread(target=look)
    thread.start()
    return thread


@pytest.mark.timeout(300)
def test_every_request_of_a_flood_is_answered_once(daemon: Daemon):
    """Reads beyond what can be sent, and writes beyond what the disk takes: none is lost, or answered twice."""
    stop, reasons = threading.Event(), set[str]()
    thread = watch(daemon, stop, reasons)
    with flood(daemon) as client:
        for number in range(READS):
            # Every other one is not answered at once from the cache.
            client.send(number, "alicia/config/get/voice_router" + "/flood" * (number % 2))
        wait_until(lambda: len(client.answers) == READS, seconds=120)
        for number in range(READS, READS + WRITES):
            patch = f'{{"patch": {{"settings": {{"max_sessions": {1 + number % 90}}}}}}}'
            client.send(number, "alicia/config/patch/voice_router", patch)
        wait_until(lambda: len(client.answers) == READS + WRITES, seconds=120)
        assert set(client.answers.values()) == {1}
        # A slow disk may make too many wait, and where ninety are refused the next one has the value of the last.
        assert set(client.statuses) <= {"success", "busy", "unchanged"}
        assert client.statuses["unchanged"] <= client.statuses["busy"] / 80
    stop.set()
    thread.join()
    # On a database that other daemons may write to, a busy machine may keep it from looking for two seconds.
    assert reasons <= {"", LAGGING}
    wait_until(lambda: daemon.http("GET", "/ready").status == 200)
    assert daemon.logged("broker_lost") == []
    refused = client.statuses["busy"] + client.statuses["unchanged"]
    assert daemon.config("voice_router")["revision"] == WRITES + 1 - refused, client.statuses
    wait_until(lambda: daemon.http("GET", "/health").json["outbox_pending"] == 0)
    assert daemon.http("GET", "/health").json["alerts"] == {}
