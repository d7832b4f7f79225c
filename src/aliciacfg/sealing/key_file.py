"""The file of the daemon's sealing keys, which is replaced atomically and readable for its owner only.

It is JSON with mode 0600: every private key with its id and the time of its creation, the id of the one that seals, the
digest key, and what a database must not be believed about: whether its rows have codes of these keys, which rows of
other keys were adopted, and whether there have been tokens. A daemon reads the file at its start only, so a process
must hold the lock on the data directory to change it.
"""

import base64
import binascii
import os
import secrets
import stat
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aliciacfg.atomic_files import remove_leftovers, replace_file, unwritable
from aliciacfg.errors import AliciacfgError, KeyFileError
from aliciacfg.sealing.boxes import DIGEST_KEY_BYTES, Keyring, PrivateKey, PublicKey, UnusableKey

_PRIVATE_MODE = 0o600


class KeyRefused(AliciacfgError):
    """A change of the keys is refused; the file did not change."""


class _Key(msgspec.Struct, frozen=True, omit_defaults=True):
    key_id: str
    private: str
    created: float | None = None


class AdoptionNote(msgspec.Struct, frozen=True):
    """A note that rows of another key were adopted.

    Attributes:
        at: The time in Unix seconds.
        key_name: The short name of the key that wrote them; empty if they had no codes.
        rows: How many they were; 0 if the process ended before it noted that.
        kept_in: The directory in the data directory that holds the database as it was before; empty if there is none.
        pending: Whether people have to be told: neither was the earlier key file added, nor the loss acknowledged.
    """

    at: float
    key_name: str
    rows: int
    kept_in: str = ""
    pending: bool = False


