"""Migrations of stored configurations when a schema moves to another major version."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import ValidationFailed
from aliciacfg.sealing.boxes import is_sealed
from builders import environment_file
from inprocess import Core, Home

FILE = "schemas/one.yaml"
STEP = "schemas/one/migrations/1-to-2.yaml"
SECRET = "open-sesame"
NUMBER = {"type": "integer", "default": 30}
KEY = {"type": "string", "x-sensitive": True}


def schema(version: str, **settings: object) -> dict[str, Any]:
    return {
        "version": version,
        "properties": {"settings": {"type": "object", "additionalProperties": False, "properties": settings}},
    }


OLD = schema("1.0.0", timeout=NUMBER, door=KEY)
NEW = schema("2.0.0", timeout_seconds=NUMBER, doors={"properties": {"front": KEY}})
MIGRATION = [
    {"op": "move", "from": "/settings/timeout", "path": "/settings/timeout_seconds"},
    {"op": "move", "from": "/settings/door", "path": "/settings/doors/front"},
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Three services in two environments, with one schema for each."""
    return Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}, "three": {}}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {},
            **{f"schemas/{name}.yaml": OLD for name in ("one", "two", "three")},
        },
    )


async def change(core: Core, environment: str = "dev", service: str = "one", **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings}, environment=environment)


async def waiting(core: Core, *, dry_run: bool = False, migrate: bool = False) -> dict[str, Any]:
    """The migrations of a reload, by service."""
    answer = await core.ask("reload", dry_run=dry_run, migrate=migrate)
    return {item["service"]: item for item in answer["migrations"]}


async def serving(core: Core, service: str = "one") -> str:
    return (await core.ask("schema", service))["version"]


