"""Activation: every service is checked first, all move at once, and the bus holds one environment, never two."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import InvalidRequest, NotFound, Unavailable, ValidationFailed
from builders import environment_file, valid_config
from inprocess import Core, Home

RESTART = {
    "properties": {"settings": {"properties": {"size": {"type": "integer", "maximum": 9, "x-restart-required": True}}}}
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Services of both environments, of dev alone, of prod alone, and one that is the same in both."""
    return Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({"one": {}, "two": {}}),
            "environments/dev.yaml": {"services": {"one": {"settings": {"size": 1}}, "old": {}}},
            "environments/prod.yaml": {"services": {"one": {"settings": {"size": 2}}, "new": {}}},
            "schemas/one.yaml": RESTART,
        },
    )


def announced(core: Core) -> dict[str, Any]:
    """Return the pending payloads by subject, without empty ones."""
    return {subject: json.loads(item.payload) for subject, item in core.parts.outbox.current.items() if item.payload}


def on_the_bus(core: Core) -> dict[str, tuple[str, int]]:
    """Environment and revision of the update of each service."""
    found = announced(core)
    return {
        subject.removeprefix("service/"): (item["environment"], item["revision"])
        for subject, item in found.items()
        if subject.startswith("service/")
    }


async def test_all_services_move_at_once_and_are_told_what_changes_for_them(home: Home):
    """The answer lists services of either environment and required restarts; the audit names the caller."""
    async with home.core() as core:
        await core.ask("patch", "one", patch={"settings": {"size": 3}}, environment="prod")
        answer = await core.ask("activate", "prod", comment="move in")
        assert (answer["environment"], answer["previous"]) == ("prod", "dev")
        assert answer["changed"] == ["new", "one", "two", "old"]
        assert answer["restart_required"] == ["one"]
        assert on_the_bus(core) == {"one": ("prod", 2), "two": ("prod", 1), "new": ("prod", 1)}
        told = announced(core)
        assert (told["environment"]["environment"], told["environment"]["epoch"]) == ("prod", 1)
        assert told["service/one"]["config"]["settings"] == {"size": 3}
        assert set(told["service/one"]["changed"]) == {"/environment", "/settings/size"}
        assert told["service/one"]["restart_required"] == ["/settings/size"]
        assert told["service/two"]["changed"] == ["/environment"]
        assert (await core.ask("get", "one"))["environment"] == "prod"
        with pytest.raises(NotFound):
            await core.ask("get", "old")
        entry = (await core.ask("audit"))["entries"][0]
        assert (entry["operation"], entry["environment"], entry["who"]) == ("activate", "prod", "tester")
        again = await core.ask("activate", "prod")
        assert (again["changed"], again["message"]) == ([], "prod is active already")


async def test_an_activation_outlives_restarts_until_the_setting_is_another_one(home: Home):
    """An unchanged ENVIRONMENT setting changes nothing at a start; a changed one activates that environment."""
    async with home.core() as core:
        await core.ask("activate", "prod")
    async with home.core() as core:
        assert core.parts.state.active == "prod"
        assert on_the_bus(core) == {"one": ("prod", 1), "two": ("prod", 1), "new": ("prod", 1)}
        await core.ask("activate", "dev")
        await core.ask("activate", "prod")
    async with home.core("prod") as core:
        assert core.parts.state.active == "prod"
        await core.ask("activate", "dev")
    async with home.core("prod") as core:
        assert core.parts.state.active == "dev"
    async with home.core("dev") as core:
        assert core.parts.state.active == "dev"
        assert on_the_bus(core) == {"one": ("dev", 1), "two": ("dev", 1), "old": ("dev", 1)}


async def test_every_problem_of_every_service_is_named_and_nothing_moves(home: Home):
    """All problems of files, schemas and overlays are listed, with file and line if there is one."""
    async with home.core() as core:
        await core.ask("patch", "two", patch={"limits": {"x": 1}}, environment="prod")
        home.write(
            "environments/prod.yaml",
            "services:\n  one: {settings: {size: 10}}\n  two: {api_config: {port: 0}, limits: {x: {y: 1}}}\n",
        )
        await core.ask("reload")
        before = on_the_bus(core), home.stored
        with pytest.raises(ValidationFailed, match="dev stays active") as refused:
            await core.ask("activate", "prod")
        places = {problem.pointer: problem.message for problem in refused.value.problems}
        assert set(places) == {"/services/one/settings/size", "/services/two/api_config/port"}
        assert places["/services/one/settings/size"].startswith("environments/prod.yaml:2: one")
        assert (on_the_bus(core), home.stored) == before
        assert core.parts.state.active == "dev"
        home.write("environments/prod.yaml", "services: [")
        await core.ask("reload")
        with pytest.raises(ValidationFailed) as refused:
            await core.ask("activate", "prod")
        assert "environments/prod.yaml:1" in refused.value.problems[0].message


