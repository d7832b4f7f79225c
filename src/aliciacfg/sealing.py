"""Secrets at rest: libsodium sealed boxes bound to their place, and keyed digests.

The only module that imports PyNaCl. A sealed value is a string ``sealed:v1:<key id>:<box>``: the box is an
X25519 sealed box (libsodium ``crypto_box_seal``) in URL-safe base64 without padding, whose plaintext is the
JSON object ``{"service": …, "environment"?: …, "pointer"?: …, "value": …}``. A box found anywhere else than
where it is bound to does not open: ciphertext cannot be moved to another service to be read there.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from aliciacfg.errors import AliciacfgError, KeyFileError

PREFIX = "sealed:v1:"
REDACTED = "***"

_FORM = re.compile(r"sealed:v1:([0-9a-f]{16}):([A-Za-z0-9_-]+)", re.ASCII)


_DIGEST_KEY_BYTES = 32


class CannotOpen(AliciacfgError):
    """A sealed value does not open here; the text says why and never what is inside."""


class _Sealed(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    service: str
    value: str
    environment: str | None = None
    pointer: str | None = None


class _Key(msgspec.Struct, frozen=True):
    key_id: str
    private: str


class _KeyFile(msgspec.Struct, frozen=True):
    """What the key file holds; keys and the digest key in standard base64."""

    current: str
    keys: list[_Key]
    digest_key: str


def is_sealed(value: str) -> bool:
    """Whether a string claims to be a sealed value, well-formed or not."""
    return value.startswith(PREFIX)


def key_id(public_key: bytes) -> str:
    """The name of a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class Keyring:
    """The daemon's sealing keys and its digest key.

    One key seals; all of them open. The digest key is never rotated, so re-sealing changes no checksum.
    """

    def __init__(self, *, current: str, keys: dict[str, bytes], digest_key: bytes) -> None:
        self.current = current
        self._digest_key = digest_key
        self._private = {name: PrivateKey(raw) for name, raw in keys.items()}
        self._open = {name: SealedBox(private) for name, private in self._private.items()}
        self._seal = SealedBox(self._private[current].public_key)

    @classmethod
    def load_or_create(cls, path: Path) -> "Keyring":
        """Read the key file, or create it with a fresh key and mode 0600.

        Raises:
            KeyFileError: Others may read the file, or it is not a key file.
        """
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return cls._create(path)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_KeyFile)
            keys = {key.key_id: base64.b64decode(key.private, validate=True) for key in stored.keys}
            digest_key = base64.b64decode(stored.digest_key, validate=True)
            if len(digest_key) != _DIGEST_KEY_BYTES:
                raise ValueError
            return cls(current=stored.current, keys=keys, digest_key=digest_key)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, binascii.Error, KeyError, ValueError, TypeError, CryptoError) as error:
            # The error's own text could hold a part of a key.
            raise KeyFileError(
                f"{path} is not a key file ({type(error).__name__}); restore it from a backup, or move it away "
                "to start with a new key: values sealed with the old one are then lost"
            ) from None

    @classmethod
    def _create(cls, path: Path) -> "Keyring":
        private = bytes(PrivateKey.generate())
        name = key_id(bytes(PrivateKey(private).public_key))
        digest_key = secrets.token_bytes(_DIGEST_KEY_BYTES)
        content = msgspec.json.encode(
            _KeyFile(
                current=name,
                keys=[_Key(name, base64.b64encode(private).decode())],
                digest_key=base64.b64encode(digest_key).decode(),
            )
        )
        temporary = path.with_name(f".{path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
        return cls(current=name, keys={name: private}, digest_key=digest_key)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that anyone may seal for the daemon with."""
        return bytes(self._private[self.current].public_key)

    @property
    def published(self) -> dict[str, str]:
        """What anyone may know: the key id, and the public key in standard base64."""
        return {"key_id": self.current, "public_key": base64.b64encode(self.public_key).decode()}

    def seal(self, value: str, *, service: str, environment: str, pointer: str) -> str:
        """Seal a value to its place with the current key."""
        plain = msgspec.json.encode(_Sealed(service, value, environment, pointer))
        box = base64.urlsafe_b64encode(self._seal.encrypt(plain)).rstrip(b"=").decode()
        return f"{PREFIX}{self.current}:{box}"

    def open(self, sealed: str, *, service: str, environment: str, pointer: str, shared: bool = False) -> str:
        """Open a sealed value where it was found.

        Args:
            sealed: The sealed value.
            service: The service it was found in.
            environment: The environment it was found in.
            pointer: JSON Pointer of where it was found.
            shared: It was found in a file's ``defaults``, where a box may be bound to every service (``*``).

        Raises:
            CannotOpen: It is malformed, bound to another place, damaged, or its key is not here.
        """
        match = _FORM.fullmatch(sealed)
        if match is None:
            raise CannotOpen("is not a well-formed sealed value (sealed:v1:<key id>:<base64url without padding>)")
        name, text = match.groups()
        if name not in self._open:
            raise CannotOpen(f"is sealed with key {name}, which this daemon does not have; seal the value again")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            plain = msgspec.json.decode(self._open[name].decrypt(raw), type=_Sealed)
        except (binascii.Error, CryptoError, msgspec.MsgspecError, ValueError, TypeError):
            raise CannotOpen("is damaged: it does not open with the key it names; seal the value again") from None
        if plain.service != service and not (shared and plain.service == "*"):
            raise CannotOpen("is bound to another service; seal the value again for this one")
        if plain.environment not in {None, environment}:
            raise CannotOpen("is bound to another environment; seal the value again for this one")
        if plain.pointer not in {None, pointer}:
            raise CannotOpen("is bound to another place in the document; seal the value again for this one")
        return plain.value

    def digest(self, value: str, *, service: str, pointer: str) -> str:
        """A keyed digest (HMAC-SHA-256) that tells equal secrets of one place without telling the secret."""
        message = msgspec.json.encode([service, pointer, value])
        return hmac.new(self._digest_key, message, hashlib.sha256).hexdigest()

    def derive(self, purpose: bytes) -> bytes:
        """A key of 32 bytes for another purpose, as lasting as the digest key."""
        return hmac.digest(self._digest_key, purpose, hashlib.sha256)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
