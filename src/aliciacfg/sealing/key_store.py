"""The places for the keys of a home: a file, replaced atomically and readable for its owner only, or another one."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from aliciacfg.atomic_files import remove_leftovers, replace_file
from aliciacfg.errors import KeyFileError
from aliciacfg.file_errors import unreadable, unwritable

_PRIVATE_MODE = 0o600


class KeyStore(Protocol):
    """Where the content of a home's keys is."""

    @property
    def name(self) -> str:
        """The place, for messages."""
        ...

    def load(self) -> bytes | None:
        """Return the content; None if there are no keys yet.

        Raises:
            KeyFileError: It is there and cannot be used.
            Unavailable: It cannot be reached at present.
        """
        ...

    def update(self, change: Callable[[bytes | None], bytes]) -> None:
        """Replace the content durably.

        Args:
            change: Returns the new content; is given what is stored, or None if there is nothing, or only the caller
                can have changed it. If it raises, the content stays as it was.

        Raises:
            KeyFileError: It cannot be written, and stays as it was.
            Unavailable: The same, at present.
        """
        ...


class FileKeyStore:
    """Implements ``KeyStore`` with a file that one process at a time writes.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def load(self) -> bytes | None:
        """Return the content of the file."""
        return read_private(self.path) if self.path.exists() else None

    def update(self, change: Callable[[bytes | None], bytes]) -> None:
        """Replace the file."""
        content = change(None)
        try:
            remove_leftovers(self.path)
            replace_file(self.path, content, mode=_PRIVATE_MODE)
        except OSError as error:
            raise KeyFileError(unwritable(self.path, error)) from error


def read_private(path: Path) -> bytes:
    """Return the bytes of a file that only its owner is allowed to read and write.

    Raises:
        KeyFileError: It cannot be read, or others can read it.
    """
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise KeyFileError(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise KeyFileError(unreadable(path, error)) from error
