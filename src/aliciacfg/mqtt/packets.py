"""The MQTT packets that the daemon encodes itself: what it publishes, with its properties and its size."""

from aliciacfg.mqtt.messages import Protocol, Publication

_PUBLISH = 0x30
# MQTT 5 §2.2.2.2, property identifiers.
_CONTENT_TYPE = b"\x03"
_RESPONSE_TOPIC = b"\x08"
_CORRELATION_DATA = b"\x09"
_USER_PROPERTY = b"\x26"
# Of a string, of binary data, and of a packet identifier.
_LENGTH_BYTES = 2


def packet_size(publication: Publication, protocol: Protocol) -> int:
    """Return the size in bytes of the PUBLISH packet, its fixed header included (MQTT 5 §3.1.2.11.4)."""
    remaining = _LENGTH_BYTES + len(publication.topic.encode()) + len(publication.payload)
    if publication.qos:
        remaining += _LENGTH_BYTES
    if protocol == "5":
        properties = len(publication.properties)
        remaining += len(variable_integer(properties)) + properties
    return 1 + len(variable_integer(remaining)) + remaining


def encode_publish(publication: Publication, identifier: int) -> bytes:
    """Encode a PUBLISH of MQTT 5 (§3.3).

    Args:
        publication: What to publish.
        identifier: The packet identifier; unused at QoS 0.
    """
    topic, properties, payload = publication.topic.encode(), publication.properties, publication.payload
    first = _PUBLISH | publication.qos << 1 | publication.retain
    head = _string(topic)
    if publication.qos:
        head += identifier.to_bytes(_LENGTH_BYTES, "big")
    head += variable_integer(len(properties))
    return b"".join(
        (bytes((first,)), variable_integer(len(head) + len(properties) + len(payload)), head, properties, payload)
    )


def reply_properties(*, success: bool, correlation_data: bytes | None) -> bytes:
    """Encode the properties of an answer: content type, ``status`` and Correlation Data."""
    head = _REPLY_HEADS[success]
    return head if correlation_data is None else head + _CORRELATION_DATA + _string(correlation_data)


def request_properties(*, response_topic: str, correlation_data: bytes) -> bytes:
    """Encode the properties of a request: where to answer, and with which Correlation Data."""
    return _RESPONSE_TOPIC + _string(response_topic.encode()) + _CORRELATION_DATA + _string(correlation_data)


def variable_integer(number: int) -> bytes:
    """Encode a Variable Byte Integer (MQTT 5 §1.5.5)."""
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def _string(text: bytes) -> bytes:
    """Encode a string or binary data (MQTT 5 §1.5.4, §1.5.6)."""
    return len(text).to_bytes(_LENGTH_BYTES, "big") + text


def _reply_head(status: bytes) -> bytes:
    """Encode the properties that every answer of one ``status`` has."""
    return _CONTENT_TYPE + _string(b"application/json") + _USER_PROPERTY + _string(b"status") + _string(status)


_REPLY_HEADS = {True: _reply_head(b"success"), False: _reply_head(b"error")}
