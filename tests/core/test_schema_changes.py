"""Schema evolution: a changed schema serves, waits or is refused, by what it means for what is stored."""

import asyncio
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from aliciacfg.errors import ValidationFailed
from aliciacfg.sources.layers import Sources
from builders import environment_file, valid_config
from inprocess import Core, Home

if TYPE_CHECKING:
    from aliciacfg.sources.source_files import SourceFiles

FILE = "schemas/one.yaml"


def schema(version: str | None = "1.0.0", *, required: Iterable[str] = (), **settings: object) -> dict[str, Any]:
    """Return a schema that allows exactly these members of ``settings``."""
    described = {
        "type": "object",
        "additionalProperties": False,
        "properties": settings,
        "required": list(required),
    }
    own: dict[str, Any] = {"type": "object", "properties": {"settings": described}}
    return own if version is None else {"version": version, **own}


NUMBER = {"type": "integer", "default": 30}
OLD = schema(timeout=NUMBER, mode={"type": "string"})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Three services in two environments, one of them with a schema."""
    return Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}, "three": {}}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {},
            FILE: OLD,
        },
    )


async def change(core: Core, environment: str = "dev", service: str = "one", **settings: object) -> None:
    await core.ask("patch", service, patch={"settings": settings}, environment=environment)


async def refused(core: Core) -> str:
    """Return all problem messages of a refused reload."""
    with pytest.raises(ValidationFailed) as error:
        await core.ask("reload")
    return "\n".join(problem.message for problem in error.value.problems)


async def version(core: Core, service: str = "one") -> str:
    """Return the version of the schema in force."""
    return (await core.ask("schema", service))["version"]


async def test_a_schema_that_everything_stored_meets_is_taken(home: Home):
    """Its new defaults make a revision with the cause ``file`` in every environment; overlays stay."""
    async with home.core() as core:
        await change(core, timeout=5)
        home.write(
            FILE, schema("1.1.0", timeout=NUMBER, mode={"type": "string"}, retries={"type": "integer", "default": 2})
        )
        assert (await core.ask("reload"))["changed"] == ["one"]
        assert await core.settings("one") == {"timeout": 5, "retries": 2}
        assert await core.settings("one", environment="prod") == {"timeout": 30, "retries": 2}
        assert await version(core) == "1.1.0"
        newest = (await core.ask("history", "one"))["revisions"][0]
        assert (newest["cause"], newest["changed"]) == ("file", ["/settings/retries"])
        assert core.standing == {}


@pytest.mark.parametrize("environment", ["dev", "prod"])
async def test_a_schema_that_breaks_what_is_stored_is_refused_whole(home: Home, environment: str):
    """Even if only an inactive environment breaks, the whole load is refused and every problem is listed."""
    async with home.core() as core:
        await change(core, environment, timeout=5, mode="fast")
        home.write(FILE, schema(timeout={"type": "integer", "minimum": 10}, mode={"enum": ["slow"], "type": "string"}))
        home.write(
            "environments/base.yaml",
            environment_file({"one": {}, "two": {}, "three": {}}, extra=1),
        )
        told = await refused(core)
        assert told == "\n".join(problem.message for problem in core.problems("validation_failed"))
        for part in (
            f"schemas/one.yaml: would break the stored configuration of one in {environment}",
            "/settings/timeout",
            "/settings/mode",
            "1-to-2.yaml",
            "raise the schema's version to 2.0.0",
            "Correct the configuration",
        ):
            assert part in told
        assert len(core.problems("validation_failed")) == 2
        assert core.parts.reloads.degraded is not None
        assert "extra" not in (await core.ask("get", "two"))["config"]
        await change(core, "dev" if environment == "prod" else "prod", timeout=3)
        assert (await core.settings("one", environment=environment))["timeout"] == 5
        with pytest.raises(ValidationFailed):
            await change(core, environment, timeout="soon")


async def test_a_refused_schema_is_refused_over_restarts_until_it_is_mended(home: Home):
    """After restarts the old schema stays in force, degraded and with drift, until the file is valid."""
    async with home.core() as core:
        await change(core, "prod", timeout=5)
        home.write(FILE, schema(timeout={"type": "integer", "minimum": 10}))
        await refused(core)
    for start in range(2):
        async with home.core() as core:
            assert "in prod" in core.told("validation_failed")
            assert core.parts.reloads.degraded is not None
            await change(core, mode=f"any {start}")
            assert await core.settings("one") == {"timeout": 30, "mode": f"any {start}"}
            core.parts.drift_checks.compare_files(core.parts.files.stamps or {})
            assert [item.subject for item in core.parts.drift.items] == [FILE]
            await refused(core)
    async with home.core() as core:
        home.write(FILE, OLD)
        await core.ask("reload")
        assert core.standing == {}
        assert core.parts.reloads.degraded is None
        core.parts.drift_checks.compare_files(core.parts.files.stamps or {})
        assert core.parts.drift.items == []


async def test_mending_the_configuration_makes_the_schema_worth_another_try(home: Home):
    """Only a write on the service that blocked the load makes a reload worth retrying, and it succeeds."""
    async with home.core() as core:
        await change(core, "prod", timeout=5)
        home.write(FILE, schema(timeout={"type": "integer", "minimum": 10, "default": 30}, mode={"type": "string"}))
        await refused(core)
        await change(core, service="two", anything=1)
        assert not core.parts.reloads.worth_retrying
        await change(core, "prod", timeout=15)
        assert core.parts.reloads.worth_retrying
        await core.ask("reload")
        assert not core.parts.reloads.worth_retrying
        assert core.standing == {}
        with pytest.raises(ValidationFailed):
            await change(core, timeout=9)


async def test_what_is_to_be_done_depends_on_where_the_configuration_comes_from(home: Home):
    """A configuration without an overlay needs corrected files, so the problem does not suggest a migration."""
    async with home.core() as core:
        home.write(FILE, {**schema("2.0.0", name={"type": "string"}), "required": ["name"]})
        home.write("schemas/one/migrations/1-to-2.yaml", [])
        told = await refused(core)
        assert "adapt those to the new schema" in told
        assert "1-to-2" not in told
        assert "dev" in told
        assert "prod" in told


async def test_a_removed_schema_file_is_taken_where_the_base_contract_is_met(home: Home):
    """The removal is refused if a configuration needs the schema's defaults; otherwise these disappear."""
    async with home.core() as core:
        await change(core, mode="fast")
        home.remove(FILE)
        await core.ask("reload")
        assert await core.settings("one") == {"mode": "fast"}
        assert await version(core) == "1.0.0"
        await change(core, whatever="passes now")
        home.write("schemas/two.yaml", {"properties": {"api_config": {"properties": {"port": {"default": 9}}}}})
        home.write(
            "environments/base.yaml",
            {"defaults": {**valid_config(), "api_config": {"host": "h"}}, "services": {"two": {}}},
        )
        home.write("environments/dev.yaml", {"services": {"one": {"api_config": {"port": 1}}}})
        home.write("environments/prod.yaml", {"services": {"one": {"api_config": {"port": 1}}}})
        await core.ask("reload")
        home.remove("schemas/two.yaml")
        assert "would break the stored configuration of two in dev: /api_config/port" in await refused(core)


