"""The keys of a home that several daemons share: in their database, wrapped by a key that is not in there.

A copy of the database alone opens no secret. The key-encryption key (``sealing.key_encryption``) is a file on each
machine; a daemon with another one does not start.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from aliciacfg.errors import KeyFileError
from aliciacfg.file_errors import unwritable
from aliciacfg.sealing.key_encryption import FILE_NAME, SETTING, KeyEncryptionKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.witness import KEYS_FILE_NAME, KeysWitness

_log = structlog.get_logger(__name__)

MOVED = f"{KEY_FILE}.moved"
"""The name of a key file whose keys are in the database now."""


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """The keys as they are stored.

    Attributes:
        content: The content of a key file, wrapped.
        home: The name of the home that they are the keys of.
        key_id: The id of the key-encryption key.
        generation: A number that rises with each change, which the wrapping confirms.
    """

    content: bytes
    home: str
    key_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What the database says of its keys.

    Attributes:
        row: The keys; None if there are none yet.
        end: The end of the chain as it is stored; None if nothing was ever recorded.
    """

    row: WrappedKeys | None
    end: tuple[object, ...] | None


class KeyTable(Protocol):
    """The place in a database for the keys."""

    @property
    def name(self) -> str:
        """The database, for messages."""
        ...

    def load(self) -> StoredKeys:
        """Return what is stored.

        Raises:
            StoreError: The database cannot be used.
            Unavailable: It cannot be reached at present.
        """
        ...

    def update(self, change: Callable[[StoredKeys], WrappedKeys | None]) -> None:
        """Replace what is stored, while no other process writes to the database.

        Args:
            change: Returns what to store, or None to leave it as it is. If it raises, it stays as it is.

        Raises:
            KeyFileError: It cannot be written.
            Unavailable: It cannot be written at present.
        """
        ...


class KeysWentBack(KeyFileError):
    """The keys in the database are those of an earlier time."""


