"""A writer of the database without ``keys.json`` changes nothing: forged rows are dropped, and each is told."""

import asyncio
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.errors import OperationError
from aliciacfg.model.records import Announcement, Applied, Overlay, Recipient, ServingSchema, Token, Write
from aliciacfg.operations.table import BY_NAME
from aliciacfg.sealing.boxes import Keyring, PrivateKey
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.schema import create_tables
from aliciacfg.storage.sqlite.transaction import apply
from builders import environment_file
from inprocess import CALLER, Core, Home
from soak import each_in_turn
from stored_rows import opened, revision, tamper

ANONYMOUS = Caller(None, "http", address="127.0.0.1")


def columns() -> list[tuple[str, str]]:
    """Every column of every table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(create_tables())
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]


async def lives(home: Home) -> str:
    """Put something into every table, and return the text of a token."""
    async with home.core() as core:
        for size in (2, 3):
            await core.ask("patch", "one", patch={"settings": {"size": size, "door": f"word {size}"}})
        await core.ask("patch", "two", patch={"settings": {"size": 7}})
        await core.ask("recipient", "two", public_key=str(PrivateKey.generate().public))
        token = await BY_NAME["token_create"].run(core.parts.service, CALLER, "", {"name": "panel", "role": "reader"})
        await core.ask("activate", "prod")
        await core.ask("activate", "dev")
        report = AppliedReport(instance="a", revision=3, checksum="", status="rejected", error="no")
        await core.parts.service.registrations.applied("one", report)
        return json.loads(token.body)["token"]


@dataclass
class Lived:
    """A home with rows in every table, a token of it, and what its daemon does."""

    home: Home
    token: str = ""
    effects: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    async def live(self) -> "Lived":
        self.token = await lives(self.home)
        async with self.home.core() as core:
            self.effects, self.notes = await effects(core, self.token), await notes(core)
            await core.parts.drift_checks.verify()
            assert core.parts.drift.items == []
        return self


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """One for all tests, which work on copies."""
    home = Home(
        tmp_path_factory.mktemp("lived"),
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}}, settings={"size": 1}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {},
            "schemas/one.yaml": {
                "properties": {"settings": {"properties": {"door": {"type": "string", "x-sensitive": True}}}}
            },
        },
    )
    return asyncio.run(Lived(home).live())


@pytest.fixture
def home(lived: Lived, tmp_path: Path) -> Home:
    """A copy of that home for one test."""
    shutil.copytree(lived.home.directory, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    return Home(tmp_path / "home")


def published(core: Core) -> dict[str, Any]:
    """What the bus has to hold, without what differs from message to message."""
    found: dict[str, Any] = {}
    for subject, item in core.parts.outbox.current.items():
        pairs: list[tuple[str, Any]] = json.loads(item.payload or b"{}", object_pairs_hook=list)
        members = dict(pairs)
        assert len(members) == len(pairs), subject
        config = {name: value for name, value in members.get("config", []) if name != "version"}
        # Without a recipient key, a secret that was sealed to it is redacted.
        shown = re.sub(r"sealed:v1:[^']*", "***", repr(config))
        found[subject] = sorted(members), members.get("environment"), members.get("service"), shown
    return found


async def effects(core: Core, token: str) -> dict[str, Any]:
    """What is served, published and allowed, all of which has to stay the same."""
    configs = {
        (service, environment): await core.config(service, environment=environment)
        for service in ("one", "two")
        for environment in ("dev", "prod")
    }
    for operation in ("get", "audit"):
        with pytest.raises(OperationError):
            await core.ask_as(ANONYMOUS, operation, "one" if operation == "get" else "")
    try:
        found = core.parts.service.authorizer.verify_token(token)
        bearer = (found.name, found.role)
    except OperationError:
        bearer = ("panel", "reader")
    listed = await core.ask("list")
    return {
        "configs": configs,
        "names": [item["service"] for item in listed["configs"]],
        "active": (await core.ask("environments"))["active"],
        "published": published(core),
        "bearer": bearer,
        "schema": await core.ask("schema", "one"),
    }


async def notes(core: Core) -> list[str]:
    """What may be missing afterwards, but not differ: history, audit log, reports, tokens."""
    found: list[Any] = []
    for service in ("one", "two"):
        for environment in ("dev", "prod"):
            listed = await core.ask("history", service, environment=environment)
            found += [{**head, "of": [service, environment]} for head in listed["revisions"]]
        found += (await core.ask("instances", service))["instances"]
    for entry in (await core.ask("audit"))["entries"]:
        sums = [{"timestamp": entry["timestamp"], name: entry.pop(f"{name}_checksum")} for name in ("before", "after")]
        found += [entry, *(item for item in sums if None not in item.values())]
    found += (await core.ask("token_list"))["tokens"]
    return [json.dumps(item, sort_keys=True) for item in found]


async def told(home: Home, lived: Lived, *, without_row: Callable[[Home], None]) -> set[str]:
    """Start a core on a forged database, compare its effects with the real ones, and return the rows that are told.

    The effects are those of the real database, or those of one from which the row was deleted.
    """
    start = time.time()
    async with home.core() as core:
        found = await effects(core, lived.token)
        new = [json.loads(item) for item in await notes(core) if item not in lived.notes]
        # Only what this start made is new, and what is listed for an administrator to revoke.
        assert all(item.get("timestamp", 0) >= start or item.get("confirmed") is False for item in new), new
        await core.parts.drift_checks.verify()
        assert any(alert.kind == "drift" for alert in core.heard)
        subjects = {item.subject for item in core.parts.drift.items}
    if found != lived.effects:
        deleted = Home(home.directory.with_name("deleted"))
        shutil.copytree(lived.home.directory, deleted.directory, dirs_exist_ok=True)
        without_row(deleted)
        async with deleted.core() as core:
            assert found == await effects(core, lived.token)
    return subjects


def forged(value: Any, column: str) -> Any:
    """Another value that the daemon could have written."""
    match value:
        case bytes() if column in {"mac", "code", "sealed", "standing"}:
            return bytes([*value[:-1], value[-1] ^ 1])
        case bytes():
            return value.replace(b'"size":3', b'"size":9').replace(b'"size":7', b'"size":9')[:-1] + b',"more":1}'
        case str():
            return {"dev": "prod", "reader": "admin", "rejected": "applied", "one": "two"}.get(value, value + "0")
        case None:
            return "x"
        case _:
            return value + 1


TARGETS = {
    "meta": "name = 'active_environment'",
    "revisions": "environment = 'dev' AND service = 'one' AND revision = 3",
    "overlays": "environment = 'dev' AND service = 'one'",
    "outbox": "subject = 'service/one'",
    "schemas": "service = 'one'",
    "audit": "sequence = (SELECT max(sequence) FROM audit)",
    "tokens": "1",
    "recipients": "1",
    "applied": "1",
    "chain": "1",
}
"""The row of each table that has the most effect."""


@pytest.mark.parametrize(("table", "column"), columns())
async def test_a_forged_value_changes_nothing_and_is_told(home: Home, lived: Lived, table: str, column: str):
    """Whatever the column means; at most the row counts for nothing, as if it had been deleted."""
    where = TARGETS.get(table, "1")
    with opened(home.database) as connection:
        (value,) = connection.execute(f'SELECT "{column}" FROM {table} WHERE {where} LIMIT 1').fetchone()
        try:
            connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE {where}', (forged(value, column),))
        except sqlite3.IntegrityError:
            pytest.skip("the database itself refuses it")
    found = await told(
        home, lived, without_row=lambda other: tamper(other.database, f"DELETE FROM {table} WHERE {where}")
    )
    assert any(name in subject for subject in found for name in (table, "/one", "/two/3", "end", "standing")), found


def rows_of_an_attacker() -> Iterator[Write]:
    """Rows as another daemon would write them."""
    keyring = Keyring.ephemeral()
    record = revision("one", 9, {"settings": {"size": 9}}, keyring=keyring)
    yield Write(records=(record,), audit=())
    yield Write(records=(revision("ghost", 1, {"settings": {}}, keyring=keyring),))
    yield Write(overlays=(Overlay("dev", "one", b'{"settings":{"size":9}}', {"/settings/size": 1}),))
    yield Write(overlays=(Overlay("dev", "ghost", b'{"settings":{"size":9}}'),))
    yield Write(announcements=(Announcement("service/one", 99, b'{"config":{}}'),))
    yield Write(announcements=(Announcement("service/ghost", 99, b'{"config":{}}'),))
    yield Write(schemas=(ServingSchema("one", b"{}"),))
    yield Write(applied=(Applied("one", "z", "dev", 3, "", "applied", None, 1, 2),))
    yield Write(tokens=(Token(token_id="0" * 12, digest="d", name="evil", role="admin", created=1),))
    yield Write(recipients=(Recipient("one", str(PrivateKey.generate().public)),))
    for name, value in (
        ("active_environment", "prod"), ("requested_environment", "prod"), ("access_rules", "never"),
        ("epoch", "-5"), ("epoch", "x"), ("sequence", "-1"), ("defined_services", "["), ("history_sealed", "1"),
    ):  # fmt: skip
        yield Write(meta=((name, value),))


def delete_place(home: Home, write: Write) -> None:
    """Delete the row that an attacker's row takes the place of."""
    places = [
        *(f"FROM overlays WHERE environment = 'dev' AND service = '{item.service}'" for item in write.overlays),
        *(f"FROM outbox WHERE subject = '{item.subject}'" for item in write.announcements),
        *(f"FROM schemas WHERE service = '{item.service}'" for item in write.schemas),
        *(f"FROM recipients WHERE service = '{item.service}'" for item in write.recipients),
        *(f"FROM meta WHERE name = '{name}'" for name, _ in write.meta),
    ]
    tamper(home.database, *(f"DELETE {place}" for place in places))


@pytest.mark.parametrize(("number", "keeps_end"), each_in_turn(range(len(list(rows_of_an_attacker()))), [True, False]))
async def test_a_row_with_the_codes_of_another_key_counts_for_nothing(
    home: Home, lived: Lived, number: int, keeps_end: bool
):
    """Whatever it says, and whether it replaces a row or is a new one."""
    write = list(rows_of_an_attacker())[number]
    with opened(home.database) as connection:
        end = connection.execute("SELECT * FROM chain").fetchone()
        apply(connection, Chain(Keyring.ephemeral()), [write])
        if keeps_end:
            connection.execute("INSERT OR REPLACE INTO chain VALUES (?,?,?,?,?)", end)
    await told(home, lived, without_row=lambda other: delete_place(other, write))