async def test_a_schema_that_comes_back_does_not_migrate_what_is_migrated(home: Home):
    """The version of a removed schema file stays stored, also after restarts."""
    home.write(FILE, schema("2.0.0", timeout_seconds=NUMBER))
    home.write("schemas/one/migrations/1-to-2.yaml", [{"op": "add", "path": "/settings/timeout_seconds", "value": 1}])
    async with home.core() as core:
        await change(core, timeout_seconds=7)
        home.remove(FILE)
        await core.ask("reload")
    async with home.core() as core:
        assert core.standing == {}
        home.write(FILE, schema("2.1.0", timeout_seconds=NUMBER))
        assert (await core.ask("reload"))["migrations"] == []
        assert core.standing == {}
        assert await core.settings("one") == {"timeout_seconds": 7}
        home.remove(FILE)
        await core.ask("reload")
        assert (await core.ask("reload", dry_run=True))["changed"] == []


@pytest.mark.parametrize("version_of_it", ["1.0.0", "0.3.0", "2.0.0"])
async def test_the_first_schema_of_a_service_is_checked_like_any(home: Home, version_of_it: str):
    """The first schema of a service is refused if a stored configuration is invalid under it, whatever its version."""
    async with home.core() as core:
        await change(core, service="two", timeout=5)
        home.write("schemas/two.yaml", schema(version_of_it, timeout={"type": "string"}))
        assert "in dev: /settings/timeout" in await refused(core)
        home.write("schemas/two.yaml", schema(version_of_it, timeout=NUMBER))
        await core.ask("reload")
        assert await version(core, "two") == version_of_it
        assert core.standing == {}


