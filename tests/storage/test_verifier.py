"""Rows that somebody changed in the database behind the daemon's back, whatever was made of them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aliciacfg import documents
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import (
    Overlay,
    Recipient,
    Record,
    ServingSchema,
    Token,
    Write,
)
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import checksum
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import verify_file
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings

ROWS = 3


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.ephemeral()


@pytest.fixture
async def database(tmp_path: Path, keyring: Keyring) -> Path:
    """Three revisions of one service and its overlay, as a daemon leaves them."""
    path = tmp_path / "aliciacfg.db"
    chain = Chain(keyring)
    async with SqliteStore.open(path, chain) as store:
        for number in range(1, ROWS + 1):
            await store.commit([write(chain, keyring, number)])
        await store.commit([access()])
    return path


def write(chain: Chain, keyring: Keyring, number: int) -> Write:
    document: documents.JsonObject = {"size": number}
    whole: documents.JsonObject = {**document, "version": "1.0.0"}
    record = Record(
        environment="dev", service="one", revision=number, version="1.0.0", timestamp=1.5, author="mario",
        cause="api", checksum=checksum(keyring, "one", document, {}),
        digest=chain.digest(whole, service="one", environment="dev"),
        changed=["/size"], restart_required=[], config=documents.encode(whole),
    )  # fmt: skip
    return Write(records=(record,), overlays=(Overlay("dev", "one", documents.encode(document)),))


def access() -> Write:
    """One row of each table whose rows are replaced, times as whole seconds and as fractions."""
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1, expires=2.5)
    return Write(
        tokens=(token,),
        recipients=(Recipient("one", "a" * 43),),
        schemas=(ServingSchema("one", b"{}"), ServingSchema("two", None)),
        meta=(("active_environment", "dev"),),
    )


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def verify(path: Path, keyring: Keyring) -> Findings:
    return verify_file(path, Chain(keyring))


def test_what_was_written_is_confirmed(database: Path, keyring: Keyring):
    """Every revision, the overlay and what stands beside them; with another key, none of them."""
    assert verify(database, keyring) == Findings(confirmed=ROWS + 6)
    assert verify(database, Keyring.ephemeral()).confirmed == 0


COPY = (
    "INSERT INTO revisions SELECT environment, service, 9, version, timestamp, author, cause, checksum, config,"
    " changed, restart_required, breaking, comment, deleted, %s, digest, mac FROM revisions WHERE revision = 2"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE revisions SET config = x'00' WHERE revision = 2",
        "UPDATE revisions SET config = CAST('[1]' AS BLOB) WHERE revision = 2",
        "UPDATE revisions SET config = CAST('{\"size\":9}' AS BLOB) WHERE revision = 2",
        "UPDATE revisions SET config = '{}' WHERE revision = 2",
        "UPDATE revisions SET config = 5 WHERE revision = 2",
        "UPDATE revisions SET author = 'luigi' WHERE revision = 2",
        "UPDATE revisions SET cause = 'magic' WHERE revision = 2",
        "UPDATE revisions SET timestamp = 'noon' WHERE revision = 2",
        "UPDATE revisions SET changed = x'7b' WHERE revision = 2",
        "UPDATE revisions SET changed = '{' WHERE revision = 2",
        "UPDATE revisions SET checksum = '' WHERE revision = 2",
        "UPDATE revisions SET mac = 'x' WHERE revision = 2",
        "UPDATE revisions SET sequence = NULL WHERE revision = 2",
        "UPDATE revisions SET sequence = -7 WHERE revision = 2",
        "UPDATE revisions SET sequence = 'x' WHERE revision = 2",
        "UPDATE revisions SET revision = 8 WHERE revision = 2",
        COPY % "NULL",
        COPY % "-1",
        COPY % "4",
        COPY % "'x'",
        "DELETE FROM revisions WHERE revision = 2",
        "DELETE FROM revisions WHERE revision = 3",
        "DELETE FROM chain",
        "UPDATE chain SET sequence = 2",
        "UPDATE chain SET sequence = 'x'",
        "UPDATE chain SET mac = 'x'",
        "UPDATE chain SET sealed = 'x'",
        "UPDATE overlays SET patch = x'7b7d'",
        "UPDATE overlays SET patch = '{}'",
        "UPDATE overlays SET origins = '['",
        'UPDATE overlays SET origins = \'{"/size": "x"}\'',
        "UPDATE overlays SET mac = 5",
        "UPDATE overlays SET service = 'two'",
        "UPDATE tokens SET role = 'admin'",
        "UPDATE tokens SET digest = 'e'",
        "UPDATE tokens SET expires = NULL",
        "UPDATE tokens SET role = 7",
        "UPDATE tokens SET mac = x''",
        "UPDATE tokens SET mac = 'x'",
        "DELETE FROM tokens",
        "INSERT INTO tokens SELECT '1', digest, name, role, created, expires, revoked, mac FROM tokens",
        "UPDATE recipients SET public_key = 'b'",
        "UPDATE recipients SET service = 'two'",
        "UPDATE recipients SET public_key = NULL",
        "DELETE FROM recipients",
        "UPDATE schemas SET document = NULL WHERE service = 'one'",
        "UPDATE schemas SET document = x'7b' WHERE service = 'two'",
        "DELETE FROM schemas",
        "UPDATE meta SET value = 'prod'",
        "UPDATE meta SET name = 'x'",
        "DELETE FROM meta",
        "INSERT INTO meta VALUES ('x', 'y', x'00')",
    ],
)
def test_no_change_of_a_row_goes_unseen(database: Path, keyring: Keyring, statement: str):
    """Values, types, places, additions and removals: told as findings, never as a failure of the check."""
    tamper(database, statement)
    assert verify(database, keyring).broken


@pytest.mark.parametrize("statement", ["DROP TABLE chain", "DROP TABLE tokens", "PRAGMA user_version = 1"])
def test_a_database_that_is_none_of_ours_is_said_to_be_unreadable(database: Path, keyring: Keyring, statement: str):
    """Not confirmed, and no failure either."""
    tamper(database, statement)
    with pytest.raises(Unavailable, match="cannot be read"):
        verify(database, keyring)


async def test_what_was_tampered_with_gives_nobody_anything(database: Path, keyring: Keyring):
    """A token is there, so that the house stays closed, and proves nobody; no secret is sealed to a recipient's key."""
    chain = Chain(keyring)
    async with SqliteStore.open(database, chain) as store:
        assert [token.confirmed for token in await store.tokens()] == [True]
        assert [item.service for item in await store.recipients()] == ["one"]
    tamper(database, "UPDATE tokens SET role = 'admin'")
    tamper(database, "UPDATE recipients SET public_key = 'b'")
    async with SqliteStore.open(database, chain) as store:
        assert [token.confirmed for token in await store.tokens()] == [False]
        assert await store.recipients() == []
    assert {broken.subject for broken in verify(database, keyring).broken} == {"tokens/000000000000", "recipients/one"}


async def test_a_start_on_a_misshapen_row_says_what_to_do(database: Path, keyring: Keyring):
    """Of a newest revision the number counts; if that cannot be told, the error names the command that finds it."""
    tamper(database, "UPDATE revisions SET cause = 'magic' WHERE revision = 3")
    async with SqliteStore.open(database, Chain(keyring)) as store:
        (record,) = (await store.load()).records
        assert (record.revision, record.checksum, record.config) == (3, "", b"{}")
        tamper(database, "UPDATE revisions SET revision = 'x' WHERE revision = 2")
        with pytest.raises(StoreError, match="aliciacfg check"):
            await store.load()
        with pytest.raises(Unavailable):
            await store.record("dev", "one", 3)
        with pytest.raises(Unavailable):
            await store.history("dev", "one", before=None, limit=9)
