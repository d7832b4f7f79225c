"""The last configuration that a service applied, on this machine's disk; its secrets are sealed there too.

One file ``aliciacfg-<service>.json`` of mode 0600: ``{"format", "service", "saved_at", "sha256", "message"}``, where
``sha256`` is over the bytes of ``message`` as they stand in the file.
"""

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from aliciacfg import atomic_files, private_files
from aliciacfg.client.messages import MAX_BYTES, InvalidMessage, Update, read_update
from aliciacfg.file_errors import reason, unwritable

_log = logging.getLogger(__name__)

_FORMAT = "aliciacfg snapshot 1"
_MAX_FILE_BYTES = MAX_BYTES + 4096
# The system's calendar ends somewhere; no clock shows what is behind it.
_YEAR_10000 = 253402300800


class _File(msgspec.Struct, frozen=True):
    format: str
    service: str
    saved_at: Annotated[float, msgspec.Meta(ge=0, lt=_YEAR_10000)]
    sha256: str
    message: msgspec.Raw


class Unusable(Exception):
    """A snapshot that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A snapshot.

    Attributes:
        update: The message.
        saved_at: When it was written, in Unix seconds.
    """

    update: Update
    saved_at: float


class Snapshot:
    """The snapshot of one service; the newest one that is to be saved wins."""

    def __init__(self, directory: Path | None, service: str) -> None:
        """Name the file.

        Args:
            directory: Made with mode 0700 if it is missing; None for no snapshot.
            service: The service.
        """
        self._path = None if directory is None else directory / f"aliciacfg-{service}.json"
        self._service = service
        # What the file is to hold next, None for no file; at most one.
        self._wanted: list[Update | None] = []
        self._last: Update | None = None
        self._working: asyncio.Task[None] | None = None

    def load(self) -> Saved | None:
        """Return the snapshot; None, with a warning, if it cannot be used, and None if there is none."""
        if self._path is None:
            return None
        try:
            return self._parsed(private_files.read_own_file(self._path, max_bytes=_MAX_FILE_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, private_files.NotTrusted, Unusable) as error:
            why = reason(error) if isinstance(error, OSError) else error
            _log.warning("the snapshot %s is not used: %s", self._path, why)
            return None

    def _parsed(self, content: bytes) -> Saved:
        try:
            saved = msgspec.json.decode(content, type=_File)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Unusable(f"it is damaged: {error}") from error
        if saved.format != _FORMAT:
            raise Unusable("another version of this program wrote it")
        if saved.service != self._service:
            raise Unusable(f"it is about {saved.service!r:.80}")
        message = bytes(saved.message)
        if hashlib.sha256(message).hexdigest() != saved.sha256:
            raise Unusable("it is damaged: its checksum differs")
        try:
            return Saved(read_update(message, self._service), saved.saved_at)
        except InvalidMessage as error:
            raise Unusable(f"it is damaged: {error}") from error

    def save(self, update: Update) -> None:
        """Save a message in the background; one that cannot be saved is a warning."""
        if update != self._last:
            self._last = update
            self._want(update)

    def remove(self) -> None:
        """Remove the snapshot in the background: the service has no configuration any more."""
        self._last = None
        self._want(None)

    async def finish(self) -> None:
        """Wait until everything is done."""
        if self._working is not None:
            await asyncio.wait({self._working})

    def _want(self, update: Update | None) -> None:
        """Have the file hold a message, or be gone; what was wanted before and is not done yet, is not."""
        if self._path is not None:
            self._wanted = [update]
            if self._working is None or self._working.done():
                self._working = asyncio.create_task(self._work(self._path), name=f"snapshot of {self._service}")

    async def _work(self, path: Path) -> None:
        while self._wanted:
            update = self._wanted.pop()
            try:
                if update is None:
                    await asyncio.to_thread(path.unlink, missing_ok=True)
                else:
                    await asyncio.to_thread(_write, path, update)
            except OSError as error:
                self._last = None
                done = "removed" if update is None else "written"
                _log.warning("the snapshot %s", unwritable(path, error, done=done))


def _write(path: Path, update: Update) -> None:
    message = msgspec.json.encode(update)
    content = msgspec.json.encode(
        _File(
            format=_FORMAT,
            service=update.service,
            saved_at=time.time(),
            sha256=hashlib.sha256(message).hexdigest(),
            message=msgspec.Raw(message),
        )
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic_files.replace_file(path, content, mode=0o600, follow_links=False)
