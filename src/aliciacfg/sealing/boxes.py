"""Sealed values: libsodium sealed boxes that are bound to their place, and keyed digests of secrets.

A sealed value is a string ``sealed:v1:<key id>:<box>``. The box is an X25519
sealed box (libsodium ``crypto_box_seal``) in URL-safe base64 without padding; its plaintext is the JSON object
``{"service": …, "environment"?: …, "pointer"?: …, "value": …}``. A box opens only in the place to which it is bound, so
that a writer cannot move it into a configuration that they are allowed to read.

A public key is enough to seal a value for its owner: people and CI seal for the daemon, the daemon for a service.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import msgspec
from nacl import public
from nacl.exceptions import CryptoError

from aliciacfg.errors import AliciacfgError
from aliciacfg.model.redaction import SEALED_PREFIX

PREFIX = SEALED_PREFIX
DIGEST_KEY_BYTES = 32
# A quarter of a megabyte.
_RECENT_DIGESTS = 512
_SHORT_SECRET = 256

# What begins like this was meant as a sealed value, of any version.
_ANY_VERSION = re.compile(r"sealed:v[0-9]+:", re.ASCII)
_FORM = re.compile(r"sealed:v1:([0-9a-f]{16}):([A-Za-z0-9_-]+)", re.ASCII)
_NAMED = re.compile(rb"sealed:v1:([0-9a-f]{16}):")
_KEY_BYTES = 32


class CannotOpen(AliciacfgError):
    """A sealed value does not open here; the message says why and never contains the secret."""


class UnknownKey(CannotOpen):
    """A sealed value names a key that the keyring does not have."""


class UnusableKey(AliciacfgError):
    """A text or bytes are not a usable key; the message says why and never quotes them."""


class _Sealed(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    service: str
    value: str
    environment: str | None = None
    pointer: str | None = None


class _Published(msgspec.Struct, frozen=True):
    key_id: str
    public_key: str


def is_sealed(value: str) -> bool:
    """Return whether a string begins like a sealed value, well-formed or not."""
    return value.startswith(PREFIX)


def resembles_sealed(value: str, *, at_secret: bool) -> bool:
    """Return whether a string that is no sealed value was probably meant as one.

    Args:
        value: The string.
        at_secret: Whether it is at the place of a secret, where anything that begins with ``sealed:`` counts, in upper
            case or after spaces, too. Elsewhere ``sealed: with wax`` is an ordinary text.
    """
    if is_sealed(value):
        return False
    return bool(_ANY_VERSION.match(value)) or (at_secret and value.lstrip().lower().startswith("sealed:"))


def placeholder() -> str:
    """Return a string for the place of a secret that must not be judged; no two are equal, all have the same length."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An X25519 public key (RFC 7748), for whose owner values can be sealed.

    Attributes:
        raw: Its 32 bytes.

    Raises:
        UnusableKey: The bytes are not a public key, or one of a private key that is generally known.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _KEY_BYTES:
            raise UnusableKey(f"found {len(self.raw)} bytes; expected an X25519 public key of {_KEY_BYTES} bytes")
        try:
            # libsodium rejects points of low order, such as the all-zero key, only when it seals.
            public.SealedBox(public.PublicKey(self.raw)).encrypt(b"")
        except CryptoError:
            raise UnusableKey(
                "found a point of low order, which is not a public key; generate a new X25519 key pair"
            ) from None

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Read a public key from base64, standard or URL-safe, padded or not.

        Raises:
            UnusableKey: The text is not base64, or not a usable public key.
        """
        return cls(_key_bytes(text, "public"))

    @classmethod
    def from_published(cls, content: object) -> "PublicKey":
        """Read a key that a daemon publishes: ``{"key_id": …, "public_key": …}``, decoded.

        Raises:
            UnusableKey: The content has another form, or the id is that of another key.
        """
        try:
            published = msgspec.convert(content, _Published)
        except msgspec.ValidationError as error:
            raise UnusableKey(f'expected {{"key_id": …, "public_key": …}} as a daemon publishes it: {error}') from error
        key = cls.parse(published.public_key)
        if key.key_id != published.key_id:
            raise UnusableKey(f"the key id {published.key_id!r:.80} is not the id of the public key, {key.key_id}")
        return key

    @property
    def key_id(self) -> str:
        """The id of the key: the first 16 hex digits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        """Return the key in standard base64, as it is published."""
        return base64.b64encode(self.raw).decode()


