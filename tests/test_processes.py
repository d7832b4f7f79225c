"""The rule that makes ``make test-unit`` fast and independent of installed programs."""

import asyncio
import os
import subprocess
import sys

import pytest

PYTHON = [sys.executable, "-c", ""]


def test_only_end_to_end_tests_start_processes():
    """A process that a test of another folder starts, in whatever way, fails that test."""
    starts = (
        lambda: subprocess.run(PYTHON, check=True),
        lambda: asyncio.run(asyncio.create_subprocess_exec(*PYTHON)),
        lambda: os.posix_spawn(sys.executable, PYTHON, {}),
        lambda: os.system("true"),
        os.fork,
    )
    for start in starts:
        with pytest.raises(AssertionError, match="end_to_end"):
            start()
