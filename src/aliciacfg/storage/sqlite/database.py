"""The database file of a data directory."""

import contextlib
import os
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from aliciacfg.atomic_files import open_or_create
from aliciacfg.model.records import Position
from aliciacfg.storage import witness
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.copies import copy_file, copy_rows, describe_file, origin_of_file, writing_copy
from aliciacfg.storage.sqlite.maintenance import adopt_file, key_ids_in_file, reseal_file, verify_file
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import AddRows, Adoption, Filling, Origin, Reseal, Store, StoreError, Summary
from aliciacfg.storage.verifier import Findings

FILE_NAME = "aliciacfg.db"


class SqliteDatabase:
    """Implements ``storage.store.Database``, which says what each method promises."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def files(self) -> tuple[str, ...]:
        """The file, its write-ahead log and the index of that, and the witness."""
        return (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", f"{FILE_NAME}-journal", witness.FILE_NAME)

    def exists(self) -> bool:
        """Return whether there is a file."""
        return self._path.exists()

    def backup(self, directory: Path, *, at_rest: bool = True) -> None:
        """Copy the file, in this thread."""
        copy_file(self._path, directory / FILE_NAME, at_rest=at_rest)

    def copy_rows(self, add: AddRows) -> None:
        """Add every row to a copy, in this thread."""
        copy_rows(self._path, add)

    @contextlib.contextmanager
    def filling(self, *, kept_as: str = "") -> Generator[Filling]:  # noqa: ARG002 - a file keeps nothing beside it
        """Make the file, in this thread."""
        if self.exists():
            raise StoreError(f"{self.name} holds a home already")
        with writing_copy(self._path) as filling:
            yield filling

    def users(self) -> list[str]:
        """Return nothing: the lock on the data directory says whether a daemon uses the file."""
        return []

    def witnessed(self, chain: Chain) -> Position | None:
        """Return the position in the witness file."""
        return witness.Witness(self._path.with_name(witness.FILE_NAME), chain).read()

    def describe(self) -> Summary:
        """Return what the file says of itself."""
        return describe_file(self._path)

    def origin(self, chain: Chain) -> Origin:
        """Return which key wrote the file, in this thread."""
        return origin_of_file(self._path, chain)

    def adopt(self, chain: Chain) -> Adoption | None:
        """Give every row a code of this key, in this thread."""
        return adopt_file(self._path, chain)

    def open(self, chain: Chain) -> AbstractAsyncContextManager[Store]:
        """Open or create the file."""
        # Before SQLite does, so that it has the right owner; SQLite gives the files beside it the same one.
        with contextlib.suppress(OSError):
            os.close(open_or_create(self._path, os.O_RDONLY, 0o600))
        return SqliteStore.open(self._path, chain)

    def verify(self, chain: Chain) -> Findings:
        """Compare every row with the chain, in this thread."""
        return verify_file(self._path, chain)

    def reseal(self, chain: Chain, reseal: Reseal) -> None:
        """Reseal every stored configuration and overlay, in this thread."""
        reseal_file(self._path, chain, reseal)

    def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value is sealed with."""
        return key_ids_in_file(self._path)
