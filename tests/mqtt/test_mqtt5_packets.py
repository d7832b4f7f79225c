"""Packets of MQTT 5 as the daemon reads and writes them, and what the codec alone would not survive."""

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.mqtt import mqtt5_packets
from aliciacfg.mqtt.messages import Will
from aliciacfg.mqtt.packet_reader import MalformedPacket, Packet, PacketReader
from aliciacfg.mqtt.packets import variable_integer
from soak import examples


def string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def publish(properties: bytes = b"", *, topic: bytes = b"a/b", first: int = 0x32, identifier: int = 7) -> Packet:
    body = string(topic) + (identifier.to_bytes(2, "big") if first & 6 else b"")
    return packet(bytes([first]), body + variable_integer(len(properties)) + properties + b"payload")


def packet(first: bytes, body: bytes) -> Packet:
    reader = PacketReader(2**20)
    reader.feed(first + variable_integer(len(body)) + body)
    found = reader.take()
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["\ufeff", "é\ufeffü", "\x00", "日本", "\U0001f3e0", "x" * 65535])
def test_every_string_that_is_utf8_is_read(text: str):
    """MQTT 5 §1.5.4: a U+FEFF in particular is a character, and ended the connection with another library."""
    data, start, _ = publish(b"\x08" + string(text.encode()), topic=b"t" + text.encode()[:60000].strip(b"x"))
    read = mqtt5_packets.read_publish(data, start)
    assert read.response_topic == text
    assert read.payload == b"payload"


NO_UTF8 = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"a\xe9", b"\xf4\x90\x80\x80"]


@pytest.mark.parametrize("text", NO_UTF8)
@pytest.mark.parametrize("kind", [b"\x03", b"\x08", b"\x26", b"\x26\x00\x01a", b"\x09\x00\x02\xff\xfe\x0b\xff\x01\x08"])
@pytest.mark.parametrize("first", [0x30, 0x32])
def test_a_string_that_is_no_utf8_is_refused_in_silence(
    text: bytes, kind: bytes, first: int, capfd: pytest.CaptureFixture[str]
):
    """MQTT 5 §1.5.4; the codec would panic and print that on standard error."""
    for found in (publish(kind + string(text) + string(text), first=first), publish(topic=text, first=first)):
        with pytest.raises(MalformedPacket):
            mqtt5_packets.read_publish(*found[:2])
        assert mqtt5_packets.publish_identifier(*found[:2]) == (7 if first == 0x32 else 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "properties",
    [
        b"\x08" + string(b"a") + b"\x08" + string(b"b"),  # Response Topic twice (§3.3.2.3.5).
        b"\x09" + string(b"a") + b"\x09" + string(b"\xff"),  # Correlation Data twice (§3.3.2.3.6).
        b"\x21\x00\x01",  # Receive Maximum, which is none of a PUBLISH (§2.2.2.2).
        b"\x7f\x01",  # Unknown.
        b"\x0b\x00",  # Subscription Identifier 0 (§3.3.2.3.8).
        b"\x23\x00\x00",  # Topic Alias 0 (§3.3.2.3.4).
        b"\x08\x00\x09abc",  # Longer than all properties.
        b"\x02\x00",  # Shorter than it has to be.
        b"\x0b\xff\xff\xff\xff",  # An integer that does not end.
        b"\x0b\xff",
    ],
)
def test_properties_that_cannot_be_right_leave_the_packet_identifier(properties: bytes):
    """With it the message can be acknowledged; else it would come again at every connect."""
    data, start, _ = publish(properties)
    with pytest.raises(MalformedPacket):
        mqtt5_packets.read_publish(data, start)
    assert mqtt5_packets.publish_identifier(data, start) == 7


@pytest.mark.parametrize(
    "found",
    [
        packet(b"\x32", string(b"a/b")),  # No packet identifier.
        packet(b"\x32", b"\x00\x09abc"),  # A topic that is longer than the packet.
        packet(b"\x32", b""),
        publish(identifier=0),  # MQTT 5 §2.2.1.
        publish(first=0x36),  # QoS 3 (§3.3.1.2).
    ],
)
def test_a_publication_that_cannot_be_acknowledged_is_malformed(found: Packet):
    """Nothing can be done but to end the connection."""
    with pytest.raises(MalformedPacket):
        mqtt5_packets.publish_identifier(*found[:2])


@examples(100)
@given(
    body=st.binary(max_size=60),
    first=st.sampled_from([0x30, 0x31, 0x32, 0x3B, 0x34]),
    properties=st.booleans(),
)
def test_any_bytes_are_read_or_refused(body: bytes, first: int, properties: bool):
    """Nothing else is raised, and nothing hangs; the check of strings is no stricter than the codec."""
    found = publish(body, first=first) if properties else packet(bytes([first]), body)
    try:
        read = mqtt5_packets.read_publish(*found[:2])
    except MalformedPacket:
        return
    assert mqtt5.read(memoryview(read.write()))[0] == read


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"\x40\x02\x00\x07", 0), (b"\x40\x03\x00\x07\x87", 0x87), (b"\x40\x03\x00\x07\x95", 0x95)],
)
def test_the_reason_code_of_a_puback_is_read(data: bytes, code: int):
    """MQTT 5 §3.4.2.1: left out at success; Mosquitto sends 0x95, which the standard does not list there."""
    assert mqtt5_packets.read_puback(data, 2) == (7, code)


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (b"\x90\x05\x00\x01\x00\x01\x87", b"\x01\x87"),
        (b"\x90\x0a\x00\x01\x06\x1f\x00\x03why\x95", b"\x95"),
        (b"\x90\x03\x00\x01\x00", b""),
    ],
)
def test_the_reason_codes_of_a_suback_are_read(data: bytes, codes: bytes):
    """MQTT 5 §3.9.3: behind the properties, one for each filter."""
    assert mqtt5_packets.read_codes(data, 2) == codes