class _Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of the file; private keys and the digest key are in standard base64."""

    current: str
    keys: list[_Key]
    digest_key: str
    chained: bool = False
    had_tokens: bool = False
    revoked: list[str] = []
    adopted: list[AdoptionNote] = []


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The public information about a key.

    Attributes:
        key_id: The id of the key.
        public_key: The public key.
        created: The time of its creation in Unix seconds; None if it is not known.
        seals: Whether it is the key that seals; the others only open.
    """

    key_id: str
    public_key: PublicKey
    created: float | None
    seals: bool


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A private key and the time of its creation.

    Attributes:
        key: The private key.
        created: The time of its creation in Unix seconds; None if it is not known.
    """

    key: PrivateKey
    created: float | None = None


class KeyFile:
    """The keys of a key file; made by ``load``, ``create`` or ``load_or_create``.

    Attributes:
        path: The file.
        chained: Whether the daemon has written, with these keys, a database in which every row has a code. From then
            on no row without one is believed, and none of another key is adopted any more.
        had_tokens: Whether there has been a token, so that access stays restricted without the rows of any.
        revoked: The ids of the revoked tokens: a row from before the revocation revives none.
        adopted: The adoptions of rows of other keys.
    """

    def __init__(
        self,
        path: Path,
        *,
        current: str,
        held: Iterable[HeldKey],
        digest_key: bytes,
        chained: bool = True,
        had_tokens: bool = False,
        revoked: Iterable[str] = (),
        adopted: Iterable[AdoptionNote] = (),
    ) -> None:
        self.path = path
        self.chained = chained
        self.had_tokens = had_tokens
        self.revoked = set(revoked)
        self.adopted = list(adopted)
        # Keys are changed in a thread, while the event loop may note a token.
        self._writing = threading.Lock()
        self._current = current
        self._held = {item.key.public.key_id: item for item in held}
        self._digest_key = digest_key

    @classmethod
    def load(cls, path: Path) -> "KeyFile":
        """Read and check the file.

        Raises:
            KeyFileError: The file cannot be read, is readable for others, or is not a key file.
        """
        content = _read(path)
        try:
            stored = msgspec.json.decode(content, type=_Content)
            held = [
                HeldKey(PrivateKey(base64.b64decode(key.private, validate=True)), key.created) for key in stored.keys
            ]
            digest_key = base64.b64decode(stored.digest_key, validate=True)
            # A damaged private key would otherwise be used under its old id, and values sealed with it would be lost.
            if [key.key_id for key in stored.keys] != [item.key.public.key_id for item in held]:
                raise ValueError
            if len(digest_key) != DIGEST_KEY_BYTES or stored.current not in {key.key_id for key in stored.keys}:
                raise ValueError
        except (msgspec.MsgspecError, binascii.Error, UnusableKey, ValueError) as error:
            # The text of the error could contain a part of a key.
            raise KeyFileError(
                f"{path} is not a key file ({type(error).__name__}); restore it from a backup, or move it away "
                "to start with a new key: values sealed with the old one are then lost"
            ) from None
        return cls(
            path,
            current=stored.current,
            held=held,
            digest_key=digest_key,
            chained=stored.chained,
            had_tokens=stored.had_tokens,
            revoked=stored.revoked,
            adopted=stored.adopted,
        )

    @classmethod
    def create(cls, path: Path, *, now: float) -> "KeyFile":
        """Create the file with a new key.

        Raises:
            KeyFileError: The file cannot be written.
        """
        key = PrivateKey.generate()
        file = cls(
            path,
            current=key.public.key_id,
            held=[HeldKey(key, now)],
            digest_key=secrets.token_bytes(DIGEST_KEY_BYTES),
            # Nothing was written with this key yet; the keys of an existing database may have been lost.
            chained=False,
        )
        file._write()
        return file

    @classmethod
    def load_or_create(cls, path: Path, *, now: float) -> "KeyFile":
        """Read the file, or create it if there is none.

        Raises:
            KeyFileError: As for ``load`` and ``create``.
        """
        return cls.load(path) if path.exists() else cls.create(path, now=now)

    def make_keyring(self) -> Keyring:
        """Return a new keyring with the keys that the file holds now; later changes of the file do not reach it."""
        return Keyring(
            current=self._current, keys=[item.key for item in self._held.values()], digest_key=self._digest_key
        )

    def reloaded(self) -> Keyring | None:
        """Read the file again; return the keyring if it holds other keys than before, None if it holds the same.

        Raises:
            KeyFileError: As for ``load``; the keys stay as they were.
        """
        found = KeyFile.load(self.path)
        if found._current == self._current and found._held.keys() == self._held.keys():  # noqa: SLF001 - its own class
            return None
        self._current, self._held = found._current, found._held  # noqa: SLF001
        return self.make_keyring()

    @property
    def held(self) -> list[HeldKey]:
        """The private keys, in the order of the file."""
        return list(self._held.values())

    @property
    def keys(self) -> list[KeyInfo]:
        """The public information about the keys."""
        return [
            KeyInfo(key_id, item.key.public, item.created, seals=key_id == self._current)
            for key_id, item in self._held.items()
        ]

    @property
    def pending_adoption(self) -> AdoptionNote | None:
        """The last adoption, if it is still pending."""
        return next((note for note in reversed(self.adopted) if note.pending), None)

    def begin_adoption(self, note: AdoptionNote) -> None:
        """Record an adoption before the rows change, so that a process that is killed meanwhile does not hide it.

        Raises:
            KeyFileError: The file cannot be written.
        """
        # One that was begun and not done has no rows.
        self.adopted = [*(before for before in self.adopted if before.rows or not before.pending), note]
        self._write()

    def settle_adoptions(self) -> None:
        """Record that no adoption is pending any more.

        Raises:
            KeyFileError: The file cannot be written.
        """
        if self.pending_adoption is not None:
            self.adopted = [msgspec.structs.replace(note, pending=False) for note in self.adopted]
            self._write()

    def mark_chained(self, adopted: AdoptionNote | None = None) -> None:
        """Record that the rows of the database have codes from now on; see ``chained``.

        Args:
            adopted: The adoption by which they got them, if they are those of another key; replaces its note of
                ``begin_adoption``.

        Raises:
            KeyFileError: The file cannot be written.
        """
        if not self.chained:
            self.chained = True
            if adopted is not None:
                self.adopted = [*(note for note in self.adopted if note.at != adopted.at), adopted]
            self._write()

    def check_writable(self) -> None:
        """Write the file as it is.

        Raises:
            KeyFileError: The file cannot be written.
        """
        self._write()

    def note_tokens(self, revoked: Iterable[str]) -> None:
        """Record that there have been tokens, and which of them are revoked; see ``had_tokens`` and ``revoked``.

        Raises:
            KeyFileError: The file cannot be written.
        """
        known = self.revoked | set(revoked)
        if not self.had_tokens or known != self.revoked:
            self.had_tokens = True
            self.revoked = known
            self._write()

    def rotate(self, *, now: float) -> str:
        """Add a new key that seals from now on, and return its id; the other keys only open.

        Raises:
            KeyFileError: The file cannot be written.
        """
        key = PrivateKey.generate()
        self._change(key.public.key_id, {**self._held, key.public.key_id: HeldKey(key, now)})
        return self._current

    def add(self, found: Iterable[HeldKey]) -> list[str]:
        """Add private keys that only open, such as those of a backup, and return the ids of the new ones.

        Raises:
            KeyFileError: The file cannot be written.
        """
        fresh = {item.key.public.key_id: item for item in found if item.key.public.key_id not in self._held}
        if fresh:
            self._change(self._current, {**self._held, **fresh})
        return list(fresh)

    def remove(self, key_id: str, *, still_sealed: bool) -> None:
        """Remove a key.

        Args:
            key_id: The id of the key.
            still_sealed: Whether values are sealed with it, which would be lost.

        Raises:
            KeyRefused: There is no such key, it is the one that seals, or values are still sealed with it.
            KeyFileError: The file cannot be written.
        """
        if key_id not in self._held:
            raise KeyRefused(f"there is no key {key_id!r:.80}; there are: {', '.join(self._held)}")
        if key_id == self._current:
            raise KeyRefused(f"{key_id} is the key that seals; make a new one with `aliciacfg keys rotate` first")
        if still_sealed:
            raise KeyRefused(f"values are still sealed with {key_id} and would be lost; seal them again first")
        self._change(self._current, {name: item for name, item in self._held.items() if name != key_id})

    def _change(self, current: str, held: dict[str, HeldKey]) -> None:
        """Change the keys and write the file; if that fails, the keys stay as they were."""
        before = self._current, self._held
        self._current, self._held = current, held
        try:
            self._write()
        except KeyFileError:
            self._current, self._held = before
            raise

    def _write(self) -> None:
        with self._writing:
            content = _Content(
                current=self._current,
                keys=[_Key(name, item.key.reveal(), item.created) for name, item in self._held.items()],
                digest_key=base64.b64encode(self._digest_key).decode(),
                chained=self.chained,
                had_tokens=self.had_tokens,
                revoked=sorted(self.revoked),
                adopted=self.adopted,
            )
            try:
                remove_leftovers(self.path)
                replace_file(self.path, msgspec.json.encode(content), mode=_PRIVATE_MODE)
            except OSError as error:
                raise KeyFileError(unwritable(self.path, error)) from error


def _read(path: Path) -> bytes:
    """Return the bytes of a file that only its owner is allowed to read and write."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
