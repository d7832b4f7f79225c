"""The private key of a service, with which it opens the secrets that the daemon seals to it."""

import os
from pathlib import Path

from aliciacfg.errors import SettingsError
from aliciacfg.file_errors import unreadable
from aliciacfg.private_files import check_secret_file
from aliciacfg.sealing.boxes import CannotOpen, PrivateKey, UnusableKey, sealed_with

SETTING = "ALICIACFG_KEY_FILE"

_MAX_BYTES = 64 * 1024


class KeyFile:
    """The keys of a file; the file is read again when a value is sealed to a key that was not in it."""

    def __init__(self, path: Path | None) -> None:
        """Name the file.

        Args:
            path: A file of mode 0600 with a private key in base64 on each line; lines with ``#`` are comments. It may
                be missing, and be made later. None means that the service has no key.
        """
        self._path = path
        self._keys: dict[str, PrivateKey] = {}
        self._read: os.stat_result | None = None

    def load(self) -> None:
        """Read the file, if it exists.

        Raises:
            SettingsError: It cannot be read, other users can read it, or it has no key.
        """
        if self._path is None:
            return
        try:
            status = self._path.stat()
            check_secret_file(self._path, SETTING, strict=True)
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            self._keys, self._read = {}, None
            return
        except OSError as error:
            raise SettingsError([f"{SETTING}: {unreadable(self._path, error)}"]) from error
        self._keys, self._read = self._parsed(content), status

    def _parsed(self, content: bytes) -> dict[str, PrivateKey]:
        lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
        try:
            keys = [PrivateKey.parse(line) for line in lines if line and not line.startswith("#")]
        except UnusableKey as error:
            raise SettingsError([f"{SETTING}: {self._path}: {error}"]) from error
        if not keys:
            raise SettingsError([f"{SETTING}: {self._path} holds no key; `aliciacfg recipient new` makes one"])
        return {key.public.key_id: key for key in keys}

    def open(self, sealed: str, *, service: str, environment: str, pointer: str) -> str:
        """Open a value that the daemon sealed to this service.

        Raises:
            CannotOpen: There is no key for it, or it is damaged, or bound to another place.
        """
        name = sealed_with(sealed)
        if name not in self._keys:
            self._load_if_changed()
        key = self._keys.get(name)
        if key is None:
            raise CannotOpen(f"is sealed to key {name}, which {self._place()}")
        return key.open(sealed, service=service, environment=environment, pointer=pointer)

    def _load_if_changed(self) -> None:
        """Read the file again if it is another one than before.

        Raises:
            CannotOpen: It cannot be used.
        """
        if self._path is None:
            return
        try:
            now = self._path.stat()
        except OSError:
            now = None
        if now is not None and (self._read is None or _mark(now) != _mark(self._read)):
            try:
                self.load()
            except SettingsError as error:
                raise CannotOpen(f"does not open: {error}") from error

    def _place(self) -> str:
        if self._path is None:
            return f"this program does not have; set {SETTING} to the file of the service's private key"
        if self._read is None:
            return f"this program does not have: there is no file {self._path} ({SETTING})"
        return f"is not in {self._path} ({SETTING})"


def _mark(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size
