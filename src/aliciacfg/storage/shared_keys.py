"""The keys of a home that several daemons share: in their database, wrapped by a key that is not in there.

A copy of the database alone opens no secret. The key-encryption key (``sealing.key_encryption``) is a file on each
machine; a daemon with another one does not start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from aliciacfg.errors import KeyFileError
from aliciacfg.sealing.key_encryption import FILE_NAME, SETTING, KeyEncryptionKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.hash_chain import Chain

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
    """

    content: bytes
    home: str
    key_id: str


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
        """Replace what is stored, while nobody else writes to the database.

        Args:
            change: Returns what to store, or None to leave it as it is. If it raises, it stays as it is.

        Raises:
            KeyFileError: It cannot be written.
            Unavailable: It cannot be written at present.
        """
        ...


class SharedKeyStore:
    """Implements ``sealing.key_file.KeyStore`` with the database of a home."""

    def __init__(self, table: KeyTable, directory: Path, file: Path | None) -> None:
        """Name the parts; nothing is opened.

        Args:
            table: Has the keys.
            directory: The data directory of this daemon.
            file: The file of the key-encryption key; None for the one in the data directory.
        """
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
        return None if row is None else self._unwrapped(row)

    def update(self, change: Callable[[bytes | None], bytes]) -> None:
        """Unwrap, change and wrap what is stored, under the lock."""

        def changed(stored: StoredKeys) -> WrappedKeys:
            # The next start takes a key file in; until then its keys are those that there are.
            file = FileKeyStore(self._directory / KEY_FILE)
            content = change(file.load() if stored.row is None else self._unwrapped(stored.row))
            return self._wrapped(content, stored)

        self._table.update(changed)

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
            raise KeyFileError(f"{path} cannot be renamed: {error.strerror}") from error
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
            return WrappedKeys(new.wrap(content, stored.row.home), stored.row.home, new.key_id)

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
        return WrappedKeys(key.wrap(content, home), home, key.key_id)

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
        content = key.unwrap(row.content, row.home)
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
