"""The keyed chain: whatever somebody changes in the database is found, and nothing else is."""

import asyncio
import base64
import contextlib
import itertools
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import InvalidRequest, NotFound, Unavailable
from aliciacfg.model.records import AuditEntry, Overlay, Record, Write
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring, PrivateKey
from aliciacfg.sealing.sealed_documents import checksum
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import connect, key_ids_in_file, reseal_file, verify_file
from aliciacfg.storage.sqlite.schema import MIGRATIONS, migrate
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.sqlite.transaction import apply
from aliciacfg.storage.store import StoreError
from aliciacfg.storage.verifier import Findings
from builders import environment_file, valid_config
from inprocess import Core, Home

KEY = PrivateKey.generate()
KEYRING = Keyring(current=KEY.public.key_id, keys=[KEY], digest_key=b"d" * 32)
CHAIN = Chain(KEYRING)
OTHER = PrivateKey.generate()


def revision(
    service: str,
    number: int,
    document: JsonObject,
    *,
    secret: str | None = None,
    keyring: Keyring = KEYRING,
    **fields: Any,
) -> Record:
    """A revision as the daemon writes it; ``secret`` stands sealed at ``/secret``."""
    secrets = {} if secret is None else {"/secret": secret}
    plain: JsonObject = {**document, **({} if secret is None else {"secret": secret})}
    boxes = {p: keyring.seal(v, service=service, environment="dev", pointer=p) for p, v in secrets.items()}
    sealed = documents.replace_strings({**plain, "version": "1.0.0"}, boxes)
    made: dict[str, Any] = {
        "environment": "dev", "service": service, "revision": number, "version": "1.0.0", "timestamp": 1.5 + number,
        "author": "mario", "cause": "api", "checksum": checksum(keyring, service, dict(plain), secrets),
        "digest": Chain(keyring).digest({**plain, "version": "1.0.0"}, service=service, environment="dev"),
        "changed": ["/a", "/b"], "restart_required": ["/a"], "config": documents.canonical(sealed), **fields,
    }  # fmt: skip
    return Record(**made)


def tombstone(service: str, number: int) -> Record:
    return revision(service, number, {}, deleted=True, config=b"{}", checksum="",
                    digest=CHAIN.digest({}, service=service, environment="dev"))  # fmt: skip


def entry(service: str, after: int | None = None) -> AuditEntry:
    return AuditEntry(
        timestamp=2.5, who="mario", where="mqtt", operation="set", outcome="done", environment="dev", service=service,
        before=None, after=after, detail="x", count=1,
    )  # fmt: skip


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def written(path: Path, writes: list[Write], chain: Chain = CHAIN) -> Path:
    """A database as the daemon leaves it."""
    with contextlib.closing(connect(path)) as connection:
        migrate(connection, chain, trust_old_rows=False)
        for write in writes:
            apply(connection, chain, [write])
    return path


def three(path: Path) -> Path:
    """Three revisions of one service with a secret, its overlay, and the audit of all."""
    writes = [
        Write(
            records=(revision("one", number, {"size": number}, secret="open-sesame"),),
            audit=(entry("one", number),),
            overlays=(Overlay("dev", "one", documents.canonical({"size": number}), {"/size": number}),),
        )
        for number in range(1, 4)
    ]
    return written(path, writes)


def tamper(path: Path, *statements: str) -> None:
    with opened(path) as connection:
        for statement in statements:
            connection.execute(statement)


def subjects(path: Path, chain: Chain = CHAIN) -> list[str]:
    return [broken.subject for broken in verify_file(path, chain).broken]


