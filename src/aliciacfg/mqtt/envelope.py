"""The envelope in which the programs of the home wrap their messages."""

import time
import uuid

import msgspec

from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES, SOURCE
from aliciacfg.documents import Json, JsonObject, decode_object, encode

_TTL_SECONDS = 300
_MAX_HOPS = 10


class Opened(msgspec.Struct, frozen=True):
    """A message without its envelopes.

    Attributes:
        content: The message inside.
        depth: How many envelopes there were: 0 to 2.
        message_id: The outermost envelope's id, if it can be echoed.
        source: The sender that the outermost envelope names; never an identity.
    """

    content: JsonObject
    depth: int = 0
    message_id: str | None = None
    source: str = "broadcast"


def open_payload(payload: bytes) -> Opened:
    """Decode a message and remove its envelopes.

    Raises:
        OperationError: The payload is not a JSON object.
    """
    return open_message(decode_object(payload))


def open_message(message: JsonObject) -> Opened:
    """Remove at most two envelopes; one is an object with ``message_id`` and an object ``payload``."""
    inner = message.get("payload")
    if "message_id" not in message or not isinstance(inner, dict):
        return Opened(message)
    identifier = message["message_id"]
    usable = isinstance(identifier, str) and len(identifier.encode()) <= MAX_REQUEST_ID_BYTES
    source = message.get("source")
    innermost = inner.get("payload")
    depth, content = (2, innermost) if isinstance(innermost, dict) else (1, inner)
    return Opened(
        content,
        depth,
        identifier if usable and isinstance(identifier, str) else None,
        source if isinstance(source, str) else "broadcast",
    )


def wrap(payload: bytes, *, kind: str = "event", destination: str = "broadcast", depth: int = 1) -> bytes:
    """Put an encoded JSON object into ``depth`` envelopes.

    Args:
        payload: The message, as JSON.
        kind: ``event``, ``request`` or ``response``.
        destination: The program that it is for; every program reads it.
        depth: 0 leaves the message as it is.
    """
    for _ in range(depth):
        head: dict[str, Json] = {
            "message_id": str(uuid.uuid4()),
            "timestamp": time.time(),
            "source": SOURCE,
            "destination": destination,
            "message_type": kind,
            "priority": "normal",
            "ttl": _TTL_SECONDS,
            "routing": {"hops": 0, "max_hops": _MAX_HOPS},
        }
        payload = encode(head)[:-1] + b',"payload":' + payload + b"}"
    return payload
