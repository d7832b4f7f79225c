"""The envelope in which the programs of the home wrap what they say."""

import time
import uuid
from dataclasses import dataclass

from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES, SOURCE
from aliciacfg.documents import Json, JsonObject, encode

_TTL_SECONDS = 300
_MAX_HOPS = 10


@dataclass(frozen=True, slots=True)
class Opened:
    """A message taken out of its envelopes.

    Attributes:
        content: What was said.
        depth: 0 bare, 1 or 2 wrapped once or twice.
        message_id: Of the outermost envelope.
        source: Who says to have sent it; never an identity.
    """

    content: JsonObject
    depth: int = 0
    message_id: str | None = None
    source: str = "broadcast"


def open_message(message: JsonObject) -> Opened:
    """Take a message out of at most two envelopes: ``message_id`` beside an object ``payload``."""
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
    """Put an encoded JSON object into ``depth`` envelopes."""
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