@pytest.mark.parametrize(
    ("name", "error"), [("nowhere", NotFound), ("base", InvalidRequest), ("a b", InvalidRequest), ("", InvalidRequest)]
)
async def test_what_is_no_environment_cannot_be_activated(home: Home, name: str, error: type[Exception]):
    """An unknown, reserved or invalid name is refused, and the active environment stays."""
    async with home.core() as core:
        with pytest.raises(error):
            await core.ask("activate", name)
        assert core.parts.state.active == "dev"


async def test_an_environment_without_a_service_cannot_be_activated(tmp_path: Path):
    """An environment without services is refused, because its activation would clear all retained messages."""
    home = Home(
        tmp_path,
        {"environments/dev.yaml": environment_file({"one": {}}), "environments/prod.yaml": {}},
    )
    async with home.core() as core:
        with pytest.raises(ValidationFailed, match="no configuration"):
            await core.ask("activate", "prod")
        assert on_the_bus(core) == {"one": ("dev", 1)}


async def test_a_trial_run_says_what_would_change_and_leaves_no_trace(home: Home):
    """A dry run returns the difference of each service, including services that only one environment has."""
    async with home.core() as core:
        before = on_the_bus(core), home.stored
        answer = await core.ask("activate", "prod", dry_run=True)
        assert answer["changed"] == ["new", "one", "two", "old"]
        assert {"op": "replace", "path": "/settings/size", "value": 2} in answer["difference"]["one"]
        assert answer["difference"]["two"] == [{"op": "replace", "path": "/environment", "value": "prod"}]
        assert {item["op"] for item in answer["difference"]["old"]} == {"remove"}
        assert (on_the_bus(core), home.stored) == before
        assert core.parts.state.active == "dev"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_the_old_and_new_values_are_beside_what_changed(home: Home, dry_run: bool):
    """By service, of a trial and of the activation; services that come or go are named instead."""
    async with home.core() as core:
        await core.ask("patch", "two", patch={"settings": {"note": "of dev"}})
        answer = await core.ask("activate", "prod", dry_run=dry_run)
        moved = {"/environment": {"old": "dev", "new": "prod"}}
        assert answer["changes"] == {
            "one": {**moved, "/settings/size": {"old": 1, "new": 2}},
            "two": {**moved, "/settings/note": {"old": "of dev"}},
        }
        assert (answer["added"], answer["removed"], "changes_left_out" in answer) == (["new"], ["old"], False)
        assert set(answer["changed"]) == {*answer["changes"], "new", "old"}
        again = await core.ask("activate", "dev" if dry_run else "prod")
        assert not {"changes", "changes_left_out", "added", "removed"} & again.keys()


async def test_the_answer_of_many_services_stays_short(tmp_path: Path):
    """Places beyond the hundredth of a service, long values, and all beyond 64 KiB are counted instead."""
    services = [f"s{number:02}" for number in range(40)]
    few = {f"l{number}": number for number in range(103)}
    notes = {f"n{number}": "x" * 1000 for number in range(20)}
    home = Home(
        tmp_path,
        {
            "environments/base.yaml": environment_file({name: {} for name in services}),
            "environments/dev.yaml": {},
            "environments/prod.yaml": {
                "services": {
                    **{name: {"settings": notes} for name in services},
                    "s00": {"limits": few, "settings": {"long": "y" * 1025}},
                }
            },
        },
    )
    async with home.core() as core:
        answer = await core.ask("activate", "prod")
        assert answer["changes_left_out"]["s00"] == 5
        assert len(answer["changes"]["s00"]) == 100
        shown, left_out = answer["changes"], answer["changes_left_out"]
        assert {len(shown.get(name, {})) + left_out.get(name, 0) for name in services[1:]} == {21}
        assert ("s39" in shown, left_out["s39"]) == (False, 21)
        assert 50 * 1024 < len(json.dumps(shown)) < 70 * 1024