class SharedKeyStore:
    """Implements ``sealing.key_file.KeyStore`` with the database of a home.

    A client that can write to the database could put an earlier row of keys back, in which removed keys are there and
    tokens are not revoked yet. So each row has a generation, and the highest one that was seen is noted in the data
    directory.

    Attributes:
        file: The file of the key-encryption key.
        went_back: Why the keys are not to be used, if they are those of an earlier time and ``load`` returned them all
            the same.
    """

    def __init__(
        self, table: KeyTable, directory: Path, file: Path | None, *, notes: bool = False, takes_back: bool = False
    ) -> None:
        """Name the parts; nothing is opened.

        Args:
            table: Has the keys.
            directory: The data directory of this daemon.
            file: The file of the key-encryption key; None for the one in the data directory.
            notes: Whether the generations that are seen are noted in the data directory, whose lock the caller has.
            takes_back: Whether keys of an earlier time can be loaded, as those of a database that is restored.
        """
        self._witness = KeysWitness(directory / KEYS_FILE_NAME)
        self._notes = notes
        self.takes_back = takes_back
        self.went_back: KeysWentBack | None = None
        # The highest generation that this object has seen.
        self._seen = 0
        self._table = table
        self._directory = directory
        self._named = file is not None
        self.file = file or directory / FILE_NAME

    @property
    def name(self) -> str:
        """The database."""
        return f"the database {self._table.name}"

    def load(self) -> bytes | None:
        """Unwrap what is stored."""
        row = self._table.load().row
        if row is None:
            return None
        content = self._unwrapped(row)
        self.went_back = self._behind(row)
        if self.went_back is None:
            self._note(row)
        elif not self.takes_back:
            raise self.went_back
        return content

    def update(self, change: Callable[[bytes | None], bytes]) -> None:
        """Unwrap, change and wrap what is stored, under the lock; what the caller has goes on where that is newer."""
        made: WrappedKeys | None = None

        def changed(stored: StoredKeys) -> WrappedKeys:
            nonlocal made
            # The next start takes a key file in; until then its keys are those that there are.
            file = FileKeyStore(self._directory / KEY_FILE)
            if stored.row is None:
                content = file.load()
            else:
                content = self._unwrapped(stored.row)
                behind = self._behind(stored.row)
                if behind is not None and self._seen < self._known(stored.row.home):
                    raise behind
                if behind is not None:
                    content = None
            made = self._wrapped(change(content), stored)
            return made

        self._table.update(changed)
        if made is not None:
            self._note(made)

    def accept(self) -> bool:
        """Take the keys in the database for the present ones, although they are those of an earlier time.

        Returns:
            Whether they were.

        Raises:
            KeyFileError: There are no keys, they cannot be used, or they cannot be written.
            StoreError: The database cannot be used.
            Unavailable: They cannot be written at present.
        """
        made: WrappedKeys | None = None

        def accepted(stored: StoredKeys) -> WrappedKeys | None:
            nonlocal made
            if stored.row is None:
                raise KeyFileError(f"{self.name} has no keys yet; the first start of a daemon makes them")
            content = self._unwrapped(stored.row)
            if self._behind(stored.row) is not None:
                made = self._sealed(self.key_encryption_key(), content, stored.row.home, stored)
            return made

        self._table.update(accepted)
        self.went_back = None
        if made is not None:
            self._note(made)
        return made is not None

    def _known(self, home: str) -> int:
        """Return the highest generation of the keys of a home that was seen on this machine."""
        return max(self._seen, self._witness.read(home))

    def _behind(self, row: WrappedKeys) -> KeysWentBack | None:
        """Return what is wrong if a row that opens is of an earlier generation than one that was seen."""
        known = self._known(row.home)
        if row.generation >= known:
            return None
        return KeysWentBack(
            f"the keys in {self.name} are those of an earlier time (generation {row.generation}, after {known}): "
            "removed keys may be there again, and revoked tokens work. Find out who put them back. A daemon that still "
            "runs has the present ones, and `aliciacfg keys rotate` there writes them back. If there is none, or you "
            "put them back yourself: `aliciacfg keys accept`, then rotate the keys and revoke the tokens again"
        )

    def _note(self, row: WrappedKeys) -> None:
        """Note the generation of keys that are in use."""
        if self._notes and row.generation > self._known(row.home):
            self._witness.write(row.home, row.generation)
        self._seen = max(self._seen, row.generation)

    def put(self, content: bytes, *, source: str) -> None:
        """Take the content of a key file in; keys that are there already stay.

        Args:
            content: The content.
            source: Where it is from, for messages.

        Raises:
            KeyFileError: It is no key file, or that of another home than the database's; or it cannot be written.
            StoreError: The database cannot be used.
            Unavailable: It cannot be reached at present.
        """
        brought = KeyFile(FileKeyStore(Path(source)), content)

        def merged(stored: StoredKeys) -> WrappedKeys | None:
            home = _home(brought)
            if stored.row is None:
                return self._wrapped(content, stored, source=source)
            present = KeyFile(self, self._unwrapped(stored.row))
            if _home(present) != home:
                raise KeyFileError(
                    f"{source} holds the keys of home {home}, but {self.name} those of home {_home(present)}. Nothing "
                    "was changed. Move the file away, or name the right database in ALICIACFG_DATABASE_URL; "
                    "`aliciacfg keys add --from FILE` adds single keys of another home"
                )
            more = present.with_keys_of(brought)
            return None if more is None else self._wrapped(more, stored)

        self._table.update(merged)

    def take_file(self) -> None:
        """Take a key file in the data directory in, and rename it: what is in it counts no longer.

        Renamed, it is a copy of the keys until there is a backup that has them.

        Raises:
            KeyFileError: As ``put``; or the file cannot be used.
            StoreError: As ``put``.
            Unavailable: As ``put``.
        """
        path = self._directory / KEY_FILE
        content = FileKeyStore(path).load()
        if content is None:
            return
        self.put(content, source=str(path))
        if any(self._directory.glob("aliciacfg.*")):
            # A home of one daemon is here as well, which needs the file.
            return
        try:
            path.rename(self._directory / MOVED)
        except OSError as error:
            raise KeyFileError(unwritable(path, error, done="renamed")) from error
        _log.warning(
            "key_file_moved",
            database=self._table.name,
            kept_as=str(self._directory / MOVED),
            remedy="make a backup with keys (`aliciacfg backup --with-keys`), keep a copy of the key-encryption key "
            "apart from the database, and remove this file",
        )

    def check_key(self) -> None:
        """Check that keys can be wrapped on this machine: with its key-encryption key, or one that can be made for it.

        Raises:
            KeyFileError: The file that a setting names is missing, or a file cannot be used.
        """
        self._present_key()

    def rewrap(self, new: KeyEncryptionKey) -> str:
        """Wrap the keys with another key-encryption key; return the id of the one before.

        It is that of the new one if that wraps them already, after a call whose end was not seen for example.

        Raises:
            KeyFileError: There are no keys, the present file does not open them, or they cannot be written.
            Unavailable: They cannot be written at present.
        """
        before = ""

        def rewrapped(stored: StoredKeys) -> WrappedKeys | None:
            nonlocal before
            if stored.row is None:
                raise KeyFileError(f"{self.name} has no keys yet; the first start of a daemon makes them")
            before = stored.row.key_id
            if before == new.key_id:
                return None
            content = self._unwrapped(stored.row)
            if (behind := self._behind(stored.row)) is not None:
                raise behind
            return self._sealed(new, content, stored.row.home, stored)

        self._table.update(rewrapped)
        return before

    def key_encryption_key(self) -> KeyEncryptionKey:
        """Return the key-encryption key of this machine.

        Raises:
            KeyFileError: The file is missing, or cannot be used.
        """
        if not self.file.exists():
            raise KeyFileError(
                f"{self.file} is missing: the key-encryption key that opens the keys in {self.name}. Copy it, with "
                f"mode 0600, from another machine of the home, or name it in {SETTING}. If it is lost, restore a "
                "backup with keys"
            )
        return KeyEncryptionKey.load(self.file)

    def _wrapped(self, content: bytes, stored: StoredKeys, *, source: str = "") -> WrappedKeys:
        """Wrap the content of a key file.

        Raises:
            KeyFileError: They would be the first keys of a database that others have written.
        """
        file = KeyFile(self, content)
        if stored.row is None and stored.end is not None and not _wrote(file, stored.end):
            found = f"{source} did not write it" if source else f"there is no {KEY_FILE} in {self._directory}"
            raise KeyFileError(
                f"{self.name} has rows, but not the keys that wrote them, and {found}. Nothing was changed. Start "
                f"the daemon first whose data directory has that {KEY_FILE}, or put it there from a backup"
            )
        key = self._first_key() if stored.row is None else self.key_encryption_key()
        home = _home(file)
        return self._sealed(key, content, home, stored)

    def _sealed(self, key: KeyEncryptionKey, content: bytes, home: str, stored: StoredKeys) -> WrappedKeys:
        """Wrap the content of a key file as the next generation.

        It is no lower than the time: in a database that is filled anew it is higher than in the one before.
        """
        before = 0 if stored.row is None else stored.row.generation
        generation = max(before + 1, self._known(home) + 1, int(time.time()))
        return WrappedKeys(key.wrap(content, home, generation), home, key.key_id, generation)

    def _first_key(self) -> KeyEncryptionKey:
        """Return the key-encryption key for the first keys; it is made if no setting names one."""
        present = self._present_key()
        if present is not None:
            return present
        key = KeyEncryptionKey.create(self.file)
        _log.warning(
            "key_encryption_key_made",
            file=str(self.file),
            key_id=key.key_id,
            remedy=f"copy it into the data directory of each other machine of the home, with mode 0600 (`scp -p "
            f"{self.file} HOST:{self.file}`), and keep a copy apart from the database: without it no secret opens",
        )
        return key

    def _present_key(self) -> KeyEncryptionKey | None:
        """Return the key-encryption key of this machine; None if there is none and no setting names one.

        Raises:
            KeyFileError: The file that a setting names is missing, or a file cannot be used.
        """
        if self.file.exists():
            return KeyEncryptionKey.load(self.file)
        if self._named:
            raise KeyFileError(
                f"{self.file} ({SETTING}) is missing. Copy it from another machine of the home, with mode 0600; for "
                f"the first one make it with `aliciacfg keys kek {self.file}`"
            )
        return None

    def _unwrapped(self, row: WrappedKeys) -> bytes:
        """Return the content of a key file.

        Raises:
            KeyFileError: This machine's key-encryption key is missing, or another one; or the row was changed.
        """
        key = self.key_encryption_key()
        if key.key_id != row.key_id:
            raise KeyFileError(
                f"{self.file} is the key-encryption key {key.key_id}, but the keys in {self.name} are wrapped by "
                f"{row.key_id}. Nothing was changed. Copy that one from another machine of the home, with mode 0600, "
                f"or name it in {SETTING}"
            )
        content = key.unwrap(row.content, row.home, row.generation)
        if content is None:
            raise KeyFileError(
                f"the keys in {self.name} were changed by another program: they do not open with the key-encryption "
                f"key {key.key_id}, which wrapped them. Restore the database from a backup"
            )
        return content


def _wrote(file: KeyFile, end: tuple[object, ...]) -> bool:
    return bool(end) and Chain(file.make_keyring()).confirmed_end(end) is not None


def _home(file: KeyFile) -> str:
    return Chain(file.make_keyring()).key_name.hex()
