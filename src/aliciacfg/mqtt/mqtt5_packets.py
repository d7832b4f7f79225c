"""Packets of MQTT 5; the only module that knows the ``mqtt5`` package.

The package is a codec without any input or output. What it refuses, or cannot read, would come back from a persistent
session at every connect, so everything that a broker may pass on is checked here before, or read by hand:

Strings that are no UTF-8: ``mqtt5.read`` (0.8.0) panics, and prints that to standard error. A broker has to refuse them
    (MQTT 5 §1.5.4), but not every one does.
Properties that are longer than they say: the package reads on into the payload.
Reason codes: the package knows those that the standard lists for a packet, and no others. Mosquitto answers a PUBLISH
    with 0x95, Packet too large, and a broker of 3.1.1 a CONNECT with 1.
"""

from collections.abc import Sequence

import mqtt5

from aliciacfg.mqtt.messages import Will
from aliciacfg.mqtt.packet_reader import MalformedPacket

CONNACK = 2
PUBLISH = 3
PUBACK = 4
PUBREL = 6
SUBACK = 9
UNSUBACK = 11
PINGRESP = 13
DISCONNECT = 14

# The reason code of a DISCONNECT after which the last will is published all the same (MQTT 5 §3.14.2.1).
WITH_WILL = 0x04
TOPIC_ALIAS_INVALID = 0x94
RETAIN_NOT_SUPPORTED = 0x9A
QOS_NOT_SUPPORTED = 0x9B

PINGREQ = mqtt5.PingReqPacket().write()

_PUBACK_HEADER = b"\x40\x02"
_PUBREC_HEADER = b"\x50\x02"
_PUBCOMP_HEADER = b"\x70\x02"
_IDENTIFIER_BYTES = 2
# With its fixed header, and without a reason code.
_SHORTEST_PUBACK = 4
# The bits of the quality of service in the first byte of a PUBLISH; that of the next byte of an integer.
_QOS = 0x06
_MORE = 0x80
_EXACTLY_ONCE = 2
# MQTT 5 §2.2.2.2: properties of a PUBLISH by identifier. Strings, of which a User Property is two; sizes of others.
_STRINGS = {0x03: 1, 0x08: 1, 0x26: 2}
_SIZES = {0x01: 1, 0x02: 4, 0x23: 2}
_CORRELATION_DATA = 0x09
_SUBSCRIPTION_IDENTIFIER = 0x0B


# MQTT 5 §2.4, of the packets that end a connection or refuse something.
_NAMES = {
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x93: "Receive maximum exceeded",
    0x94: "Topic alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
}


def explain(code: int) -> str:
    """Return the name of a reason code."""
    return _NAMES.get(code, f"reason {code}")


def connect(
    *,
    client_id: str | None,
    username: str | None,
    password: str | None,
    keepalive_seconds: int,
    will: Will | None,
    session_expiry_seconds: int,
    receive_maximum: int,
    max_packet_bytes: int,
) -> bytes:
    """Encode CONNECT (MQTT 5 §3.1).

    Without a client id the broker makes one, the session is a new one that ends with the connection, and nothing is
    announced. With one, the session is continued, or a new one if it ends with the connection.
    """
    proof = None if password is None else password.encode()
    if client_id is None:
        packet = mqtt5.ConnectPacket(
            "", username=username, password=proof, clean_start=True, keep_alive=keepalive_seconds
        )
        return packet.write()
    last = None
    if will is not None:
        last = mqtt5.Will(
            will.topic,
            payload=will.payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=True,
            will_delay_interval=will.delay_seconds,
        )
    return mqtt5.ConnectPacket(
        client_id,
        username=username,
        password=proof,
        clean_start=not session_expiry_seconds,
        keep_alive=keepalive_seconds,
        will=last,
        session_expiry_interval=session_expiry_seconds,
        receive_max=receive_maximum,
        max_packet_size=max_packet_bytes,
    ).write()