class PrivateKey:
    """An X25519 private key, which opens values sealed for its public key.

    Attributes:
        public: The public key.
    """

    def __init__(self, raw: bytes) -> None:
        """Check the bytes, and compute the public key.

        Args:
            raw: The 32 bytes of the key.

        Raises:
            UnusableKey: They are not 32 bytes, or all zero.
        """
        if len(raw) != _KEY_BYTES:
            raise UnusableKey(f"found {len(raw)} bytes; expected an X25519 private key of {_KEY_BYTES} bytes")
        if not any(raw):
            raise UnusableKey("found only zeros, which are not secret; generate a private key")
        key = public.PrivateKey(raw)
        self._box = public.SealedBox(key)
        self._raw = raw
        self.public = PublicKey(bytes(key.public_key))

    @classmethod
    def generate(cls) -> "PrivateKey":
        """Generate a key from the system's source of randomness."""
        return cls(bytes(public.PrivateKey.generate()))

    @classmethod
    def parse(cls, text: str) -> "PrivateKey":
        """Read a private key from base64, standard or URL-safe, padded or not.

        Raises:
            UnusableKey: The text is not base64, or not a private key.
        """
        return cls(_key_bytes(text, "private"))

    def reveal(self) -> str:
        """Return the key itself in standard base64, for the key file."""
        return base64.b64encode(self._raw).decode()

    def open(self, sealed: str, *, service: str, environment: str, pointer: str, shared: bool = False) -> str:
        """Open a sealed value.

        Args:
            sealed: The sealed value.
            service: The service in whose document it is.
            environment: The environment of the document.
            pointer: JSON Pointer of its place in the document.
            shared: Whether it is in the ``defaults`` of a file, where a box may be bound to every service (``*``).

        Raises:
            CannotOpen: The value is malformed, sealed for another key, damaged, or bound to another place.
        """
        name, text = _parsed(sealed)
        if name != self.public.key_id:
            raise CannotOpen(f"is sealed for key {name}, not for this one, {self.public.key_id}")
        try:
            plain = msgspec.json.decode(self._box.decrypt(_unpadded(text)), type=_Sealed)
        except (binascii.Error, CryptoError, msgspec.MsgspecError, ValueError, TypeError, RecursionError):
            raise CannotOpen("is damaged: it does not open with the key it names; seal the value again") from None
        if plain.service != service and not (shared and plain.service == "*"):
            raise CannotOpen("is bound to another service; seal the value again for this one")
        if plain.environment not in {None, environment}:
            raise CannotOpen("is bound to another environment; seal the value again for this one")
        if plain.pointer not in {None, pointer}:
            raise CannotOpen("is bound to another place in the document; seal the value again for this one")
        return plain.value


def seal_for(
    key: PublicKey, value: str, *, service: str, environment: str | None = None, pointer: str | None = None
) -> str:
    """Seal a value for the owner of a public key.

    Args:
        key: The public key.
        value: The secret.
        service: The only service in which it opens; ``*`` for every service, which opens in ``defaults`` only.
        environment: The only environment in which it opens; None for every environment.
        pointer: JSON Pointer of the only place in which it opens; None for every place.
    """
    plain = msgspec.json.encode(_Sealed(service, value, environment, pointer))
    box = _sealed_box(key.raw).encrypt(plain)
    return f"{PREFIX}{key.key_id}:{base64.urlsafe_b64encode(box).rstrip(b'=').decode()}"


@lru_cache(maxsize=256)
def _sealed_box(public_key: bytes) -> "public.SealedBox[public.PublicKey]":
    """Return the box of a public key; making one takes a third of the time of sealing a value."""
    return public.SealedBox(public.PublicKey(public_key))


