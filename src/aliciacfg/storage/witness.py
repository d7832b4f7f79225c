"""Small files that remember how far a database was: an older copy in its place is noticed.

The one of the position is written some milliseconds after a commit, without being forced to the disk. After a crash in
this time, or a loss of power, it may be behind the database, which only means that nothing is noticed of what was
committed since.
"""

import os
import re
from pathlib import Path

import structlog

from aliciacfg.atomic_files import open_or_create, replace_file
from aliciacfg.file_errors import remedy
from aliciacfg.model.records import Position
from aliciacfg.storage.hash_chain import Chain

_log = structlog.get_logger(__name__)

FILE_NAME = "witness"
KEYS_FILE_NAME = "keys-witness"

_FORM = re.compile(rb"([0-9]{16}) ([0-9]{16}) ([0-9a-f]{64})\n")
_LENGTH = 16 + 1 + 16 + 1 + 64 + 1


class Witness:
    """The file; one program at a time writes it."""

    def __init__(self, path: Path, chain: Chain) -> None:
        self._path = path
        self._chain = chain
        self._failed = False
        # What was found in the file; a lower position does not replace it.
        self._found: Position | None = None

    def read(self) -> Position | None:
        """Return the position that was written last; None if there is none, or it was not written with these keys."""
        self._found = self._read()
        return self._found

    def _read(self) -> Position | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignore(f"it cannot be opened: {error.strerror}")
            return None
        try:
            found = _FORM.fullmatch(os.read(descriptor, _LENGTH + 1))
        except OSError as error:
            self._ignore(f"it cannot be read: {error.strerror}")
            return None
        finally:
            os.close(descriptor)
        if found is None:
            self._ignore("it is not what a daemon writes")
            return None
        position = Position(int(found[1]), int(found[2]))
        if not self._chain.confirms_position(position, bytes.fromhex(found[3].decode())):
            self._ignore("it was not written with this key file")
            return None
        return position

    def write(self, position: Position) -> None:
        """Replace the position by a higher one; a failure is logged once."""
        if self._found is not None and position < self._found:
            # The database went back, and that is not put right yet.
            return
        mac = self._chain.position_mac(position).hex()
        line = f"{position.epoch:016d} {position.sequence:016d} {mac}\n".encode()
        try:
            descriptor = open_or_create(self._path, os.O_WRONLY | os.O_NONBLOCK, 0o600)
            try:
                # All of it at once, and never shorter than before: no reader finds half of it after a crash.
                os.pwrite(descriptor, line, 0)
                # After something else that is longer.
                os.ftruncate(descriptor, len(line))
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._failed:
                _log.warning(
                    "witness_not_written",
                    path=str(self._path),
                    reason=error.strerror,
                    remedy=f"{remedy(error) or 'make it writable'}; until then an older copy of the database is "
                    "noticed at the broker only",
                )
            self._failed = True
        else:
            self._failed = False

    def _ignore(self, reason: str) -> None:
        _log.warning(
            "witness_ignored",
            path=str(self._path),
            reason=reason,
            remedy="none needed; whether the database is older than it was is noticed at the broker only",
        )


_KEYS_FORM = re.compile(r"([0-9a-f]+) ([0-9]{1,16})\n")


class KeysWitness:
    """The file with the highest generation of the keys that a daemon has seen in the database which it shares.

    It is in the data directory, which is believed: only who has rights there can change it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False

    def read(self, home: str) -> int:
        """Return the generation of the keys of a home; 0 if there is none, or the file cannot be used."""
        try:
            found = _KEYS_FORM.fullmatch(self._path.read_text("ascii", "replace"))
        except OSError:
            return 0
        return int(found[2]) if found is not None and found[1] == home else 0

    def write(self, home: str, generation: int) -> None:
        """Replace the file durably; a failure is logged once."""
        try:
            replace_file(self._path, f"{home} {generation}\n".encode(), mode=0o600)
        except OSError as error:
            if not self._failed:
                _log.warning(
                    "keys_witness_not_written",
                    path=str(self._path),
                    reason=error.strerror,
                    remedy=f"{remedy(error) or 'make it writable'}; until then older keys in the database are "
                    "not noticed at the next start",
                )
            self._failed = True
        else:
            self._failed = False
