"""The MQTT packets that the daemon encodes itself: what it publishes, with its properties and its size."""

from functools import lru_cache

from aliciacfg.mqtt.messages import Protocol, Publication

# MQTT 5 §3.3.1, by quality of service and retain flag.
_FIRST_BYTES = {(qos, retain): bytes((0x30 | qos << 1 | retain,)) for qos in (0, 1) for retain in (False, True)}
# MQTT 5 §2.2.2.2, property identifiers.
_CONTENT_TYPE = b"\x03"
_RESPONSE_TOPIC = b"\x08"
_CORRELATION_DATA = b"\x09"
_USER_PROPERTY = b"\x26"
# Of a string, of binary data, and of a packet identifier.
_LENGTH_BYTES = 2
# From where on a Variable Byte Integer has more (MQTT 5 §1.5.5), and those of one byte.
_TWO_BYTES = 1 << 7
_THREE_BYTES = 1 << 14
_FOUR_BYTES = 1 << 21
_ONE_BYTE = tuple(bytes((number,)) for number in range(_TWO_BYTES))


def packet_size(publication: Publication, protocol: Protocol) -> int:
    """Return the size in bytes of the PUBLISH packet, its fixed header included (MQTT 5 §3.1.2.11.4)."""
    remaining = len(_encoded_topic(publication.topic)) + len(publication.payload)
    if publication.qos:
        remaining += _LENGTH_BYTES
    if protocol == "5":
        properties = len(publication.properties)
        remaining += _integer_size(properties) + properties
    return 1 + _integer_size(remaining) + remaining


def publish_head(publication: Publication, identifier: int) -> bytes:
    """Encode all of a PUBLISH of MQTT 5 (§3.3) that stands before its payload.

    Args:
        publication: What to publish.
        identifier: The packet identifier; unused at QoS 0.
    """
    topic, properties, qos = _encoded_topic(publication.topic), publication.properties, publication.qos
    size = len(properties)
    head = variable_integer(size) + properties
    if qos:
        head = identifier.to_bytes(_LENGTH_BYTES, "big") + head
    remaining = len(topic) + len(head) + len(publication.payload)
    return _FIRST_BYTES[qos, publication.retain] + variable_integer(remaining) + topic + head


def reply_properties(success: bool, correlation_data: bytes | None) -> bytes:
    """Encode the properties of an answer: content type, ``status`` and Correlation Data."""
    if correlation_data is None:
        return _REPLY_HEADS[success]
    size = len(correlation_data).to_bytes(_LENGTH_BYTES, "big")
    return _BEFORE_CORRELATION_DATA[success] + size + correlation_data


def request_properties(response_topic: str | None, correlation_data: bytes | None) -> bytes:
    """Encode the properties of a request: where to answer, and with which Correlation Data, as far as there are any."""
    encoded = b"" if response_topic is None else _RESPONSE_TOPIC + _string(response_topic.encode())
    return encoded if correlation_data is None else encoded + _CORRELATION_DATA + _string(correlation_data)


def variable_integer(number: int) -> bytes:
    """Encode a Variable Byte Integer (MQTT 5 §1.5.5)."""
    if number < _TWO_BYTES:
        return _ONE_BYTE[number]
    if number < _THREE_BYTES:
        return bytes((number & 0x7F | 0x80, number >> 7))
    encoded = bytearray()
    while True:
        number, byte = divmod(number, 128)
        encoded.append(byte | 0x80 if number else byte)
        if not number:
            return bytes(encoded)


def _integer_size(number: int) -> int:
    """Return how many bytes ``variable_integer`` makes."""
    if number < _TWO_BYTES:
        return 1
    if number < _THREE_BYTES:
        return 2
    return 3 if number < _FOUR_BYTES else 4


# Answers go to few topics; encoding one anew takes 0.2 µs, twice for each answer.
@lru_cache(maxsize=1024)
def _encoded_topic(topic: str) -> bytes:
    """Encode a topic."""
    return _string(topic.encode())


def _string(text: bytes) -> bytes:
    """Encode a string or binary data (MQTT 5 §1.5.4, §1.5.6)."""
    return len(text).to_bytes(_LENGTH_BYTES, "big") + text


def _reply_head(status: bytes) -> bytes:
    """Encode the properties that every answer of one ``status`` has."""
    return _CONTENT_TYPE + _string(b"application/json") + _USER_PROPERTY + _string(b"status") + _string(status)


_REPLY_HEADS = {True: _reply_head(b"success"), False: _reply_head(b"error")}
_BEFORE_CORRELATION_DATA = {success: head + _CORRELATION_DATA for success, head in _REPLY_HEADS.items()}
