"""The contract of a store and of its database, for every backend."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from aliciacfg import documents
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import (
    START,
    Announcement,
    Applied,
    AuditEntry,
    Overlay,
    Position,
    Recipient,
    RecordHead,
    Renewal,
    ServingSchema,
    StoredState,
    Token,
    Write,
)
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.database import SqliteDatabase
from aliciacfg.storage.store import Database, Kept, Origin, Store, StoreError
from aliciacfg.storage.verifier import Findings
from stored_rows import CHAIN, KEY, KEYRING, OTHER, entry, revision, tombstone

if TYPE_CHECKING:
    from postgres import Postgres


@pytest.fixture
async def store(database: Database) -> AsyncGenerator[Store]:
    """An open store in which nothing was written yet."""
    async with database.open(CHAIN) as made:
        yield made


EVERYTHING = Write(
    records=(revision("one", 1, {"size": 1}, secret="open-sesame", comment="why"),),
    audit=(entry("one", 1),),
    overlays=(Overlay("dev", "one", b'{"size":1}', {"/size": 1}),),
    announcements=(Announcement("service/one", 7, b"x\x00y"), Announcement("environment", 1, b"", pending=False)),
    schemas=(ServingSchema("one", b"{}"), ServingSchema("two", None)),
    applied=(Applied("one", "a", "dev", 1, "c", "rejected", "why", 1.5, 2.0),),
    tokens=(Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1, expires=2.5),),
    recipients=(Recipient("one", "a" * 43), Recipient("two", None)),
    renewals=(Renewal("dev", "one", 7),),
    meta=(("active_environment", "dev"),),
    position=Position(2, 8),
)
ROWS = 1 + 1 + 1 + 2 + 2 + 1 + 1 + 2 + 1 + 1 + 2
"""Those of ``EVERYTHING``."""


async def everything(store: Store) -> list[str]:
    """All that can be read."""
    state = await store.load()
    lists = [
        state.records,
        state.overlays,
        state.announcements,
        state.schemas,
        list(state.meta.items()),
        state.renewals,
    ]
    lists += [await store.tokens(), await store.recipients(), await store.applied()]
    lists.append(await store.audit(before=None, limit=9, service=None))
    return sorted(repr(item) for found in lists for item in found)


async def test_an_empty_store_has_nothing(database: Database, store: Store):
    """Opening it makes the database; before, there was none."""
    assert await store.load() == StoredState([], [], [], [], [], {}, START)
    assert await store.record("dev", "one", 1) is None
    assert await store.history("dev", "one", before=None, limit=9) == []
    assert await store.audit(before=None, limit=9, service=None) == []
    assert (await store.tokens(), await store.recipients(), await store.applied()) == ([], [], [])
    assert [record async for record in store.revisions("one")] == []
    assert await store.key_ids() == set()
    assert database.exists()


async def test_a_database_exists_from_its_first_opening_on(database: Database):
    """Its name is for messages."""
    assert not database.exists()
    assert database.name
    async with database.open(CHAIN):
        assert database.exists()
    assert database.exists()


async def test_a_database_says_which_key_wrote_it(database: Database):
    """Its own, another one, which it names, or none."""
    other = Chain(Keyring.ephemeral())
    assert database.origin(CHAIN) == Origin(is_own=False, key_name="")
    async with database.open(CHAIN) as store:
        await store.commit([EVERYTHING])
    assert database.origin(CHAIN) == Origin(is_own=True, key_name="")
    assert database.origin(other) == Origin(is_own=False, key_name=CHAIN.key_name.hex())
    assert database.origin(other).is_foreign


async def test_what_was_committed_is_read_back(database: Database, store: Store):
    """Each part of a write, as it was, also by the next daemon."""
    await store.commit([EVERYTHING])
    state = await store.load()
    assert state.records == list(EVERYTHING.records)
    assert state.overlays == list(EVERYTHING.overlays)
    assert sorted(state.announcements, key=lambda item: item.subject) == sorted(
        EVERYTHING.announcements, key=lambda item: item.subject
    )
    assert sorted(state.schemas, key=lambda item: item.service) == list(EVERYTHING.schemas)
    assert state.meta == {"active_environment": "dev"}
    assert (state.renewals, state.position) == (list(EVERYTHING.renewals), Position(2, 8))
    assert await store.witnessed() == Position(2, 8)
    assert await store.tokens() == list(EVERYTHING.tokens)
    assert sorted(await store.recipients(), key=lambda item: item.service) == list(EVERYTHING.recipients)
    assert await store.applied() == list(EVERYTHING.applied)
    before = await everything(store)
    async with database.open(CHAIN) as again:
        assert await everything(again) == before


async def test_writes_of_one_transaction_apply_in_order(store: Store):
    """The last one of a key counts."""
    await store.commit(
        [
            Write(overlays=(Overlay("dev", "one", b'{"size":1}'), Overlay("dev", "two", b"{}")), meta=(("a", "1"),)),
            Write(overlays=(Overlay("dev", "one", b'{"size":2}'), Overlay("dev", "two", None)), meta=(("a", "2"),)),
            Write(records=(revision("one", 1, {}),)),
            Write(records=(revision("one", 2, {}),), recipients=(Recipient("one", "a"), Recipient("one", None))),
        ]
    )
    state = await store.load()
    assert state.overlays == [Overlay("dev", "one", b'{"size":2}')]
    assert state.meta == {"a": "2"}
    assert [record.revision for record in state.records] == [2]
    assert await store.recipients() == [Recipient("one", None)]


async def test_many_writes_leave_the_same_in_one_transaction_as_in_many(
    make_database: Callable[[Path], Database], tmp_path: Path
):
    """Also where they replace and remove the same overlay, announcement and position; the chain confirms both."""
    writes = [
        Write(
            records=(revision("one", number, {"size": number}),),
            audit=(entry("one", number),),
            overlays=(
                Overlay("dev", "one", None if number % 3 == 0 else b'{"size":1}', {"/size": number}),
                Overlay("dev", f"s{number % 2}", b"{}", {}),
            ),
            announcements=(
                Announcement("service/one", number, b"x"),
                Announcement(f"service/s{number % 2}", number, b"y"),
            ),
            meta=(("last", str(number)),),
            position=Position(1, number),
        )
        for number in range(1, 6)
    ]
    found: list[list[str]] = []
    for name, batches in (("one", [writes]), ("many", [[write] for write in writes])):
        (tmp_path / name).mkdir()
        database = await asyncio.to_thread(make_database, tmp_path / name)
        async with database.open(CHAIN) as store:
            for batch in batches:
                await store.commit(batch)
            found.append(await everything(store))
            assert (await store.verify()).broken == []
    assert found[0] == found[1]


async def test_a_commit_is_all_or_nothing(store: Store):
    """A write that fails takes those before and behind it with it; the next commit goes through."""
    await store.commit([EVERYTHING])
    before = await everything(store)
    good = Write(
        records=(revision("two", 1, {}),), audit=(entry("two", 1),), overlays=(Overlay("dev", "one", None),),
        announcements=(Announcement("service/one", 8, b"z"),), schemas=(ServingSchema("one", None),),
        forgotten=EVERYTHING.applied, recipients=(Recipient("one", None),), meta=(("active_environment", "prod"),),
    )  # fmt: skip
    # The revision is there already.
    bad = Write(records=EVERYTHING.records)
    for writes in ([good, bad], [bad, good]):
        with pytest.raises(Unavailable, match="cannot write"):
            await store.commit(writes)
        assert await everything(store) == before
    await store.commit([good])
    assert await everything(store) != before
    assert (await store.verify()).broken == []


async def test_an_empty_commit_changes_nothing(store: Store):
    """Neither without writes nor with a write of nothing."""
    await store.commit([EVERYTHING])
    before = await everything(store)
    await store.commit([])
    await store.commit([Write()])
    assert await everything(store) == before


async def test_load_returns_the_newest_revision_of_each_configuration(store: Store):
    """Deletions included: they say which number comes next."""
    records = [
        revision("one", 1, {}), revision("one", 2, {"size": 2}), revision("one", 1, {"size": 3}, environment="prod"),
        revision("two", 1, {}), tombstone("two", 2),
    ]  # fmt: skip
    await store.commit([Write(records=tuple(records))])
    found = {(record.environment, record.service): record for record in (await store.load()).records}
    assert {key: record.revision for key, record in found.items()} == {
        ("dev", "one"): 2, ("prod", "one"): 1, ("dev", "two"): 2,
    }  # fmt: skip
    assert found["dev", "two"].deleted


async def test_one_revision_is_read_as_it_was_written(store: Store):
    """Every field; None for a number that was never used, however large."""
    record = revision("one", 3, {"ü": "\x00"}, secret="öffne", comment="", breaking=True, changed=[])
    await store.commit([Write(records=(record,))])
    assert await store.record("dev", "one", 3) == record
    assert await store.record("dev", "one", 2) is None
    assert await store.record("prod", "one", 3) is None
    with pytest.raises(Unavailable):
        await store.record("dev", "one", 2**70)


async def test_history_is_read_in_pages_newest_first(store: Store):
    """Without content, and of one configuration."""
    records = tuple(revision("one", number, {"size": number}, comment=f"{number}") for number in range(1, 8))
    await store.commit([Write(records=(*records, revision("two", 9, {}), revision("one", 9, {}, environment="prod")))])
    before: int | None = None
    pages: list[list[int]] = []
    while page := await store.history("dev", "one", before=before, limit=3):
        pages.append([head.revision for head in page])
        before = page[-1].revision
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    (newest,) = await store.history("dev", "one", before=None, limit=1)
    fields = RecordHead.__struct_fields__
    assert [getattr(newest, name) for name in fields] == [getattr(records[-1], name) for name in fields]
    assert type(newest) is RecordHead


async def test_revisions_are_those_of_a_service_everywhere(store: Store):
    """All of them, with content."""
    records = (revision("one", 1, {}), revision("one", 2, {}), revision("one", 1, {}, environment="prod"))
    await store.commit([Write(records=(*records, revision("two", 1, {})))])
    found = [record async for record in store.revisions("one")]
    assert sorted(map(repr, found)) == sorted(map(repr, records))


def note(service: str | None, **fields: object) -> AuditEntry:
    return msgspec.structs.replace(entry("one"), **{"service": service, "after": None, **fields})


async def test_the_audit_log_is_read_in_pages_newest_first(store: Store):
    """Of one service, or all; with the checksums of the revisions that an entry names."""
    first, second = revision("one", 1, {"size": 1}), revision("one", 2, {"size": 2})
    change = note("one", before=1, after=2)
    await store.commit([Write(records=(first, second), audit=(change,))])
    await store.commit([Write(audit=(note("two", before=1), note(None, environment=None)))])
    await store.commit([Write(audit=(note("one", outcome="refused", count=3, detail=None),))])
    found = await store.audit(before=None, limit=9, service=None)
    assert [item.service for item in found] == ["one", None, "two", "one"]
    assert [item.sequence for item in found] == sorted((item.sequence for item in found), reverse=True)
    assert (found[-1].before_checksum, found[-1].after_checksum) == (first.checksum, second.checksum)
    assert [(item.before_checksum, item.after_checksum) for item in found[:-1]] == [(None, None)] * 3
    fields = AuditEntry.__struct_fields__
    assert [getattr(found[-1], name) for name in fields] == [getattr(change, name) for name in fields]
    assert (found[0].outcome, found[0].count) == ("refused", 3)
    assert [item.count for item in await store.audit(before=None, limit=9, service="one")] == [3, 1]
    assert await store.audit(before=None, limit=2, service=None) == found[:2]
    assert await store.audit(before=found[1].sequence, limit=9, service=None) == found[2:]
    assert await store.audit(before=found[0].sequence, limit=9, service="one") == found[3:]


async def test_an_announcement_is_confirmed_by_its_sequence(store: Store):
    """What was published after it still waits."""
    await store.commit(
        [Write(announcements=(Announcement("service/one", 1, b"a"), Announcement("service/two", 1, b"b")))]
    )
    await store.commit([Write(announcements=(Announcement("service/one", 2, b"c"),))])
    await store.commit([Write(confirmed=(Announcement("service/one", 1, b"a"), Announcement("service/two", 1, b"b")))])
    found = {item.subject: (item.payload, item.pending) for item in (await store.load()).announcements}
    assert found == {"service/one": (b"c", True), "service/two": (b"b", False)}


async def test_a_report_replaces_the_one_before_of_the_same_copy(store: Store):
    """Until it is forgotten."""
    first, second, other = (
        Applied("one", instance, "dev", number, "c", "applied", None, 1, 2)
        for instance, number in (("a", 1), ("a", 2), ("b", 1))
    )
    await store.commit([Write(applied=(first, other))])
    await store.commit([Write(applied=(second,))])
    assert sorted(await store.applied(), key=lambda item: item.instance) == [second, other]
    await store.commit([Write(forgotten=(first,))])
    assert await store.applied() == [other]


async def test_a_token_is_replaced_when_it_is_revoked(store: Store):
    """There is one row for each token."""
    (token,) = EVERYTHING.tokens
    revoked = msgspec.structs.replace(token, revoked=9.0)
    await store.commit([EVERYTHING])
    await store.commit([Write(tokens=(revoked,))])
    assert await store.tokens() == [revoked]


async def test_a_revision_that_is_sealed_further_stays_confirmed(store: Store):
    """A value that a schema now calls secret is sealed in place; content and checksum change, the MAC does not."""
    plain = revision("one", 1, {"secret": "open-sesame"})
    sealed = revision("one", 1, {}, secret="open-sesame")
    await store.commit([Write(records=(plain, revision("one", 2, {})))])
    await store.commit([Write(resealed=(sealed,))])
    found = await store.record("dev", "one", 1)
    assert found is not None
    assert (found.config, found.checksum) == (sealed.config, sealed.checksum)
    assert await store.verify() == Findings(confirmed=2)


ROTATED = Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32)


def reseal(document: bytes, environment: str, service: str) -> bytes:
    return sealed_documents.reseal(document, ROTATED, service=service, environment=environment).document


async def write_secrets(store: Store) -> None:
    """Three revisions, a deletion and an overlay, with secrets in all that can hold any."""
    box = KEYRING.seal("open-sesame", service="one", environment="dev", pointer="/secret")
    overlay = Overlay("dev", "one", documents.encode({"secret": box}), {"/secret": 1})
    records = (*(revision("one", number, {}, secret=f"{number}") for number in (1, 2, 3)), tombstone("one", 4))
    await store.commit([Write(records=records, overlays=(overlay,))])


async def test_resealing_replaces_every_box(database: Database, store: Store):
    """Revisions and overlays, so that the old key is not needed any more; every row stays confirmed."""
    await write_secrets(store)
    assert await store.key_ids() == {KEY.public.key_id}
    assert database.key_ids() == {KEY.public.key_id}
    before = await store.verify()
    await store.reseal(reseal)
    assert await store.key_ids() == {OTHER.public.key_id}
    alone = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32))
    assert database.verify(alone) == before == Findings(confirmed=5)
    (overlay,) = (await store.load()).overlays
    assert (overlay.origins, overlay.confirmed) == ({"/secret": 1}, True)


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_resealing_is_all_or_nothing(store: Store, after: int):
    """An error of the function, at whichever document, leaves every box as it was."""
    await write_secrets(store)
    before = await everything(store)
    left = iter(range(after))

    def fails(document: bytes, environment: str, service: str) -> bytes:
        if next(left, None) is None:
            raise ZeroDivisionError
        return reseal(document, environment, service)

    with pytest.raises(ZeroDivisionError):
        await store.reseal(fails)
    assert await everything(store) == before
    assert await store.key_ids() == {KEY.public.key_id}
    await store.commit([Write(audit=(entry("one"),))])
    assert (await store.verify()).broken == []


async def test_a_closed_database_is_sealed_anew_as_an_open_one(database: Database):
    """For commands, while no daemon runs."""
    async with database.open(CHAIN) as store:
        await write_secrets(store)
    database.reseal(CHAIN, reseal)
    assert database.key_ids() == {OTHER.public.key_id}
    assert database.verify(Chain(ROTATED)) == Findings(confirmed=5)


def content(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def test_nothing_of_what_was_replaced_is_left_after_a_scrub(store: Store, tmp_path: Path):
    """A value in plain text that is sealed now is in none of the database's files any more."""
    word = "a-word-that-is-nowhere-else"
    await store.commit([Write(records=(revision("one", 1, {"secret": word}),))])
    await store.commit([Write(resealed=(revision("one", 1, {}, secret=word),))])
    await store.scrub()
    assert word.encode() not in content(tmp_path)


