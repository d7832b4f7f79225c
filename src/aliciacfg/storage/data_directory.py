"""The data directory: a lock for one process at a time, and an identity that survives restarts."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Generator
from pathlib import Path

from aliciacfg.atomic_files import open_or_create, replace_file, sync
from aliciacfg.errors import DataDirectoryInUse, SettingsError, Unavailable
from aliciacfg.file_errors import remedy
from aliciacfg.private_files import check_directory, check_kept_file
from aliciacfg.storage import replacement

SOCKET = "admin.sock"
KEY_FILE = "keys.json"
SNAPSHOT_PREFIX = ".snapshot-"
"""The beginning of the names of directories in which a backup is made; one that is left over is removed at a start."""

# No backup takes longer.
_SNAPSHOT_SECONDS = 3600.0
_SETTING = "ALICIACFG_DATA_DIR"
_DATABASE_FILES = "aliciacfg.*"
_INSTANCE_FILE = "instance"
_KEY_ENCRYPTION_FILE = "key-encryption.key"
# Of a directory whose daemon shares a home with others.
_HOME_FILE = "home"
_INSTANCE = re.compile(r"[0-9a-f]{16}")


class DataDirectory:
    """A data directory that this process has locked.

    Attributes:
        path: The directory; created with mode 0700 if it does not exist.
        instance: 16 hex digits that name this data directory on the bus.
    """

    def __init__(self, path: Path) -> None:
        """Create the directory if it does not exist, and lock it.

        The lock is a file of its own, so that commands can read the database of a running daemon.

        Raises:
            DataDirectoryInUse: Another process holds the lock.
            SettingsError: The directory cannot be created or written; or another user can write to it, or has put
                a file there.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_ownership(path)
            self._lock = _open_lock(path / "lock")
        except OSError as error:
            raise SettingsError([f"ALICIACFG_DATA_DIR: {path} cannot be used: {_reason(error)}"]) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            found = holder(path)
            which = "" if found is None else f" (pid {found})"
            raise DataDirectoryInUse(
                f"another aliciacfg{which} uses the data directory {path}; stop it, or set ALICIACFG_DATA_DIR"
            ) from error
        try:
            self._tidy()
            self.instance = self._instance()
        except BaseException:
            self.release()
            raise

    def name_home(self, home: str | None) -> None:
        """Note what the bus calls the home that several daemons share; None if this directory is a home of its own.

        Raises:
            SettingsError: It cannot be written.
        """
        file = self.path / _HOME_FILE
        try:
            if home is None:
                # On a file system mounted read-only, unlink fails even if there is no such file.
                if os.path.lexists(file):
                    file.unlink()
            elif not file.exists() or file.read_bytes() != home.encode():
                replace_file(file, home.encode(), mode=0o644)
        except OSError as error:
            raise SettingsError([f"{file} cannot be used: {_reason(error)}"]) from error

    @property
    def key_file(self) -> Path:
        """The file of the sealing keys."""
        return self.path / KEY_FILE

    @property
    def socket(self) -> Path:
        """The Unix socket on which the daemon accepts requests of users who may write this directory."""
        return self.path / SOCKET

    def make_snapshot_directory(self) -> Path:
        """Return a new directory in it, with mode 0700, for a copy of the database; the caller removes it.

        Raises:
            Unavailable: It cannot be created.
        """
        directory = self.path / f"{SNAPSHOT_PREFIX}{secrets.token_hex(4)}"
        self._remove_snapshots(older_than_seconds=_SNAPSHOT_SECONDS)
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise Unavailable(f"{directory} cannot be created: {_reason(error)}.") from error
        return directory

    @contextlib.contextmanager
    def keeping_before(self, occasion: str, copy: Callable[[Path], None], *, now: float) -> Generator[str]:
        """Keep a copy of what the block changes, in a directory whose name is yielded; no copy if the block raises.

        Args:
            occasion: What changes it; part of the name.
            copy: Writes the files of the copy into a directory.
            now: Unix seconds; part of the name.

        Raises:
            Unavailable: The copy cannot be written; there is none.
        """
        directory = self.make_snapshot_directory()
        name = free_name_before(self.path, occasion, now=now)
        try:
            copy(directory)
            for file in (*directory.iterdir(), directory):
                sync(file)
            directory.rename(self.path / name)
            sync(self.path)
        except BaseException as error:
            shutil.rmtree(directory, ignore_errors=True)
            if isinstance(error, OSError):
                raise Unavailable(f"{directory} cannot be written: {_reason(error)}.") from error
            raise
        try:
            yield name
        except BaseException:
            shutil.rmtree(self.path / name, ignore_errors=True)
            raise

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _tidy(self) -> None:
        """Complete or undo what a process that was killed has left."""
        try:
            replacement.recover(self.path)
        except OSError as error:
            raise SettingsError([f"{error.filename}: a restore cannot be completed: {_reason(error)}"]) from error
        self._remove_snapshots(older_than_seconds=0)

    def _remove_snapshots(self, *, older_than_seconds: float) -> None:
        """Remove copies of the database whose makers were killed."""
        for left in self.path.glob(f"{SNAPSHOT_PREFIX}*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime >= older_than_seconds:
                    shutil.rmtree(left)

    def _instance(self) -> str:
        file = self.path / _INSTANCE_FILE
        try:
            found = file.read_bytes().decode("ascii", "replace").strip() if file.exists() else ""
            if not found:
                found = secrets.token_hex(8)
                replace_file(file, found.encode(), mode=0o644)
        except OSError as error:
            raise SettingsError([f"{file} cannot be used: {_reason(error)}"]) from error
        if _INSTANCE.fullmatch(found) is None:
            raise SettingsError([f"{file} does not hold 16 hex digits; remove it to get a new instance"])
        return found


def read_instance(data: Path) -> str | None:
    """Return what the bus calls the home of a data directory; None if it has no name yet.

    Raises:
        OSError: It cannot be read.
    """
    for name in (_HOME_FILE, _INSTANCE_FILE):
        try:
            found = (data / name).read_text("ascii", "replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found:
            return found
    return None


def free_name_before(directory: Path, occasion: str, *, now: float) -> str:
    """Return a free name, with the time in it, for what is kept in a data directory before an event."""
    name = time.strftime(f"before-{occasion}-%Y%m%dT%H%M%SZ", time.gmtime(now))
    taken = {path.name for path in directory.glob(f"{name}*")}
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(found for found in names if found not in taken)


def is_in_use(data: Path) -> bool:
    """Return whether a process holds the lock on a data directory."""
    try:
        lock = os.open(data / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def holder(data: Path) -> int | None:
    """Return the id of the process that holds the lock on a data directory; None if there or known is none."""
    try:
        lock = (data / "lock").stat()
        held = Path("/proc/locks").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    # proc(5): number, kind, ADVISORY, WRITE, process, device and inode, and a range.
    found = (line.split() for line in held)
    return next((int(words[4]) for words in found if words[1:2] == ["FLOCK"] and words[5:6] == [place]), None)


def _open_lock(path: Path) -> int:
    """Open the lock file; only for reading if the home is there already and its disk is read-only now.

    Raises:
        OSError: It cannot be opened or created.
    """
    try:
        return open_or_create(path, os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _reason(error: OSError) -> str:
    """Return why a file cannot be written, and what to do."""
    todo = remedy(error) or "choose a directory that this user may write, with ALICIACFG_DATA_DIR"
    return f"{error.strerror}; {todo}"


def _check_ownership(directory: Path) -> None:
    """Check that no other user can write to a data directory, or has put keys or a database there.

    Raises:
        SettingsError: One can, or has.
        OSError: It cannot be looked at.
    """
    check_directory(directory, _SETTING)
    owner = directory.stat().st_uid
    names = (KEY_FILE, _KEY_ENCRYPTION_FILE, _INSTANCE_FILE, _HOME_FILE, "lock", "witness", "keys-witness", "files")
    own = [directory / name for name in names]
    for path in (*own, *directory.glob(_DATABASE_FILES)):
        check_kept_file(path, _SETTING, directory_owner=owner)