def subscribe(identifier: int, filters: Sequence[str], *, retain_as_published: bool) -> bytes:
    """Encode SUBSCRIBE at QoS 1 (MQTT 5 §3.8).

    A shared subscription gets no retained messages (§4.8.2). Mosquitto 2.0 sends them nevertheless, unless the Retain
    Handling says not to.
    """
    wanted = [
        mqtt5.TopicFilter(
            name,
            max_qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain_as_published=retain_as_published,
            retain_handling=(
                mqtt5.RetainHandling.SEND_NEVER if name.startswith("$share/") else mqtt5.RetainHandling.SEND_ALWAYS
            ),
        )
        for name in filters
    ]
    return mqtt5.SubscribePacket(identifier, wanted).write()


def unsubscribe(identifier: int, filters: Sequence[str]) -> bytes:
    """Encode UNSUBSCRIBE (MQTT 5 §3.10)."""
    return mqtt5.UnsubscribePacket(identifier, list(filters)).write()


def disconnect(code: int = 0) -> bytes:
    """Encode DISCONNECT with a reason code (MQTT 5 §3.14); 0 is in order."""
    return mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode(code)).write()


def puback(identifier: int) -> bytes:
    """Encode PUBACK with success (MQTT 5 §3.4)."""
    return _PUBACK_HEADER + identifier.to_bytes(_IDENTIFIER_BYTES, "big")


def pubrec(identifier: int) -> bytes:
    """Encode PUBREC with success (MQTT 5 §3.5)."""
    return _PUBREC_HEADER + identifier.to_bytes(_IDENTIFIER_BYTES, "big")


def pubcomp(identifier: int) -> bytes:
    """Encode PUBCOMP with success (MQTT 5 §3.7)."""
    return _PUBCOMP_HEADER + identifier.to_bytes(_IDENTIFIER_BYTES, "big")


def connack_code(packet: bytes, start: int) -> int:
    """Return the reason code of CONNACK; a broker of 3.1.1 has it in the same place (MQTT 3.1.1 §3.2.2.3).

    Raises:
        MalformedPacket: It has none.
    """
    if len(packet) - start < 2:  # noqa: PLR2004 - the flags and the code
        raise MalformedPacket("a CONNACK without a reason code")
    return packet[start + 1]


def read_connack(packet: bytes) -> mqtt5.ConnAckPacket:
    """Decode a CONNACK that accepts the connection (MQTT 5 §3.2).

    Raises:
        MalformedPacket: It is no CONNACK of MQTT 5.
    """
    read = _read(packet)
    if not isinstance(read, mqtt5.ConnAckPacket):
        raise MalformedPacket("the first packet is no CONNACK")
    return read


def shortcoming(accepted: mqtt5.ConnAckPacket) -> int:
    """Return the reason code for what the daemon cannot do without, and the broker does not offer; else 0.

    A broker that lets no client publish at QoS 1 (MQTT 5 §3.2.2.3.4) or retain (§3.2.2.3.5) would end the connection at
    the first update.
    """
    if accepted.max_qos == mqtt5.QoS.AT_MOST_ONCE:
        return QOS_NOT_SUPPORTED
    return 0 if accepted.retain_available else RETAIN_NOT_SUPPORTED


def read_publish(packet: bytes, start: int) -> mqtt5.PublishPacket:
    """Decode a PUBLISH (MQTT 5 §3.3).

    Raises:
        MalformedPacket: It cannot be right, or mqtt5 does not know all of it.
    """
    try:
        end = start + 2 + (packet[start] << 8 | packet[start + 1])
        place = end + 2 if packet[0] & _QOS else end
        size = packet[place]
    except IndexError:
        raise MalformedPacket("a PUBLISH that ends before its properties") from None
    if size < _MORE:
        place += 1
    else:
        size, place = _variable_integer(packet, place)
    # The check takes 0.15 µs of 0.7, and one more where something is no ASCII.
    if not (packet[start:end].isascii() and packet[place:].isascii()):
        _check_strings(packet[start + 2 : end], packet[place : place + size])
    read = _read(packet)
    if not isinstance(read, mqtt5.PublishPacket) or len(packet) - len(read.payload) != place + size:
        raise MalformedPacket("the properties of a PUBLISH are not as long as they say")
    return read


