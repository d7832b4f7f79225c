"""What was changed by whom, and the way back."""

import copy
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import Conflict, InvalidRequest, NotFound, ValidationFailed
from aliciacfg.model.config_id import ConfigId
from builders import environment_file, valid_config
from cases import case
from inprocess import Core, core

SCHEMA: dict[str, Any] = {
    "version": "1.0.0",
    "properties": {
        "settings": {
            "type": "object",
            "properties": {
                "volume": {"type": "integer", "default": 5, "x-restart-required": True},
                "mood": {"type": "string"},
                "pin": {"type": "string", "x-sensitive": True},
            },
        }
    },
}
FILES: dict[str, object] = {
    "schemas/bell.yaml": SCHEMA,
    "environments/base.yaml": environment_file({"bell": {"settings": {"mood": "calm"}}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"protected": True},
}


async def bell(made: Core, settings: dict[str, Any], **fields: Any) -> Any:
    return await made.ask("patch", "bell", patch={"settings": settings}, **fields)


async def revisions(made: Core, service: str = "bell", **fields: Any) -> list[dict[str, Any]]:
    return (await made.ask("history", service, **fields))["revisions"]


async def test_every_revision_says_who_changed_what_and_why(tmp_path: Path):
    """Newest first, with cause, comment, what it changed, what that asks of the service, and whether it broke."""
    async with core(tmp_path, FILES) as made:
        await bell(made, {"volume": 6}, comment="too quiet")
        await bell(made, {"mood": None, "new": {"x": 1}}, allow_breaking=True)
        await made.ask("rollback", "bell", revision=1, comment="as it was")
        made.write("environments/dev.yaml", {"services": {"bell": {"settings": {"mood": "wild"}}}})
        await made.ask("reload")
        newest = await made.ask("get", "bell")
        found = await revisions(made)
    assert [item["revision"] for item in found] == [5, 4, 3, 2, 1]
    assert [item["cause"] for item in found] == ["file", "rollback", "api", "api", "file"]
    assert [item["author"] for item in found] == ["files", "tester", "tester", "tester", "files"]
    assert [item["comment"] for item in found] == [None, "as it was", None, "too quiet", None]
    assert [item["version"] for item in found] == ["3.0.1", "3.0.0", "2.0.0", "1.0.1", "1.0.0"]
    assert [item["breaking"] for item in found] == [False, True, True, False, False]
    assert [item["changed"] for item in found[:-1]] == [
        ["/settings/mood"],
        ["/settings/volume", "/settings/new/x", "/settings/mood"],
        ["/settings/mood", "/settings/new/x"],
        ["/settings/volume"],
    ]
    assert [item["restart_required"] for item in found] == [[], ["/settings/volume"], [], ["/settings/volume"], []]
    assert found[0]["checksum"] == newest["checksum"]
    assert found[0]["timestamp"] == newest["last_updated"]
    assert not any("deleted" in item for item in found)
    assert found[1]["checksum"] == found[4]["checksum"]


async def test_history_comes_in_pages_without_gaps(tmp_path: Path):
    """``next`` is the ``before`` of the page after, null on the last, also where the last page is full."""
    async with core(tmp_path, FILES) as made:
        for volume in range(10, 19):
            await bell(made, {"volume": volume})
        for limit in (1, 3, 5, 10, 11):
            seen: list[int] = []
            before: int | None = None
            while True:
                fields = {} if before is None else {"before": before}
                page = await made.ask("history", "bell", limit=limit, **fields)
                assert len(page["revisions"]) <= limit
                seen += [item["revision"] for item in page["revisions"]]
                before = page["next"]
                if before is None:
                    break
                assert page["revisions"][-1]["revision"] == before
            assert seen == list(range(10, 0, -1))
        assert await revisions(made, before=1) == []
        assert len(await revisions(made, before=2**63 - 1)) == 10


async def test_pages_have_bounds(tmp_path: Path):
    """A limit out of range is refused."""
    async with core(tmp_path, FILES) as made:
        for fields in [
            {"limit": 0},
            {"limit": 1001},
            {"limit": -1},
            {"before": 0},
            {"before": -1},
            {"before": 2**63},
            {"limit": "1"},
        ]:
            with case(fields):
                with pytest.raises(InvalidRequest) as refused:
                    await made.ask("history", "bell", **fields)
                assert [problem.pointer for problem in refused.value.problems] == [f"/{next(iter(fields))}"]


async def test_a_rollback_brings_the_content_back_as_a_new_revision(tmp_path: Path):
    """Secrets too; the old revision stays what it was, and only what differs from the files is an overlay."""
    async with core(tmp_path, FILES) as made:
        first = await bell(made, {"pin": "one", "volume": 6})
        await bell(made, {"pin": "two", "mood": "loud"})
        back = await made.ask("rollback", "bell", revision=2)
        assert (back["revision"], back["checksum"]) == (4, first["checksum"])
        assert sorted(back["changed"]) == ["/settings/mood", "/settings/pin"]
        entry = made.parts.state.committed(ConfigId("dev", "bell"))
        assert entry.overlay == {"settings": {"pin": "one", "volume": 6}}
        again = await made.ask("rollback", "bell", revision=2)
        assert (again["unchanged"], again["revision"]) == (True, 4)
        made.write("environments/base.yaml", environment_file({"bell": {"settings": {"mood": "new"}}}))
        await made.ask("reload")
        assert (await made.config("bell"))["settings"] == {"volume": 6, "pin": "***", "mood": "new"}
        await made.ask("rollback", "bell", revision=2)
        assert (await made.config("bell"))["settings"]["mood"] == "calm"
        assert (await made.ask("get", "bell", revision=3))["config"]["settings"]["mood"] == "loud"


async def test_a_rollback_is_checked_by_the_present_schema(tmp_path: Path):
    """A revision that is no longer valid is refused with all problems, and nothing changes."""
    async with core(tmp_path, FILES) as made:
        await bell(made, {"volume": 60, "mood": "x"})
        await bell(made, {"volume": 6, "mood": "calm"})
        stricter = copy.deepcopy(SCHEMA)
        stricter["version"] = "1.1.0"
        stricter["properties"]["settings"]["properties"]["volume"]["maximum"] = 10
        stricter["properties"]["settings"]["properties"]["mood"]["minLength"] = 3
        made.write("schemas/bell.yaml", stricter)
        await made.ask("reload")
        before = await revisions(made)
        for trial in (True, False):
            with pytest.raises(ValidationFailed) as refused:
                await made.ask("rollback", "bell", revision=2, dry_run=trial)
            assert [problem.pointer for problem in refused.value.problems] == ["/settings/mood", "/settings/volume"]
        assert await revisions(made) == before
        assert (await made.ask("rollback", "bell", revision=1))["revision"] == before[0]["revision"] + 1


async def test_a_rollback_is_never_refused_as_breaking(tmp_path: Path):
    """A rollback may break readers, and this is recorded."""
    async with core(tmp_path, FILES) as made:
        await bell(made, {"new": 1})
        back = await made.ask("rollback", "bell", revision=1)
        assert (back["version"], (await revisions(made))[0]["breaking"]) == ("2.0.0", True)


async def test_a_deleted_configuration_keeps_its_history_and_can_come_back(tmp_path: Path):
    """A deletion cannot be restored by a rollback; the revisions before it can."""
    config = valid_config(settings={"x": 1})
    async with core(tmp_path, FILES) as made:
        await made.ask("set", "visitor", config=config)
        await made.ask("patch", "visitor", patch={"settings": {"x": 2}})
        await made.ask("delete", "visitor", comment="moved out")
        found = await revisions(made, "visitor")
        assert [(item["revision"], item.get("deleted", False)) for item in found] == [(3, True), (2, False), (1, False)]
        assert (found[0]["comment"], found[0]["cause"], found[0]["checksum"]) == ("moved out", "api", "")
        with pytest.raises(NotFound, match="With revision 3 visitor was deleted"):
            await made.ask("rollback", "visitor", revision=3)
        with pytest.raises(NotFound, match="With revision 3 visitor was deleted"):
            await made.ask("get", "visitor", revision=3)
        with pytest.raises(NotFound, match="no configuration"):
            await made.ask("get", "visitor")
        assert (await made.ask("get", "visitor", revision=2))["config"]["settings"] == {"x": 2}
        with pytest.raises(Conflict) as refused:
            await made.ask("rollback", "visitor", revision=1, expected_revision=3)
        assert (refused.value.revision, refused.value.checksum) == (0, "")
        trial = await made.ask("rollback", "visitor", revision=1, dry_run=True)
        assert {"op": "add", "path": "/settings", "value": {"x": 1}} in trial["difference"]["visitor"]
        back = await made.ask("rollback", "visitor", revision=1, expected_revision=0)
        assert (back["revision"], back["config"]["settings"]) == (4, {"x": 1})
        assert (await revisions(made, "visitor"))[0]["cause"] == "rollback"
        assert "service/visitor" in made.parts.outbox.current
        assert made.parts.outbox.current["service/visitor"].payload


@pytest.mark.parametrize("operation", ["history", "rollback"])
async def test_what_never_was_has_no_history(tmp_path: Path, operation: str):
    """An unknown service, environment or revision."""
    revision = {"revision": 1} if operation == "rollback" else {}
    async with core(tmp_path, FILES) as made:
        with pytest.raises(NotFound, match="nobody"):
            await made.ask(operation, "nobody", **revision)
        with pytest.raises(NotFound, match="moon"):
            await made.ask(operation, "bell", environment="moon", **revision)
        with pytest.raises(InvalidRequest):
            await made.ask(operation, "history", **revision)
        with pytest.raises(NotFound, match="99"):
            await made.ask("rollback", "bell", revision=99)
        for wrong in (0, -1, 2**63, "1", None, True):
            with pytest.raises(InvalidRequest):
                await made.ask("rollback", "bell", revision=wrong)
        assert len(await revisions(made)) == 1


async def test_revisions_of_environments_are_counted_apart(tmp_path: Path):
    """Each environment has its own history, and a protected one needs ``expected_revision``."""
    async with core(tmp_path, FILES) as made:
        for volume in (6, 7):
            await bell(made, {"volume": volume})
        await bell(made, {"volume": 8}, environment="prod", expected_revision=1)
        assert [item["revision"] for item in await revisions(made, environment="prod")] == [2, 1]
        with pytest.raises(Conflict, match="protected"):
            await made.ask("rollback", "bell", revision=1, environment="prod")
        back = await made.ask("rollback", "bell", revision=1, environment="prod", expected_revision=2)
        assert (back["revision"], back["environment"]) == (3, "prod")
        assert len(await revisions(made)) == 3