async def test_every_row_is_confirmed_by_the_key_that_wrote_it(database: Database, store: Store):
    """And by no other."""
    await store.commit([EVERYTHING])
    assert await store.verify() == database.verify(CHAIN) == Findings(confirmed=ROWS)
    other = database.verify(Chain(Keyring.ephemeral()))
    assert (other.confirmed, len(other.broken) >= ROWS) == (0, True)


async def test_a_verification_holds_nobody_up(store: Store):
    """Reads and commits go on while thousands of rows are compared; a row that is added meanwhile is not broken."""
    await store.commit([Write(audit=(entry("one"),) * 3000)])
    check = asyncio.create_task(store.verify())
    meanwhile = 0
    for number in range(1, 20):
        await store.commit([Write(records=(revision("one", number, {}),), audit=(entry("one", number),))])
        assert await store.record("dev", "one", number) is not None
        if check.done():
            break
        meanwhile += 1
    # On a busy machine the comparison may be through before the others are.
    assert meanwhile
    assert (await check).broken == []


async def test_a_cancelled_verification_ends_at_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A daemon that stops does not wait until its rows are compared."""
    # All rests together would take minutes.
    monkeypatch.setattr(sys.modules[type(store).__module__], "_PAUSE_SECONDS", 1.0)
    await store.commit([Write(audit=(entry("one"),) * 3000)])
    check = asyncio.create_task(store.verify())
    await asyncio.sleep(0.05)
    assert not check.done()
    check.cancel()
    with pytest.raises(asyncio.CancelledError):
        await check
    async with asyncio.timeout(20):
        await asyncio.get_running_loop().shutdown_default_executor()


async def test_calls_that_overlap_do_not_mix(store: Store):
    """Commits are whole, one after another, and reads see whole commits."""

    async def write(number: int) -> None:
        await store.commit(
            [Write(overlays=(Overlay("dev", "one", b"%d" % number), Overlay("dev", "two", b"%d" % number)))]
        )

    async def read() -> None:
        assert len({overlay.patch for overlay in (await store.load()).overlays}) <= 1

    await asyncio.gather(*(call for number in range(20) for call in (write(number), read())))
    assert await store.verify() == Findings(confirmed=2)


def spoil(request: pytest.FixtureRequest, database: Database) -> None:
    """Leave something in a database's place that is none."""
    if isinstance(database, SqliteDatabase):
        Path(database.name).write_bytes(b"this is no database" * 1000)
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.url(database.name.rpartition("/")[2])
    server.execute("DROP TABLE aliciacfg.meta", "SELECT 1", url=url)


