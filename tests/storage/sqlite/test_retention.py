"""What retention removes and keeps, and that a verification still finds everything that somebody else does."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from aliciacfg.model.records import Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite import maintenance, retention
from aliciacfg.storage.sqlite.maintenance import adopt_file, reseal_file, verify_file
from aliciacfg.storage.sqlite.retention import find_outdated, remove_some
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.sqlite.transaction import apply
from aliciacfg.storage.store import Kept
from stored_rows import CHAIN, KEY, OTHER, entry, opened, revision, subjects, tamper, tombstone, written


def write(service: str, number: int) -> Write:
    return Write(
        records=(revision(service, number, {"size": number}, secret="open-sesame"),), audit=(entry(service, number),)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quiet service from the beginning, one that changes all the time, and one that was deleted."""
    writes = [write("quiet", 1), write("busy", 1), write("gone", 1), Write(records=(tombstone("gone", 2),))]
    writes += [write("busy", number) for number in range(2, 11)]
    return written(tmp_path_factory.mktemp("made") / "db", writes)


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    """A database of the test's own."""
    return Path(shutil.copy(made, tmp_path / "db"))


def remove(database: Path, kept: Kept, chain: Chain = CHAIN) -> list[int]:
    """Remove what is outdated, as the store does; return how many rows each transaction removed."""
    counts: list[int] = []
    with opened(database) as connection:
        for outdated in find_outdated(connection, kept):
            more = True
            while more:
                count, more = remove_some(connection, chain, outdated)
                counts.append(count)
    return counts


def kept_revisions(database: Path) -> list[tuple[str, int]]:
    with opened(database) as connection:
        return connection.execute("SELECT service, revision FROM revisions ORDER BY service, revision").fetchall()


NEWEST = [("busy", 10), ("gone", 2), ("quiet", 1)]


def test_the_newest_revisions_are_kept(database: Path):
    """By number and by age, whichever says less; the newest one always, a deletion too; the audit log likewise."""
    remove(database, Kept())
    assert len(kept_revisions(database)) == 13
    remove(database, Kept(revisions=8, audit=9))
    assert kept_revisions(database) == [*(("busy", n) for n in range(3, 11)), ("gone", 1), *NEWEST[1:]]
    remove(database, Kept(revisions_since=1.5 + 8))
    assert kept_revisions(database) == [("busy", 8), ("busy", 9), *NEWEST]
    remove(database, Kept(revisions_since=1e9, audit_since=1e9))
    assert kept_revisions(database) == NEWEST
    with opened(database) as connection:
        assert connection.execute("SELECT after FROM audit").fetchall() == [(10,)]
    assert verify_file(database, CHAIN).broken == []
    assert verify_file(database, CHAIN).confirmed == 3 + 1 + 1


def test_it_goes_in_small_steps(database: Path, monkeypatch: pytest.MonkeyPatch):
    """However much there is to pass and to remove; each of them leaves a whole chain."""
    monkeypatch.setattr(retention, "_PASSED_AT_ONCE", 2)
    monkeypatch.setattr(retention, "_REMOVED_AT_ONCE", 2)
    with opened(database) as connection:
        (outdated,) = find_outdated(connection, Kept(revisions=1))[:1]
        assert outdated.service == "busy"
        more, counts = True, list[int]()
        while more:
            count, more = remove_some(connection, CHAIN, outdated)
            counts.append(count)
            assert verify_file(database, CHAIN).broken == []
    assert max(counts) <= 2
    assert sum(counts) == 9


def test_the_chain_goes_on(database: Path):
    """What is written afterwards is linked to what was, and can be removed in its turn."""
    remove(database, Kept(revisions=1, audit=1))
    with opened(database) as connection:
        for number in range(11, 15):
            apply(connection, CHAIN, [write("busy", number), write("quiet", number - 9)])
    assert verify_file(database, CHAIN).broken == []
    remove(database, Kept(revisions=2, audit=3))
    assert verify_file(database, CHAIN).broken == []
    assert kept_revisions(database) == [("busy", 13), ("busy", 14), ("gone", 2), ("quiet", 4), ("quiet", 5)]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM revisions WHERE service = 'quiet'", ["end"]),
        ("DELETE FROM audit WHERE sequence = (SELECT min(sequence) FROM audit)", ["end"]),
        ("UPDATE revisions SET author = 'luigi' WHERE service = 'quiet'", ["dev/quiet/1"]),
        ("UPDATE revisions SET config = CAST('{}' AS BLOB) WHERE service = 'quiet'", ["dev/quiet/1"]),
        ("UPDATE revisions SET sequence = 2 WHERE service = 'quiet'", ["dev/quiet/1", "end"]),
        ("DELETE FROM revisions WHERE revision = 9", ["audit/23"]),
        ("DELETE FROM revisions WHERE revision = 10", ["audit/25"]),
        (
            (
                "INSERT INTO revisions SELECT 'dev', 'busy', 2, version, timestamp, author, cause, checksum, config,"
                " changed, restart_required, breaking, comment, deleted, 3, digest, mac, code, home_sequence"
                " FROM revisions WHERE revision = 9"
            ),
            ["dev/busy/2", "end"],
        ),
    ],
)
def test_what_somebody_else_changes_afterwards_is_found(database: Path, statement: str, found: list[str]):
    """Rows before the start of the chain and behind it: changed, removed, added, moved; and the start itself."""
    remove(database, Kept(revisions=2, audit=4))
    tamper(database, statement)
    assert subjects(database) == found


