"""Names that callers ask for and nobody defined leave nothing in memory."""

import contextlib
import gc
import shutil
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import OperationError
from inprocess import Core, Home
from repository import ROOT

NAMES = 60
FIELDS: dict[str, dict[str, Any]] = {
    "validate": {"config": {"settings": {"a": 1}}},
    "set": {"config": {"settings": {"a": 1}}, "dry_run": True},
    "patch": {"patch": {"settings": {"a": 1}}, "dry_run": True},
    "unset": {"pointer": "/settings"},
    "rollback": {"revision": 1},
    "compare": {"env1": "dev", "env2": "prod"},
    "recipient": {"public_key": None},
}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Core]:
    for name in ("environments", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name)
    async with Home(tmp_path).core() as made:
        yield made


async def ask(home: Core, operation: str, names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(OperationError):
            await home.ask(operation, name, **FIELDS.get(operation, {}))


async def test_a_name_that_nobody_defined_is_not_kept(home: Core, caplog: pytest.LogCaptureFixture):
    """Callers may ask for any number of names, with every operation on a service."""
    kept: dict[str, float] = {}
    # In its debug mode, asyncio logs what was slow on a busy machine, and the records are kept for the test's report.
    caplog.set_level("ERROR", logger="asyncio")
    # What is there is not looked through, thirty times.
    gc.collect()
    gc.freeze()
    for operation in ("get", "schema", "history", "explain", "instances", "delete", *FIELDS):
        await ask(home, operation, [f"before_{number}" for number in range(NAMES)])
        gc.collect()
        tracemalloc.start()
        try:
            await ask(home, operation, [f"{operation}_{number}" for number in range(NAMES)])
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        kept[operation] = left / NAMES
    assert {operation: size for operation, size in kept.items() if size >= 600} == {}