DELETE_2 = "DELETE FROM revisions WHERE revision = 2"
OLD_OVERLAY = CHAIN.overlay_mac(Overlay("dev", "one", b'{"size":1}', {"/size": 1})).hex()


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ([DELETE_2], ["audit/4"]),
        (["DELETE FROM revisions WHERE revision = 3", "DELETE FROM audit WHERE sequence = 6"], ["end"]),
        (["DELETE FROM audit WHERE sequence = 6"], ["end"]),
        (["DELETE FROM revisions", "DELETE FROM audit"], ["end"]),
        (["DELETE FROM revisions", "DELETE FROM audit", "DELETE FROM overlays", "DELETE FROM chain"], ["end"]),
        (["DELETE FROM overlays"], ["standing"]),
        ([(f"UPDATE overlays SET patch = CAST('{{\"size\":1}}' AS BLOB), origins = CAST('{{\"/size\":1}}' AS BLOB),"
          f" mac = x'{OLD_OVERLAY}'")], ["standing"]),
        (["UPDATE overlays SET patch = CAST('{\"size\":9}' AS BLOB)"], ["dev/one/overlay"]),
        (["UPDATE chain SET sequence = 4"], ["end"]),
        (["DELETE FROM chain"], ["end"]),
        (["UPDATE revisions SET author = x'ff' WHERE revision = 2"], ["dev/one/2"]),
        (["UPDATE revisions SET author = CAST(x'ff' AS TEXT) WHERE revision = 2"], ["dev/one/2"]),
        (["UPDATE revisions SET config = CAST('{' AS BLOB) WHERE revision = 2"], ["dev/one/2"]),
        (["UPDATE revisions SET config = x'ff' WHERE revision = 2"], ["dev/one/2"]),
        (["UPDATE revisions SET config = CAST('[1]' AS BLOB) WHERE revision = 2"], ["dev/one/2"]),
        # The content of one revision put into another.
        (["UPDATE revisions SET config = (SELECT config FROM revisions WHERE revision = 1) WHERE revision = 2"],
         ["dev/one/2"]),
        ([("UPDATE revisions SET (config, checksum, digest) = (SELECT config, checksum, digest FROM revisions"
          " WHERE revision = 1) WHERE revision = 2")], ["dev/one/2"]),
    ],
)  # fmt: skip
def test_what_somebody_did_is_told_where_it_stands(tmp_path: Path, statements: list[str], found: list[str]):
    """Rows taken out anywhere, changed, put back to older ones; and every row that is as it was is confirmed."""
    path = three(tmp_path / "db")
    assert verify_file(path, CHAIN) == Findings(confirmed=7)
    tamper(path, *statements)
    assert subjects(path) == found


def test_two_rows_that_changed_places_are_found(tmp_path: Path):
    """Both, and what is linked to them."""
    path = three(tmp_path / "db")
    tamper(
        path,
        "UPDATE revisions SET sequence = 99 WHERE revision = 1",
        "UPDATE revisions SET sequence = 1 WHERE revision = 2",
        "UPDATE revisions SET sequence = 3 WHERE revision = 1",
    )
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(path))


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
            yield {**document, key: KEYRING.seal("else", service="one", environment="dev", pointer=f"/{key}")}
        else:
            yield {**document, key: [value]}
            yield {**document, key: not value if isinstance(value, bool) else f"{value}x"}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM chain"],
        ["DELETE FROM revisions WHERE revision = 3", "DELETE FROM audit WHERE sequence > 4", "DELETE FROM chain"],
        ["UPDATE chain SET sealed = x'00'"],
        ["UPDATE chain SET mac = 5"],
        ["DELETE FROM revisions", "DELETE FROM audit", "DELETE FROM chain"],
    ],
)
def test_an_end_that_was_tampered_with_is_found_whatever_comes_after(tmp_path: Path, statements: list[str]):
    """Neither the next start nor the next write makes good what was cut off; writes go on."""
    path = three(tmp_path / "db")
    tamper(path, *statements)
    for number in range(8, 10):
        written(path, [Write(records=(revision("two", number, {"x": 1}),))])
    assert subjects(path) == ["dev/two/8"]


def test_a_row_put_behind_the_end_is_not_in_the_way(tmp_path: Path):
    """The next revision finds a place behind it, and what was moved is told."""
    path = three(tmp_path / "db")
    tamper(
        path,
        "UPDATE revisions SET sequence = 7 WHERE revision = 2",
        "UPDATE revisions SET sequence = 9223372036854775807 WHERE revision = 1",
    )
    written(path, [Write(records=(revision("two", 1, {"x": 1}),))])
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(path))


def test_a_secret_whose_key_is_gone_is_told_apart_from_a_damaged_one(tmp_path: Path):
    """Nothing about the first can be said; the second was tampered with."""
    path = three(tmp_path / "db")
    without = Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32)
    assert verify_file(path, Chain(without)) == Findings(confirmed=7, unreadable=3)
    box = revision("one", 2, {}, secret="another").config
    tamper(path, f"UPDATE revisions SET config = x'{box.replace(b'A', b'B').hex()}' WHERE revision = 2")
    assert subjects(path) == ["dev/one/2"]


