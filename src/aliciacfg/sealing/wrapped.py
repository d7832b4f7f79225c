"""Content of any length that only the daemons of a home open, encrypted with a key that their sealing key seals.

It is encrypted with XChaCha20-Poly1305 (libsodium ``aead_xchacha20poly1305_ietf``) and a key of its own; the purpose is
associated data, and the place to which the sealed key is bound. So nothing opens in the place of something else, and
after a rotation of the sealing keys it can be wrapped again, as everything that is sealed.
"""

import base64
import binascii

from nacl.exceptions import CryptoError
from nacl.secret import Aead
from nacl.utils import random

from aliciacfg.sealing.boxes import CannotOpen, Keyring, sealed_with

# No service and no environment has this name: the key opens nowhere else.
_NOWHERE = "*"


class Wrapper:
    """Encrypts and opens content for one purpose."""

    def __init__(self, keyring: Keyring, purpose: str) -> None:
        """Hold the keys, which may be rotated."""
        self._keyring = keyring
        self._purpose = purpose

    def wrap(self, content: bytes) -> str:
        """Return content that only ``unwrap`` opens: the sealed key, a space, and base64."""
        key = random(Aead.KEY_SIZE)
        box = bytes(Aead(key).encrypt(content, self._purpose.encode()))
        text = base64.b64encode(key).decode()
        sealed = self._keyring.seal(text, service=_NOWHERE, environment=_NOWHERE, pointer=self._purpose)
        return f"{sealed} {base64.b64encode(box).decode()}"

    def unwrap(self, wrapped: str) -> bytes | None:
        """Return what was wrapped; None if it was changed, or not wrapped for this purpose with keys that are here."""
        sealed, _, box = wrapped.partition(" ")
        try:
            opened = self._keyring.open(sealed, service=_NOWHERE, environment=_NOWHERE, pointer=self._purpose)
            key = base64.b64decode(opened, validate=True)
            return Aead(key).decrypt(base64.b64decode(box, validate=True), self._purpose.encode())
        except (CannotOpen, CryptoError, binascii.Error, TypeError, ValueError):
            return None

    def is_current(self, wrapped: str) -> bool:
        """Return whether the key is sealed with the one that seals now."""
        try:
            return sealed_with(wrapped.partition(" ")[0]) == self._keyring.current
        except CannotOpen:
            return False
