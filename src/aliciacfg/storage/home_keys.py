"""Finds the keys of the home that the settings name."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sealing.key_store import FileKeyStore, KeyStore
from aliciacfg.settings import Settings
from aliciacfg.storage.backend import key_table
from aliciacfg.storage.data_directory import KEY_FILE
from aliciacfg.storage.shared_keys import KeyTable, SharedKeyStore


def keys_of(settings: Settings) -> KeyStore:
    """Return where the keys of a home are: in its data directory, or in the database that its daemons share.

    Raises:
        StoreError: What the database needs is not installed.
    """
    return shared_keys_of(settings) or FileKeyStore(Path(settings.data_dir) / KEY_FILE)


def shared_keys_of(
    settings: Settings, table: KeyTable | None = None, *, serves: bool = False, takes_back: bool = False
) -> SharedKeyStore | None:
    """Return where the keys of a home are that several daemons share; None if it has only one.

    Args:
        settings: Name the home.
        table: The place in its database, if it is not the one that others see yet.
        serves: Whether it is for the daemon, which has the lock on the data directory: it notes generations, and
            decides about keys of an earlier time when it knows whether the whole database is of that time.
        takes_back: Whether keys of an earlier time can be loaded.

    Raises:
        StoreError: What the database needs is not installed.
    """
    if settings.database_url is None:
        return None
    file = settings.key_encryption_key_file
    return SharedKeyStore(
        table or key_table(settings.database_url),
        Path(settings.data_dir),
        None if file is None else Path(file),
        notes=serves,
        takes_back=serves or takes_back,
    )


def find_keys(settings: Settings) -> KeyFile | None:
    """Return the keys of a home; None if there are none yet.

    Raises:
        KeyFileError: They cannot be used.
        StoreError: The database cannot be used.
        Unavailable: They cannot be read at present.
    """
    return KeyFile.find(keys_of(settings))


def load_keys(settings: Settings) -> KeyFile:
    """Return the keys of a home.

    Raises:
        KeyFileError: There are none, or they cannot be used.
        StoreError: The database cannot be used.
        Unavailable: They cannot be read at present.
    """
    return KeyFile.load(keys_of(settings))


@contextmanager
def keys_in_file(settings: Settings, directory: Path, *, dry_run: bool = False) -> Generator[None]:
    """Have the keys that daemons share in the key file of a data directory, for a block that works on files.

    Afterwards the keys of the file are in the database. Does nothing for a home of one daemon.

    Args:
        settings: Name the home.
        directory: The data directory, locked by the caller.
        dry_run: Leave the keys in the database as they are.

    Raises:
        KeyFileError: The keys cannot be used, or the file cannot be written.
        StoreError: The database cannot be used.
        Unavailable: It cannot be reached at present.
    """
    # A restore is what one does when the database is that of an earlier time.
    shared = shared_keys_of(settings, takes_back=True)
    path = directory / KEY_FILE
    if shared is not None:
        # Afterwards it would be too late.
        shared.check_key()
    content = None if shared is None or path.exists() else shared.load()
    if shared is None or (content is None and dry_run):
        yield
        return
    try:
        if content is not None:
            FileKeyStore(path).update(lambda _: content)
        yield
    except BaseException:
        if content is not None:
            path.unlink(missing_ok=True)
        raise
    # What replaced the rows has put the keys beside them. If this fails, the next start does it: the file stays.
    if not dry_run and (found := FileKeyStore(path).load()) is not None:
        shared.put(found, source=str(path))
    if content is not None:
        path.unlink(missing_ok=True)


def put_keys(settings: Settings, content: bytes, *, source: str, table: KeyTable | None = None) -> None:
    """Take the content of a key file into the database that daemons share.

    Args:
        settings: Name the home.
        content: As for ``SharedKeyStore.put``, and so are the errors.
        source: The same.
        table: As for ``shared_keys_of``.
    """
    shared = shared_keys_of(settings, table)
    if shared is None:
        raise AssertionError("the settings name no database that daemons share")
    shared.put(content, source=source)