@pytest.mark.parametrize("names", [("damaged", "missing"), ("missing", "damaged")])
def test_a_missing_key_does_not_hide_a_damaged_secret(names: tuple[str, str]):
    """Wherever the two stand: what is damaged was tampered with, whatever else cannot be opened."""
    other = Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32)
    sealed = {"damaged": KEYRING.seal("x", service="one", environment="dev", pointer="/elsewhere")}
    sealed["missing"] = other.seal("y", service="one", environment="dev", pointer=f"/{names.index('missing')}")
    document: JsonObject = {str(place): sealed[name] for place, name in enumerate(names)}
    record = revision("one", 1, {}, config=documents.canonical(document))
    assert not CHAIN.confirms(record)
    with pytest.raises(InvalidRequest, match=f"/{names.index('damaged')} is bound to another place"):
        CHAIN.recompute(record)


def test_sealing_anew_changes_no_code(tmp_path: Path):
    """Another box for the same secret at the same place is the same content."""
    path = three(tmp_path / "db")
    with opened(path) as connection:
        for number, config in connection.execute("SELECT revision, config FROM revisions").fetchall():
            document = json.loads(config)
            document["secret"] = KEYRING.seal("open-sesame", service="one", environment="dev", pointer="/secret")
            connection.execute(
                "UPDATE revisions SET config = ? WHERE revision = ?", (json.dumps(document).encode(), number)
            )
    assert verify_file(path, CHAIN).broken == []


def test_a_rotation_of_keys_hides_nothing(tmp_path: Path):
    """What was tampered with stays as it is, and as found as it was; everything else is sealed anew."""
    path = three(tmp_path / "db")
    written(path, [Write(overlays=(Overlay("dev", "two", b'{"size":1}'), Overlay("dev", "bad", b'{"size":1}')))])
    tamper(
        path,
        "UPDATE revisions SET config = CAST('sealed:v1:x' AS BLOB) WHERE revision = 2",
        "UPDATE overlays SET patch = CAST('{\"size\":9}' AS BLOB) WHERE service = 'two'",
        "UPDATE overlays SET patch = x'ff' WHERE service = 'bad'",
    )
    before = subjects(path)
    assert set(before) == {"dev/one/2", "dev/two/overlay", "dev/bad/overlay"}
    rotated = Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32)

    def reseal(document: bytes, environment: str, service: str) -> bytes:
        return sealed_documents.reseal(document, rotated, service=service, environment=environment).document

    reseal_file(path, Chain(rotated), reseal, trust_old_rows=False)
    assert subjects(path, Chain(rotated)) == before
    assert key_ids_in_file(path) == {OTHER.public.key_id}


# The first schema of the database, from before there was a chain.
BEFORE_THE_CHAIN = MIGRATIONS[0] + "PRAGMA user_version = 1;"
OLD_COLUMNS = [
    "environment", "service", "revision", "version", "timestamp", "author", "cause", "checksum", "config", "changed",
    "restart_required", "breaking", "comment", "deleted",
]  # fmt: skip


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
    for _ in range(2):
        async with SqliteStore.open(path, CHAIN, trust_old_rows=True) as opened_store:
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
    """The chain cannot know better; a row that cannot be read at all stops the start with its name."""
    before_the_chain(tmp_path / "db", OLD_ROWS)
    tamper(
        tmp_path / "db",
        "UPDATE revisions SET config = CAST('{\"size\":7}' AS BLOB) WHERE service = 'two' AND revision = 1",
    )
    async with SqliteStore.open(tmp_path / "db", CHAIN, trust_old_rows=True):
        pass
    assert subjects(tmp_path / "db") == ["dev/two/1"]
    before_the_chain(tmp_path / "damaged", OLD_ROWS)
    tamper(tmp_path / "damaged", "UPDATE revisions SET config = x'ff' WHERE service = 'two' AND revision = 1")
    for _ in range(2):
        with pytest.raises(StoreError, match="revision 1 of two in dev is damaged"):
            async with SqliteStore.open(tmp_path / "damaged", CHAIN, trust_old_rows=True):
                pass


async def test_secrets_that_did_not_open_when_their_rows_were_taken_in_raise_no_alarm_later(tmp_path: Path):
    """Taken in without their key, confirmed without their content, also once the key is back."""
    path = tmp_path / "db"
    before_the_chain(path, OLD_ROWS)
    without = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32))
    async with SqliteStore.open(path, without, trust_old_rows=True):
        pass
    assert verify_file(path, without) == Findings(confirmed=6, unreadable=2)
    both = Chain(Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32))
    assert verify_file(path, both) == Findings(confirmed=6, unreadable=2)
    assert [record.checksum != "" for record in (await loaded(path, both)).records] == [True, False]


