"""How many nodes and secrets a configuration may hold, whoever sends or writes it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.documents import excess_nodes
from aliciacfg.errors import OperationError, TooLarge
from builders import environment_file, valid_config
from cases import case
from inprocess import Core, Home, core

NODES = {"list": [1] * 200}
DEEP = {"deep": {str(number): {"a": [number]} for number in range(60)}}
SECRETS = {"keys": ["x"] * 30}
BOXES = {"note": [f"sealed:v1:{number:016x}:AAAA" for number in range(30)]}
FEW = {"max_config_nodes": "150", "max_secrets": "20"}
FILES = {"environments/dev.yaml": environment_file({"bell": {}})}


def bell(**settings: Any) -> dict[str, Any]:
    return valid_config(settings=settings)


async def refused(made: Core, operation: str, **fields: Any) -> TooLarge:
    with pytest.raises(TooLarge) as found:
        await made.ask(operation, "bell", **fields)
    return found.value


async def test_what_a_caller_sends_is_bounded(tmp_path: Path):
    """Too many nodes, secrets or sealed values are too_large; the refusal names the place, limit and setting."""
    async with core(tmp_path, FILES, **FEW) as made:
        for operation in ["set", "patch", "validate"]:
            for settings, place, setting in [
                (NODES, "/settings/list", "ALICIACFG_MAX_CONFIG_NODES"),
                (DEEP, "/settings/deep", "ALICIACFG_MAX_CONFIG_NODES"),
                (SECRETS, "/settings/keys", "ALICIACFG_MAX_SECRETS"),
                (BOXES, "/settings/note", "ALICIACFG_MAX_SECRETS"),
            ]:
                with case(operation, settings, place, setting):
                    fields = {"patch": {"settings": settings}} if operation == "patch" else {"config": bell(**settings)}
                    error = await refused(made, operation, **fields)
                    (problem,) = error.problems
                    assert setting in error.message
                    assert problem.pointer.startswith(place)
                    assert (await made.ask("get", "bell"))["revision"] == 1


async def test_a_batch_refuses_only_the_update_that_is_too_large(tmp_path: Path):
    """Each update is bounded by itself."""
    async with core(tmp_path, FILES, **FEW) as made:
        updates = [{"service": "bell", "config": bell(**NODES)}, {"service": "lamp", "config": bell(a=1)}]
        answer = await made.ask("batch", updates=updates)
        assert [result.get("code") for result in answer["results"]] == ["too_large", None]


async def test_as_many_as_the_limits_say_are_allowed(tmp_path: Path):
    """One more node or one more secret is refused."""
    config = bell(keys=["x", "y"], list=[1] * 40)
    nodes = 3 + 4 + 2 + 2 + 2 + 40
    async with core(tmp_path, FILES, max_secrets="3", max_config_nodes=str(nodes)) as made:
        await made.ask("set", "bell", config=config, allow_breaking=True)
        assert "MAX_CONFIG_NODES" in (await refused(made, "set", config={**config, "more": 1})).message
    async with core(tmp_path / "secrets", FILES, max_secrets="2") as made:
        assert "MAX_SECRETS" in (await refused(made, "set", config=config)).message


@pytest.mark.parametrize("settings", [NODES, SECRETS])
@pytest.mark.parametrize("section", ["defaults", "services"])
async def test_an_environment_file_is_bounded_too(tmp_path: Path, section: str, settings: dict[str, Any]):
    """The problem names file and line, and the configurations stay as they were."""
    async with core(tmp_path, FILES, **FEW) as made:
        in_defaults = section == "defaults"
        sections = {"settings": settings} if in_defaults else {}
        file = environment_file({"bell": {} if in_defaults else {"settings": settings}}, **sections)
        made.write("environments/dev.yaml", json.dumps(file, indent=1))
        with pytest.raises(OperationError) as found:
            await made.ask("reload")
        text = "\n".join(problem.message for problem in found.value.problems)
        assert "environments/dev.yaml:" in text
        assert "ALICIACFG_MAX_" in text
        assert "settings" not in (await made.ask("get", "bell"))["config"]


async def test_a_limit_that_is_lowered_takes_no_configuration_away(tmp_path: Path):
    """What was stored before is served, also when it is composed anew, and can be reduced."""
    home = Home(tmp_path, FILES)
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {**NODES, **SECRETS}})
    home.write("environments/dev.yaml", environment_file({"bell": {}}, limits={"a": 1}))
    async with home.core(**FEW) as made:
        assert made.standing == {}
        assert (await made.settings("bell"))["list"] == NODES["list"]
        assert (await made.ask("get", "bell"))["config"]["limits"] == {"a": 1}
        await made.ask("unset", "bell", pointer="/settings")
        assert await made.settings("bell") == {}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, None),
        ([1, 2, 3], None),
        ([1, 2, 3, 4], ""),
        ({"a": [1, 2]}, None),
        ({"a": [1], "b/c": [1, 2]}, "/b~1c"),
        ([[[[]]]], None),
        ([[[[[]]]]], "/0/0/0"),
        ("text", None),
    ],
)
def test_members_and_items_of_all_levels_count(value: Any, place: str | None):
    """The place is the object or array that holds the first one too many."""
    assert excess_nodes(value, 3) == place
