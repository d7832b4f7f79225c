"""Everything that somebody changes in the database is found, and nothing else is; on every backend."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliciacfg import documents
from aliciacfg.model.records import Overlay, Write
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.verifier import Findings
from edited_homes import EditedFile, EditedHome, EditedTables, subjects
from postgres import Postgres
from stored_rows import CHAIN, KEY, KEYRING, OTHER, revision, three_revisions


@pytest.fixture(scope="module")
def tables(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditedTables]:
    """The home in PostgreSQL; each test takes back what it did."""
    made = EditedTables(postgres_server, tmp_path_factory.mktemp("home"), three_revisions())
    yield made
    made.close()


@pytest.fixture(params=["postgres", "sqlite"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EditedHome]:
    """``three_revisions`` on each backend."""
    if request.param == "sqlite":
        yield EditedFile(tmp_path / "db", three_revisions())
        return
    tables: EditedTables = request.getfixturevalue("tables")
    tables.begin()
    yield tables
    tables.undo()


ROWS = 3 + 3 + 1 + 5


def test_what_was_written_is_confirmed(home: EditedHome):
    """Every row; with another key, none."""
    assert home.findings() == Findings(confirmed=ROWS)
    assert home.findings(Chain(Keyring.ephemeral())).confirmed == 0


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
def test_no_change_of_a_row_goes_unseen(home: EditedHome, statement: str):
    """Values, types, places, additions and removals: told as findings, never as a failure of the check."""
    # PostgreSQL refuses values of another type, so that there is no change to be seen.
    assert home.tamper(statement) == bool(home.findings().broken)


@pytest.mark.parametrize("statement", ["DROP TABLE chain", "DROP TABLE tokens"])
def test_a_database_without_a_table_is_damaged(home: EditedHome, statement: str):
    """What is missing is named."""
    assert home.tamper(statement)
    assert re.search("no such table|does not exist", home.findings().damage[-1])


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
def test_what_somebody_did_is_told_where_it_stands(home: EditedHome, statements: list[str], found: list[str]):
    """Rows taken out anywhere, changed, put back to older ones; and every row that is as it was is confirmed."""
    assert home.findings() == Findings(confirmed=ROWS)
    expected = found if home.tamper(*statements) else []
    assert subjects(home) == expected


def test_two_rows_that_changed_places_are_found(home: EditedHome):
    """Both, and what is linked to them."""
    home.tamper(
        "UPDATE revisions SET sequence = 99 WHERE revision = 1",
        "UPDATE revisions SET sequence = 1 WHERE revision = 2",
        "UPDATE revisions SET sequence = 3 WHERE revision = 1",
    )
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(home))


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
def test_an_end_that_was_tampered_with_is_found_whatever_comes_after(home: EditedHome, statements: list[str]):
    """Neither the next start nor the next write makes good what was cut off; writes go on."""
    if not home.tamper(*statements):
        return
    for number in range(8, 10):
        home.write(Write(records=(revision("two", number, {"x": 1}),)))
    assert subjects(home) == ["dev/two/8"]


def test_a_row_put_behind_the_end_is_not_in_the_way(home: EditedHome):
    """The next revision finds a place behind it, and the moved row is reported."""
    home.tamper(
        "UPDATE revisions SET sequence = 7 WHERE revision = 2",
        "UPDATE revisions SET sequence = 9223372036854775807 WHERE revision = 1",
    )
    home.write(Write(records=(revision("two", 1, {"x": 1}),)))
    assert {"dev/one/1", "dev/one/2"} <= set(subjects(home))


def test_a_secret_whose_key_is_gone_is_told_apart_from_a_damaged_one(home: EditedHome):
    """Nothing about the first can be said; the second was tampered with."""
    without = Keyring(current=OTHER.public.key_id, keys=[OTHER], digest_key=b"d" * 32)
    assert home.findings(Chain(without)) == Findings(confirmed=ROWS, unreadable=3)
    box = revision("one", 2, {}, secret="another").config
    home.tamper(f"UPDATE revisions SET config = x'{box.replace(b'A', b'B').hex()}' WHERE revision = 2")
    assert subjects(home) == ["dev/one/2"]


def test_a_box_that_somebody_sealed_anew_is_found(home: EditedHome):
    """It opens and holds the same secret, but the daemon did not put it there."""
    box = KEYRING.seal("open-sesame", service="one", environment="dev", pointer="/secret")
    config = documents.canonical({"size": 2, "version": "1.0.0", "secret": box})
    home.tamper(f"UPDATE revisions SET config = x'{config.hex()}' WHERE revision = 2")
    assert subjects(home) == ["dev/one/2"]


def test_a_box_of_a_key_that_is_not_here_hides_no_change(home: EditedHome):
    """Its content cannot be compared with what was written, but its code can."""
    box = f"sealed:v1:{'0' * 16}:AAAA"
    config = documents.canonical({"size": 9, "version": "1.0.0", "secret": box})
    home.tamper(f"UPDATE revisions SET config = x'{config.hex()}' WHERE revision = 2")
    assert subjects(home) == ["dev/one/2"]


def test_a_rotation_of_keys_hides_nothing(home: EditedHome):
    """What was tampered with stays as it is, and as found as it was; everything else is sealed anew."""
    home.write(Write(overlays=(Overlay("dev", "two", b'{"size":1}'), Overlay("dev", "bad", b'{"size":1}'))))
    home.tamper(
        "UPDATE revisions SET config = CAST('sealed:v1:x' AS BLOB) WHERE revision = 2",
        "UPDATE overlays SET patch = CAST('{\"size\":9}' AS BLOB) WHERE service = 'two'",
        "UPDATE overlays SET patch = x'ff' WHERE service = 'bad'",
    )
    before = subjects(home)
    assert set(before) == {"dev/one/2", "dev/two/overlay", "dev/bad/overlay"}
    rotated = Keyring(current=OTHER.public.key_id, keys=[OTHER, KEY], digest_key=b"d" * 32)

    def reseal(document: bytes, environment: str, service: str) -> bytes:
        return sealed_documents.reseal(document, rotated, service=service, environment=environment).document

    home.reseal(Chain(rotated), reseal)
    assert subjects(home, Chain(rotated)) == before
    assert home.key_ids() == {OTHER.public.key_id}
