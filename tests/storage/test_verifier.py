"""Everything that somebody changes in the database is found, and nothing else is."""

import contextlib
import itertools
import json
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Overlay, Recipient, ServingSchema, Token, Write
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.maintenance import key_ids_in_file, reseal_file, verify_file
from aliciacfg.storage.verifier import Findings
from stored_rows import CHAIN, KEY, KEYRING, OTHER, entry, opened, revision, subjects, tamper, tombstone, written


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three revisions of one service with a secret, its overlay, the audit of all, and one row of every other table.

    Times are whole seconds as well as fractions.
    """
    writes = [
        Write(
            records=(revision("one", number, {"size": number}, secret="open-sesame"),),
            audit=(entry("one", number),),
            overlays=(Overlay("dev", "one", documents.canonical({"size": number}), {"/size": number}),),
        )
        for number in range(1, 4)
    ]
    token = Token(token_id="0" * 12, digest="d", name="panel", role="reader", created=1, expires=2.5)
    others = Write(
        tokens=(token,),
        recipients=(Recipient("one", "a" * 43),),
        schemas=(ServingSchema("one", b"{}"), ServingSchema("two", None)),
        meta=(("active_environment", "dev"),),
    )
    return written(tmp_path / "db", [*writes, others])


ROWS = 3 + 3 + 1 + 5


def test_what_was_written_is_confirmed(database: Path):
    """Every row; with another key, none."""
    assert verify_file(database, CHAIN) == Findings(confirmed=ROWS)
    assert verify_file(database, Chain(Keyring.ephemeral())).confirmed == 0


COPY = (
    "INSERT INTO revisions SELECT environment, service, 9, version, timestamp, author, cause, checksum, config,"
    " changed, restart_required, breaking, comment, deleted, %s, digest, mac, code,"
    " home_sequence FROM revisions WHERE revision = 2"
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
        "UPDATE revisions SET home_sequence = 9 WHERE revision = 2",
        "UPDATE revisions SET home_sequence = 0 WHERE revision = 2",
        "UPDATE revisions SET home_sequence = 'x' WHERE revision = 2",
        COPY % "NULL",
        COPY % "-1",
        COPY % "4",
        COPY % "'x'",
        "DELETE FROM revisions WHERE revision = 2",
        "DELETE FROM revisions WHERE revision = 3",
        "UPDATE revisions SET code = x'' WHERE revision = 2",
        "UPDATE audit SET code = x'' WHERE sequence = 2",
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
        "UPDATE overlays SET origins = x'7be5'",
        "UPDATE revisions SET changed = x'5b22e5' WHERE revision = 2",
        "UPDATE revisions SET restart_required = CAST(printf('%.*c', 100000, '[') AS BLOB) WHERE revision = 2",
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
        "INSERT INTO told VALUES ('dev/one', 99, x'00')",
        "UPDATE meta SET value = 'prod'",
        "UPDATE meta SET name = 'x'",
        "DELETE FROM meta",
        "INSERT INTO meta VALUES ('x', 'y', x'00')",
    ],
)
def test_no_change_of_a_row_goes_unseen(database: Path, statement: str):
    """Values, types, places, additions and removals: told as findings, never as a failure of the check."""
    tamper(database, statement)
    assert verify_file(database, CHAIN).broken


def test_a_database_of_another_version_is_said_to_be_unreadable(database: Path):
    """Not confirmed, and no failure either."""
    tamper(database, "PRAGMA user_version = 1")
    with pytest.raises(Unavailable, match="cannot be read"):
        verify_file(database, CHAIN)


@pytest.mark.parametrize("statement", ["DROP TABLE chain", "DROP TABLE tokens"])
def test_a_database_without_a_table_is_damaged(database: Path, statement: str):
    """What is missing is named."""
    tamper(database, statement)
    assert "no such table" in verify_file(database, CHAIN).damage[-1]


def test_a_damaged_page_is_found(database: Path):
    """Even one that no row of the chain is on; the text names places in the file, and no value."""
    content = bytearray(database.read_bytes())
    with opened(database) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'applied'").fetchone()
    content[4096 * (page - 1) : 4096 * page] = bytes(4096)
    database.write_bytes(content)
    assert verify_file(database, CHAIN).damage


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
def test_what_somebody_did_is_told_where_it_stands(database: Path, statements: list[str], found: list[str]):
    """Rows taken out anywhere, changed, put back to older ones; and every row that is as it was is confirmed."""
    assert verify_file(database, CHAIN) == Findings(confirmed=ROWS)
    tamper(database, *statements)
    assert subjects(database) == found


def test_two_rows_that_changed_places_are_found(database: Path):
    """Both, and what is linked to them."""
    tamper(
        database,
        "UPDATE revisions SET sequence = 99 WHERE revision = 1",
        "UPDATE revisions SET sequence = 1 WHERE revision = 2",
        "UPDATE revisions SET sequence = 3 WHERE revision = 1",
    )
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(database))


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
            # Longer than any secret that is drawn.
            yield {**document, key: KEYRING.seal("elsewhere", service="one", environment="dev", pointer=f"/{key}")}
        else:
            yield {**document, key: [value]}
            yield {**document, key: not value if isinstance(value, bool) else f"{value}x"}


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
def test_an_end_that_was_tampered_with_is_found_whatever_comes_after(database: Path, statements: list[str]):
    """Neither the next start nor the next write makes good what was cut off; writes go on."""
    tamper(database, *statements)
    for number in range(8, 10):
        written(database, [Write(records=(revision("two", number, {"x": 1}),))])
    assert subjects(database) == ["dev/two/8"]


def test_a_row_put_behind_the_end_is_not_in_the_way(database: Path):
    """The next revision finds a place behind it, and the moved row is reported."""
    tamper(
        database,
        "UPDATE revisions SET sequence = 7 WHERE revision = 2",
        "UPDATE revisions SET sequence = 9223372036854775807 WHERE revision = 1",
    )
    written(database, [Write(records=(revision("two", 1, {"x": 1}),))])
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(database))


def test_a_secret_whose_key_is_gone_is_told_apart_from_a_damaged_one(database: Path):
    """Nothing about the first can be said; the second was tampered with."""
    without = Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32)
    assert verify_file(database, Chain(without)) == Findings(confirmed=ROWS, unreadable=3)
    box = revision("one", 2, {}, secret="another").config
    tamper(database, f"UPDATE revisions SET config = x'{box.replace(b'A', b'B').hex()}' WHERE revision = 2")
    assert subjects(database) == ["dev/one/2"]


def test_a_box_that_somebody_sealed_anew_is_found(database: Path):
    """It opens and holds the same secret, but the daemon did not put it there."""
    box = KEYRING.seal("open-sesame", service="one", environment="dev", pointer="/secret")
    config = documents.canonical({"size": 2, "version": "1.0.0", "secret": box})
    tamper(database, f"UPDATE revisions SET config = x'{config.hex()}' WHERE revision = 2")
    assert subjects(database) == ["dev/one/2"]


def test_a_box_of_a_key_that_is_not_here_hides_no_change(database: Path):
    """Its content cannot be compared with what was written, but its code can."""
    box = f"sealed:v1:{'0' * 16}:AAAA"
    config = documents.canonical({"size": 9, "version": "1.0.0", "secret": box})
    tamper(database, f"UPDATE revisions SET config = x'{config.hex()}' WHERE revision = 2")
    assert subjects(database) == ["dev/one/2"]


def test_a_rotation_of_keys_hides_nothing(database: Path):
    """What was tampered with stays as it is, and as found as it was; everything else is sealed anew."""
    written(database, [Write(overlays=(Overlay("dev", "two", b'{"size":1}'), Overlay("dev", "bad", b'{"size":1}')))])
    tamper(
        database,
        "UPDATE revisions SET config = CAST('sealed:v1:x' AS BLOB) WHERE revision = 2",
        "UPDATE overlays SET patch = CAST('{\"size\":9}' AS BLOB) WHERE service = 'two'",
        "UPDATE overlays SET patch = x'ff' WHERE service = 'bad'",
    )
    before = subjects(database)
    assert set(before) == {"dev/one/2", "dev/two/overlay", "dev/bad/overlay"}
    rotated = Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32)

    def reseal(document: bytes, environment: str, service: str) -> bytes:
        return sealed_documents.reseal(document, rotated, service=service, environment=environment).document

    reseal_file(database, Chain(rotated), reseal)
    assert subjects(database, Chain(rotated)) == before
    assert key_ids_in_file(database) == {OTHER.public.key_id}
