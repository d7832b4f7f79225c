"""MQTT packets, as many as load generators and a bare responder need; section numbers are of the OASIS standard 5.0."""

from collections.abc import Iterator
from typing import NamedTuple

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90

_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09
_USER_PROPERTY = 0x26
# Properties of a PUBLISH whose value has a fixed size (§3.3.2.3), in bytes.
_FIXED = {0x01: 1, 0x02: 4, 0x23: 2}


def variable_integer(number: int) -> bytes:
    """§1.5.5"""
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def string(text: bytes) -> bytes:
    """§1.5.4 and §1.5.6: strings and binary data look the same."""
    return len(text).to_bytes(2, "big") + text


def connect(client_id: str, *, version: int = 5) -> bytes:
    """§3.1, with a clean start and without keep-alive; version 4 is MQTT 3.1.1, which has no properties."""
    properties = b"\x00" if version == 5 else b""
    body = string(b"MQTT") + bytes([version, 0x02, 0, 0]) + properties + string(client_id.encode())
    return b"\x10" + variable_integer(len(body)) + body


def subscribe(packet_id: int, topic: str, qos: int, *, version: int = 5) -> bytes:
    """§3.8"""
    properties = b"\x00" if version == 5 else b""
    body = packet_id.to_bytes(2, "big") + properties + string(topic.encode()) + bytes([qos])
    return b"\x82" + variable_integer(len(body)) + body


def puback(packet_id: bytes) -> bytes:
    """§3.4"""
    return b"\x40\x02" + packet_id


def publish_head(topic: str, packet_id: int, payload_size: int) -> bytes:
    """All of a PUBLISH at QoS 1 but its payload (§3.3)."""
    body = string(topic.encode()) + packet_id.to_bytes(2, "big") + b"\x00"
    return bytes([PUBLISH | 0x02]) + variable_integer(len(body) + payload_size) + body


def publish(topic: str, packet_id: int, payload: bytes, *, properties: bytes) -> bytes:
    """A PUBLISH at QoS 1."""
    body = (
        string(topic.encode()) + packet_id.to_bytes(2, "big") + variable_integer(len(properties)) + properties + payload
    )
    return bytes([PUBLISH | 0x02]) + variable_integer(len(body)) + body


def plain_publish(topic: str, packet_id: int, payload: bytes, qos: int, *, retain: bool = False) -> bytes:
    """A PUBLISH of MQTT 3.1.1; the packet id counts at QoS 1 only."""
    body = string(topic.encode()) + (packet_id.to_bytes(2, "big") if qos else b"") + payload
    return bytes([PUBLISH | qos << 1 | retain]) + variable_integer(len(body)) + body


def answer(topic: bytes, correlation: bytes, packet_id: int, payload: bytes) -> list[bytes]:
    """The parts of a PUBLISH with correlation data; at QoS 1 if the packet id is not 0."""
    properties = b"%c%s" % (_CORRELATION_DATA, string(correlation))
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    size = 2 + len(topic) + len(number) + 1 + len(properties) + len(payload)
    first = PUBLISH | 0x02 if packet_id else PUBLISH
    return [
        bytes([first]),
        variable_integer(size),
        string(topic),
        number,
        bytes([len(properties)]),
        properties,
        payload,
    ]


class Request:
    """A PUBLISH with an empty payload and a Response Topic; only packet id and correlation data change."""

    def __init__(self, topic: str, response_topic: str, qos: int) -> None:
        self._qos = qos
        head = string(topic.encode())
        properties = bytes([_RESPONSE_TOPIC]) + string(response_topic.encode()) + bytes([_CORRELATION_DATA, 0, 4])
        middle = variable_integer(len(properties) + 4) + properties
        size = len(head) + (2 if qos else 0) + len(middle) + 4
        self._head = bytes([PUBLISH | qos << 1]) + variable_integer(size) + head
        self._middle = middle

    def encode(self, number: int) -> bytes:
        """The request whose answer carries ``number`` as its correlation data."""
        correlation = number.to_bytes(4, "big")
        if self._qos == 0:
            return self._head + self._middle + correlation
        packet_id = (number % 65535 + 1).to_bytes(2, "big")
        return self._head + packet_id + self._middle + correlation


def request(topic: str, response_topic: str, number: int, payload: bytes) -> bytes:
    """A PUBLISH at QoS 1 with a Response Topic, whose answer carries ``number`` as its correlation data."""
    response = bytes([_RESPONSE_TOPIC]) + string(response_topic.encode())
    correlation = bytes([_CORRELATION_DATA]) + string(number.to_bytes(4, "big"))
    return publish(topic, number % 65535 + 1, payload, properties=response + correlation)


def packets(buffer: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield (first byte, start of the body, end) of every whole packet."""
    at = 0
    size = len(buffer)
    while size - at >= 2:
        start, shift = at + 2, 7
        byte = buffer[at + 1]
        length = byte & 0x7F
        while byte & 0x80:
            if start >= size:
                return
            byte = buffer[start]
            length |= (byte & 0x7F) << shift
            shift += 7
            start += 1
        if start + length > size:
            return
        yield buffer[at], start, start + length
        at = start + length


class Publication(NamedTuple):
    """Of a PUBLISH: its packet id, Response Topic and correlation data, each empty where there is none, and where its
    payload begins."""

    packet_id: bytes
    response_topic: bytes
    correlation: bytes
    payload: int


def publication(buffer: bytes | bytearray, first: int, start: int, *, version: int = 5) -> Publication:
    """§3.3 of a packet that ``packets`` has found."""
    at = start + 2 + (buffer[start] << 8 | buffer[start + 1])
    packet_id = b""
    if first & 0x06:
        packet_id = bytes(buffer[at : at + 2])
        at += 2
    if version != 5:
        return Publication(packet_id, b"", b"", at)
    length, shift = 0, 0
    while True:
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    end = at + length
    correlation = response_topic = b""
    while at < end:
        kind = buffer[at]
        at += 1
        if kind in _FIXED:
            at += _FIXED[kind]
            continue
        for _ in range(2 if kind == _USER_PROPERTY else 1):
            value, at = at + 2, at + 2 + (buffer[at] << 8 | buffer[at + 1])
            if kind == _CORRELATION_DATA:
                correlation = bytes(buffer[value:at])
            elif kind == _RESPONSE_TOPIC:
                response_topic = bytes(buffer[value:at])
    return Publication(packet_id, response_topic, correlation, end)
