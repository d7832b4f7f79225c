"""What reads return of rows that somebody edited in the file: nothing that was not written is believed."""

from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Applied, Overlay, Recipient, Token, Write
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import StoreError
from stored_rows import CHAIN, revision, subjects, tamper, written


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
    ("change", "kept"),
    [
        ("cause = 'magic'", b"{}"),
        ("config = x'ff'", b"{}"),
        ("config = CAST('[]' AS BLOB)", b"{}"),
        ("config = CAST('{\"size\":9}' AS BLOB)", b'{"size":9}'),
        ("checksum = 'x'", b'{"size":3,"version":"1.0.0"}'),
    ],
)
async def test_of_an_edited_newest_revision_the_number_counts_alone(database: Path, change: str, kept: bytes):
    """The checksum is empty, so that the core records anew what the files say; the content is an object at least."""
    tamper(database, f"UPDATE revisions SET {change} WHERE revision = 3")
    async with SqliteStore.open(database, CHAIN) as store:
        (record,) = (await store.load()).records
    assert (record.revision, record.checksum, record.config) == (3, "", kept)


@pytest.mark.parametrize("change", ["patch = CAST('{\"size\":9}' AS BLOB)", "patch = x'ff'", "patch = 7", "mac = 'x'"])
async def test_an_edited_overlay_is_not_confirmed(database: Path, change: str):
    """The core then uses nothing of it."""
    tamper(database, f"UPDATE overlays SET {change}")
    async with SqliteStore.open(database, CHAIN) as store:
        (overlay,) = (await store.load()).overlays
    assert (overlay.service, overlay.confirmed) == ("one", False)


async def test_a_row_without_a_number_stops_the_start_and_says_what_to_do(database: Path):
    """Which revision is the newest cannot be told, so that nothing may be written behind it."""
    tamper(database, "UPDATE revisions SET revision = 'x' WHERE revision = 2")
    async with SqliteStore.open(database, CHAIN) as store:
        with pytest.raises(StoreError, match="aliciacfg check"):
            await store.load()


async def test_a_row_that_cannot_be_parsed_is_unavailable(database: Path):
    """Only reads of the row itself fail."""
    tamper(database, "UPDATE revisions SET cause = 'magic' WHERE revision = 2", "UPDATE applied SET revision = 'x'")
    async with SqliteStore.open(database, CHAIN) as store:
        for read in (
            lambda: store.record("dev", "one", 2),
            lambda: store.history("dev", "one", before=None, limit=9),
            store.applied,
        ):
            with pytest.raises(Unavailable, match="cannot be read"):
                await read()
        assert [record.revision for record in await store.revisions("one")] == [1, 3]
        assert [head.revision for head in await store.history("dev", "one", before=None, limit=1)] == [3]


async def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path):
    """The error names the file and the remedy; the connection's thread has ended, so that the process can."""
    (tmp_path / "db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match=r"db cannot be used: .*restore it from a backup"):
        async with SqliteStore.open(tmp_path / "db", CHAIN):
            pass


async def test_a_database_of_a_newer_version_is_left_alone(database: Path):
    """It says to run the newer program."""
    tamper(database, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="run the newer aliciacfg"):
        async with SqliteStore.open(database, CHAIN):
            pass
