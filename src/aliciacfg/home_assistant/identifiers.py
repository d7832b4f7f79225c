"""Names of services and settings as Home Assistant and MQTT topics take them: ``[A-Za-z0-9_-]`` (MQTT discovery).

``-`` begins an escape: ``-2e`` is a byte of UTF-8 in hexadecimal, ``--`` stands between two names. So different names
never have the same identifier, and none has one of this package's own, in which ``-_`` follows a letter.
"""

import hashlib
import re
import unicodedata

OWN = "-_"
"""Stands in identifiers that belong to no service or setting."""

_PLAIN = re.compile(rb"[A-Za-z0-9_]")
_MAX_LENGTH = 128
_KEPT_LENGTH = 80
_DIGEST_BYTES = 16
# What takes the place of the rest of an identifier that is too long; followed by neither a byte nor a name.
_SHORTENED = "-x"
# An entity id of Home Assistant has 255 characters at most, with its domain and the name of the service.
_MAX_SLUG_LENGTH = 150
_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")
_SEPARATORS = re.compile(r"[_.\s-]+")
_ABBREVIATIONS = frozenset({
    "ai", "api", "cpu", "ha", "http", "id", "ip", "jwt", "led", "mqtt", "stt", "tts", "ttl", "ui", "url", "vad",
})  # fmt: skip


def encode(*names: str) -> str:
    """Return the identifier of a service, or of a setting by the names that lead to it."""
    encoded = "--".join(map(_encode_name, names))
    if len(encoded) <= _MAX_LENGTH:
        return encoded
    digest = hashlib.blake2b(encoded.encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{encoded[:_KEPT_LENGTH]}{_SHORTENED}{digest}"


def _encode_name(name: str) -> str:
    # A lone surrogate, which JSON may hold, has an encoding of its own as well.
    return "".join(
        chr(byte) if _PLAIN.match(bytes([byte])) else f"-{byte:02x}" for byte in name.encode("utf-8", "surrogatepass")
    )


def slug(*names: str) -> str:
    """Return what a default entity id says after its domain: lower-case letters, digits and ``_``; never empty.

    Unlike ``encode`` it may be the same for different names: Home Assistant then adds a number.
    """
    plain = unicodedata.normalize("NFKD", "_".join(names)).encode("ascii", "ignore").decode()
    return _NOT_IN_SLUG.sub("_", plain.lower()).strip("_")[:_MAX_SLUG_LENGTH].rstrip("_") or "setting"


def title(name: str) -> str:
    """Return a name as people read it: ``wake_word`` as ``Wake word``, ``tts_service`` as ``TTS service``."""
    words = _SEPARATORS.sub(" ", name).split()
    spelt = " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)
    shown = printable(spelt)
    return shown[:1].upper() + shown[1:] or "(no name)"


def printable(text: str) -> str:
    """Return a text without what cannot be printed, such as a lone surrogate."""
    return "".join(character for character in text if character.isprintable())