@pytest.mark.parametrize("data", [b"\x90\x03\x00\x01\x09", b"\x90\x02\x00\x01", b"\x90\x04\x00\x01\xff\xff"])
def test_an_acknowledgement_that_ends_early_is_malformed(data: bytes):
    """MQTT 5 §3.9.2.1."""
    with pytest.raises(MalformedPacket):
        mqtt5_packets.read_codes(data, 2)
    with pytest.raises(MalformedPacket):
        mqtt5_packets.read_identifier(data[:3], 2)


@pytest.mark.parametrize(("data", "code"), [(b"\x20\x02\x00\x01", 1), (b"\x20\x03\x00\xa5\x00", 0xA5)])
def test_every_reason_code_of_a_connack_is_read(data: bytes, code: int):
    """A broker of MQTT 3.1.1 answers with its own, where that of MQTT 5 stands."""
    assert mqtt5_packets.connack_code(data, 2) == code


def test_a_connack_of_mqtt_3_1_1_that_accepts_is_malformed():
    """It has no properties."""
    with pytest.raises(MalformedPacket):
        mqtt5_packets.read_connack(b"\x20\x02\x00\x00")
    with pytest.raises(MalformedPacket):
        mqtt5_packets.connack_code(b"\x20\x01\x00", 2)


def connect(client_id: str | None) -> mqtt5.ConnectPacket:
    encoded = mqtt5_packets.connect(
        client_id=client_id,
        username="config_service",
        password="pâss",
        keepalive_seconds=30,
        will=Will("gone", b"offline"),
        session_expiry_seconds=86_400,
        receive_maximum=1000,
        max_packet_bytes=2**21,
    )
    read, size = mqtt5.read(memoryview(encoded))
    assert size == len(encoded)
    assert isinstance(read, mqtt5.ConnectPacket)
    return read


def test_the_connect_of_the_daemon_asks_for_a_persistent_session():
    """MQTT 5 §3.1.2.4, §3.1.2.11: with a will at QoS 1 that is retained, and limits."""
    sent = connect("config_service_1")
    assert (sent.client_id, sent.clean_start, sent.session_expiry_interval) == ("config_service_1", False, 86_400)
    assert (sent.username, sent.password, sent.keep_alive) == ("config_service", "pâss".encode(), 30)
    assert (sent.receive_max, sent.max_packet_size) == (1000, 2**21)
    assert sent.will is not None
    assert (sent.will.topic, sent.will.payload, sent.will.retain, int(sent.will.qos)) == ("gone", b"offline", True, 1)


def test_a_connect_without_a_client_id_has_nothing_but_the_version():
    """A broker of 3.1.1 may wait for ever over properties or a will of MQTT 5."""
    sent = connect(None)
    assert (sent.client_id, sent.clean_start, sent.will) == ("", True, None)
    assert (sent.session_expiry_interval, sent.receive_max, sent.max_packet_size) == (0, 65_535, None)
    assert (sent.username, sent.password) == ("config_service", "pâss".encode())


@pytest.mark.parametrize("retain_as_published", [True, False])
def test_subscriptions_are_at_qos_1(retain_as_published: bool):
    """MQTT 5 §3.8.3.1."""
    encoded = mqtt5_packets.subscribe(9, ["a/#", "b", "$share/g/b"], retain_as_published=retain_as_published)
    read = mqtt5.read(memoryview(encoded))[0]
    assert isinstance(read, mqtt5.SubscribePacket)
    assert {(int(found.max_qos), found.retain_as_published) for found in read.topic_filters} == {
        (1, retain_as_published)
    }
    # Brokers send what is retained, but not to a shared subscription.
    assert [(found.pattern, int(found.retain_handling)) for found in read.topic_filters] == [
        ("a/#", 0),
        ("b", 0),
        ("$share/g/b", 2),
    ]
    assert read.packet_id == 9
    other = mqtt5.read(memoryview(mqtt5_packets.unsubscribe(10, ["a/#"])))[0]
    assert isinstance(other, mqtt5.UnsubscribePacket)
    assert (other.packet_id, other.patterns) == (10, ["a/#"])


def test_acknowledgements_are_the_shortest():
    """MQTT 5 §3.4.2.1, §3.5.2.1, §3.7.2.1: no reason code at success."""
    for made, kind in (
        (mqtt5_packets.puback(300), mqtt5.PubAckPacket),
        (mqtt5_packets.pubrec(300), mqtt5.PubRecPacket),
        (mqtt5_packets.pubcomp(300), mqtt5.PubCompPacket),
    ):
        read, size = mqtt5.read(memoryview(made))
        assert isinstance(read, kind)
        assert (read.packet_id, size) == (300, 4)
