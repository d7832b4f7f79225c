"""What differs between two configurations: environments of one service, or revisions of one environment."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.compare import Sides
from aliciacfg.errors import InvalidRequest, NotFound
from aliciacfg.operations.compare import Side, compare
from builders import environment_file, valid_config
from inprocess import core


def side(document: dict[str, Any], **secrets: str) -> Side:
    return Side(document, {f"/{name}": value for name, value in secrets.items()})


def test_a_difference_is_listed_at_its_place():
    """Objects are compared member by member, arrays as a whole; a member that one side lacks is listed whole."""
    first = side({"same": 1, "a": {"x": 1, "gone": {"deep": [1]}}, "list": [1, 2], "type": 1})
    second = side({"same": 1, "a": {"x": 2, "a/b": {"~": 1}}, "list": [2, 1], "type": True})
    result = compare(first, second, compare_secrets=False)
    assert result.changed == {
        "/a/x": Sides(env1=1, env2=2),
        "/list": Sides(env1=[1, 2], env2=[2, 1]),
        "/type": Sides(env1=1, env2=True),
    }
    assert result.only_in_first == {"/a/gone": {"deep": [1]}}
    assert result.only_in_second == {"/a/a~1b": {"~": 1}}
    assert not result.equal


def test_the_order_of_members_is_no_difference():
    """The order of members makes no difference."""
    result = compare(
        side({"a": {"x": 1, "y": 2}, "b": 1}), side({"b": 1, "a": {"y": 2, "x": 1}}), compare_secrets=False
    )
    assert result.equal


def test_only_privileged_callers_learn_whether_secrets_are_equal():
    """No answer has the value of a secret."""
    first = side({"p": "one", "q": "both", "r": "alone"}, p="one", q="both", r="alone")
    second = side({"p": "two", "q": "both"}, p="two", q="both")
    outsider = compare(first, second, compare_secrets=False)
    assert (outsider.changed, outsider.secrets, outsider.only_in_first) == ({}, ["/p", "/q"], {"/r": "secret"})
    insider = compare(first, second, compare_secrets=True)
    assert (insider.changed, insider.secrets) == ({"/p": Sides(env1="secret", env2="secret")}, [])


def test_a_secret_in_an_array_is_hidden_and_makes_no_difference():
    """The answer has the whole array, with its secrets replaced."""
    first = Side({"doors": [{"code": "1"}, {"code": "2"}]}, {"/doors/0/code": "1", "/doors/1/code": "2"})
    second = Side({"doors": [{"code": "3"}]}, {"/doors/0/code": "3"})
    result = compare(first, second, compare_secrets=False)
    assert result.changed == {"/doors": Sides(env1=[{"code": "secret"}] * 2, env2=[{"code": "secret"}])}
    assert result.secrets == ["/doors/0/code"]


BELL = Caller("bell", "test")
SECRET = "planted-secret-9d20"
FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}}),
    "environments/dev.yaml": {"services": {"bell": {"settings": {"only_dev": {"a": 1}}}}},
    "environments/prod.yaml": {
        "defaults": {"mqtt_config": {"password": SECRET}},
        "services": {"bell": {"settings": {"volume": 2, "only_prod": True}}},
    },
}


async def test_two_environments_are_compared_with_run_time_changes(tmp_path: Path):
    """The document's environment is not a difference; run-time changes are; secrets are not shown."""
    async with core(tmp_path, FILES) as made:
        answer = await made.ask_as(BELL, "compare", "bell", env1="dev", env2="prod")
        assert answer == {
            "service": "bell",
            "env1": "dev",
            "env2": "prod",
            "rev1": 1,
            "rev2": 1,
            "equal": False,
            "changed": {"/settings/volume": {"env1": 1, "env2": 2}},
            "only_in_env1": {"/settings/only_dev": {"a": 1}},
            "only_in_env2": {"/settings/only_prod": True},
            "secrets": ["/mqtt_config/password"],
        }
        known = await made.ask("compare", "bell", env1="dev", env2="prod")
        assert known["changed"]["/mqtt_config/password"] == {"env1": "secret", "env2": "secret"}
        assert (known["secrets"], SECRET in str(known)) == ([], False)
        prod = await made.config("bell", environment="prod")
        await made.ask("set", "bell", config={**prod, "environment": "dev"}, allow_breaking=True)
        after = await made.ask_as(BELL, "compare", "bell", env1="dev", env2="prod")
        assert (after["equal"], after["rev1"], after["rev2"]) == (True, 2, 1)
        back = await made.ask_as(BELL, "compare", "bell", env1="prod", env2="dev")
        assert (back["equal"], back["rev1"], back["rev2"]) == (True, 1, 2)


async def test_revisions_are_compared_with_each_other_and_with_the_newest(tmp_path: Path):
    """The second revision defaults to the newest; works across environments and for a deleted configuration."""
    async with core(tmp_path, FILES) as made:
        for volume in (5, 6):
            await made.ask("patch", "bell", patch={"settings": {"volume": volume}})

        async def volumes(**sides: object) -> tuple[Any, ...]:
            found = await made.ask("compare", "bell", **sides)
            return found["rev1"], found["rev2"], found["changed"].get("/settings/volume")

        assert await volumes(rev1=1, rev2=2) == (1, 2, {"env1": 1, "env2": 5})
        assert await volumes(rev1=2) == (2, 3, {"env1": 5, "env2": 6})
        assert await volumes(rev2=2) == (3, 2, {"env1": 6, "env2": 5})
        assert await volumes(rev1=3, rev2=3) == (3, 3, None)
        assert await volumes(env1="dev", rev1=2, env2="prod") == (2, 1, {"env1": 5, "env2": 2})
        assert await volumes(environment="prod", rev1=1) == (1, 1, None)
        config = valid_config(mqtt_config={"password": "x"})
        await made.ask("set", "visitor", config=config)
        await made.ask("patch", "visitor", patch={"limits": {"x": 1}})
        await made.ask("delete", "visitor")
        gone = await made.ask("compare", "visitor", rev1=1, rev2=2)
        assert gone["only_in_env2"] == {"/limits": {"x": 1}}
        for sides in ({"rev1": 1}, {"rev1": 1, "rev2": 3}, {"env1": "dev"}):
            with pytest.raises(NotFound):
                await made.ask("compare", "visitor", **sides)


async def test_a_comparison_names_what_it_compares(tmp_path: Path):
    """A comparison without sides, or with sides that do not exist, is refused."""
    async with core(tmp_path, FILES) as made:
        for sides in ({}, {"environment": "prod"}, {"env1": ""}, {"env1": "dev", "env2": ""}, {"env2": "a b"}):
            with pytest.raises(InvalidRequest):
                await made.ask("compare", "bell", **sides)
        for sides in ({"env1": "moon"}, {"env2": "moon"}, {"rev1": 9}, {"env2": "prod", "rev2": 2}):
            with pytest.raises(NotFound):
                await made.ask("compare", "bell", **sides)
        with pytest.raises(NotFound):
            await made.ask("compare", "nobody", rev1=1)


def test_the_places_of_secrets_are_named():
    """Of those that one side alone has, and for administrators of those that differ; what is equal on both is none."""
    one = Side({"p": "a", "q": "b", "r": "secret", "s": 1}, {"/p": "a", "/q": "b"})
    two = Side({"p": "c", "t": {"u": "d"}}, {"/p": "c", "/t/u": "d"})
    assert compare(one, two, compare_secrets=False).hidden == ["/q", "/t/u"]
    assert sorted(compare(one, two, compare_secrets=True).hidden) == ["/p", "/q", "/t/u"]