async def test_files_that_changed_meanwhile_count_for_the_environment_that_is_active(home: Home):
    """After an activation, only edits of the newly active environment's files are announced."""
    async with home.core() as core:
        await core.ask("activate", "prod")
        home.write("environments/dev.yaml", {"services": {"one": {"settings": {"size": 10}}}})
        await core.ask("reload")
        home.write("environments/prod.yaml", {"services": {"one": {"settings": {"size": 5}}}})
        assert (await core.ask("reload"))["changed"] == ["new", "one"]
        assert on_the_bus(core) == {"one": ("prod", 2), "two": ("prod", 1)}
        home.remove("environments/prod.yaml")
        with pytest.raises(ValidationFailed):
            await core.ask("reload")


async def test_a_disk_that_refuses_the_move_leaves_everything_where_it_was(home: Home, monkeypatch: pytest.MonkeyPatch):
    """A failed activation changes nothing, and the next attempt succeeds."""
    async with home.core() as core:
        before = on_the_bus(core)
        with monkeypatch.context() as patch:
            patch.setattr(core.parts.store, "commit", refuse)
            with pytest.raises(Unavailable):
                await core.ask("activate", "prod")
        assert (core.parts.state.active, on_the_bus(core)) == ("dev", before)
        assert (await core.ask("activate", "prod"))["previous"] == "dev"
    async with home.core() as core:
        assert core.parts.state.active == "prod"


async def refuse(_: object) -> None:
    raise Unavailable("The store cannot write: no space left on device.")


async def test_writes_that_race_with_activations_end_up_announced_for_the_environment_they_are_in(home: Home):
    """After concurrent changes in any order, the announcements equal what ``get`` answers for every service."""
    async with home.core() as core:

        async def write(number: int) -> None:
            environment = ["dev", "prod", None][number % 3]
            where = {} if environment is None else {"environment": environment}
            with contextlib.suppress(NotFound):
                await core.ask("patch", ["one", "two"][number % 2], patch={"limits": {"n": number}}, **where)
            if number % 7 == 0:
                document = valid_config(mqtt_config={"username": "x"})
                await core.ask("set", f"guest{number % 3}", config=document, **where)
            if number % 11 == 0:
                with contextlib.suppress(NotFound):
                    await core.ask("delete", f"guest{number % 3}", **where)

        async def move(number: int) -> None:
            await core.ask("activate", ["prod", "dev"][number % 2])
            if number % 5 == 0:
                await core.ask("reload")

        await asyncio.gather(*(write(number) for number in range(150)), *(move(number) for number in range(20)))
        active = core.parts.state.active
        listed = (await core.ask("list"))["configs"]
        assert on_the_bus(core) == {item["service"]: (active, item["revision"]) for item in listed}
        assert announced(core)["environment"]["environment"] == active
        assert (await core.parts.store.verify()).broken == []
    async with home.core() as core:
        assert core.parts.state.active == active
        assert on_the_bus(core) == {item["service"]: (active, item["revision"]) for item in listed}


async def test_secrets_that_stay_behind_are_named(home: Home):
    """By the dry run, by what compares the environments, and by the activation itself, which is not refused."""
    home.write("environments/dev.yaml", {"services": {"one": {"settings": {"camera_password": "of-dev"}}, "old": {}}})
    lacking = {"one": ["/settings/camera_password"]}
    async with home.core() as core:
        await core.ask("patch", "two", patch={"settings": {"pin_secret": "of-dev"}})
        found = {item["name"]: item for item in (await core.ask("environments"))["environments"]}
        assert "lacking_secrets" not in found["dev"]
        assert found["prod"]["lacking_secrets"] == {**lacking, "two": ["/settings/pin_secret"]}
        compared = await core.ask("compare", "one", env1="dev", env2="prod")
        assert compared["lacking_secrets"] == lacking["one"]
        await core.ask("patch", "two", patch={"settings": {"pin_secret": "of-prod"}}, environment="prod")
        trial = await core.ask("activate", "prod", dry_run=True)
        answer = await core.ask("activate", "prod")
        assert trial["lacking_secrets"] == answer["lacking_secrets"] == lacking
