"""Databases of older versions are upgraded, and guarded from then on."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.model.records import Announcement, Applied, Overlay, Record, StoredState, Token, Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import adopt_file, verify_file
from aliciacfg.storage.sqlite.schema import MIGRATIONS, create_tables
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings
from inprocess import eventually
from stored_rows import (
    BEFORE_THE_CHAIN,
    CHAIN,
    KEY,
    OLD_COLUMNS,
    OTHER,
    before_the_codes,
    before_this_version,
    entry,
    opened,
    revision,
    schema_version,
    subjects,
    tamper,
    tombstone,
    written,
)


def before_the_chain(path: Path, records: list[Record]) -> None:
    names = OLD_COLUMNS
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(BEFORE_THE_CHAIN)
        for record in records:
            values = [getattr(record, name) for name in names]
            row = [json.dumps(value).encode() if isinstance(value, list) else value for value in values]
            connection.execute(
                f"INSERT INTO revisions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", row
            )
        connection.execute("INSERT INTO overlays VALUES ('dev', 'one', ?)", (b'{"size":3}',))
        connection.execute("INSERT INTO meta VALUES ('active_environment', 'dev')")


OLD_ROWS = [
    revision("one", 1, {"size": 1}, secret="open-sesame"),
    revision("two", 1, {"size": 1}),
    revision("one", 2, {"size": 2}, secret="open-sesame", comment="why"),
    tombstone("two", 2),
]


async def test_a_database_from_before_the_chain_is_taken_into_it(tmp_path: Path):
    """Rows, overlays and history are what they were, everything is confirmed, and from then on guarded."""
    path = tmp_path / "db"
    before_the_chain(path, OLD_ROWS)
    with pytest.raises(StoreError, match="format of an older aliciacfg"):
        async with SqliteStore.open(path, CHAIN):
            pass
    adopt_file(path, CHAIN)
    for _ in range(2):
        async with SqliteStore.open(path, CHAIN) as opened_store:
            state = await opened_store.load()
            assert {(record.service, record.revision) for record in state.records} == {("one", 2), ("two", 2)}
            assert state.overlays == [Overlay("dev", "one", b'{"size":3}')]
            assert await opened_store.record("dev", "one", 1) == OLD_ROWS[0]
            heads = await opened_store.history("dev", "one", before=None, limit=9)
            assert [head.comment for head in heads] == ["why", None]
            assert await opened_store.verify() == Findings(confirmed=6)
    written(path, [Write(records=(revision("one", 3, {"size": 3}),))])
    assert verify_file(path, CHAIN) == Findings(confirmed=7)
    tamper(path, "UPDATE revisions SET comment = 'because' WHERE revision = 2 AND service = 'one'")
    assert subjects(path) == ["dev/one/2"]


async def test_what_was_changed_before_there_was_a_chain_is_told_where_its_checksum_says_so(tmp_path: Path):
    """The chain cannot know better; a row that cannot be read at all is not used."""
    before_the_chain(tmp_path / "db", OLD_ROWS)
    tamper(
        tmp_path / "db",
        "UPDATE revisions SET config = CAST('{\"size\":7}' AS BLOB) WHERE service = 'two' AND revision = 1",
    )
    adopt_file(tmp_path / "db", CHAIN)
    assert subjects(tmp_path / "db") == ["dev/two/1"]
    before_the_chain(tmp_path / "damaged", OLD_ROWS)
    tamper(tmp_path / "damaged", "UPDATE revisions SET config = x'ff' WHERE service = 'two' AND revision = 1")
    adopt_file(tmp_path / "damaged", CHAIN)
    assert subjects(tmp_path / "damaged") == ["dev/two/1"]


async def test_secrets_that_did_not_open_when_their_rows_were_taken_in_raise_no_alarm_later(tmp_path: Path):
    """Taken in without their key, confirmed without their content, and as they were taken in once the key is back."""
    path = tmp_path / "db"
    before_the_chain(path, OLD_ROWS)
    without = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32))
    adopt_file(path, without)
    assert verify_file(path, without) == Findings(confirmed=6, unreadable=2)
    both = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32))
    assert verify_file(path, both) == Findings(confirmed=6)
    assert [record.checksum != "" for record in (await loaded(path, both)).records] == [True, False]


async def loaded(path: Path, chain: Chain) -> Any:
    async with SqliteStore.open(path, chain) as opened_store:
        return await opened_store.load()


async def test_rows_that_the_chain_confirms_get_their_codes(tmp_path: Path):
    """Of a database from before there were codes; reports, which nothing confirms, are made again."""
    path = tmp_path / "db"
    report = Applied("one", "a", "dev", 1, "", "applied", None, 1, 2)
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1)
    first = revision("one", 1, {"size": 1}, secret="open-sesame", home_sequence=0)
    last = msgspec.structs.replace(tombstone("one", 2), home_sequence=0)
    write = Write(records=(first, last), audit=(entry("one", 1),), tokens=(token,), applied=(report,))
    written(path, [write, Write(announcements=(Announcement("environment", 1, b"{}"),))])
    before_the_codes(path)
    async with SqliteStore.open(path, CHAIN) as opened_store:
        assert [record.revision for record in (await opened_store.load()).records] == [2]
        assert await opened_store.record("dev", "one", 1) is not None
        assert [item.confirmed for item in await opened_store.tokens()] == [True]
        assert await opened_store.applied() == []
        assert await opened_store.verify() == Findings(confirmed=5)


async def test_announcements_of_the_version_before_stay(tmp_path: Path):
    """Pending or not, and one that somebody changed is still none."""
    path = tmp_path / "db"
    announcements = tuple(Announcement(f"service/{name}", 7, b"{}" * 900, name == "b") for name in "abc")
    written(path, [Write(announcements=announcements)])
    before_this_version(path)
    tamper(path, "UPDATE outbox SET payload = '{}' WHERE subject = 'service/c'")
    state = await loaded(path, CHAIN)
    assert sorted(state.announcements, key=lambda item: item.subject) == list(announcements[:2])


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE revisions SET config = CAST(\'{"size":9,"version":"1.0.0"}\' AS BLOB) WHERE revision = 2',
        # Which cannot be compared with what was written, because its key is not here.
        'UPDATE revisions SET config = CAST(\'{"s":"sealed:v1:0000000000000000:AA"}\' AS BLOB) WHERE revision = 2',
        "UPDATE revisions SET author = 'luigi' WHERE revision = 2",
        "UPDATE audit SET who = 'luigi'",
    ],
)
async def test_a_row_that_was_forged_in_the_older_form_gets_no_code(tmp_path: Path, statement: str):
    """Putting a database into an older form makes nothing believed."""
    path = tmp_path / "db"
    records = tuple(revision("one", number, {"size": number}, home_sequence=0) for number in (1, 2))
    written(path, [Write(records=records, audit=(entry("one", 2),))])
    before_the_codes(path)
    tamper(path, statement)
    async with SqliteStore.open(path, CHAIN) as opened_store:
        forged_revision = "revisions" in statement
        state = await opened_store.load()
        assert [record.revision for record in state.records] == [1 if forged_revision else 2]
        assert len(await opened_store.audit(before=None, limit=9, service=None)) == (1 if forged_revision else 0)
    assert subjects(path) == (["dev/one/2"] if forged_revision else ["audit/3"])


WRITE = Write(
    records=(revision("one", 1, {"size": 1}, secret="open-sesame", home_sequence=0),),
    audit=(entry("one", 1),),
    announcements=(Announcement("environment", 1, b"{}"),),
)


def configs(source: StoredState | Write) -> list[bytes]:
    return [record.config for record in source.records]


@pytest.mark.parametrize("killed_after", [5, 6])
async def test_codes_are_added_after_an_upgrade_that_was_killed_before_it_did(tmp_path: Path, killed_after: int):
    """Versions before upgraded in several transactions; the rows tell what is missing, not their number."""
    path = written(tmp_path / "db", [WRITE])
    before_the_codes(path)
    with opened(path) as connection:
        connection.executescript("".join(MIGRATIONS[4:killed_after]) + f"PRAGMA user_version = {killed_after}")
    state = await loaded(path, CHAIN)
    assert (configs(state), len(state.announcements)) == (configs(WRITE), 1)
    assert verify_file(path, CHAIN) == Findings(confirmed=3)


async def test_an_empty_code_makes_nothing_believed(tmp_path: Path):
    """In a database of the version before, a row that was changed gets no code, nor do rows that have another one."""
    path = written(tmp_path / "db", [WRITE, Write(announcements=(Announcement("service/one", 2, b"{}"),))])
    before_this_version(path)
    tamper(
        path,
        "UPDATE audit SET code = x'', who = 'luigi'",
        "UPDATE outbox SET payload = '[]' WHERE subject = 'service/one'",
    )
    state = await loaded(path, CHAIN)
    assert [item.subject for item in state.announcements] == ["environment"]
    assert subjects(path) == ["audit/2", "outbox/service/one"]


async def test_an_upgrade_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All its steps are one transaction, so that none is missing when the next start goes on."""
    path = written(tmp_path / "db", [WRITE])
    before_the_codes(path)

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("aliciacfg.storage.sqlite.schema.add_codes", fail)
        with pytest.raises(MemoryError):
            await loaded(path, CHAIN)
    assert schema_version(path) == 4
    assert configs(await loaded(path, CHAIN)) == configs(WRITE)


