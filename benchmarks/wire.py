"""MQTT 5 packets, as many as a load generator needs; section numbers are those of the OASIS standard 5.0."""

from collections.abc import Iterator

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


def connect(client_id: str) -> bytes:
    """§3.1, with a clean start and without keep-alive."""
    body = string(b"MQTT") + b"\x05\x02\x00\x00\x00" + string(client_id.encode())
    return b"\x10" + variable_integer(len(body)) + body


def subscribe(packet_id: int, topic: str, qos: int) -> bytes:
    """§3.8"""
    body = packet_id.to_bytes(2, "big") + b"\x00" + string(topic.encode()) + bytes([qos])
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


def publication(buffer: bytes | bytearray, first: int, start: int) -> tuple[bytes, bytes, int]:
    """Of a PUBLISH: its packet id and correlation data, empty where there is none, and where its payload begins."""
    at = start + 2 + (buffer[start] << 8 | buffer[start + 1])
    packet_id = b""
    if first & 0x06:
        packet_id = bytes(buffer[at : at + 2])
        at += 2
    length, shift = 0, 0
    while True:
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    end = at + length
    correlation = b""
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
    return packet_id, correlation, end