class Keyring:
    """The daemon's sealing keys and its digest key.

    One key seals; all of them open. The digest key never changes, so a rotation of keys does not change checksums.

    Attributes:
        current: The id of the key that seals.
        public_key: The public key of the key that seals, with which anyone can seal values for the daemon.
    """

    def __init__(self, *, current: str, keys: Iterable[PrivateKey], digest_key: bytes) -> None:
        """Make a keyring.

        Raises:
            KeyError: ``current`` is not the id of one of ``keys``.
        """
        self.current = current
        self._keys = {key.public.key_id: key for key in keys}
        self._digest_key = digest_key
        self._digest = partial(_digest, digest_key)
        self._recent_digest = lru_cache(maxsize=_RECENT_DIGESTS)(self._digest)
        self.public_key = self._keys[current].public

    @classmethod
    def ephemeral(cls) -> "Keyring":
        """Return a keyring of new keys that are stored nowhere, for values that are not kept."""
        key = PrivateKey.generate()
        return cls(current=key.public.key_id, keys=[key], digest_key=secrets.token_bytes(DIGEST_KEY_BYTES))

    @property
    def published(self) -> dict[str, str]:
        """The public information: the key id, and the public key in standard base64."""
        return {"key_id": self.current, "public_key": str(self.public_key)}

    def seal(self, value: str, *, service: str, environment: str, pointer: str) -> str:
        """Seal a value with the current key, bound to its place."""
        return seal_for(self.public_key, value, service=service, environment=environment, pointer=pointer)

    def open(self, sealed: str, *, service: str, environment: str, pointer: str, shared: bool = False) -> str:
        """Open a sealed value; arguments as for ``PrivateKey.open``.

        Raises:
            UnknownKey: The keyring does not have the key.
            CannotOpen: The value is malformed, damaged, or bound to another place.
        """
        name, _ = _parsed(sealed)
        key = self._keys.get(name)
        if key is None:
            raise UnknownKey(f"is sealed with key {name}, which this daemon does not have; seal the value again")
        return key.open(sealed, service=service, environment=environment, pointer=pointer, shared=shared)

    def seal_to_recipient(
        self, key: PublicKey, value: str, *, service: str, environment: str, pointer: str, revision: int
    ) -> str:
        """Seal a value for the service that owns a key; the daemon itself cannot open it again.

        The same arguments give the same text, because the ephemeral key of the box is derived from them and from the
        digest key; ``crypto_box_seal`` would take it from the system's randomness. ``crypto_box_seal_open`` opens it.
        """
        plain = msgspec.json.encode(_Sealed(service, value, environment, pointer))
        place = msgspec.json.encode([key.key_id, service, environment, pointer, revision, value])
        ephemeral = public.PrivateKey(hmac.digest(self.derive(b"aliciacfg views v1"), place, hashlib.sha256))
        sender = bytes(ephemeral.public_key)
        nonce = hashlib.blake2b(sender + key.raw, digest_size=public.Box.NONCE_SIZE).digest()
        box = sender + public.Box(ephemeral, public.PublicKey(key.raw)).encrypt(plain, nonce).ciphertext
        return f"{PREFIX}{key.key_id}:{base64.urlsafe_b64encode(box).rstrip(b'=').decode()}"

    def replace_with(self, other: "Keyring") -> None:
        """Replace the sealing keys by those of another keyring, for all users of this object."""
        self._keys = other._keys  # noqa: SLF001 - another instance of this class
        self.current, self.public_key = other.current, other.public_key

    def has(self, key_id: str) -> bool:
        """Return whether the keyring has a key."""
        return key_id in self._keys

    def digest(self, value: str, *, service: str, pointer: str) -> str:
        """Compute a keyed digest (HMAC-SHA-256) of a secret, which is equal for equal secrets in one place only."""
        # A write computes those of all secrets, and changes few.
        digest = self._recent_digest if len(value) <= _SHORT_SECRET else self._digest
        return digest(value, service, pointer)

    def derive(self, purpose: bytes) -> bytes:
        """Derive a key of 32 bytes for another purpose from the digest key."""
        return hmac.digest(self._digest_key, purpose, hashlib.sha256)


def _digest(key: bytes, value: str, service: str, pointer: str) -> str:
    return hmac.digest(key, msgspec.json.encode([service, pointer, value]), hashlib.sha256).hex()


def sealed_with(sealed: str) -> str:
    """Return the id of the key with which a value is sealed.

    Raises:
        CannotOpen: The value is malformed.
    """
    return _parsed(sealed)[0]


def key_ids(content: bytes) -> set[str]:
    """Return the ids of the keys of all sealed values in the bytes of a file or a row."""
    return {match[1].decode() for match in _NAMED.finditer(content)}


def _parsed(sealed: str) -> tuple[str, str]:
    match = _FORM.fullmatch(sealed)
    if match is None:
        raise CannotOpen("is not a well-formed sealed value (sealed:v1:<key id>:<base64url without padding>)")
    return match[1], match[2]


def _key_bytes(text: str, kind: str) -> bytes:
    # Both alphabets are in use: other bindings of libsodium write the URL-safe one without padding.
    try:
        return _unpadded(text.strip().rstrip("=").replace("+", "-").replace("/", "_"))
    except (binascii.Error, ValueError):
        # The text of the error could contain a part of a key.
        raise UnusableKey(f"found no base64; expected an X25519 {kind} key in base64") from None


def _unpadded(text: str) -> bytes:
    # Without validate, Python ignores invalid characters.
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