def test_a_new_database_is_what_the_migrations_make_of_an_empty_one():
    """Byte for byte in its schema, with the same number."""
    schemas = list[tuple[list[tuple[object, ...]], int]]()
    for script in (create_tables(), "".join(MIGRATIONS) + f"PRAGMA user_version = {len(MIGRATIONS)}"):
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(script)
            found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
            schemas.append((found, *connection.execute("PRAGMA user_version").fetchone()))
    assert schemas[0] == schemas[1]
    assert len(schemas[0][0]) > len(MIGRATIONS)


async def test_a_database_of_the_version_before_is_read_while_it_cannot_be_upgraded(tmp_path: Path):
    """Another program has locked it: what is stored is served, and the first write after the lock upgrades it."""
    path = written(tmp_path / "db", [WRITE])
    before_this_version(path)
    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        async with SqliteStore.open(path, CHAIN) as store:
            assert configs(await store.load()) == configs(WRITE)
            assert store.unwritable is not None
            assert "another program has locked the database" in store.unwritable.message
            assert await store.verify() == Findings(confirmed=3)
            other.execute("ROLLBACK")
            await store.commit([Write(meta=(("probe", ""),))])
            assert (store.unwritable, schema_version(path)) == (None, len(MIGRATIONS))
            assert configs(await store.load()) == configs(WRITE)


@pytest.mark.parametrize("older", [before_the_codes, lambda path: path.unlink()])
async def test_a_database_that_has_to_be_written_first_is_waited_for(
    tmp_path: Path, older: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
):
    """Of an older version, or empty, and locked by another program: the start goes on when the lock is gone."""
    path = written(tmp_path / "db", [WRITE])
    older(path)
    with opened(path) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        loading = asyncio.create_task(loaded(path, CHAIN))
        await eventually(lambda: "database_locked" in capsys.readouterr().out)
        assert not loading.done()
        other.execute("ROLLBACK")
        await loading
    assert schema_version(path) == len(MIGRATIONS)
