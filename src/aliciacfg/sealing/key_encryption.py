"""The key-encryption key, which wraps the keys of a home that several daemons share.

It is a file of mode 0600 with 32 bytes in standard base64, the same on every machine of the home, and never in the
database. The content of the key file is wrapped with XChaCha20-Poly1305 (libsodium ``aead_xchacha20poly1305_ietf``);
format, home and generation are associated data, so that nothing opens in the place of something else.
"""

import base64
import binascii
import hashlib
import secrets
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from aliciacfg.atomic_files import create_file
from aliciacfg.errors import KeyFileError
from aliciacfg.file_errors import unwritable
from aliciacfg.sealing.key_store import read_private

SETTING = "ALICIACFG_KEY_ENCRYPTION_KEY_FILE"
FILE_NAME = "key-encryption.key"
"""The name of the file in the data directory, where the setting names none."""

_PURPOSE = b"aliciacfg key-encryption key v1"
_ID_BYTES = 8


class KeyEncryptionKey:
    """A key-encryption key.

    Attributes:
        key_id: 16 hex digits that distinguish it from others and reveal nothing about it.
    """

    def __init__(self, key: bytes) -> None:
        """Hold a key of 32 bytes."""
        self._box = Aead(key)
        self.key_id = hashlib.blake2b(_PURPOSE, key=key, digest_size=_ID_BYTES).hexdigest()

    @classmethod
    def load(cls, path: Path) -> "KeyEncryptionKey":
        """Read the file.

        Raises:
            KeyFileError: It cannot be read, others can read it, or it is no such key.
        """
        try:
            key = base64.b64decode(read_private(path).strip(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != Aead.KEY_SIZE:
            raise KeyFileError(
                f"{path} is not a key-encryption key: expected {Aead.KEY_SIZE} bytes in base64; copy it from another "
                "machine of the home"
            )
        return cls(key)

    @classmethod
    def create(cls, path: Path) -> "KeyEncryptionKey":
        """Make a new one and write the file.

        Raises:
            KeyFileError: There is a file, or it cannot be written.
        """
        key = secrets.token_bytes(Aead.KEY_SIZE)
        try:
            create_file(path, base64.b64encode(key) + b"\n", mode=0o600)
        except FileExistsError as error:
            what = "exists already" if path.exists() else "is a link to a file that is missing"
            raise KeyFileError(f"{path} {what}; it is not replaced") from error
        except OSError as error:
            raise KeyFileError(unwritable(path, error)) from error
        return cls(key)

    def wrap(self, content: bytes, home: str, generation: int) -> bytes:
        """Return content that only this key opens, for this home and generation."""
        return bytes(self._box.encrypt(content, _associated(home, generation)))

    def unwrap(self, wrapped: bytes, home: str, generation: int) -> bytes | None:
        """Return what was wrapped; None if this key did not wrap it for this home and generation, or it was changed."""
        try:
            return self._box.decrypt(wrapped, _associated(home, generation))
        except (CryptoError, ValueError):
            return None


def _associated(home: str, generation: int) -> bytes:
    return f"aliciacfg keys v1 {home} {generation}".encode()
