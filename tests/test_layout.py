"""The layout of the tests: folders mirror the packages, and only end_to_end/ and faults/ start processes.

So ``make test-unit`` leaves out two folders, and needs neither a broker nor another program.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from repository import ROOT

TESTS = Path(__file__).parent
NO_PACKAGES = {"data", "end_to_end", "faults", "project", "support"}
# What several modules of a package do together.
SUBJECTS = {
    "cli": {"usage"},
    "core": {
        "damaged_database",
        "degraded_start",
        "migrations",
        "forged_rows",
        "interrupted_changes",
        "lost_key_files",
        "large_loads",
        "stale_reads",
        "stored_rows",
    },
    "http": {"malformed_requests", "memory", "waiting"},
    "mqtt": {"held_reading"},
    "storage": {"copied_homes"},
    "storage/postgres": {"several_stores"},
    "operations": {
        "compatibility",
        "document_limits",
        "guesses",
        "history",
        "many_secrets",
        "meant_services",
        "memory",
        "planted_values",
        "properties",
        "repeated_requests",
        "state_machine",
    },
    "sources": {"any_files"},
}
PYTHON = [sys.executable, "-c", ""]


def test_the_folders_mirror_the_packages():
    """A test file has the name of the module that it tests, in the folder of its package."""
    for file in TESTS.rglob("test_*.py"):
        folder = file.parent.relative_to(TESTS)
        if folder.parts and folder.parts[0] not in NO_PACKAGES:
            name = file.stem.removeprefix("test_")
            module = ROOT / "src" / "aliciacfg" / folder / f"{name}.py"
            assert module.exists() or name in SUBJECTS.get(str(folder), set()), file


def test_only_two_folders_start_processes():
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
