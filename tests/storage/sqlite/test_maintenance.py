"""Work on a database file beside the store that has it open, and what a verification finds in one."""

import contextlib
import itertools
import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Overlay, Write
from aliciacfg.storage.sqlite import maintenance
from aliciacfg.storage.sqlite.maintenance import verify_file
from aliciacfg.storage.sqlite.store import SqliteStore
from soak import examples
from stored_rows import CHAIN, KEYRING, entry, opened, revision, tamper, three_revisions, tombstone, written


async def test_a_file_that_is_open_to_write_is_never_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Closing any descriptor of it would drop the locks of SQLite, and another program could remove its log."""

    def cannot_open(_path: Path, *, more: str = "") -> sqlite3.Connection:
        error = sqlite3.OperationalError(f"unable to open database file{more}")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        raise error

    async with SqliteStore.open(tmp_path / "aliciacfg.db", CHAIN) as store:
        monkeypatch.setattr(maintenance, "connect_to_read", cannot_open)
        monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("copied"))
        with pytest.raises(Unavailable, match="unable to open"):
            await store.verify()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The file of ``three_revisions``."""
    return written(tmp_path / "db", three_revisions())


def test_a_database_of_another_version_is_said_to_be_unreadable(database: Path):
    """Not confirmed, and no failure either."""
    tamper(database, "PRAGMA user_version = 1")
    with pytest.raises(Unavailable, match="cannot be read"):
        verify_file(database, CHAIN)


def test_a_damaged_page_is_found(database: Path):
    """Even one that no row of the chain is on; the text names places in the file, and no value."""
    content = bytearray(database.read_bytes())
    with opened(database) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'applied'").fetchone()
    content[4096 * (page - 1) : 4096 * page] = bytes(4096)
    database.write_bytes(content)
    assert verify_file(database, CHAIN).damage


DOCUMENTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)
WRITES = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), DOCUMENTS, st.none() | st.text(max_size=4), st.booleans()),
    min_size=1,
    max_size=4,
)


def as_writes(drawn: list[tuple[str, JsonObject, str | None, bool]]) -> list[Write]:
    numbers = {"one": itertools.count(1), "two": itertools.count(1)}
    writes: list[Write] = []
    for service, document, secret, deleted in drawn:
        number = next(numbers[service])
        record = tombstone(service, number) if deleted else revision(service, number, document, secret=secret)
        overlay = Overlay("dev", service, None if deleted else documents.canonical(document), {"/a": number})
        writes.append(Write(records=(record,), audit=(entry(service, number),), overlays=(overlay,)))
    return writes


def other_values(column: str, value: Any) -> Iterator[Any]:
    """Values that differ from a stored one: of its own type, of another, and in every place inside."""
    if column == "config" and value != b"{}":
        yield from (documents.canonical(changed) for changed in changed_documents(json.loads(value)))
    match value:
        case None:
            yield "x"
        case int():
            yield from (value + 1, -value - 1)
        case float():
            yield from (math.nextafter(value, math.inf), value + 1)
        case str():
            yield from (value + "x", "", None)
        case bytes() if column in {"changed", "restart_required"}:
            yield from (b"[]", b'["/x"]', json.dumps([*json.loads(value), "/z"]).encode())
        case bytes():
            yield from (bytes([*value[:-1], value[-1] ^ 1]), value[:-1], value + value, b"")


def changed_documents(document: JsonObject) -> Iterator[Json]:
    for key, value in document.items():
        yield {name: member for name, member in document.items() if name != key}
        yield {**document, f"{key}x": value}
        if isinstance(value, str) and value.startswith("sealed:"):
            yield {**document, key: value[:-6] + ("A" if value[-6] != "A" else "B") + value[-5:]}
            # Longer than any secret that is drawn.
            yield {**document, key: KEYRING.seal("elsewhere", service="one", environment="dev", pointer=f"/{key}")}
        else:
            yield {**document, key: [value]}
            yield {**document, key: not value if isinstance(value, bool) else f"{value}x"}


@settings(examples(2), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=WRITES)
def test_any_single_change_of_a_stored_field_is_found(
    tmp_path: Path, drawn: list[tuple[str, JsonObject, str | None, bool]]
):
    """Every field of every row of any history, one after another: each other value is told, and only then."""
    path = tmp_path / "db"
    path.unlink(missing_ok=True)
    for name in ("db-wal", "db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    written(path, as_writes(drawn))
    assert verify_file(path, CHAIN).broken == []
    tried = 0
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=OFF")
        for table, key in (("revisions", "rowid"), ("audit", "sequence"), ("overlays", "service"), ("chain", "one")):
            cursor = connection.execute(f"SELECT {key} AS k, * FROM {table}")
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for column, value in zip(columns[1:], row[1:], strict=True):
                    for other in other_values(column, value):
                        if other == value or column == "one" or changes_nothing(column, other, value):
                            continue
                        try:
                            connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE {key} = ?', (other, row[0]))
                        except sqlite3.IntegrityError:
                            continue
                        tried += 1
                        assert verify_file(path, CHAIN).broken, (table, column, value, other)
                        place = other if column == key else row[0]
                        connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE {key} = ?', (value, place))
    assert verify_file(path, CHAIN).broken == []
    assert tried > 20


def changes_nothing(column: str, other: Any, value: Any) -> bool:
    """Whether two stored values mean the same."""
    if column in {"breaking", "deleted"}:
        return bool(other) == bool(value)
    if column in {"changed", "restart_required", "config", "origins"} and isinstance(other, bytes):
        with contextlib.suppress(ValueError):
            return documents.equal(json.loads(other), json.loads(value))
    return False
