"""Properties and sizes that the daemon encodes itself, against those of paho."""

from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.mqtt import packets
from aliciacfg.mqtt.messages import Protocol, Publication
from aliciacfg.mqtt.packets import packet_size, variable_integer


def decoded(encoded: bytes) -> dict[str, Any]:
    found = Properties(PacketTypes.PUBLISH)
    packed = variable_integer(len(encoded)) + encoded
    _, size = found.unpack(packed)
    assert size == len(packed)
    return vars(found)


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("correlation", [None, b"", b"\x00\xff", b"c" * 300, b"c" * 65535])
def test_the_properties_of_an_answer_are_those_that_paho_reads(success: bool, correlation: bytes | None):
    """Content type, status and Correlation Data, of whatever length."""
    found = decoded(packets.reply_properties(success=success, correlation_data=correlation))
    assert found.get("ContentType") == "application/json"
    assert found.get("UserProperty") == [("status", "success" if success else "error")]
    assert found.get("CorrelationData") == correlation


def test_the_properties_of_a_request_are_those_that_paho_reads():
    """Where to answer, and what to repeat there."""
    found = decoded(packets.request_properties(response_topic="alicia/reply/é", correlation_data=b"1"))
    assert (found["ResponseTopic"], found["CorrelationData"]) == ("alicia/reply/é", b"1")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 100, 110, 120, 127, 128, 16_370, 16_384, 2_097_140, 2_097_152])
@pytest.mark.parametrize("properties", [b"", b"\x03\x00\x01x", b"\x09" + (200).to_bytes(2, "big") + bytes(200)])
def test_the_size_of_a_packet_is_that_which_paho_sends(protocol: Protocol, qos: int, size: int, properties: bytes):
    """Around every border where a length takes one byte more."""
    version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
    paho: Any = Client(CallbackAPIVersion.VERSION2, protocol=version)
    sent: list[bytes] = []
    paho._sock = object()
    paho._packet_queue = lambda _command, packet, *_rest: sent.append(bytes(packet)) or 0
    encoded: Any = None
    if properties:
        encoded = Properties(PacketTypes.PUBLISH)
        encoded.unpack(variable_integer(len(properties)) + properties)
    paho.publish("alicia/reply/ä", bytes(size), qos, properties=encoded)
    paho._sock = None
    assert packet_size(Publication("alicia/reply/ä", bytes(size), qos, properties=properties), protocol) == len(sent[0])