async def test_a_database_that_cannot_be_opened_says_so(request: pytest.FixtureRequest, database: Database):
    """In the words of the program, whatever the backend raises."""
    async with database.open(CHAIN) as store:
        await store.commit([EVERYTHING])
    await asyncio.to_thread(spoil, request, database)
    with pytest.raises(StoreError):
        async with database.open(CHAIN):
            pass
    with pytest.raises(StoreError):
        database.reseal(CHAIN, reseal)
    with pytest.raises(StoreError):
        database.key_ids()
    assert database.verify(CHAIN).damage


ODD = "a\x00b\x1ac\x1a0\x1a1\U0001f600\n"


async def test_every_text_that_can_be_written_is_read_back(database: Database, store: Store):
    """Also with U+0000, which some databases do not store; codes and keys of rows hold."""
    write = Write(
        records=(revision("one", 1, {ODD: ODD}, comment=ODD, author=ODD, cause="api", changed=[ODD]),),
        audit=(msgspec.structs.replace(entry("one", 1), who=ODD, where=ODD, detail=ODD),),
        overlays=(Overlay("dev", "one", b'"\x00\xff"', {ODD: 1}),),
        announcements=(Announcement(ODD, 7, b"\x00\x1a\xff"),),
        schemas=(ServingSchema("one", ODD.encode()),),
        applied=(Applied("one", ODD, "dev", 1, ODD, "rejected", ODD, 1.5, 2.0),),
        tokens=(Token(token_id="0" * 12, digest="d", name=ODD, role="reader", created=1),),
        recipients=(Recipient("one", ODD),),
        meta=((ODD, ODD),),
    )
    for _ in range(2):
        # Once to add each row, once to replace it.
        await store.commit([write if not (await store.load()).records else msgspec.structs.replace(write, records=())])
        state = await store.load()
        assert (state.records, state.overlays, state.announcements) == (
            list(write.records), list(write.overlays), list(write.announcements),
        )  # fmt: skip
        assert (state.schemas, state.meta) == (list(write.schemas), dict(write.meta))
        assert await store.applied() == list(write.applied)
        assert await store.tokens() == list(write.tokens)
        assert await store.recipients() == list(write.recipients)
        (found, *_) = await store.audit(before=None, limit=9, service=None)
        assert (found.who, found.where, found.detail) == (ODD, ODD, ODD)
    assert (await store.verify()).broken == database.verify(CHAIN).broken == []
    await store.commit([Write(forgotten=write.applied, confirmed=write.announcements)])
    assert await store.applied() == []
    assert not (await store.load()).announcements[0].pending


