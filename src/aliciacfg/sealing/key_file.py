"""The file of the daemon's sealing keys: read strictly, changed whole, never readable by others.

JSON, mode 0600: every private key with its id and when it was made, which of them seals, and the digest key.
Who changes it while a daemon may run holds the lock on the data directory: a running daemon has read its keys.
"""

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aliciacfg.atomic_files import remove_leftovers, replace_file
from aliciacfg.errors import AliciacfgError, KeyFileError
from aliciacfg.sealing.boxes import DIGEST_KEY_BYTES, Keyring, PrivateKey, PublicKey, UnusableKey

_PRIVATE_MODE = 0o600


class KeyRefused(AliciacfgError):
    """A change of the keys that is not carried out; the file is as it was."""


class _Key(msgspec.Struct, frozen=True, omit_defaults=True):
    key_id: str
    private: str
    created: float | None = None


class _Content(msgspec.Struct, frozen=True):
    """What the file holds; private keys and the digest key in standard base64."""

    current: str
    keys: list[_Key]
    digest_key: str
    chained: bool = False


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key.

    Attributes:
        key_id: Its name.
        public_key: What is sealed for.
        created: When it was made, in Unix seconds; None if nobody wrote it down.
        seals: Whether it is the one that seals; the others only open.
    """

    key_id: str
    public_key: PublicKey
    created: float | None
    seals: bool


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A private key, and when it was made if somebody wrote it down."""

    key: PrivateKey
    created: float | None = None


class KeyFile:
    """The keys as the file has them; made by ``load``, ``create`` or ``load_or_create``.

    Attributes:
        chained: They have written a database in which every row has its code. One from before that is not believed:
            whoever put its rows into the old form could have them taken for confirmed.
    """

    def __init__(
        self, path: Path, *, current: str, held: Iterable[HeldKey], digest_key: bytes, chained: bool = True
    ) -> None:
        self.path = path
        self.chained = chained
        self._current = current
        self._held = {item.key.public.key_id: item for item in held}
        self._digest_key = digest_key

    @classmethod
    def load(cls, path: Path) -> "KeyFile":
        """Read and check the file.

        Raises:
            KeyFileError: It is not there, others may read it, or it is not a key file.
        """
        content = _read(path)
        try:
            stored = msgspec.json.decode(content, type=_Content)
            held = [
                HeldKey(PrivateKey(base64.b64decode(key.private, validate=True)), key.created) for key in stored.keys
            ]
            digest_key = base64.b64decode(stored.digest_key, validate=True)
            # A damaged private key would otherwise go on under the old name, and seal what nobody can open.
            if [key.key_id for key in stored.keys] != [item.key.public.key_id for item in held]:
                raise ValueError
            if len(digest_key) != DIGEST_KEY_BYTES or stored.current not in {key.key_id for key in stored.keys}:
                raise ValueError
        except (msgspec.MsgspecError, binascii.Error, UnusableKey, ValueError) as error:
            # The error's own text could hold a part of a key.
            raise KeyFileError(
                f"{path} is not a key file ({type(error).__name__}); restore it from a backup, or move it away "
                "to start with a new key: values sealed with the old one are then lost"
            ) from None
        return cls(path, current=stored.current, held=held, digest_key=digest_key, chained=stored.chained)

    @classmethod
    def create(cls, path: Path, *, now: float) -> "KeyFile":
        """Make the file with a fresh key.

        Raises:
            KeyFileError: It cannot be written.
        """
        key = PrivateKey.generate()
        file = cls(
            path,
            current=key.public.key_id,
            held=[HeldKey(key, now)],
            digest_key=secrets.token_bytes(DIGEST_KEY_BYTES),
            # It has written nothing yet: the database may be one whose keys were lost.
            chained=False,
        )
        file._write()
        return file

    @classmethod
    def load_or_create(cls, path: Path, *, now: float) -> "KeyFile":
        """Read the file, or make it where there is none.

        Raises:
            KeyFileError: As for ``load`` and ``create``.
        """
        return cls.load(path) if path.exists() else cls.create(path, now=now)

    def make_keyring(self) -> Keyring:
        """Return a new keyring with the keys that the file holds now; later changes of the file do not reach it."""
        return Keyring(
            current=self._current, keys=[item.key for item in self._held.values()], digest_key=self._digest_key
        )

    @property
    def held(self) -> list[HeldKey]:
        """The keys themselves, in the order in which they came."""
        return list(self._held.values())

    @property
    def keys(self) -> list[KeyInfo]:
        """What may be shown of them."""
        return [
            KeyInfo(key_id, item.key.public, item.created, seals=key_id == self._current)
            for key_id, item in self._held.items()
        ]

    def mark_chained(self) -> None:
        """Note that from now on the rows of the database have their codes.

        Raises:
            KeyFileError: The file cannot be written.
        """
        if not self.chained:
            self.chained = True
            self._write()

    def rotate(self, *, now: float) -> str:
        """Make a fresh key that seals from now on, keep the others for opening; returns its id.

        Raises:
            KeyFileError: The file cannot be written.
        """
        key = PrivateKey.generate()
        self._change(key.public.key_id, {**self._held, key.public.key_id: HeldKey(key, now)})
        return self._current

    def add(self, found: Iterable[HeldKey]) -> list[str]:
        """Take more private keys for opening, such as those of a backup; returns the ids that are new here.

        Raises:
            KeyFileError: The file cannot be written.
        """
        fresh = {item.key.public.key_id: item for item in found if item.key.public.key_id not in self._held}
        if fresh:
            self._change(self._current, {**self._held, **fresh})
        return list(fresh)

    def remove(self, key_id: str, *, still_sealed: bool) -> None:
        """Forget a key for ever.

        Args:
            key_id: Which.
            still_sealed: Something is sealed with it that would be lost; the caller has looked.

        Raises:
            KeyRefused: It is not here, it seals, or something is still sealed with it.
            KeyFileError: The file cannot be written.
        """
        if key_id not in self._held:
            raise KeyRefused(f"there is no key {key_id!r:.80}; there are: {', '.join(self._held)}")
        if key_id == self._current:
            raise KeyRefused(f"{key_id} is the key that seals; make another with `aliciacfg keys rotate` first")
        if still_sealed:
            raise KeyRefused(f"values are still sealed with {key_id} and would be lost; seal them anew first")
        self._change(self._current, {name: item for name, item in self._held.items() if name != key_id})

    def _change(self, current: str, held: dict[str, HeldKey]) -> None:
        """Write first, believe after: a failed write leaves file and memory as they were."""
        before = self._current, self._held
        self._current, self._held = current, held
        try:
            self._write()
        except KeyFileError:
            self._current, self._held = before
            raise

    def _write(self) -> None:
        content = _Content(
            current=self._current,
            keys=[_Key(name, item.key.reveal(), item.created) for name, item in self._held.items()],
            digest_key=base64.b64encode(self._digest_key).decode(),
            chained=self.chained,
        )
        try:
            remove_leftovers(self.path)
            replace_file(self.path, msgspec.json.encode(content), mode=_PRIVATE_MODE)
        except OSError as error:
            raise KeyFileError(f"{self.path} cannot be written: {error.strerror}") from error


def _read(path: Path) -> bytes:
    """The bytes of a file that nobody but its owner may touch."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