async def loaded(path: Path, chain: Chain) -> Any:
    async with SqliteStore.open(path, chain) as opened_store:
        return await opened_store.load()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two services in two environments."""
    return Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}}, settings={"size": 1}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {},
        },
    )


async def change(core: Core, service: str = "one", environment: str = "dev", **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings}, environment=environment)


async def rows(core: Core) -> list[str]:
    """The rows that a verification finds."""
    await core.parts.drift_checks.verify()
    return [item["subject"] for item in (await core.ask("drift"))["drift"] if item["kind"] == "row"]


FORGED = "UPDATE revisions SET config = CAST(replace(CAST(config AS TEXT), '\"size\":5', '\"size\":6') AS BLOB)"


@pytest.mark.parametrize(
    "statement",
    [
        f"{FORGED} WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET config = x'ff' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET config = CAST('[]' AS BLOB) WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET cause = 'magic' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET version = 'banana' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET checksum = 'x' WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET deleted = 1 WHERE service = 'one' AND revision = 3",
        "UPDATE revisions SET author = CAST(x'ff' AS TEXT) WHERE service = 'one' AND revision = 3",
    ],
)
async def test_a_newest_revision_that_was_tampered_with_is_not_served(home: Home, statement: str):
    """What files and run-time changes say is served, from the next start on as a revision of its own; it is drift."""
    async with home.core() as core:
        await change(core, size=4)
        await change(core, size=5)
        before = await core.ask("get", "one")
    tamper(home.database, statement)
    async with home.core() as core:
        after = await core.ask("get", "one")
        assert after["config"]["settings"] == {"size": 5}
        assert after["checksum"] == before["checksum"]
        assert after["revision"] in {3, 4}
        assert "dev/one/3" in await rows(core)
        assert any(alert.kind == "drift" and alert.service == "one" for alert in core.heard)
        await change(core, size=7)
    async with home.core() as core:
        assert (await core.settings("one"))["size"] == 7
        assert "dev/one/3" in await rows(core)


async def test_an_old_revision_that_was_tampered_with_is_neither_shown_nor_brought_back(home: Home):
    """`unavailable` says why; the others are there, and the daemon goes on."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        tamper(home.database, f"{FORGED} WHERE service = 'one' AND revision = 2")
        for operation in ("get", "rollback"):
            with pytest.raises(Unavailable, match="not what was written"):
                await core.ask(operation, "one", revision=2)
        with pytest.raises(Unavailable, match="not what was written"):
            await core.ask("compare", "one", env1="dev", rev1=2)
        with pytest.raises(NotFound):
            await core.ask("rollback", "one", revision=9)
        await core.ask("rollback", "one", revision=1)
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == ["dev/one/2"]


async def test_a_damaged_revision_keeps_no_schema_from_calling_more_secret(home: Home):
    """Every other one is sealed further; the damaged one stays found."""
    async with home.core() as core:
        for door in ("first", "second", "third"):
            await change(core, door=f"{door} word")
        tamper(
            home.database,
            "UPDATE revisions SET config = x'ff' WHERE service = 'one' AND revision = 2",
            "UPDATE revisions SET cause = 'magic' WHERE service = 'two' AND revision = 1",
        )
        marked = {"properties": {"settings": {"properties": {"door": {"type": "string", "x-sensitive": True}}}}}
        home.write("schemas/one.yaml", marked)
        home.write("schemas/two.yaml", marked)
        await core.ask("reload")
        assert await core.settings("one") == {"size": 1, "door": "***"}
        assert (await core.ask("get", "one", revision=3))["config"]["settings"]["door"] == "***"
        assert set(await rows(core)) == {"dev/one/2", "dev/two/1", "prod/two/1"}
        for word in (b"second word", b"third word"):
            assert word not in home.stored


async def test_a_running_daemon_does_not_read_back_what_was_tampered_with(home: Home):
    """An answer that is not cached is rendered from memory, never from the store."""
    async with home.core(cache_ttl_seconds="0") as core:
        await change(core, size=5)
        tamper(home.database, f"{FORGED} WHERE service = 'one' AND revision = 2")
        assert await core.settings("one") == {"size": 5}


@pytest.mark.parametrize("statement", ["UPDATE overlays SET patch = CAST('{\"settings\":{\"size\":9}}' AS BLOB)",
                                       "UPDATE overlays SET patch = x'ff'",
                                       "UPDATE overlays SET patch = 7",
                                       "UPDATE overlays SET origins = CAST('[' AS BLOB)"])  # fmt: skip