def publish_identifier(packet: bytes, start: int) -> int:
    """Return the packet identifier of a PUBLISH, however odd the rest of it is; 0 at QoS 0.

    Raises:
        MalformedPacket: It has none.
    """
    qos = packet[0] >> 1 & 3
    if not qos:
        return 0
    end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    identifier = int.from_bytes(packet[end : end + 2], "big")
    if qos > _EXACTLY_ONCE or end + 2 > len(packet) or not identifier:
        raise MalformedPacket("a PUBLISH without a packet identifier")
    return identifier


def read_identifier(packet: bytes, start: int) -> int:
    """Return the packet identifier with which an acknowledgement begins.

    Raises:
        MalformedPacket: It has none.
    """
    if len(packet) - start < _IDENTIFIER_BYTES:
        raise MalformedPacket("an acknowledgement without a packet identifier")
    return packet[start] << 8 | packet[start + 1]


def read_puback(packet: bytes, start: int) -> tuple[int, int]:
    """Return the packet identifier and the reason code of PUBACK, which may be left out at success (MQTT 5 §3.4.2.1).

    Raises:
        MalformedPacket: It has no packet identifier.
    """
    if len(packet) == _SHORTEST_PUBACK:
        return packet[2] << 8 | packet[3], 0
    identifier = read_identifier(packet, start)
    return identifier, packet[start + 2] if len(packet) > start + 2 else 0


def disconnect_code(packet: bytes, start: int) -> int:
    """Return the reason code of DISCONNECT, which may be left out at success (MQTT 5 §3.14.2.1)."""
    return packet[start] if len(packet) > start else 0


def read_codes(packet: bytes, start: int) -> bytes:
    """Return the reason codes of SUBACK and UNSUBACK, one for each topic filter (MQTT 5 §3.9.3, §3.11.3).

    Raises:
        MalformedPacket: The properties before them are longer than the packet.
    """
    size, place = _variable_integer(packet, start + 2)
    if place + size > len(packet):
        raise MalformedPacket("the properties of an acknowledgement are longer than it is")
    return packet[place + size :]


def _read(packet: bytes) -> mqtt5.Packet:
    """Decode a packet.

    Raises:
        MalformedPacket: It cannot be right, or mqtt5 does not know all of it.
    """
    try:
        return mqtt5.read(memoryview(packet))[0]
    except (ValueError, IndexError) as error:
        raise MalformedPacket(str(error)) from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001
        # What Rust panics with is no Exception, and has no importable name.
        raise MalformedPacket(f"mqtt5: {error}") from None


def _check_strings(topic: bytes, properties: bytes) -> None:
    """Check that the topic and the string properties of a PUBLISH are UTF-8.

    Raises:
        MalformedPacket: One is not, or a property is none of a PUBLISH. What else is wrong mqtt5 finds.
    """
    place, end = 0, len(properties)
    try:
        topic.decode()
        while place < end:
            kind = properties[place]
            place += 1
            for _ in range(_STRINGS.get(kind, 0)):
                after = place + 2 + int.from_bytes(properties[place : place + 2], "big")
                properties[place + 2 : after].decode()
                place = after
            if kind == _CORRELATION_DATA:
                place += 2 + int.from_bytes(properties[place : place + 2], "big")
            elif kind == _SUBSCRIPTION_IDENTIFIER:
                _, place = _variable_integer(properties, place)
            elif kind not in _STRINGS:
                place += _SIZES[kind]
    except UnicodeDecodeError:
        # Without what was found, which may be anything.
        raise MalformedPacket("a string of a PUBLISH is no UTF-8") from None
    except KeyError as error:
        raise MalformedPacket(f"a PUBLISH has no property {error}") from None
    if place != end:
        raise MalformedPacket("the properties of a PUBLISH are not as long as they say")


def _variable_integer(packet: bytes, place: int) -> tuple[int, int]:
    """Return the Variable Byte Integer at a place (MQTT 5 §1.5.5), and where it ends.

    Raises:
        MalformedPacket: It does not end.
    """
    number = 0
    for index, byte in enumerate(packet[place : place + 4]):
        number |= (byte & ~_MORE) << 7 * index
        if byte < _MORE:
            return number, place + index + 1
    raise MalformedPacket("a Variable Byte Integer that does not end")
