"""Messages of the home's device registry."""

import json
from typing import Any

import pytest

from aliciacfg.mqtt import topics
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.messages import Inbound
from device_messages import ANSWER, DEREGISTERED, QUESTION, REGISTERED, RUBBISH, device, enveloped, twice


def receive(devices: DeviceRegistry, topic: str, payload: object, *, retained: bool = False) -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    devices.receive(Inbound(topic, data, qos=1, retained=retained))


def absent() -> DeviceRegistry:
    counts: list[int | None] = []
    return DeviceRegistry(send=lambda _topic, _payload: None, on_count=counts.append)


def answered(*names: object) -> DeviceRegistry:
    devices = absent()
    receive(devices, ANSWER, twice({"devices": [{"device_id": name} for name in names], "count": 999}))
    return devices


@pytest.mark.parametrize("payload", RUBBISH)
@pytest.mark.parametrize("topic", [ANSWER, REGISTERED, DEREGISTERED])
def test_no_message_raises(topic: str, payload: bytes):
    """Neither before the first answer nor after; what was known stays."""
    before, after = absent(), answered("lamp")
    for devices in (before, after):
        receive(devices, topic, payload)
    assert (before.count, after.count) == (None, 1)


def test_devices_are_counted_by_their_ids():
    """The count that the message names is ignored; so are duplicates, empty ids, and ids that are no strings."""
    devices = answered("lamp", "lamp", 7, None, "", ["x"], {"a": 1}, True, "x" * 257, "door")
    assert devices.count == 2
    receive(devices, ANSWER, {"devices": ["lamp", None, 3, [], {}, device("bell")]})
    assert devices.count == 1


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_answers_come_bare_or_wrapped(depth: int):
    """Once, as by other programs of the home, or twice."""
    message: dict[str, Any] = {"devices": [device("lamp")], "count": 1}
    for _ in range(depth):
        message = enveloped("device_registry", message)
    devices = absent()
    receive(devices, ANSWER, message)
    assert devices.count == 1


def test_thousands_of_devices_are_bounded():
    """Ten thousand are remembered, from the answer and from announcements alike."""
    many = [f"d{number}" for number in range(9_999)]
    devices = answered(*many)
    assert devices.count == 9_999
    for name in ("one", "two", "three"):
        receive(devices, REGISTERED, twice({"device_id": name}))
    assert devices.count == 10_000
    receive(devices, DEREGISTERED, twice({"device_id": "d1"}))
    assert devices.count == 9_999
    assert answered(*(f"d{number}" for number in range(20_000))).count == 10_000


def test_a_retained_answer_is_ignored():
    """A retained answer is of another time."""
    devices = absent()
    receive(devices, ANSWER, twice({"devices": [device("lamp")]}), retained=True)
    assert devices.count is None


def test_the_topics_are_those_of_the_home():
    """The topics of the tests are those that the daemon subscribes to."""
    assert (ANSWER, REGISTERED, DEREGISTERED) == topics.DEVICE_REGISTRY
    assert topics.DEVICES == QUESTION