async def test_changes_that_were_tampered_with_are_not_used(home: Home, statement: str):
    """The last revision goes on serving, an alert and drift say so; setting the service anew mends it."""
    async with home.core() as core:
        await change(core, size=5)
        before = await core.ask("get", "one")
    tamper(home.database, statement)
    for _ in range(2):
        async with home.core() as core:
            assert await core.ask("get", "one") == before
            assert "somebody changed them in the database" in core.told("undecryptable")
            assert "one" in core.told("undecryptable")
            assert "dev/one/overlay" in await rows(core)
            home.write("environments/dev.yaml", {"defaults": {"settings": {"color": "red"}}})
            await core.ask("reload")
            assert await core.settings("two") == {"size": 1, "color": "red"}
            assert await core.settings("one") == {"size": 5}
    async with home.core() as core:
        await core.ask("set", "one", config={**before["config"], "settings": {"size": 6, "color": "red"}})
        assert await core.settings("one") == {"size": 6, "color": "red"}
    async with home.core() as core:
        assert core.standing == {}
        assert await core.settings("one") == {"size": 6, "color": "red"}
        assert "dev/one/overlay" not in await rows(core)


async def test_changes_that_were_taken_out_of_the_database_are_found(home: Home):
    """The service falls back to its files, and drift says for good that something is missing."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, "two", size=5)
    tamper(home.database, "DELETE FROM overlays WHERE service = 'one'")
    async with home.core() as core:
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == ["standing"]
        await change(core, size=6)
        await core.ask("unset", "two", pointer="")
        assert await rows(core) == ["standing"]


async def test_a_normal_life_raises_no_alarm(home: Home):
    """Writes, refusals, deletions, comebacks, rollbacks, migrations, activations, full disks, restarts."""
    home.write(
        "schemas/one.yaml",
        {
            "version": "1.0.0",
            "properties": {"settings": {"properties": {"key": {"x-sensitive": True, "type": "string"}}}},
        },
    )
    async with home.core() as core:
        guest = valid_config(settings={"size": 3}, mqtt_config={"username": "guest"})
        for number in range(4):
            await change(core, size=number, key=f"secret {number}")
            await core.ask("set", "guest", config={**guest, "limits": {"n": number}})
        await core.ask("delete", "guest")
        await core.ask("rollback", "guest", revision=2)
        await core.ask("delete", "one", allow_breaking=True)
        await core.ask("rollback", "one", revision=3)
        assert await rows(core) == []
        await fail_once(core)
        await core.ask("delete", "guest")
        home.write(
            "schemas/one.yaml",
            {
                "version": "2.0.0",
                "properties": {"settings": {"properties": {"door_key": {"x-sensitive": True, "type": "string"}}}},
            },
        )
        home.write(
            "schemas/one/migrations/1-to-2.yaml",
            [{"op": "move", "from": "/settings/key", "path": "/settings/door_key"}],
        )
        await core.ask("reload", migrate=True)
        await core.ask("activate", "prod")
        assert await rows(core) == []
    for environment in ("prod", "dev", "dev"):
        async with home.core(environment) as core:
            await change(core, "two", environment, size=9)
            assert await rows(core) == []
            assert core.standing == {}


async def fail_once(core: Core) -> None:
    """A write that the disk refuses, and one after it that it takes."""
    commit = core.parts.store.commit

    async def commit_what_is_there(writes: Sequence[Write]) -> None:
        await commit([*writes, Write(records=(revision("one", 1, {}),))])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.parts.store, "commit", commit_what_is_there)
        with pytest.raises(Unavailable):
            await change(core, "two", size=77)
    await change(core, "two", size=78)


async def test_a_lost_key_file_keeps_nobody_from_what_is_no_secret(home: Home):
    """Nothing of before is confirmed, which is drift; but plain changes and revisions are used and read on."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        await change(core, "two", key="secret")
    (home.keys).unlink()
    for number in range(2):
        async with home.core() as core:
            assert await core.settings("one") == {"size": 6 + number}
            await change(core, size=7 + number)
            assert (await core.ask("get", "one", revision=2))["config"]["settings"] == {"size": 5}
            assert (await core.settings("two"))["key"] == "***"
            assert "two" in core.told("undecryptable")
            assert "one" not in [item.service for item in core.parts.drift.items if item.subject == "dev/one/overlay"]
            assert "dev/one/1" in await rows(core)


