"""A database on each backend."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import Database


@pytest.fixture(params=["postgres", "sqlite"])
def make_database(request: pytest.FixtureRequest) -> Callable[[Path], Database]:
    """Name empty databases of each backend, each with a data directory."""
    if request.param == "sqlite":
        return database_in
    create: Callable[[], str] = request.getfixturevalue("postgres").create
    return lambda directory: database_in(directory, create())


@pytest.fixture
def database(make_database: Callable[[Path], Database], tmp_path: Path) -> Database:
    """An empty database of each backend."""
    return make_database(tmp_path)
