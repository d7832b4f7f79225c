"""A disk that fails when it is told to, for the process of a daemon: see failing_disk.c."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from preloaded import preloaded

FLAGS = ("read_fails", "write_fails", "full", "sync_fails", "sync_hangs", "read_only", "read_hangs")
Fault = Literal["read_fails", "write_fails", "full", "sync_fails", "sync_hangs", "read_only", "read_hangs"]


class FailingDisk:
    """Faults of the files whose path contains a text, for processes with this environment."""

    def __init__(self, directory: Path, files: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._flags = directory / "flags"
        self._flags.write_bytes(bytes(len(FLAGS)))
        self.environ = {
            "LD_PRELOAD": preloaded(),
            "FAILING_DISK_FLAGS": str(self._flags),
            "FAILING_DISK_FILES": files,
        }

    def set(self, *faults: Fault) -> None:
        """Have exactly these faults from now on."""
        file = os.open(self._flags, os.O_WRONLY)
        try:
            os.pwrite(file, bytes(name in faults for name in FLAGS), 0)
        finally:
            os.close(file)

    @contextlib.contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Have faults for the time of the block."""
        self.set(*faults)
        try:
            yield
        finally:
            self.set()
