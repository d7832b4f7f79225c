"""Databases of older versions are upgraded, and guarded from then on."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg.model.records import Announcement, Applied, Overlay, Record, Token, Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import adopt_file, verify_file
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings
from stored_rows import (
    BEFORE_THE_CHAIN,
    CHAIN,
    KEY,
    OLD_COLUMNS,
    OTHER,
    entry,
    opened,
    revision,
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
    """Taken in without their key, confirmed without their content, also once the key is back."""
    path = tmp_path / "db"
    before_the_chain(path, OLD_ROWS)
    without = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32))
    adopt_file(path, without)
    assert verify_file(path, without) == Findings(confirmed=6, unreadable=2)
    both = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32))
    assert verify_file(path, both) == Findings(confirmed=6, unreadable=2)
    assert [record.checksum != "" for record in (await loaded(path, both)).records] == [True, False]


async def loaded(path: Path, chain: Chain) -> Any:
    async with SqliteStore.open(path, chain) as opened_store:
        return await opened_store.load()


def before_the_codes(path: Path) -> None:
    """The same rows in a database of the version before every row had a code."""
    tamper(
        path,
        "ALTER TABLE revisions DROP COLUMN code",
        "ALTER TABLE revisions DROP COLUMN home_sequence",
        "ALTER TABLE audit DROP COLUMN code",
        "ALTER TABLE outbox DROP COLUMN mac",
        "ALTER TABLE applied DROP COLUMN mac",
        "DROP TABLE told",
        "PRAGMA user_version = 4",
    )


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
    tamper(
        path,
        "CREATE TABLE before (subject TEXT PRIMARY KEY, sequence INTEGER NOT NULL, payload BLOB NOT NULL,"
        " pending INTEGER NOT NULL, mac BLOB NOT NULL DEFAULT x'') WITHOUT ROWID",
        "INSERT INTO before SELECT * FROM outbox",
        "DROP TABLE outbox",
        "ALTER TABLE before RENAME TO outbox",
        "UPDATE outbox SET payload = '{}' WHERE subject = 'service/c'",
        "PRAGMA user_version = 6",
    )
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
