"""The data directory: a lock for one process at a time, and an identity that survives restarts."""

import fcntl
import os
import re
import secrets
from pathlib import Path

from aliciacfg.errors import DataDirectoryInUse, SettingsError

SOCKET = "admin.sock"
KEY_FILE = "keys.json"

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
            SettingsError: The directory cannot be created or written.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(
                [f"ALICIACFG_DATA_DIR: {path} cannot be written ({error.strerror}); choose a writable directory"]
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise DataDirectoryInUse(
                f"another aliciacfg uses the data directory {path}; stop it, or set ALICIACFG_DATA_DIR"
            ) from error
        self.instance = self._instance()

    @property
    def key_file(self) -> Path:
        """The file of the sealing keys."""
        return self.path / KEY_FILE

    @property
    def socket(self) -> Path:
        """The Unix socket on which the daemon accepts requests of users who may write this directory."""
        return self.path / SOCKET

    def release(self) -> None:
        """Release the lock. Safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _instance(self) -> str:
        file = self.path / "instance"
        try:
            found = file.read_bytes().decode("ascii", "replace").strip() if file.exists() else ""
            if not found:
                found = secrets.token_hex(8)
                temporary = file.with_name(".instance.new")
                temporary.write_text(found, "ascii")
                temporary.replace(file)
        except OSError as error:
            raise SettingsError([f"{file} cannot be used: {error.strerror}"]) from error
        if _INSTANCE.fullmatch(found) is None:
            raise SettingsError([f"{file} does not hold 16 hex digits; remove it to get a new instance"])
        return found
