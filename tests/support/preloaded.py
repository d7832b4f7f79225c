"""Libraries that a daemon's process loads before all others: for a disk that fails and a clock that jumps."""

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import forking

SOURCES = [Path(__file__).with_name(name) for name in ("failing_disk.c", "jumping_clock.c")]


def preloaded() -> str:
    """Return LD_PRELOAD for all of them, each of which does nothing without its variables; skip where none compiles.

    It is the same for all tests: each value has an interpreter of its own, which takes long to start.
    """
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    return _compiled(compiler)


@functools.cache
def _compiled(compiler: str) -> str:
    directory = forking.SHARED
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="preloaded-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    libraries = [directory / f"{source.stem}.so" for source in SOURCES]
    with forking.one_at_a_time(directory):
        for source, library in zip(SOURCES, libraries, strict=True):
            if not library.exists():
                subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return ":".join(map(str, libraries))