@pytest.mark.parametrize(
    "statement", ["DELETE FROM meta WHERE name = 'chain_start'", "UPDATE meta SET value = '0' || value"]
)
def test_a_start_of_the_chain_that_is_not_what_was_written_counts_for_nothing(database: Path, statement: str):
    """Without it, the rows that were removed are missing."""
    remove(database, Kept(revisions=2, audit=4))
    tamper(database, statement)
    assert {"dev/gone/1", "audit/19"} <= set(subjects(database))


def test_an_older_start_of_the_chain_hides_nothing(database: Path):
    """Put back together with nothing else, or with the rows of its time taken away."""
    remove(database, Kept(revisions=5))
    with opened(database) as connection:
        old = connection.execute("SELECT value, mac FROM meta WHERE name = 'chain_start'").fetchone()
    remove(database, Kept(revisions=2))
    with opened(database) as connection:
        connection.execute("UPDATE meta SET value = ?, mac = ? WHERE name = 'chain_start'", old)
    assert {"standing", "audit/17"} <= set(subjects(database))


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        # Beyond the missing row nothing can be removed without hiding that it is missing.
        ("DELETE FROM revisions WHERE revision = 4", [("busy", n) for n in (5, 6, 7, 8, 9)]),
        ("UPDATE revisions SET author = 'luigi' WHERE revision = 4", [("busy", 4)]),
        ("UPDATE audit SET who = 'luigi' WHERE after = 4", []),
    ],
)
def test_what_was_changed_before_stays_to_be_seen(database: Path, statement: str, kept: list[tuple[str, int]]):
    """Retention removes no trace: a row that is not what was written stays, and so does a gap."""
    tamper(database, statement)
    before = set(subjects(database))
    remove(database, Kept(revisions=1, audit=1))
    assert set(kept_revisions(database)) >= set(kept)
    after = set(subjects(database))
    assert after
    assert after & before


def test_the_revision_in_force_stays_where_the_newest_one_is_forged(database: Path):
    """A start would load the one before it."""
    tamper(database, "UPDATE revisions SET config = x'7b7d' WHERE revision = 10")
    remove(database, Kept(revisions=1))
    assert [number for service, number in kept_revisions(database) if service == "busy"] == [9, 10]


def test_resealing_and_adoption_keep_the_chain_whole(database: Path):
    """The keys are changed, then lost, after rows were removed."""
    remove(database, Kept(revisions=2, audit=2))
    reseal_file(database, CHAIN, lambda document, _environment, _service: document)
    assert subjects(database) == []
    other = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"o" * 32))
    assert adopt_file(database, other) is not None
    assert subjects(database, other) == []
    remove(database, Kept(revisions=1, audit=1), other)
    assert subjects(database, other) == []
    tamper(database, "DELETE FROM revisions WHERE service = 'quiet'")
    assert subjects(database, other) == ["end"]


def test_a_verification_meanwhile_finds_nothing_missing(database: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows are removed while it is under way, more often than it begins again."""
    monkeypatch.setattr(maintenance, "_ROWS_PER_PIECE", 2)
    left = iter(range(9, 0, -1))

    def between() -> None:
        keep = next(left, None)
        if keep is not None:
            remove(database, Kept(revisions=keep, audit=keep))

    findings = verify_file(database, CHAIN, between=between)
    assert (findings.broken, findings.damage) == ([], [])


async def test_the_store_removes_and_the_file_shrinks(tmp_path: Path):
    """Commits go on between the steps; a number that is gone is told from one that never was."""
    path = tmp_path / "aliciacfg.db"
    pauses = 0
    async with SqliteStore.open(path, CHAIN) as store:
        for number in range(1, 80):
            record = revision("busy", number, {"text": "x" * 3000, "size": number})
            await store.commit([Write(records=(record,), audit=(entry("busy", number),))])
        assert await store.first_kept("dev", "busy") is None
        await store.scrub()
        before = path.stat().st_size

        async def pause() -> None:
            nonlocal pauses
            pauses += 1
            await store.commit([write("other", pauses)])

        removed = await store.remove_old(Kept(revisions=10, audit=10), pause=pause)
        assert (removed.revisions, removed.audit) == (69, 69)
        assert pauses > 4
        await store.scrub()
        assert path.stat().st_size < before / 2
        assert await store.first_kept("dev", "busy") == 70
        assert not (await store.verify()).broken
        assert len(await store.audit(before=None, limit=500, service="busy")) == 10


def test_an_old_file_is_written_anew_once(tmp_path: Path):
    """One that cannot shrink, of a version before there was retention."""
    path = tmp_path / "db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE filler (content BLOB)")
    database = written(path, [write("busy", number) for number in range(1, 4)])
    with opened(database) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert subjects(database) == []