async def test_a_revision_whose_key_is_gone_is_told_by_an_alert(home: Home):
    """It is no drift, as nothing says that it is wrong; but nothing says that it is right either."""
    async with home.core() as core:
        assert await rows(core) == []
    content = json.loads(home.keys.read_text())
    content["keys"] = [{"key_id": OTHER.public.key_id, "private": base64.b64encode(OTHER._raw).decode()}]
    home.keys.write_text(json.dumps({**content, "current": OTHER.public.key_id}))
    async with home.core() as core:
        assert await rows(core) == []
        assert "nobody can tell" in core.standing["undecryptable:history"]


async def test_a_message_that_was_tampered_with_before_it_was_published_is_made_anew(home: Home):
    """What waits for the bus in the database says what the revision is, or is replaced at the next start."""
    async with home.core() as core:
        await change(core, size=5)
        right = core.parts.outbox.current["service/one"].payload
    for content in (right.replace(b'"size":5', b'"size":6'), b"\xff", b"{}"):
        with opened(home.database) as connection:
            connection.execute("UPDATE outbox SET payload = ? WHERE subject = 'service/one'", (content,))
        async with home.core() as core:
            made = json.loads(core.parts.outbox.current["service/one"].payload)
            assert made["config"] == json.loads(right)["config"]
    async with home.core() as core:
        assert json.loads(core.parts.outbox.current["service/one"].payload) == made


async def test_a_home_from_before_the_chain_goes_on_where_it_was(home: Home):
    """No revision is made anew, changes stay, nothing drifts, and what comes is guarded."""
    async with home.core() as core:
        await change(core, size=5)
        await change(core, size=6)
        before = await core.ask("history", "one"), await core.ask("get", "one")
    back_to_before_the_chain(home.database)
    # Whose keys have written a chain has a database with one; otherwise every row of an older one would be believed.
    with pytest.raises(StoreError, match="somebody replaced the database"):
        async with home.core():
            pass
    keys = home.database.parent / "keys.json"
    keys.write_bytes(keys.read_bytes().replace(b'"chained":true', b'"chained":false'))
    for _ in range(2):
        async with home.core() as core:
            assert (await core.ask("history", "one"), await core.ask("get", "one")) == before
            assert await rows(core) == []
            assert core.standing == {}
    async with home.core() as core:
        await core.ask("unset", "one", pointer="/settings/size")
        assert await core.settings("one") == {"size": 1}
        assert await rows(core) == []
    assert b'"chained":true' in keys.read_bytes()
    tamper(home.database, "UPDATE revisions SET comment = 'x' WHERE service = 'one' AND revision = 2")
    async with home.core() as core:
        assert await rows(core) == ["dev/one/2"]


async def test_an_old_database_whose_keys_are_lost_is_served(home: Home):
    """Fresh keys have written nothing yet, so that they say nothing against it."""
    async with home.core() as core:
        await change(core, size=5)
    back_to_before_the_chain(home.database)
    (home.database.parent / "keys.json").unlink()
    for _ in range(2):
        async with home.core() as core:
            assert await core.settings("one") == {"size": 5}


def back_to_before_the_chain(path: Path) -> None:
    """The same rows in a database of the first schema."""
    with opened(path) as connection:
        tables = {
            "meta": connection.execute("SELECT name, value FROM meta").fetchall(),
            "outbox": connection.execute("SELECT * FROM outbox").fetchall(),
        }
        revisions = connection.execute(f"SELECT {', '.join(OLD_COLUMNS)} FROM revisions ORDER BY sequence").fetchall()
        overlays = connection.execute("SELECT environment, service, patch FROM overlays").fetchall()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with opened(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(BEFORE_THE_CHAIN)
        for name, rows_of_it in (*tables.items(), ("revisions", revisions), ("overlays", overlays)):
            connection.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows_of_it[0]))})", rows_of_it)


async def test_a_check_of_many_rows_ends_at_once_when_it_is_cancelled(tmp_path: Path):
    """A daemon that stops does not wait until its rows are compared."""
    many = [Write(audit=tuple(entry("one", number) for number in range(1, 3000)))]
    path = written(tmp_path / "db", many)
    async with SqliteStore.open(path, CHAIN) as opened_store:
        check = asyncio.create_task(opened_store.verify())
        await asyncio.sleep(0.05)
        assert not check.done()
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await check
    async with asyncio.timeout(1):
        await asyncio.get_running_loop().shutdown_default_executor()