@pytest.mark.parametrize(
    "write",
    [
        Write(records=(revision("one", 2**63, {}),)),
        Write(records=(revision("one", 1, {}, home_sequence=2**70),)),
        Write(records=(revision("one", 1, {}, timestamp=float("nan")),)),
        Write(audit=(msgspec.structs.replace(entry("one"), count=2**63),)),
        Write(audit=(msgspec.structs.replace(entry("one"), timestamp=float("nan")),)),
        Write(audit=(msgspec.structs.replace(entry("one"), detail="\udc00"),)),
        Write(announcements=(Announcement("one", -(2**64), b""),)),
    ],
)
async def test_what_no_database_can_hold_is_refused(store: Store, write: Write):
    """Numbers of more than 64 bits, what is no number, and half a character: nothing is written, and others are."""
    await store.commit([Write(meta=(("before", ""),))])
    with pytest.raises((Unavailable, UnicodeEncodeError, OverflowError)):
        await store.commit([Write(meta=(("with-it", ""),)), write])
    await store.commit([Write(meta=(("after", ""),))])
    assert set((await store.load()).meta) == {"before", "after"}
    assert await store.audit(before=None, limit=9, service=None) == []
    assert (await store.verify()).broken == []


async def test_old_revisions_and_audit_entries_are_removed(store: Store):
    """By number and by age; never the newest one. A verification finds nothing, and the chain goes on."""
    deletion = (tombstone("gone", 1), tombstone("gone", 2))
    await store.commit([Write(records=(revision("quiet", 1, {}), *deletion))])
    for number in range(1, 41):
        await store.commit([Write(records=(revision("busy", number, {}),), audit=(entry("busy", number),))])
    assert await store.first_kept("dev", "busy") is None

    async def pause() -> None:
        await store.commit([Write(audit=(entry("quiet"),))])

    removed = await store.remove_old(Kept(revisions=10, audit=20), pause=pause)
    # Those that came meanwhile are more than the count.
    assert (removed.revisions, removed.audit >= 20) == (30, True)
    assert await store.first_kept("dev", "busy") == 31
    assert await store.first_kept("dev", "gone") == 1
    assert [head.revision for head in await store.history("dev", "busy", before=None, limit=99)] == [*range(40, 30, -1)]
    await store.remove_old(Kept(revisions_since=1.5 + 35), pause=pause)
    assert [head.revision for head in await store.history("dev", "busy", before=None, limit=99)] == [*range(40, 34, -1)]

    async def rest() -> None:
        pass

    await store.remove_old(Kept(revisions_since=1e9, audit_since=1e9), pause=rest)
    assert len(await store.audit(before=None, limit=9, service=None)) == 1
    state = await store.load()
    assert sorted((record.service, record.revision) for record in state.records) == [
        ("busy", 40), ("gone", 2), ("quiet", 1),
    ]  # fmt: skip
    await store.commit([Write(records=(revision("busy", 41, {}),), audit=(entry("busy", 41),))])
    assert (await store.verify()).broken == []


