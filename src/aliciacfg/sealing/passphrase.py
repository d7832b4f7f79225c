"""Bytes that a passphrase protects: Argon2id (RFC 9106) makes a key of it, libsodium's secret box encrypts."""

import base64
import binascii

import msgspec
import nacl.pwhash
import nacl.utils
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from aliciacfg.errors import AliciacfgError

MIN_LENGTH = 12
"""A passphrase has at least so many characters: who has the file can try as many as they like."""

_SALT_BYTES = nacl.pwhash.argon2id.SALTBYTES
# Half a second for a try, in 64 MiB, which the smallest computer of a home has.
_PASSES = 6
_MEMORY_BYTES = 64 * 2**20
# What is read from a file must not take all memory, or for ever.
_MAX_PASSES = 64
_MAX_MEMORY_BYTES = 2**30


class WrongPassphrase(AliciacfgError):
    """The passphrase is another one, or the bytes were changed."""


class _Locked(msgspec.Struct, frozen=True):
    kdf: str
    passes: int
    memory: int
    salt: str
    box: str


def lock(content: bytes, passphrase: str) -> bytes:
    """Return bytes encrypted with a passphrase, as JSON that names how."""
    salt = nacl.utils.random(_SALT_BYTES)
    box = SecretBox(_key(passphrase, salt, _PASSES, _MEMORY_BYTES)).encrypt(content)
    return msgspec.json.encode(_Locked("argon2id", _PASSES, _MEMORY_BYTES, _text(salt), _text(bytes(box))))


def unlock(locked: bytes, passphrase: str) -> bytes:
    """Return what ``lock`` encrypted.

    Raises:
        WrongPassphrase: The passphrase is another one, or the bytes are not what ``lock`` returned.
    """
    try:
        found = msgspec.json.decode(locked, type=_Locked)
        salt, box = base64.b64decode(found.salt, validate=True), base64.b64decode(found.box, validate=True)
        if found.kdf != "argon2id" or found.passes > _MAX_PASSES or found.memory > _MAX_MEMORY_BYTES:
            raise WrongPassphrase("they are encrypted in a way that this aliciacfg does not know")
        return SecretBox(_key(passphrase, salt, found.passes, found.memory)).decrypt(box)
    except (msgspec.MsgspecError, binascii.Error, CryptoError, ValueError) as error:
        raise WrongPassphrase("the passphrase is another one, or they were changed") from error


def _key(passphrase: str, salt: bytes, passes: int, memory: int) -> bytes:
    return nacl.pwhash.argon2id.kdf(SecretBox.KEY_SIZE, passphrase.encode(), salt, opslimit=passes, memlimit=memory)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
