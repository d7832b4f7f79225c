"""What becomes a secret is sealed wherever it is stored: no byte of it is left in the data directory."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from sqlite3 import connect

import pytest

from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.core import scrubbing
from aliciacfg.core.plain_secrets import PlainSecrets
from aliciacfg.errors import Unavailable, Unconfirmed
from aliciacfg.model.records import Write
from aliciacfg.operations.table import BY_NAME
from builders import environment_file, valid_config
from inprocess import CALLER, Core, Home, eventually
from stored_rows import tamper

WORD = "open-sesame-4711"
MARKED = {"properties": {"settings": {"properties": {"door": {"type": "string", "x-sensitive": True}}}}}
BASE = "environments/base.yaml"
STAGING = "environments/staging.yaml"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Two services in two environments."""
    return Home(
        tmp_path,
        {
            BASE: environment_file({"one": {}, "two": {}}, settings={"size": 1}),
            "environments/dev.yaml": {},
            STAGING: {"services": {"one": {}}},
        },
    )


def files_with_the_word(home: Home) -> list[str]:
    """The files of the data directory in which the secret can be read."""
    directory = home.database.parent
    return sorted(path.name for path in directory.iterdir() if path.is_file() and WORD.encode() in path.read_bytes())


async def patch(core: Core, service: str, environment: str, **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings}, environment=environment)


async def in_an_overlay(core: Core) -> None:
    await patch(core, "one", "staging", door=WORD)


async def in_a_broken_environment(core: Core) -> None:
    await patch(core, "one", "staging", door=WORD)
    core.write(STAGING, "services: [")


async def where_a_variable_is_missing(core: Core) -> None:
    await patch(core, "one", "staging", door=WORD)
    core.write(STAGING, {"services": {"one": {"settings": {"size": "${NOWHERE}"}}}})


async def where_the_service_is_invalid(core: Core) -> None:
    await patch(core, "one", "staging", door=WORD)
    core.write(STAGING, {"services": {"one": {"mqtt_config": {"port": "x"}}}})


async def where_the_environment_is_gone(core: Core) -> None:
    await patch(core, "one", "staging", door=WORD)
    core.home.remove(STAGING)


async def in_history_only(core: Core) -> None:
    await patch(core, "one", "dev", door=WORD)
    await core.ask("unset", "one", pointer="/settings/door", environment="dev")


async def of_a_deleted_service(core: Core) -> None:
    await core.ask("set", "guest", config=valid_config(settings={"door": WORD}))
    await core.ask("delete", "guest")


async def of_a_service_that_no_file_names(core: Core) -> None:
    await core.ask("set", "guest", config=valid_config(settings={"door": WORD}))


async def in_the_message_on_the_bus(core: Core) -> None:
    await patch(core, "one", "dev", door=WORD)


@pytest.mark.parametrize(
    "place",
    [
        in_an_overlay, in_a_broken_environment, where_a_variable_is_missing, where_the_service_is_invalid,
        where_the_environment_is_gone, in_history_only, of_a_deleted_service, of_a_service_that_no_file_names,
        in_the_message_on_the_bus,
    ],
    ids=lambda place: place.__name__,
)  # fmt: skip
async def test_a_value_that_becomes_a_secret_is_sealed_wherever_it_is_stored(
    home: Home,
    place: Callable[[Core], Awaitable[None]],
):
    """By the reload that brings the schema, whether the configuration can be composed or not; and so it stays."""
    service = "guest" if "service" in place.__name__ and "invalid" not in place.__name__ else "one"
    async with home.core() as core:
        await place(core)
        assert files_with_the_word(home)
        home.write(f"schemas/{service}.yaml", MARKED)
        await core.ask("reload")
        assert files_with_the_word(home) == []
        home.write(STAGING, {"services": {"one": {}}})
        await core.ask("reload")
        assert files_with_the_word(home) == []
        await BY_NAME["keys_rotate"].run(core.parts.service, CALLER, "", {})
        assert files_with_the_word(home) == []
    async with home.core() as core:
        assert files_with_the_word(home) == []
        assert core.standing == {}
        if home.database.exists() and service == "one" and place is not in_history_only:
            environment = "dev" if place is in_the_message_on_the_bus else "staging"
            assert (await core.settings("one", environment=environment))["door"] == "***"
        await core.parts.drift_checks.verify()
        assert core.parts.drift.items == []