async def test_a_major_version_waits_while_the_old_schema_serves(home: Home):
    """The old schema validates writes, other edits come into force, the alert says what to do, also after restarts."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        home.write("schemas/two.yaml", schema("1.1.0", timeout=NUMBER, more={"default": "x"}))
        found = (await waiting(core))["one"]
        assert (found["from_version"], found["to_version"]) == ("1.0.0", "2.0.0")
        assert (found["files"], found["environments"], found["done"]) == ([STEP], ["dev"], False)
        assert await serving(core, "two") == "1.1.0"
    for number in range(2):
        async with home.core() as core:
            assert "one (1.0.0 to 2.0.0)" in core.told("migration_pending")
            assert "aliciacfg migrate --dry-run" in core.told("migration_pending")
            assert core.parts.reloads.degraded is None
            assert await serving(core) == "1.0.0"
            await change(core, timeout=6 + number)
            with pytest.raises(ValidationFailed):
                await change(core, timeout_seconds=6)
            assert await core.settings("one") == {"timeout": 6 + number}


async def test_a_trial_run_shows_the_result_and_leaves_no_trace(home: Home):
    """A dry run returns the difference for every environment with overlays and changes nothing."""
    async with home.core() as core:
        await change(core, timeout=5)
        await change(core, "prod", door=SECRET)
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        before = home.stored, await core.ask("list", include="config")
        found = (await waiting(core, dry_run=True, migrate=True))["one"]
        assert (found["done"], found["problems"]) == (False, [])
        assert found["difference"]["dev"] == [
            {"op": "move", "from": "/settings/timeout", "path": "/settings/timeout_seconds"}
        ]
        assert any(item["path"].startswith("/settings/doors") for item in found["difference"]["prod"])
        assert found["changes"] == {
            "dev": {
                "/settings/timeout": {"old": 5},
                "/settings/timeout_seconds": {"new": 5},
            },
            "prod": {
                "/settings/door": {"old": "***"},
                "/settings/timeout": {"old": 30},
                "/settings/timeout_seconds": {"new": 30},
                "/settings/doors/front": {"new": "***"},
            },
        }
        assert SECRET not in str(found)
        assert (home.stored, await core.ask("list", include="config")) == before
        assert core.standing == {}
        assert await serving(core) == "1.0.0"
        # Without the migration nothing is shown for it.
        assert not {"difference", "changes"} & (await waiting(core, dry_run=True))["one"].keys()
        done = (await waiting(core, migrate=True))["one"]
        assert (done["done"], done["changes"], "difference" in done) == (True, found["changes"], False)


async def test_a_migration_reaches_the_overlays_of_all_environments(home: Home):
    """A migration makes revisions with its cause and author, keeps the history and clears the alert."""
    async with home.core() as core:
        await change(core, timeout=5)
        await change(core, "prod", timeout=7)
        await change(core, service="two", timeout=9)
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        await waiting(core)
        found = (await waiting(core, migrate=True))["one"]
        assert (found["done"], found["environments"]) == (True, ["dev", "prod"])
        assert await core.settings("one") == {"timeout_seconds": 5}
        assert await core.settings("one", environment="prod") == {"timeout_seconds": 7}
        assert await core.settings("two") == {"timeout": 9}
        history = (await core.ask("history", "one"))["revisions"]
        assert [(item["revision"], item["cause"]) for item in history] == [(3, "migration"), (2, "api"), (1, "file")]
        assert (history[0]["author"], history[0]["breaking"], history[0]["version"]) == ("tester", True, "2.0.0")
        assert (await core.ask("get", "one", revision=2))["config"]["settings"] == {"timeout": 5}
        assert core.standing == {}
        assert await waiting(core) == {}
        assert (await core.ask("explain", "one"))["values"]["/settings/timeout_seconds"]["layer"] == "overlay"
        await core.ask("unset", "one", pointer="/settings/timeout_seconds")
        assert await core.settings("one") == {"timeout_seconds": 30}
    async with home.core() as core:
        assert await serving(core) == "2.0.0"
        assert core.standing == {}
        assert (await core.parts.store.verify()).broken == []


async def test_a_secret_that_is_moved_stays_sealed(home: Home):
    """A moved secret is sealed for its new place, keeps its checksum and is never shown."""
    async with home.core() as core:
        await change(core, door=SECRET)
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        await waiting(core, migrate=True)
        assert (await core.settings("one"))["doors"] == {"front": "***"}
        (overlay,) = [item for item in (await core.parts.store.load()).overlays if item.service == "one"]
        assert overlay.patch is not None
        assert SECRET.encode() not in overlay.patch
        assert is_sealed(overlay.patch.decode().split('"')[7])
        before = await core.ask("get", "one")
        # Written by hand, the same document is the same: the checksum is that of the secret at its new place.
        again = {**before["config"], "settings": {**before["config"]["settings"], "doors": {"front": SECRET}}}
        assert (await core.ask("set", "one", config=again))["unchanged"] is True
        assert SECRET.encode() not in home.stored
    async with home.core() as core:
        assert (await core.ask("get", "one"))["checksum"] == before["checksum"]
        assert (await core.parts.store.verify()).broken == []


async def test_a_secret_is_not_moved_into_the_open(home: Home):
    """A moved value stays secret even if the new schema does not mark its new place."""
    async with home.core() as core:
        await change(core, door=SECRET)
        home.write(FILE, schema("2.0.0", timeout=NUMBER, entry={"type": "string"}))
        home.write(STEP, [{"op": "move", "from": "/settings/door", "path": "/settings/entry"}])
        assert (await waiting(core, migrate=True))["one"]["done"]
        assert await core.settings("one") == {"timeout": 30, "entry": "***"}
        assert SECRET.encode() not in home.stored


async def test_each_service_is_migrated_whole_or_not_at_all(home: Home):
    """A service whose migration fails in one environment keeps its old schema in all; other services are migrated."""
    async with home.core() as core:
        for name in ("one", "two"):
            home.write(f"schemas/{name}.yaml", NEW)
            home.write(f"schemas/{name}/migrations/1-to-2.yaml", MIGRATION)
            await change(core, service=name, timeout=5)
            await change(core, "prod", service=name, timeout=6)
        home.write(
            "schemas/two/migrations/1-to-2.yaml",
            [*MIGRATION, {"op": "test", "path": "/settings/timeout_seconds", "value": 5}],
        )
        found = await waiting(core, migrate=True)
        assert found["one"]["done"]
        assert not found["two"]["done"]
        assert [problem["message"] for problem in found["two"]["problems"]] == [
            "prod: schemas/two/migrations/1-to-2.yaml: operation 2 (test): the value is different."
        ]
        assert await core.settings("one", environment="prod") == {"timeout_seconds": 6}
        for environment, value in (("dev", 5), ("prod", 6)):
            assert await core.settings("two", environment=environment) == {"timeout": value}
        assert core.told("migration_pending").count("two") >= 2
        assert "one (" not in core.told("migration_pending")


async def test_a_migration_whose_result_is_invalid_is_not_carried_out(home: Home):
    """All problems of all environments are listed, including environments without run-time changes."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(FILE, {**schema("2.0.0", timeout={"type": "string"}), "required": ["owner"]})
        home.write(STEP, [])
        found = (await waiting(core, migrate=True))["one"]
        assert not found["done"]
        told = sorted(f"{problem['pointer']} {problem['message']}" for problem in found["problems"])
        assert [text.split(":")[0] for text in told] == ["/owner dev", "/owner prod", "/settings/timeout dev"]
        assert await core.settings("one") == {"timeout": 5}


