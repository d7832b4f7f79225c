"""Rows that somebody changed in the database behind the daemon's back, whatever was made of them."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from aliciacfg import documents
from aliciacfg.errors import Unavailable
from aliciacfg.integrity import Chain, Findings, checksum
from aliciacfg.records import Overlay, Record, Write
from aliciacfg.sealing import Keyring
from aliciacfg.store import Store, StoreError, verify_file
from support import Daemon, aliciacfg, wait_until

ROWS = 3


@pytest.fixture
def keyring() -> Keyring:
    return Keyring.ephemeral()


@pytest.fixture
async def database(tmp_path: Path, keyring: Keyring) -> Path:
    """Three revisions of one service and its overlay, as a daemon leaves them."""
    path = tmp_path / "aliciacfg.db"
    chain = Chain(keyring)
    store = await Store.open(path, chain)
    writer = asyncio.create_task(store.write_forever())
    for number in range(1, ROWS + 1):
        await store.submit(write(chain, keyring, number), lambda: None)
    await store.close()
    await writer
    await store.release()
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


def tamper(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def verify(path: Path, keyring: Keyring) -> Findings:
    return verify_file(path, Chain(keyring))


def test_what_was_written_is_confirmed(database: Path, keyring: Keyring):
    """Every revision and the overlay; with another key, none of them."""
    assert verify(database, keyring) == Findings(confirmed=ROWS + 1)
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
    ],
)
def test_no_change_of_a_row_goes_unseen(database: Path, keyring: Keyring, statement: str):
    """Values, types, places, additions and removals: told as findings, never as a failure of the check."""
    tamper(database, statement)
    assert verify(database, keyring).broken


@pytest.mark.parametrize("statement", ["DROP TABLE chain", "PRAGMA user_version = 1"])
def test_a_database_that_is_none_of_ours_is_said_to_be_unreadable(database: Path, keyring: Keyring, statement: str):
    """Not confirmed, and no failure either."""
    tamper(database, statement)
    with pytest.raises(Unavailable, match="cannot be read"):
        verify(database, keyring)


async def test_a_start_on_a_misshapen_row_says_what_to_do(database: Path, keyring: Keyring):
    """Of a newest revision the number counts; if that cannot be told, the error names the command that finds it."""
    tamper(database, "UPDATE revisions SET cause = 'magic' WHERE revision = 3")
    store = await Store.open(database, Chain(keyring))
    try:
        (record,) = (await store.load()).records
        assert (record.revision, record.checksum, record.config) == (3, "", b"{}")
        tamper(database, "UPDATE revisions SET revision = 'x' WHERE revision = 2")
        with pytest.raises(StoreError, match="aliciacfg check"):
            await store.load()
        with pytest.raises(Unavailable):
            await store.record("dev", "one", 3)
        with pytest.raises(Unavailable):
            await store.history("dev", "one", before=None, limit=9)
    finally:
        await store.release()


def test_a_running_daemon_survives_a_misshapen_row_and_tells_it(daemon: Daemon):
    """It is drift at the next start's check; requests for the row are refused, everything else goes on."""
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 1}}')
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 2}}')
    daemon.stop()
    tamper(daemon.data / "aliciacfg.db", "UPDATE revisions SET cause = 'magic' WHERE revision = 2")
    daemon.start()
    (item,) = wait_until(lambda: daemon.http("GET", "/drift").json["drift"], why="the row is found")
    assert (item["kind"], item["subject"]) == ("row", "dev/voice_router/2")
    assert daemon.http("GET", "/config/voice_router/history").status == 503
    assert daemon.config("voice_router")["config"]["limits"]["x"] == 2
