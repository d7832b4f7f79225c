"""Versions, and changes that readers of a configuration may not survive."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import Incompatible, ValidationFailed
from builders import environment_file, valid_config
from inprocess import Core, core

SETTINGS: dict[str, Any] = {"volume": 1, "mood": "calm", "lamp": {"on": True, "watts": 5}, "list": [1, 2], "ratio": 1}
FILES: dict[str, object] = {
    "schemas/loose.yaml": {"compatibility": "none"},
    "environments/base.yaml": environment_file({"bell": {"settings": SETTINGS}, "loose": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": {"services": {"bell": {"settings": {"mood": 5}}}},
}
BREAKING: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a key": ({"mood": None}, {"/settings/mood": "would disappear"}),
    "a type": ({"volume": "1"}, {"/settings/volume": "would change from number to string"}),
    "a flag": ({"volume": True}, {"/settings/volume": "would change from number to boolean"}),
    "an object": (
        {"lamp": None},
        {"/settings/lamp/on": "would disappear", "/settings/lamp/watts": "would disappear"},
    ),
    "an object's type": ({"lamp": [1]}, {"/settings/lamp": "would change from object to array"}),
    "a value's type": ({"mood": {"now": "calm"}}, {"/settings/mood": "would change from string to object"}),
    "several": (
        {"mood": None, "volume": "loud", "new": 1, "ratio": 2},
        {"/settings/mood": "would disappear", "/settings/volume": "would change from number to string"},
    ),
}
COMPATIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "a value": ({"volume": 2}, "1.0.1"),
    "a new key": ({"new": 1}, "1.1.0"),
    "a fraction": ({"ratio": 1.5}, "1.0.1"),
    "an array": ({"list": ["a", None, {}]}, "1.0.1"),
    "both": ({"volume": 2, "lamp": {"colour": "red"}}, "1.1.0"),
}


async def newest(made: Core, **fields: Any) -> dict[str, Any]:
    return (await made.ask("history", "bell", limit=1, **fields))["revisions"][0]


def told(refused: pytest.ExceptionInfo[Incompatible]) -> dict[str, str]:
    return {problem.pointer: problem.message for problem in refused.value.problems}


@pytest.mark.parametrize(("settings", "problems"), BREAKING.values(), ids=BREAKING.keys())
async def test_a_breaking_change_is_refused_with_every_key_and_the_version_it_needs(
    tmp_path: Path, settings: dict[str, Any], problems: dict[str, str]
):
    """A breaking change is refused in every kind of write; with ``allow_breaking`` it makes a major version."""
    async with core(tmp_path, FILES) as made:
        patch = {"settings": settings}
        for trial in (True, False):
            with pytest.raises(Incompatible, match=r"needs version 2\.0\.0.*allow_breaking") as refused:
                await made.ask("patch", "bell", patch=patch, dry_run=trial)
            assert told(refused) == problems
        trial = await made.ask("patch", "bell", patch=patch, dry_run=True, allow_breaking=True)
        with pytest.raises(Incompatible) as refused:
            await made.ask("set", "bell", config=trial["config"])
        assert told(refused) == problems
        batch = await made.ask("batch", updates=[{"service": "bell", "patch": patch}])
        assert {item["pointer"]: item["message"] for item in batch["results"][0]["problems"]} == problems
        assert (await newest(made))["revision"] == 1
        done = await made.ask("patch", "bell", patch=patch, allow_breaking=True)
        assert (done["version"], done["revision"]) == ("2.0.0", 2)
        assert (await newest(made))["breaking"] is True


@pytest.mark.parametrize(("settings", "version"), COMPATIBLE.values(), ids=COMPATIBLE.keys())
async def test_what_readers_survive_passes(tmp_path: Path, settings: dict[str, Any], version: str):
    """A value is a patch, a new key a minor version; what an array holds is its value."""
    async with core(tmp_path, FILES) as made:
        answer = await made.ask("patch", "bell", patch={"settings": settings})
        assert (answer["version"], (await newest(made))["breaking"]) == (version, False)


async def test_a_version_that_is_asked_for_gives_no_leave(tmp_path: Path):
    """A requested version may be higher than needed with ``allow_breaking``; one that is too low is a problem."""
    breaking = {"settings": {"mood": None}}
    async with core(tmp_path, FILES) as made:
        with pytest.raises(Incompatible, match=r"needs version 7\.0\.0"):
            await made.ask("patch", "bell", patch={**breaking, "version": "7.0.0"})
        with pytest.raises(ValidationFailed) as low:
            await made.ask("patch", "bell", patch={**breaking, "version": "1.5.0"}, allow_breaking=True)
        assert [problem.pointer for problem in low.value.problems] == ["/version"]
        assert "2.0.0" in low.value.problems[0].message
        done = await made.ask("patch", "bell", patch={**breaking, "version": "7.0.0"}, allow_breaking=True)
        assert done["version"] == "7.0.0"


async def test_a_schema_can_say_that_its_readers_survive_everything(tmp_path: Path):
    """``compatibility: none``: nothing is refused for it, and what broke is still a major version on record."""
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "loose", patch={"settings": {"a": 1}})
        answer = await made.ask("patch", "loose", patch={"settings": {"a": "x"}})
        assert answer["version"] == "2.0.0"
        assert (await made.ask("history", "loose", limit=1))["revisions"][0]["breaking"] is True


async def test_the_word_of_the_schema_that_serves_counts(tmp_path: Path):
    """Written into the schema and taken away again: from the next reload on, in both directions."""
    async with core(tmp_path, FILES) as made:
        made.write("schemas/bell.yaml", {"compatibility": "none"})
        await made.ask("reload")
        assert (await made.ask("patch", "bell", patch={"settings": {"mood": 1}}))["version"] == "2.0.0"
        made.write("schemas/bell.yaml", {"compatibility": "backward"})
        await made.ask("reload")
        with pytest.raises(Incompatible, match=r"3\.0\.0"):
            await made.ask("patch", "bell", patch={"settings": {"mood": "x"}})


async def test_delete_is_refused_where_the_files_go_on_without_the_keys(tmp_path: Path):
    """A breaking deletion is refused if the files still define the service; otherwise it is always allowed."""
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": {"new": {"x": 1}}})
        for trial in (True, False):
            with pytest.raises(Incompatible) as refused:
                await made.ask("delete", "bell", dry_run=trial)
            assert told(refused) == {"/settings/new/x": "would disappear"}
        done = await made.ask("delete", "bell", allow_breaking=True)
        assert (done["remains"], done["version"], (await newest(made))["breaking"]) == (True, "2.0.0", True)
        await made.ask("set", "visitor", config=valid_config())
        assert (await made.ask("delete", "visitor"))["remains"] is False


async def test_the_way_back_and_the_files_are_never_refused(tmp_path: Path):
    """Unset, rollback, an edit and an activation break where they have to: recorded as major and breaking."""
    async with core(tmp_path, FILES) as made:

        async def broke() -> tuple[str, str, bool]:
            item = await newest(made)
            return item["cause"], item["version"], item["breaking"]

        await made.ask("patch", "bell", patch={"settings": {"new": 1}})
        await made.ask("unset", "bell", pointer="/settings/new")
        assert await broke() == ("api", "2.0.0", True)
        await made.ask("rollback", "bell", revision=2)
        await made.ask("rollback", "bell", revision=1)
        assert await broke() == ("rollback", "3.0.0", True)
        made.write("environments/dev.yaml", {"services": {"bell": {"settings": {"lamp": None}}}})
        await made.ask("reload")
        assert await broke() == ("file", "4.0.0", True)
        activated = await made.ask("activate", "prod")
        assert "bell" in activated["changed"]
        assert (await made.config("bell"))["settings"]["mood"] == 5


async def test_a_secret_is_named_and_not_told(tmp_path: Path):
    """The error names the key and the change, but never a value."""
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": {"token": "planted-secret-31af"}})
        for value in (5, None):
            with pytest.raises(Incompatible) as refused:
                await made.ask("patch", "bell", patch={"settings": {"token": value}})
            assert list(told(refused)) == ["/settings/token"]
            assert "planted-secret" not in str(refused.value)


async def test_the_version_goes_on_after_a_deletion(tmp_path: Path):
    """As the revision does: what comes back is new to its readers, so it breaks nothing, and no version is reused."""
    async with core(tmp_path, FILES) as made:
        await made.ask("set", "visitor", config=valid_config(settings={"x": 1}))
        await made.ask("delete", "visitor")
        back = await made.ask("set", "visitor", config=valid_config(settings={"x": "text"}))
        assert (back["revision"], back["version"]) == (3, "1.1.0")
        found = (await made.ask("history", "visitor"))["revisions"]
        assert [item["version"] for item in found] == ["1.1.0", "1.0.0", "1.0.0"]
