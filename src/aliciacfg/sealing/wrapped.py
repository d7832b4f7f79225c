"""Content of any length that only the daemons of a home open, with a key derived from theirs.

It is encrypted with XChaCha20-Poly1305 (libsodium ``aead_xchacha20poly1305_ietf``); the purpose is associated data, so
that nothing opens in the place of something else.
"""

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from aliciacfg.sealing.boxes import Keyring


class Wrapper:
    """Encrypts and opens content for one purpose."""

    def __init__(self, keyring: Keyring, purpose: bytes) -> None:
        """Derive the key; those that a rotation replaces do not change it."""
        self._box = Aead(keyring.derive(purpose))
        self._purpose = purpose

    def wrap(self, content: bytes) -> bytes:
        """Return content that only ``unwrap`` opens."""
        return bytes(self._box.encrypt(content, self._purpose))

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """Return what was wrapped; None if it was not wrapped with this key for this purpose, or was changed."""
        try:
            return self._box.decrypt(wrapped, self._purpose)
        except (CryptoError, ValueError):
            return None
