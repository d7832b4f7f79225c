"""What the daemon encodes itself, against the codec of MQTT 5, and paho for MQTT 3.1.1."""

from typing import Any

import mqtt5
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from aliciacfg.mqtt import packets
from aliciacfg.mqtt.messages import Publication
from aliciacfg.mqtt.packets import packet_size

TOPIC = "alicia/reply/ä"
SIZES = [0, 1, 100, 110, 120, 127, 128, 16_370, 16_384, 2_097_140, 2_097_152]


def decoded(publication: Publication) -> mqtt5.PublishPacket:
    encoded = packets.publish_head(publication, 300) + publication.payload
    read, size = mqtt5.read(memoryview(encoded))
    assert size == len(encoded) == packet_size(publication, "5")
    assert isinstance(read, mqtt5.PublishPacket)
    return read


@pytest.mark.parametrize("success", [True, False])
@pytest.mark.parametrize("correlation", [None, b"", b"\x00\xff", b"c" * 300, b"c" * 65535])
def test_the_properties_of_an_answer_are_those_that_the_codec_reads(success: bool, correlation: bytes | None):
    """Content type, status and Correlation Data, of whatever length."""
    properties = packets.reply_properties(success, correlation)
    found = decoded(Publication(TOPIC, b"x", properties=properties))
    assert found.content_type == "application/json"
    assert found.user_properties == [("status", "success" if success else "error")]
    assert found.correlation_data == correlation


def test_the_properties_of_a_request_are_those_that_the_codec_reads():
    """Where to answer, and what to repeat there."""
    properties = packets.request_properties(response_topic="alicia/reply/é", correlation_data=b"1")
    found = decoded(Publication(TOPIC, b"x", properties=properties))
    assert (found.response_topic, found.correlation_data) == ("alicia/reply/é", b"1")


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("properties", [b"", b"\x03\x00\x01x", b"\x09" + (200).to_bytes(2, "big") + bytes(200)])
def test_a_publication_is_what_the_codec_reads(qos: int, retain: bool, size: int, properties: bytes):
    """MQTT 5 §3.3, around every border where a length takes one byte more."""
    found = decoded(Publication(TOPIC, bytes(size), qos, retain, properties))
    assert (found.topic, len(found.payload), int(found.qos), found.retain) == (TOPIC, size, qos, retain)
    assert found.packet_id == (300 if qos else None)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_a_packet_of_3_1_1_is_that_which_paho_sends(qos: int, size: int):
    """It has no properties."""
    paho: Any = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    sent: list[bytes] = []
    paho._sock = object()
    paho._packet_queue = lambda _command, packet, *_rest: sent.append(bytes(packet)) or 0
    paho.publish(TOPIC, bytes(size), qos)
    paho._sock = None
    assert packet_size(Publication(TOPIC, bytes(size), qos, properties=b"none"), "3.1.1") == len(sent[0])