async def test_a_copy_holds_every_row_as_it_is(database: Database, store: Store, tmp_path: Path):
    """It is a database file of its own, which the same keys confirm; commits go on meanwhile."""
    await store.commit([EVERYTHING])
    await store.commit([Write(overlays=(Overlay("dev", "two", b"{}"),), records=(revision("one", 2, {}),))])
    await store.commit([Write(overlays=(Overlay("dev", "two", None),))])
    before = await everything(store)
    for name, copy in (
        ("open", store.backup),
        ("at-rest", lambda to: asyncio.to_thread(database.backup, to)),
    ):
        (tmp_path / name).mkdir()
        await copy(tmp_path / name)
        copied = database_in(tmp_path / name)
        assert copied.verify(CHAIN) == database.verify(CHAIN) == Findings(confirmed=ROWS + 1)
        assert copied.describe().head == database.describe().head != ""
        async with copied.open(CHAIN) as opened:
            assert await everything(opened) == before
            await opened.commit([Write(records=(revision("one", 3, {}),))])
            assert (await opened.verify()).broken == []
        with pytest.raises(Unavailable, match="cannot be written"):
            await copy(tmp_path / name)


async def test_a_database_describes_itself(database: Database, store: Store):
    """What it holds, without verifying anything."""
    await store.commit(
        [EVERYTHING, Write(records=(revision("one", 2, {}), revision("two", 1, {}), tombstone("two", 2)))]
    )
    found = database.describe()
    assert (found.position, found.rows, found.configurations, found.revisions) == (Position(2, 8), 5, 1, 4)
    assert found.meta["active_environment"] == "dev"
    assert len(found.head) == 64
