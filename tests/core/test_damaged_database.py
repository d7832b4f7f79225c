"""A damaged database: the start ends with a message, or health tells of it, or everything is answered rightly."""

import contextlib
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import AliciacfgError, OperationError
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.store import StoreError
from builders import environment_file
from damage import PAGE, damage
from inprocess import Core, Home
from stored_rows import tamper

SERVICES = [f"service_{number}" for number in range(12)]
Answers = dict[str, Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a home whose database has many pages."""
    return tmp_path_factory.mktemp("sound")


async def make(directory: Path) -> tuple[Home, Answers]:
    """A home with a history, and what it answers."""
    base = environment_file({name: {} for name in SERVICES}, settings={"size": 0})
    files: dict[str, object] = {"environments/base.yaml": base, "environments/dev.yaml": {}}
    home = Home(directory, files)
    async with home.core() as core:
        for number in range(8):
            for name in SERVICES:
                await core.ask("patch", name, patch={"settings": {"size": number, "text": f"{name}-{number} " * 20}})
    async with home.core() as core:
        return home, await answers(core)


async def answers(core: Core) -> Answers:
    """What a home answers, with the code where it answers nothing."""
    found: Answers = {}
    asked = [("list", "", {}), *(("get", name, {}) for name in SERVICES), *(("history", name, {}) for name in SERVICES)]
    asked += [("get", name, {"revision": 3}) for name in SERVICES]
    for operation, name, fields in asked:
        try:
            answer = await core.ask(operation, name, **fields)
        except OperationError as error:
            answer = error.code
        found[f"{operation} {name} {fields}"] = answer
    return found


async def outcome(home: Home, right: Answers) -> str:
    """Start on a database and judge what comes of it."""
    try:
        async with home.core() as core:
            await core.parts.drift_checks.verify()
            health = core.parts.service.health
            health.bus_connected = True
            now = health.now()
            found = await answers(core)
            if now.status == "healthy":
                wrong = {name: (right[name], found[name]) for name in right if right[name] != found[name]}
                assert not wrong, json.dumps(wrong)[:2000]
                return "harmless"
            assert core.standing, "not healthy without an alert"
            return now.status
    except AliciacfgError:
        return "ends with exit code 8"


async def try_seeds(directory: Path, sound: Path, seeds: range) -> Counter[str]:
    home, right = await make(sound)
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        copy = directory / str(seed)
        shutil.copytree(home.directory, copy)
        way = damage(copy / "data" / "aliciacfg.db", seed)
        try:
            outcomes[await outcome(Home(copy), right)] += 1
        except Exception as error:
            error.add_note(f"seed {seed}: {way}")
            raise
        shutil.rmtree(copy)
    return outcomes


async def test_random_damage_is_never_healthy_with_wrong_answers(tmp_path: Path, sound: Path):
    """Whatever the damage: a message, or a health that says so with an alert, or nothing that matters was hit."""
    outcomes = await try_seeds(tmp_path, sound, range(12))
    assert outcomes.total() == 12


async def test_a_write_is_refused_with_the_damage_as_the_reason(tmp_path: Path):
    """Where the damage keeps the files from being put in force at the start, nobody is sent to look at the files."""
    files: dict[str, object] = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": {}}
    home = Home(tmp_path, files)
    async with home.core() as core:
        await core.ask("patch", "bell", patch={"limits": {"rings": 3}})
    zero_table(home.directory / "data" / "aliciacfg.db", "schemas")
    async with home.core() as core:
        with pytest.raises(OperationError, match=r"^The database is damaged.*schemas.*restore it from a backup"):
            await core.ask("patch", "bell", patch={"limits": {"rings": 4}})


def zero_table(database: Path, table: str) -> None:
    """Overwrite the first page of a table with zeros."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_random_damage_again_and_again(tmp_path: Path, sound: Path, record_property: Callable[..., None]):
    """Five hundred seeds."""
    for name, count in (await try_seeds(tmp_path, sound, range(1000, 1500))).items():
        record_property(name, count)


@pytest.mark.parametrize("value", [b'["\xf3"]', b"[" * 100_000], ids=["not UTF-8", "too deep"])
async def test_a_list_in_a_row_that_cannot_be_decoded_is_dropped_and_told(tmp_path: Path, value: bytes):
    """Whatever bytes stand where a row has JSON, the daemon starts without the row."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}, "siren": {}})})
    async with home.core() as core:
        await core.ask("patch", "siren", patch={"settings": {"size": 1}})
    literal = f"x'{value.hex()}'"
    tamper(
        home.database,
        f"UPDATE revisions SET changed = {literal} WHERE service = 'bell'",
        f"UPDATE overlays SET origins = {literal} WHERE service = 'siren'",
    )
    async with home.core() as core:
        await core.parts.drift_checks.verify()
        assert {"dev/bell/1", "dev/siren/overlay"} <= set(await core.drift("row"))


async def test_a_damaged_schema_whose_message_is_not_utf_8_ends_the_start_with_the_remedy(tmp_path: Path):
    """The sqlite3 module cannot decode what SQLite says about it."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core():
        pass
    content = home.database.read_bytes()
    assert content.count(b"CREATE TABLE revisions") == 1
    home.database.write_bytes(content.replace(b"CREATE TABLE revisions", b"CREATE TABL\xf3 revisions"))
    with pytest.raises(StoreError, match="restore it from a backup"):
        async with home.core():
            pass
    with pytest.raises(StoreError, match="cannot be read"):
        database_in(home.database.parent).key_ids()


async def test_the_keys_in_use_are_found_whatever_tables_somebody_added(tmp_path: Path):
    """A table may have any name."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})})
    async with home.core() as core:
        tamper(home.database, 'CREATE TABLE "a "" b" (x)')
        assert await core.parts.store.key_ids() is not None


async def test_a_configuration_that_cannot_be_read_is_unavailable_and_not_missing(tmp_path: Path):
    """A service must not take a damaged page for its deletion; what can be read is served."""
    names = [f"service_{number}" for number in range(9)]
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({name: {} for name in names})})
    async with home.core() as core:
        for name in names:
            await core.ask("patch", name, patch={"settings": {"text": "x" * 1000}}, comment=f"about {name}")
    content = home.database.read_bytes()
    page = content.index(b"about service_8") // PAGE
    home.database.write_bytes(content[: page * PAGE] + bytes(PAGE) + content[(page + 1) * PAGE :])
    async with home.core() as core:
        codes = Counter[str]()
        for name in names:
            for operation in ("get", "history"):
                try:
                    await core.ask(operation, name)
                except OperationError as error:
                    codes[f"{operation} {error.code}"] += 1
                else:
                    codes[operation] += 1
    assert codes["get"] > 0
    assert codes["get unavailable"] > 0
    assert codes.keys() <= {"get", "get unavailable", "history", "history unavailable"}
