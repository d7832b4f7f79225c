"""Directories in which a backup is made outside of the data directory; the next one removes what a killed one left."""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from aliciacfg.storage.data_directory import SNAPSHOT_PREFIX, read_instance

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def work_directory(place: Path, data: Path) -> Generator[Path]:
    """Yield a new directory with mode 0700, and remove it at the end.

    It is locked until then. So those of the same home that no process has locked are what killed ones left, and are
    removed before. Where a file system has no locks, they stay.

    Args:
        place: Where it is made.
        data: The data directory of the home.

    Raises:
        OSError: It cannot be made.
    """
    home = _name_of(data)
    prefix = SNAPSHOT_PREFIX if home is None else f"{SNAPSHOT_PREFIX}{home}-"
    if home is not None:
        _remove_leftovers(place, prefix)
    made, lock = _make(place, prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _name_of(data: Path) -> str | None:
    try:
        return read_instance(data)
    except OSError:
        return None


def _make(place: Path, prefix: str) -> tuple[Path, int]:
    """Return a new directory, and the descriptor that holds its lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        # Another process may take it for a leftover before it is locked.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            lock = os.open(made, _OPEN_DIRECTORY)
            if _is_kept(made, lock):
                return made, lock


def _is_kept(made: Path, lock: int) -> bool:
    """Lock a new directory, and return whether it is still there; else close the descriptor.

    Raises:
        BlockingIOError, FileNotFoundError: Another process removes it; the descriptor is closed.
    """
    try:
        _lock(lock)
        if os.path.samestat(os.fstat(lock), made.stat()):
            return True
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return False


def _lock(descriptor: int) -> bool:
    """Lock a directory, and return whether its file system can.

    Raises:
        BlockingIOError: Another process has it locked.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _remove_leftovers(place: Path, prefix: str) -> None:
    for left in place.glob(f"{glob.escape(prefix)}*"):
        # What cannot be removed is in the way of nothing.
        with contextlib.suppress(OSError):
            lock = os.open(left, _OPEN_DIRECTORY)
            try:
                if _lock(lock):
                    shutil.rmtree(left)
            finally:
                os.close(lock)