async def test_a_problem_of_a_waiting_migration_goes_away_with_the_configuration(home: Home):
    """A write on the service makes a reload worth retrying, which then carries out the migration."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(FILE, schema("2.0.0", timeout={"type": "integer", "minimum": 10}))
        home.write(STEP, [])
        assert (await waiting(core))["one"]["problems"]
        await change(core, timeout=15)
        assert core.parts.reloads.worth_retrying
        assert (await waiting(core))["one"]["problems"] == []
        assert "dev" not in core.told("migration_pending")
        assert (await waiting(core, migrate=True))["one"]["done"]


async def test_several_steps_are_taken_in_one_go(home: Home):
    """Migrations from version 1 over 2 to 3 make one revision for each environment."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(STEP, MIGRATION)
        home.write(FILE, NEW)
        await waiting(core)
        home.write(
            "schemas/one/migrations/2-to-3.yaml",
            [{"op": "move", "from": "/settings/timeout_seconds", "path": "/settings/patience"}],
        )
        home.write(FILE, schema("3.0.0", patience=NUMBER))
        found = (await waiting(core, migrate=True))["one"]
        assert [Path(file).stem for file in found["files"]] == ["1-to-2", "2-to-3"]
        assert await core.settings("one") == {"patience": 5}
        assert (await core.ask("get", "one"))["revision"] == 3


async def test_a_schema_saved_before_its_migration_leaves_nothing_behind(home: Home):
    """A higher major version without migrations is pending even if all stored configurations are valid under it."""

    def of_version(number: str, name: str) -> dict[str, Any]:
        return {"version": number, "properties": {"settings": {"properties": {name: NUMBER}, "default": {}}}}

    home.write(FILE, of_version("1.0.0", "timeout"))
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(FILE, of_version("2.0.0", "timeout_seconds"))
        found = (await waiting(core))["one"]
        assert found["files"] == []
        assert "Write schemas/one/migrations/1-to-2.yaml" in found["problems"][0]["message"]
        assert "[]" in core.told("migration_pending")
        assert not (await waiting(core, migrate=True))["one"]["done"]
        assert await serving(core) == "1.0.0"
        home.write(STEP, MIGRATION)
        assert (await waiting(core))["one"]["problems"] == []
        await waiting(core, migrate=True)
        assert await core.settings("one") == {"timeout_seconds": 5}


