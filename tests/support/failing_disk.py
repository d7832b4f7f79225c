"""A disk that fails when it is told to, for the process of a daemon: see failing_disk.c."""

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("read_fails", "write_fails", "full", "sync_fails", "sync_hangs", "read_only", "read_hangs")
Fault = Literal["read_fails", "write_fails", "full", "sync_fails", "sync_hangs", "read_only", "read_hangs"]


def preloaded(source: Path) -> Path:
    """Return a library for LD_PRELOAD, one for all tests; skip the test where it cannot be compiled."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip(f"{source.name} needs a C compiler and Linux")
    return _compiled(compiler, source)


@functools.cache
def _compiled(compiler: str, source: Path) -> Path:
    directory = tempfile.mkdtemp(prefix="preloaded-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = Path(directory) / f"{source.stem}.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class FailingDisk:
    """Faults of the files whose path contains a text, for processes with this environment."""

    def __init__(self, directory: Path, files: str) -> None:
        library = preloaded(SOURCE)
        directory.mkdir(parents=True, exist_ok=True)
        self._flags = directory / "flags"
        self._flags.write_bytes(bytes(len(FLAGS)))
        self.environ = {
            "LD_PRELOAD": str(library),
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
