"""What reads return of rows that somebody edited in the file: nothing that was not written is believed."""

from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Applied, Overlay, Recipient, Token, Write
from aliciacfg.storage.sqlite.maintenance import verify_file
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import StoreError
from stored_rows import CHAIN, entry, revision, subjects, tamper, written


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three revisions of one service, its overlay, a token, a recipient and the report of a copy."""
    records = tuple(revision("one", number, {"size": number}) for number in range(1, 4))
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1)
    write = Write(
        records=records,
        overlays=(Overlay("dev", "one", b'{"size":3}'),),
        tokens=(token,),
        recipients=(Recipient("one", "a" * 43),),
        applied=(Applied("one", "a", "dev", 3, "", "applied", None, 1, 2),),
    )
    return written(tmp_path / "db", [write])


async def test_an_edited_token_or_recipient_is_worth_nothing(database: Path):
    """A token is still there, so that access stays restricted, but unconfirmed; a recipient is left out."""
    async with SqliteStore.open(database, CHAIN) as store:
        assert [token.confirmed for token in await store.tokens()] == [True]
        assert [item.service for item in await store.recipients()] == ["one"]
    tamper(database, "UPDATE tokens SET role = 'admin'", "UPDATE recipients SET public_key = 'b'")
    async with SqliteStore.open(database, CHAIN) as store:
        assert [(token.role, token.confirmed) for token in await store.tokens()] == [("admin", False)]
        assert await store.recipients() == []
    assert set(subjects(database)) == {"tokens/000000000000", "recipients/one"}
    tamper(database, "UPDATE tokens SET role = 'god'")
    async with SqliteStore.open(database, CHAIN) as store:
        assert await store.tokens() == []


@pytest.mark.parametrize(
    "change",
    [
        "cause = 'magic'",
        "config = x'ff'",
        "config = CAST('[]' AS BLOB)",
        "config = CAST('{\"size\":9}' AS BLOB)",
        "checksum = 'x'",
        "digest = '00000000:' || substr(digest, 10)",
        "author = 'luigi'",
        "deleted = 1",
        "code = x'00000000'",
        "sequence = 99",
        "sequence = NULL",
        "mac = 'x', author = 'luigi'",
    ],
)
async def test_an_edited_newest_revision_is_not_the_newest(database: Path, change: str):
    """The one before counts; its number was used all the same."""
    tamper(database, f"UPDATE revisions SET {change} WHERE revision = 3")
    async with SqliteStore.open(database, CHAIN) as store:
        state = await store.load()
        with pytest.raises(Unavailable, match="differs from what was written"):
            await store.record("dev", "one", 3)
        assert [head.revision for head in await store.history("dev", "one", before=None, limit=9)] == [2, 1]
    assert [record.revision for record in state.records] == [2]
    assert state.used_numbers == {("dev", "one"): 3}
    assert state.dropped == ["dev/one/3"]


@pytest.mark.parametrize("number", ["5", "999999999", "9223372036854775807", "'x'", "-3", "4.5"])
async def test_a_forged_revision_is_not_the_newest_and_burns_no_numbers(database: Path, number: str):
    """Nor is it in the way when its number is reached; the rows that were written stay confirmed."""
    tamper(
        database,
        "INSERT INTO revisions SELECT environment, service, "
        f"{number}, version, timestamp, author, cause, checksum, config, changed, restart_required, breaking, comment,"
        " deleted, sequence + 2, digest, mac, code, home_sequence FROM revisions WHERE revision = 3",
    )
    async with SqliteStore.open(database, CHAIN) as store:
        state = await store.load()
        assert [record.revision for record in state.records] == [3]
        assert state.used_numbers in ({}, {("dev", "one"): 3})
        await store.commit([Write(records=tuple(revision("one", place, {}) for place in (4, 5, 6)))])
        assert [record.revision for record in (await store.load()).records] == [6]
        found = {broken.subject for broken in (await store.verify()).broken}
        assert not found & {"dev/one/4", "dev/one/5", "dev/one/6"}
        # What this daemon wrote is never replaced.
        with pytest.raises(Unavailable):
            await store.commit([Write(records=(revision("one", 5, {}),))])


@pytest.mark.parametrize("change", ["patch = CAST('{\"size\":9}' AS BLOB)", "patch = x'ff'", "patch = 7", "mac = 'x'"])
async def test_an_edited_overlay_is_not_confirmed(database: Path, change: str):
    """The core then uses nothing of it."""
    tamper(database, f"UPDATE overlays SET {change}")
    async with SqliteStore.open(database, CHAIN) as store:
        (overlay,) = (await store.load()).overlays
    assert (overlay.service, overlay.confirmed) == ("one", False)


async def test_rows_that_cannot_be_parsed_are_left_out(database: Path):
    """No read fails because of them; a revision that is asked for by its number is unavailable."""
    tamper(
        database,
        "UPDATE revisions SET cause = 'magic' WHERE revision = 2",
        "UPDATE revisions SET revision = 'x' WHERE revision = 1",
        "UPDATE applied SET revision = 'x'",
        "INSERT INTO revisions SELECT x'ff', 7, 'y', version, timestamp, author, cause, checksum, config, changed,"
        " restart_required, breaking, comment, deleted, 98, digest, mac, code, home_sequence FROM revisions WHERE"
        " revision = 3",
        "INSERT INTO meta VALUES (7, x'ff', 'x')",
        "INSERT INTO schemas VALUES (7, 8, 9)",
        "INSERT INTO outbox VALUES (7, 'x', 9, 'y', 'z')",
    )
    async with SqliteStore.open(database, CHAIN) as store:
        state = await store.load()
        assert [record.revision for record in state.records] == [3]
        assert (state.meta, state.schemas, state.announcements) == ({}, [], [])
        assert {"dev/one/x", "meta/7", "schemas/7", "outbox/7"} <= set(state.dropped)
        assert await store.applied() == []
        assert [record.revision async for record in store.revisions("one")] == [3]
        assert [head.revision for head in await store.history("dev", "one", before=None, limit=9)] == [3]
        with pytest.raises(Unavailable, match="differs from what was written"):
            await store.record("dev", "one", 2)
    assert {"dev/one/2", "dev/one/x", "applied/one", "meta/7", "schemas/7", "outbox/7"} <= set(subjects(database))


async def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path):
    """The error names the file and the remedy; the connection's thread has ended, so that the process can."""
    (tmp_path / "db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match=r"db cannot be used: .*restore it from a backup"):
        async with SqliteStore.open(tmp_path / "db", CHAIN):
            pass


def spoil_schema(database: Path) -> None:
    content = database.read_bytes()
    assert b"CREATE TABLE meta" in content
    database.write_bytes(content.replace(b"CREATE TABLE meta", b"CREATE TABLX \xc6eta"))


async def test_a_schema_that_is_no_text_is_damage(database: Path):
    """Not even SQLite's own message about it can be decoded; what is said names file and remedy all the same."""
    spoil_schema(database)
    with pytest.raises(StoreError, match="restore it from a backup"):
        async with SqliteStore.open(database, CHAIN):
            pass
    assert verify_file(database, CHAIN).damage


async def test_a_database_of_a_newer_version_is_left_alone(database: Path):
    """It says to run the newer program."""
    tamper(database, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="run the newer aliciacfg"):
        async with SqliteStore.open(database, CHAIN):
            pass


async def test_a_trigger_undoes_nothing(database: Path):
    """It is a finding while the daemon runs, and gone after the next start."""
    async with SqliteStore.open(database, CHAIN) as store:
        tamper(
            database,
            "CREATE TRIGGER silent BEFORE INSERT ON audit BEGIN SELECT RAISE(IGNORE); END",
            'CREATE TRIGGER "a ""b" AFTER INSERT ON revisions BEGIN DELETE FROM tokens; END',
            "CREATE VIEW other AS SELECT * FROM meta",
        )
        found = {broken.subject for broken in (await store.verify()).broken}
        assert found == {"trigger/silent", 'trigger/a "b', "view/other"}
    async with SqliteStore.open(database, CHAIN) as store:
        await store.commit([Write(records=(revision("one", 4, {}),), audit=(entry("one", 4),))])
        assert len(await store.audit(before=None, limit=9, service=None)) == 1
        assert len(await store.tokens()) == 1
        assert (await store.verify()).broken == []