async def test_a_major_version_without_changes_at_run_time_is_taken_at_once(home: Home):
    """Without overlays nothing is pending, with or without a migration file."""
    async with home.core() as core:
        home.write(FILE, NEW)
        assert await waiting(core) == {}
        assert await serving(core) == "2.0.0"
        await change(core, service="two", timeout=5)
        await core.ask("unset", "two", pointer="")
        home.write("schemas/two.yaml", NEW)
        home.write("schemas/two/migrations/1-to-2.yaml", MIGRATION)
        assert await waiting(core) == {}
        assert await serving(core, "two") == "2.0.0"


@pytest.mark.parametrize("overlay", [True, False])
async def test_files_written_for_the_new_schema_come_with_it(home: Home, *, overlay: bool):
    """A key renamed in base.yaml too changes at once without overlays, otherwise together with the migration."""
    base = environment_file({"one": {"settings": {"timeout": 8}}, "two": {}})
    home.write("environments/base.yaml", base)
    async with home.core() as core:
        if overlay:
            await change(core, "prod", timeout=5)
        base["services"]["one"] = {"settings": {"timeout_seconds": 8}}
        home.write("environments/base.yaml", base)
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        if overlay:
            with pytest.raises(ValidationFailed) as refused:
                await core.ask("reload")
            told = "\n".join(problem.message for problem in refused.value.problems)
            assert "environments/base.yaml:1" in told
            assert "waits for its migration" in told
            assert await core.settings("one") == {"timeout": 8}
            assert (await waiting(core, dry_run=True, migrate=True))["one"]["problems"] == []
        answer = await core.ask("reload", migrate=True)
        assert answer["changed"] == ["one"]
        assert await core.settings("one") == {"timeout_seconds": 8}
        assert await core.settings("one", environment="prod") == {"timeout_seconds": 5 if overlay else 8}
        assert core.standing == {}


async def test_overlays_of_an_environment_whose_files_are_gone_move_along(home: Home):
    """An environment without files does not block a migration, and its overlays are migrated too."""
    home.write("environments/staging.yaml", {})
    async with home.core() as core:
        await change(core, "staging", timeout=5, door=SECRET)
        home.remove("environments/staging.yaml")
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        assert (await waiting(core, migrate=True))["one"]["done"]
        assert SECRET.encode() not in home.stored
    async with home.core() as core:
        home.write("environments/staging.yaml", {})
        await core.ask("reload")
        assert await core.settings("one", environment="staging") == {"timeout_seconds": 5, "doors": {"front": "***"}}
        assert (await core.parts.store.verify()).broken == []


async def test_an_unusable_environment_keeps_its_overlays_from_being_migrated_unseen(home: Home):
    """Invalid files of an environment block the migration, and the problem says to correct them first."""
    async with home.core() as core:
        await change(core, "prod", timeout=5)
        home.write("environments/prod.yaml", "services: [")
        home.write(FILE, NEW)
        home.write(STEP, MIGRATION)
        found = (await waiting(core, migrate=True))["one"]
        assert not found["done"]
        assert "prod: the files of prod cannot be used" in str(found["problems"])
        home.write("environments/prod.yaml", {})
        assert (await waiting(core, migrate=True))["one"]["done"]


async def test_changes_that_do_not_open_are_not_migrated(home: Home):
    """Overlays that cannot be decrypted are not migrated, and the problem says why."""
    async with home.core() as core:
        await change(core, door=SECRET)
    (home.keys).unlink()
    home.write(FILE, NEW)
    home.write(STEP, MIGRATION)
    async with home.core() as core:
        found = (await waiting(core, migrate=True))["one"]
        assert not found["done"]
        assert "cannot be decrypted" in found["problems"][0]["message"]
        assert await serving(core) == "1.0.0"


async def test_a_migration_that_changes_no_configuration_changes_only_the_overlay(home: Home):
    """A migrated overlay that equals the files makes no revision, and ``unset`` finds nothing to remove."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(FILE, schema("2.0.0", timeout={"type": "integer", "default": 5}))
        home.write(STEP, [{"op": "remove", "path": "/settings/timeout"}])
        assert (await waiting(core, migrate=True))["one"]["done"]
        assert (await core.ask("get", "one"))["revision"] == 2
        assert (await core.parts.store.load()).overlays == []
