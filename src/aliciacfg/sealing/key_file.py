"""The keys of a home, and what is noted beside them.

The content is JSON: every private key with its id and the time of its creation, the id of the one that seals, the
digest key, and what a database must not be believed about: whether its rows have codes of these keys, which rows of
other keys were adopted, and whether there have been tokens.

A home of one daemon has it in a file of mode 0600. The daemon reads that at its start only, so a process must hold the
lock on the data directory to change it. Daemons that share a database have the same content in there, wrapped
(``storage.shared_keys``), and any of them may change it: so each change is made on what is stored at that time.
"""

import base64
import binascii
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aliciacfg.errors import AliciacfgError, KeyFileError, Unavailable
from aliciacfg.sealing.boxes import DIGEST_KEY_BYTES, Keyring, PrivateKey, PublicKey, UnusableKey
from aliciacfg.sealing.key_store import FileKeyStore, KeyStore


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
        pending: Whether an alert is due: neither was the earlier key file added, nor the loss acknowledged.
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
    """The keys of a home; made by ``load``, ``find``, ``create`` or ``load_or_create``.

    Attributes:
        store: Where they are.
    """

    def __init__(self, store: KeyStore, content: bytes) -> None:
        """Hold keys as they are stored.

        Raises:
            KeyFileError: The content is not that of a key file.
        """
        self.store = store
        # Keys are changed in a thread, while the event loop may note a token.
        self._writing = threading.Lock()
        # Held for a moment only: a change of keys may wait for the database.
        self._taking = threading.Lock()
        self._take(_parse(content, store.name))

    @classmethod
    def load(cls, store: KeyStore | Path) -> "KeyFile":
        """Read and check the keys.

        Args:
            store: Where they are; a path is that of a file.

        Raises:
            KeyFileError: There are none, they cannot be read, are readable for others, or are no keys.
            Unavailable: They cannot be read at present.
        """
        store = _store(store)
        found = cls.find(store)
        if found is None:
            raise KeyFileError(f"{store.name} cannot be read: {os.strerror(errno.ENOENT)}")
        return found

    @classmethod
    def find(cls, store: KeyStore | Path) -> "KeyFile | None":
        """Read and check the keys; return None if there are none yet.

        Raises:
            KeyFileError: They cannot be read, are readable for others, or are no keys.
            Unavailable: They cannot be read at present.
        """
        store = _store(store)
        content = store.load()
        return None if content is None else cls(store, content)

    @classmethod
    def create(cls, store: KeyStore | Path, *, now: float) -> "KeyFile":
        """Store a new key; if another process stored keys just now, return those.

        Raises:
            KeyFileError: It cannot be written.
            Unavailable: It cannot be written at present.
        """
        store = _store(store)
        key = PrivateKey.generate()
        content = _Content(
            current=key.public.key_id,
            keys=[_Key(key.public.key_id, key.reveal(), now)],
            digest_key=base64.b64encode(secrets.token_bytes(DIGEST_KEY_BYTES)).decode(),
            # Nothing was written with this key yet; the keys of an existing database may have been lost.
            chained=False,
        )
        made = msgspec.json.encode(content)

        def first(stored: bytes | None) -> bytes:
            nonlocal made
            made = made if stored is None else stored
            return made

        store.update(first)
        return cls(store, made)

    @classmethod
    def load_or_create(cls, store: KeyStore | Path, *, now: float) -> "KeyFile":
        """Read the keys, or make the first one if there are none.

        Raises:
            KeyFileError: As for ``load`` and ``create``.
            Unavailable: The same.
        """
        return cls.find(store) or cls.create(store, now=now)

    def make_keyring(self) -> Keyring:
        """Return a new keyring with the keys that are here now; later changes do not reach it."""
        return Keyring(
            current=self._content.current,
            keys=[item.key for item in self._held.values()],
            digest_key=base64.b64decode(self._content.digest_key),
        )

    def reloaded(self) -> Keyring | None:
        """Read the keys again; return the keyring if there are other keys than before, None if they are the same.

        Raises:
            KeyFileError: As for ``load``; the keys stay as they were.
            Unavailable: The same.
        """
        before = self._content
        found = KeyFile.load(self.store)
        with self._taking:
            # What was changed here meanwhile is newer than what was read.
            if self._content is before:
                self._take(found._content)  # noqa: SLF001 - its own class
        same = (found.current, {key.key_id for key in before.keys}) == (before.current, found._held.keys())  # noqa: SLF001
        return None if same else self.make_keyring()

    @property
    def content(self) -> bytes:
        """The content of a file that holds these keys."""
        return msgspec.json.encode(self._content)

    @property
    def current(self) -> str:
        """The id of the key that seals."""
        return self._content.current

    @property
    def chained(self) -> bool:
        """Whether a daemon has written, with these keys, a database in which every row has a code.

        From then on no row without one is believed, and none of another key is adopted any more.
        """
        return self._content.chained

    @property
    def had_tokens(self) -> bool:
        """Whether there has been a token, so that access stays restricted without the rows of any."""
        return self._content.had_tokens

    @property
    def revoked(self) -> frozenset[str]:
        """The ids of the revoked tokens: a row from before the revocation revives none."""
        return self._revoked

    @property
    def adopted(self) -> list[AdoptionNote]:
        """The adoptions of rows of other keys."""
        return self._content.adopted

    @property
    def held(self) -> list[HeldKey]:
        """The private keys, in the order of the file."""
        return list(self._held.values())

    @property
    def keys(self) -> list[KeyInfo]:
        """The public information about the keys."""
        return [
            KeyInfo(key_id, item.key.public, item.created, seals=key_id == self.current)
            for key_id, item in self._held.items()
        ]

    @property
    def pending_adoption(self) -> AdoptionNote | None:
        """The last adoption, if it is still pending."""
        return next((note for note in reversed(self.adopted) if note.pending), None)

    def begin_adoption(self, note: AdoptionNote) -> None:
        """Record an adoption before the rows change, so that a process that is killed meanwhile does not hide it.

        Raises:
            KeyFileError: It cannot be written.
        """

        def begun(content: _Content) -> _Content:
            # One that was begun and not done has no rows.
            kept = [before for before in content.adopted if before.rows or not before.pending]
            return msgspec.structs.replace(content, adopted=[*kept, note])

        self._change(begun)

    def settle_adoptions(self) -> None:
        """Record that no adoption is pending any more.

        Raises:
            KeyFileError: It cannot be written.
        """
        if self.pending_adoption is not None:
            self._change(
                lambda content: msgspec.structs.replace(
                    content, adopted=[msgspec.structs.replace(note, pending=False) for note in content.adopted]
                )
            )

    def mark_chained(self, adopted: AdoptionNote | None = None) -> None:
        """Record that the rows of the database have codes from now on; see ``chained``.

        Args:
            adopted: The adoption by which they got them, if they are those of another key; replaces its note of
                ``begin_adoption``.

        Raises:
            KeyFileError: It cannot be written.
        """

        def marked(content: _Content) -> _Content:
            notes = content.adopted
            if adopted is not None:
                notes = [*(note for note in notes if note.at != adopted.at), adopted]
            return msgspec.structs.replace(content, chained=True, adopted=notes)

        if not self.chained:
            self._change(marked)

    def check_writable(self) -> None:
        """Write the keys as they are.

        Raises:
            KeyFileError: They cannot be written.
        """
        self._change(lambda content: content)

    def note_tokens(self, revoked: Iterable[str]) -> None:
        """Record that there have been tokens, and which of them are revoked; see ``had_tokens`` and ``revoked``.

        Raises:
            KeyFileError: It cannot be written.
        """
        more = set(revoked)
        if not self.had_tokens or not more <= self._revoked:
            self._change(
                lambda content: msgspec.structs.replace(
                    content, had_tokens=True, revoked=sorted(more.union(content.revoked))
                )
            )

    def rotate(self, *, now: float) -> str:
        """Add a new key that seals from now on, and return its id; the other keys only open.

        Raises:
            KeyFileError: It cannot be written.
        """
        key = PrivateKey.generate()
        fresh = _Key(key.public.key_id, key.reveal(), now)
        self._change(
            lambda content: msgspec.structs.replace(content, current=fresh.key_id, keys=[*content.keys, fresh])
        )
        return fresh.key_id

    def add(self, found: Iterable[HeldKey]) -> list[str]:
        """Add private keys that only open, such as those of a backup, and return the ids of the new ones.

        Raises:
            KeyFileError: They cannot be written.
        """
        fresh = {item.key.public.key_id: item for item in found if item.key.public.key_id not in self._held}

        def added(content: _Content) -> _Content:
            known = {key.key_id for key in content.keys}
            more = [_Key(name, item.key.reveal(), item.created) for name, item in fresh.items() if name not in known]
            return msgspec.structs.replace(content, keys=[*content.keys, *more])

        if fresh:
            self._change(added)
        return list(fresh)

    def with_keys_of(self, other: "KeyFile") -> bytes | None:
        """Return the content with the keys and notes of another file of the same home; None if there are no others."""
        mine, theirs = self._content, other._content  # noqa: SLF001 - its own class
        more = [key for key in theirs.keys if key.key_id not in self._held]
        merged = msgspec.structs.replace(
            mine,
            keys=[*mine.keys, *more],
            chained=mine.chained or theirs.chained,
            had_tokens=mine.had_tokens or theirs.had_tokens,
            revoked=sorted({*mine.revoked, *theirs.revoked}),
        )
        return None if merged == mine else msgspec.json.encode(merged)

    def remove(self, key_id: str, *, still_sealed: bool) -> None:
        """Remove a key.

        Args:
            key_id: The id of the key.
            still_sealed: Whether values are sealed with it, which would be lost.

        Raises:
            KeyRefused: There is no such key, it is the one that seals, or values are still sealed with it.
            KeyFileError: It cannot be written.
        """

        def removed(content: _Content) -> _Content:
            known = [key.key_id for key in content.keys]
            if key_id not in known:
                raise KeyRefused(f"there is no key {key_id!r:.80}; there are: {', '.join(known)}")
            if key_id == content.current:
                raise KeyRefused(f"{key_id} is the key that seals; make a new one with `aliciacfg keys rotate` first")
            if still_sealed:
                raise KeyRefused(f"values are still sealed with {key_id} and would be lost; seal them again first")
            return msgspec.structs.replace(content, keys=[key for key in content.keys if key.key_id != key_id])

        self._change(removed)

    def _change(self, change: Callable[[_Content], _Content]) -> None:
        """Change the content durably; if that fails, it stays as it was.

        Raises:
            KeyFileError: It cannot be written.
        """
        with self._writing:
            after = self._content

            def changed(stored: bytes | None) -> bytes:
                nonlocal after
                after = change(self._content if stored is None else _parse(stored, self.store.name))
                return msgspec.json.encode(after)

            try:
                self.store.update(changed)
            except Unavailable as error:
                raise KeyFileError(f"{self.store.name} cannot be written: {error.message}") from error
            with self._taking:
                self._take(after)

    def _take(self, content: _Content) -> None:
        self._content = content
        self._revoked = frozenset(content.revoked)
        self._held = {
            key.key_id: HeldKey(PrivateKey(base64.b64decode(key.private)), key.created) for key in content.keys
        }


def _store(store: KeyStore | Path) -> KeyStore:
    return FileKeyStore(store) if isinstance(store, Path) else store


def _parse(content: bytes, name: str) -> _Content:
    """Return the parsed content of a key file.

    Raises:
        KeyFileError: It is not one.
    """
    try:
        stored = msgspec.json.decode(content, type=_Content)
        ids = [PrivateKey(base64.b64decode(key.private, validate=True)).public.key_id for key in stored.keys]
        digest_key = base64.b64decode(stored.digest_key, validate=True)
        # A damaged private key would otherwise be used under its old id, and values sealed with it would be lost.
        if ids != [key.key_id for key in stored.keys]:
            raise ValueError
        if len(digest_key) != DIGEST_KEY_BYTES or stored.current not in ids:
            raise ValueError
    except (msgspec.MsgspecError, binascii.Error, UnusableKey, ValueError) as error:
        # The text of the error could contain a part of a key.
        raise KeyFileError(
            f"{name} is not a key file ({type(error).__name__}); restore it from a backup, or move it away "
            "to start with a new key: values sealed with the old one are then lost"
        ) from None
    return stored