async def test_what_an_earlier_run_left_in_plain_text_is_sealed_at_the_next_start(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """Overlays are compared at every start; the history until it was compared once."""

    async def finds_nothing(*_: object) -> list[object]:
        return []

    async with home.core() as core:
        await patch(core, "one", "staging", door=WORD)
        with monkeypatch.context() as patched:
            patched.setattr(PlainSecrets, "overlays", finds_nothing)
            patched.setattr(PlainSecrets, "revisions", finds_nothing)
            home.write(STAGING, "services: [")
            home.write("schemas/one.yaml", MARKED)
            await core.ask("reload")
        assert files_with_the_word(home)
    tamper(home.database, "DELETE FROM meta WHERE name = 'history_sealed'")
    async with home.core():
        assert files_with_the_word(home) == []


async def test_a_report_that_quotes_a_secret_is_stored_without_it(home: Home):
    """Such as a service's error that names the password with which it could not log in."""
    async with home.core() as core:
        await core.ask("patch", "one", patch={"settings": {"token": WORD, "other_token": WORD[:4]}})
        error = f"cannot log in with {WORD}, nor with {WORD[:4]}"
        report = AppliedReport(instance="a", revision=2, checksum="", status="rejected", error=error)
        await core.parts.service.registrations.applied("one", report)
        (item,) = (await core.ask("instances", "one"))["instances"]
        assert item["error"] == "cannot log in with ***, nor with ***"
        assert files_with_the_word(home) == []
        assert WORD not in repr(core.heard)


async def test_what_was_sealed_stays_secret_without_the_schema_that_said_so(home: Home):
    """Though somebody deletes the schema's row and every revision, and the schema waits for a migration."""
    home.write("schemas/one.yaml", {**MARKED, "version": "1.0.0"})
    async with home.core() as core:
        await patch(core, "one", "dev", door=WORD)
    home.write("schemas/one.yaml", {"version": "2.0.0", **MARKED})
    home.write("schemas/one/migrations/1-to-2.yaml", [])
    tamper(home.database, "DELETE FROM schemas", "DELETE FROM revisions")
    async with home.core() as core:
        assert "migration_pending" in core.standing
        assert (await core.settings("one"))["door"] == "***"
        assert WORD.encode() not in core.parts.outbox.current["service/one"].payload
        assert files_with_the_word(home) == []


@asynccontextmanager
async def scrubbing_goes_on(core: Core) -> AsyncGenerator[None]:
    """The task that a daemon runs."""
    task = asyncio.create_task(core.parts.scrubbing.run())
    try:
        yield
    finally:
        task.cancel()


async def test_plain_copies_that_a_reader_keeps_are_told_and_removed_when_it_ends(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """The alert stands until the write-ahead log is empty, over a restart too; reads and writes go on meanwhile."""
    monkeypatch.setattr(scrubbing, "_PAUSE_SECONDS", 0.01)
    async with home.core() as core:
        await patch(core, "one", "dev", door=WORD)
    # Another program, which keeps reading the present state of the database.
    with closing(connect(home.database, isolation_level=None)) as reader:
        async with home.core() as core:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM revisions").fetchone()
            home.write("schemas/one.yaml", MARKED)
            await core.ask("reload")
            assert scrubbing.ALERT in core.standing
            assert files_with_the_word(home)
            await patch(core, "one", "dev", size=2)
        async with home.core() as core, scrubbing_goes_on(core):
            assert scrubbing.ALERT in core.standing
            assert files_with_the_word(home)
            await patch(core, "one", "dev", size=3)
            reader.execute("COMMIT")
            await eventually(lambda: scrubbing.ALERT not in core.standing)
            assert files_with_the_word(home) == []
            assert await core.settings("one") == {"size": 3, "door": "***"}


async def test_a_store_that_cannot_be_written_is_scrubbed_when_it_can(home: Home, monkeypatch: pytest.MonkeyPatch):
    """Without the alert about another program that reads it."""
    monkeypatch.setattr(scrubbing, "_PAUSE_SECONDS", 0.01)
    async with home.core() as core:
        await patch(core, "one", "dev", door=WORD)
        scrub, full = core.parts.store.scrub, [True]

        async def scrub_if_there_is_room() -> bool:
            if full:
                raise Unavailable("The store cannot write: database or disk is full.")
            return await scrub()

        monkeypatch.setattr(core.parts.store, "scrub", scrub_if_there_is_room)
        home.write("schemas/one.yaml", MARKED)
        await core.ask("reload")
        assert files_with_the_word(home)
        assert scrubbing.ALERT not in core.standing
        async with scrubbing_goes_on(core):
            full.clear()
            await eventually(lambda: files_with_the_word(home) == [])


async def test_plain_copies_are_removed_when_it_is_known_only_later_that_the_sealing_was_stored(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    """The disk fails while the values are sealed; that they are, the store finds out after the reload has failed."""
    monkeypatch.setattr(scrubbing, "_PAUSE_SECONDS", 0.01)
    async with home.core() as core, scrubbing_goes_on(core):
        await patch(core, "one", "dev", door=WORD)
        store = core.parts.store
        commit = store.commit

        async def commit_in_doubt(writes: Sequence[Write]) -> None:
            await commit(writes)
            raise Unconfirmed("The store failed while it wrote: disk I/O error.")

        async def settle() -> bool:
            return True

        home.write("schemas/one.yaml", MARKED)
        with monkeypatch.context() as patched:
            patched.setattr(store, "commit", commit_in_doubt)
            patched.setattr(store, "settle", settle)
            with pytest.raises(Unconfirmed):
                await core.ask("reload")
        await eventually(lambda: files_with_the_word(home) == [])
