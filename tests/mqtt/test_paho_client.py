"""What is done past the libraries: properties decoded by hand."""

import pytest
from paho.mqtt import properties
from paho.mqtt.exception import MalformedPacket, MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.mqtt import paho_client

assert paho_client  # replaces the functions


@pytest.mark.parametrize("text", ["", "plain", "\ufeff", "é\ufeffü", "\x00", "x" * 65535])
def test_every_string_of_a_property_is_read(text: str):
    """Paho would end the connection at U+FEFF and U+0000; how many bytes it took is told too."""
    encoded = text.encode()
    buffer = len(encoded).to_bytes(2, "big") + encoded + b"rest"
    assert properties.readUTF(buffer, len(buffer)) == (text, len(encoded) + 2)


@pytest.mark.parametrize(("buffer", "limit"), [(b"", 0), (b"\x00", 1), (b"\x00\x05abc", 5), (b"\x00\x05abcde", 6)])
def test_a_string_that_is_longer_than_its_packet_is_malformed(buffer: bytes, limit: int):
    """MQTT 5 §1.5.4: the connection may end there."""
    with pytest.raises(MalformedPacket):
        properties.readUTF(buffer, limit)


def test_a_string_that_is_no_utf8_is_read_all_the_same():
    """A broker has to refuse it; if one does not, the message is answered as any odd one."""
    assert properties.readUTF(b"\x00\x02\xff\xfe", 4) == ("\ufffd\ufffd", 4)


def test_the_properties_of_a_message_are_decoded_as_paho_encodes_them():
    """All that a PUBLISH may have, in whatever order; what follows is left for the payload."""
    sent = Properties(PacketTypes.PUBLISH)
    given: dict[str, object] = {
        "PayloadFormatIndicator": 1,
        "MessageExpiryInterval": 70_000,
        "ContentType": "application/json",
        "ResponseTopic": "alicia/reply/é",
        "CorrelationData": b"\x00\xff",
        "TopicAlias": 7,
        "UserProperty": [("a", "1"), ("a", "2")],
        "SubscriptionIdentifier": [5, 300],
    }
    for name, value in given.items():
        setattr(sent, name, value)
    for encoded in (sent.pack(), Properties(PacketTypes.PUBLISH).pack()):
        received = Properties(PacketTypes.PUBLISH)
        assert received.unpack(encoded + b"payload") == (received, len(encoded))
        assert {name: getattr(received, name, None) for name in given} == (
            given if len(encoded) > 1 else dict.fromkeys(given)
        )
        assert received.pack() == encoded


@pytest.mark.parametrize(
    ("encoded", "error"),
    [
        (b"\x05\x09\x00\x01x", MalformedPacket),  # Longer than the packet.
        (b"\x04\x09\x00\x02xy", MalformedPacket),  # Longer than all properties.
        (b"\x04\x01\x00\x01\x00", MalformedPacket),  # Twice.
        (b"\x02\x21\x00", KeyError),  # Not of a PUBLISH.
        (b"\x02\x7f\x00", KeyError),  # Unknown.
    ],
)
def test_properties_that_cannot_be_right_end_the_connection(encoded: bytes, error: type[Exception]):
    """Paho does so at these errors; a broker never sends such."""
    with pytest.raises(error):
        Properties(PacketTypes.PUBLISH).unpack(encoded)


def test_properties_of_other_packets_are_paho_s_own():
    """With their checks."""
    sent = Properties(PacketTypes.CONNACK)
    sent.ReceiveMaximum = 20
    received = Properties(PacketTypes.CONNACK)
    received.unpack(sent.pack())
    assert vars(received)["ReceiveMaximum"] == 20
    with pytest.raises(MQTTException):
        Properties(PacketTypes.CONNACK).unpack(b"\x03\x21\x00\x00")
