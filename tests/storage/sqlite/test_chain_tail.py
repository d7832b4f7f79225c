"""What a connection knows of the chain saves it from reading, and makes no difference to what is stored."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.model.records import Announcement, Overlay, Position, Write
from aliciacfg.storage.sqlite.chain_tail import KnownTail
from aliciacfg.storage.sqlite.maintenance import connect
from aliciacfg.storage.sqlite.schema import migrate
from aliciacfg.storage.sqlite.transaction import apply, reseal_rows, settle
from soak import examples
from stored_rows import CHAIN, entry, revision, subjects, tamper

NAMES = st.sampled_from(["one", "two"])


def change(number: int, service: str = "one") -> Write:
    """A write of everything that a set writes."""
    return Write(
        records=(revision(service, number, {"size": number}),),
        overlays=(Overlay("dev", service, b'{"size":%d}' % number, {"/size": number}),),
        announcements=(Announcement(f"service/{service}", number, b'{"size":%d}' % number),),
        audit=(entry(service, number),),
        position=Position(1, number),
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "db"


def contents(connection: sqlite3.Connection) -> list[str]:
    """Every row of a database, as statements."""
    return list(connection.iterdump())


@examples(20)
@given(st.lists(st.lists(st.tuples(NAMES, st.booleans()), min_size=1, max_size=4), max_size=6))
def test_what_is_known_makes_no_difference(batches: list[list[tuple[str, bool]]]):
    """The same rows, MACs and end of the chain are stored by a connection that reads everything each time."""
    numbers = count(1)
    planned = [
        [
            Write(overlays=(Overlay("dev", service, None),), meta=(("files", str(next(numbers))),))
            if dropped
            else change(next(numbers), service)
            for service, dropped in batch
        ]
        for batch in batches
    ]
    with closing(connect(Path(":memory:"))) as knows, closing(connect(Path(":memory:"))) as reads:
        known = KnownTail()
        for connection in (knows, reads):
            migrate(connection, CHAIN)
        for batch in planned:
            apply(knows, CHAIN, batch, known)
            apply(reads, CHAIN, batch)
        assert contents(knows) == contents(reads)


def test_the_next_transaction_does_not_read(database: Path):
    """Neither the end of the chain nor the codes of the rows that it replaces."""
    statements: list[str] = []
    known = KnownTail()
    with closing(connect(database)) as connection:
        migrate(connection, CHAIN)
        apply(connection, CHAIN, [change(1)], known)
        connection.set_trace_callback(statements.append)
        apply(connection, CHAIN, [change(2)], known)
    assert not [statement for statement in statements if statement.startswith("SELECT")]
    assert subjects(database) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM chain",
        "UPDATE chain SET sequence = 1",
        "UPDATE overlays SET mac = x'00'",
        "DELETE FROM overlays",
        "UPDATE meta SET value = '7', mac = x'00'",
        "DELETE FROM revisions WHERE revision = 1",
        "UPDATE audit SET sequence = 6",
    ],
)
def test_a_change_by_another_program_is_read(tmp_path: Path, statement: str):
    """The rows are those that a connection writes which knows nothing."""

    def after(path: Path, known: KnownTail | None) -> list[str]:
        with closing(connect(path)) as connection:
            migrate(connection, CHAIN)
            apply(connection, CHAIN, [change(1)], known)
            tamper(path, statement)
            for number in (2, 3, 4):
                apply(connection, CHAIN, [change(number)], known)
            return contents(connection)

    assert after(tmp_path / "knows", KnownTail()) == after(tmp_path / "reads", None)


def _fail(connection: sqlite3.Connection, known: KnownTail) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        apply(connection, CHAIN, [change(2), change(1)], known)


def _reseal(connection: sqlite3.Connection, known: KnownTail) -> None:
    reseal_rows(connection, CHAIN, lambda config, _environment, _service: config, known)


def _settle(connection: sqlite3.Connection, known: KnownTail) -> None:
    settle(connection, CHAIN, None, known)


@pytest.mark.parametrize("between", [_fail, _reseal, _settle])
def test_nothing_is_known_after_another_transaction(
    database: Path, between: Callable[[sqlite3.Connection, KnownTail], None]
):
    """One that failed, and those that change the chain in another way."""
    known = KnownTail()
    with closing(connect(database)) as connection:
        migrate(connection, CHAIN)
        apply(connection, CHAIN, [change(1)], known)
        between(connection, known)
        apply(connection, CHAIN, [change(2)], known)
        apply(connection, CHAIN, [change(3)], known)
    assert subjects(database) == []


def _probe(connection: sqlite3.Connection, known: KnownTail) -> None:
    apply(connection, CHAIN, [Write(meta=(("probe", ""),))], known)


@pytest.mark.parametrize("probe", [_probe, _settle])
def test_what_shows_whether_the_disk_works_writes_to_it_each_time(
    database: Path, probe: Callable[[sqlite3.Connection, KnownTail], None]
):
    """Also where the row that it writes is stored as it is, and known to be."""
    log = database.with_name(f"{database.name}-wal")
    known = KnownTail()
    with closing(connect(database)) as connection:
        migrate(connection, CHAIN)
        _probe(connection, known)
        for _ in range(3):
            before = log.stat().st_size
            probe(connection, known)
            assert log.stat().st_size > before
    assert subjects(database) == []


@pytest.mark.parametrize("changes", [1, 3, 4, 5, 16, 17, 41])
def test_many_changes_are_stored_as_one_by_one(changes: int):
    """Several rows in a statement are the rows, and the order of them, that single ones would be."""
    planned = [change(number, "one" if number % 3 else "two") for number in range(1, changes + 1)]
    with closing(connect(Path(":memory:"))) as together, closing(connect(Path(":memory:"))) as single:
        for connection in (together, single):
            migrate(connection, CHAIN)
        apply(together, CHAIN, planned)
        for write in planned:
            apply(single, CHAIN, [write])
        assert contents(together) == contents(single)


@pytest.mark.parametrize("forged", [1, 9, 20])
def test_a_forged_row_among_many_is_moved_away(database: Path, forged: int):
    """The other rows of its statement are stored all the same, and the chain holds."""
    planned = [change(number) for number in range(1, 21)]
    with closing(connect(database)) as connection:
        migrate(connection, CHAIN)
        apply(connection, CHAIN, [change(forged)])
        # A row of this number that the chain does not know.
        tamper(database, "UPDATE revisions SET code = x'00'")
        apply(connection, CHAIN, planned)
        numbers = [number for (number,) in connection.execute("SELECT revision FROM revisions ORDER BY sequence")]
    assert numbers[0] == f"{forged} forged {numbers[0][-8:]}"
    assert numbers[1:] == list(range(1, 21))


def test_a_number_that_is_given_twice_is_refused_among_many(database: Path):
    """Nothing of the transaction is stored."""
    with closing(connect(database)) as connection:
        migrate(connection, CHAIN)
        apply(connection, CHAIN, [change(7)])
        before = contents(connection)
        with pytest.raises(sqlite3.IntegrityError):
            apply(connection, CHAIN, [change(number) for number in range(1, 21)])
        assert contents(connection) == before
