"""Message ids that distinguish the daemon's own retained messages from all others.

The id of a message is a code (HMAC-SHA-256, RFC 2104) over its subject and the rest of its bytes, in the form of a UUID
(RFC 9562, version 8). Only the holder of ``keys.json`` can make it, so a message that a broker brings back, however
old, is known to be the daemon's own or not, though nothing is remembered of it. A program that changes a single byte,
or copies a message to another topic, makes a foreign one.
"""

import hmac

from aliciacfg import documents
from aliciacfg.api.bus_messages import RetainedMessage
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.keyed_hash import KeyedHash

_HEAD = b'{"message_id":"'
_ID_BYTES = 36
_VERSION = 8


class MessageIds:
    """Makes and compares message ids; holds the key, but no messages."""

    def __init__(self, keyring: Keyring) -> None:
        self._code = KeyedHash(keyring.derive(b"aliciacfg messages v1")).digest

    def sign(self, subject: str, message: RetainedMessage) -> bytes:
        """Return an encoded message with its id.

        Args:
            subject: The subject whose message it is.
            message: The message, with an empty ``message_id``.
        """
        rest = documents.encode(message)[len(_HEAD) :]
        return _HEAD + self._id(subject, rest) + rest

    def signed(self, subject: str, payload: bytes) -> bool:
        """Return whether the bytes are what ``sign`` returned, now or in an earlier run, for the same subject."""
        if not payload.startswith(_HEAD):
            return False
        found, rest = payload[len(_HEAD) : len(_HEAD) + _ID_BYTES], payload[len(_HEAD) + _ID_BYTES :]
        return hmac.compare_digest(self._id(subject, rest), found)

    def _id(self, subject: str, rest: bytes) -> bytes:
        code = bytearray(self._code(b"%b\0%b" % (subject.encode(), rest))[:16])
        # The bits that RFC 9562 §5.8 reserves for version and variant.
        code[6] = code[6] & 0x0F | _VERSION << 4
        code[8] = code[8] & 0x3F | 0x80
        text = code.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()