async def test_an_unusable_inactive_environment_keeps_no_schema_from_serving(home: Home):
    """An inactive environment with invalid files does not block a schema change."""
    async with home.core() as core:
        await change(core, "prod", mode="x")
        home.write("environments/prod.yaml", "services: [")
        home.write(
            FILE, schema("1.1.0", timeout=NUMBER, mode={"type": "string"}, more={"type": "string", "default": "x"})
        )
        await core.ask("reload")
        assert await version(core) == "1.1.0"


async def test_an_edit_of_schema_and_files_in_one_go_is_judged_as_one(home: Home):
    """A key renamed in schema and files together comes into force; either edit alone is refused, in either order."""
    base = environment_file({"one": {"settings": {"timeout": 5}}})
    renamed = environment_file({"one": {"settings": {"timeout_seconds": 5}}})
    home.write("environments/base.yaml", base)
    new = schema("2.0.0", timeout_seconds={"type": "integer"})
    async with home.core() as core:
        home.write(FILE, new)
        assert "adapt those to the new schema" in await refused(core)
        home.write("environments/base.yaml", renamed)
        await core.ask("reload")
        assert await core.settings("one") == {"timeout_seconds": 5}
        home.write("environments/base.yaml", base)
        assert "/settings" in await refused(core)
        home.write(FILE, OLD)
        await core.ask("reload")
        assert (await core.settings("one"))["timeout"] == 5
        assert core.standing == {}


async def test_a_start_with_schema_and_files_broken_names_both(home: Home):
    """The last revisions stay in force, and the alert lists the problems of schema and files."""
    async with home.core() as core:
        await change(core, "prod", timeout=5)
    home.write(FILE, schema("1.1.0", timeout={"type": "integer", "minimum": 10}, port={"type": "integer"}))
    home.write("environments/dev.yaml", {"services": {"one": {"settings": {"port": 1}}}})
    async with home.core() as core:
        told = core.told("validation_failed")
        assert "would break the stored configuration of one in prod" in told
        assert "environments/dev.yaml:1" in told
        assert await core.settings("one") == {"timeout": 30}


async def test_files_read_earlier_are_not_taken_over_after_those_read_later(home: Home):
    """A slow load of old file contents does not replace the files of a load that was requested later."""
    async with home.core() as core:
        reloads = core.parts.reloads
        files = reloads._source_files
        has_read, may_go_on = threading.Event(), threading.Event()

        def slowly() -> Sources:
            found = files.load()
            has_read.set()
            assert may_go_on.wait(5)
            return found

        reloads._source_files = cast("SourceFiles", SimpleNamespace(load=slowly))
        watcher = asyncio.create_task(reloads.reload())
        await asyncio.to_thread(has_read.wait, 5)
        reloads._source_files = files
        home.write("environments/dev.yaml", {"defaults": {"settings": {"timeout": 7}}, "services": {}})
        asked = asyncio.create_task(core.ask("reload"))
        assert not (await asyncio.wait({asked}, timeout=0.3))[0]
        may_go_on.set()
        await watcher
        assert "one" in (await asked)["changed"]
        assert await core.settings("one") == {"timeout": 7}
        assert (await core.ask("get", "one"))["revision"] == 2


async def test_an_empty_schema_file_is_one_that_is_being_written(home: Home):
    """An empty schema file is refused with its name; a schema without rules is written as ``{}``."""
    async with home.core() as core:
        home.write(FILE, "\n")
        assert "schemas/one.yaml: is empty" in await refused(core)
        home.write(FILE, {})
        await core.ask("reload")
        await change(core, anything="passes")
