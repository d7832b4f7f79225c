"""``list`` with ``include=status``: how each service is, for those who look at many at a time."""

from pathlib import Path
from typing import Any

from aliciacfg.access.caller import Caller
from aliciacfg.api.bus_messages import AppliedReport
from builders import environment_file
from inprocess import CALLER, Core, core

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"bell": {"settings": {"volume": 1}}, "lamp": {}}),
    "environments/dev.yaml": "",
    "environments/prod.yaml": "protected: true",
}
PLAIN = {"author": "files", "cause": "file", "may_write": True}


async def listed(made: Core, caller: Caller = CALLER, **fields: Any) -> dict[str, Any]:
    return await made.ask_as(caller, "list", include="status", **fields)


async def statuses(made: Core, caller: Caller = CALLER, **fields: Any) -> dict[str, Any]:
    """The status of each service."""
    return {item["service"]: item["status"] for item in (await listed(made, caller, **fields))["configs"]}


def report(instance: str, revision: int, status: Any = "applied") -> AppliedReport:
    return AppliedReport(instance=instance, revision=revision, checksum="", status=status)


async def test_a_status_tells_of_the_last_change(tmp_path: Path):
    """Its author, reason and comment, and whether there are changes made at run time."""
    async with core(tmp_path, FILES) as made:
        before = await statuses(made)
        assert before["lamp"].pop("changed_count") > 0
        assert before["lamp"] == PLAIN
        await made.ask("patch", "bell", patch={"settings": {"volume": 2}}, comment="louder")
        assert (await statuses(made))["bell"] == {
            **PLAIN, "author": "tester", "cause": "api", "comment": "louder", "changed_count": 1, "overlay": True,
        }  # fmt: skip
        assert "status" not in (await made.ask("list"))["configs"][0]


async def test_a_status_counts_copies(tmp_path: Path):
    """Of the active environment: how many do not run the newest revision, and why."""
    async with core(tmp_path, FILES) as made:
        registrations = made.parts.service.registrations
        await registrations.register("bell")
        await made.ask("patch", "bell", patch={"settings": {"volume": 2}})
        for reported in (report("a", 2), report("b", 1), report("c", 2, "restart_pending"), report("d", 2, "rejected")):
            await registrations.applied("bell", reported)
        found = (await statuses(made))["bell"]
        counted = {name: found[name] for name in ("online", "instances", "behind", "restart_pending", "rejected")}
        assert counted == {"online": True, "instances": 4, "behind": 3, "restart_pending": 1, "rejected": 1}
        assert "instances" not in (await statuses(made, environment="prod"))["bell"]
        await registrations.unregister("bell")
        assert (await statuses(made))["bell"]["online"] is False


async def test_the_environment_says_what_it_is(tmp_path: Path):
    """Whether it is the active one, and whether it is protected."""
    async with core(tmp_path, FILES) as made:
        answers = [await listed(made, environment=name) for name in ("dev", "prod")]
        assert [(answer["active"], answer["protected"]) for answer in answers] == [(True, False), (False, True)]


async def test_services_that_are_not_valid_are_listed(tmp_path: Path):
    """On the first page, with their problems."""
    wrong = {"services": {"lamp": {"api_config": {"port": "no"}}, "siren": {"api_config": {"port": "no"}}}}
    files = {**FILES, "environments/prod.yaml": wrong}
    async with core(tmp_path, files) as made:
        answer = await listed(made, environment="prod", limit=1)
        assert {item["service"] for item in answer["invalid"]} == {"lamp", "siren"}
        lamp = answer["invalid"][0]
        assert (lamp["environment"], lamp["may_write"]) == ("prod", True)
        assert "environments/prod.yaml:1" in str(lamp["problems"])
        assert [item["service"] for item in answer["configs"]] == ["bell"]
        assert "invalid" not in await listed(made, environment="prod", after="bell")
        only = (await listed(made, environment="prod", prefix="s"))["invalid"]
        assert [item["service"] for item in only] == ["siren"]


async def test_a_caller_sees_what_it_may_read(tmp_path: Path):
    """And what it may write; drift is for administrators."""
    rules = {"users": ["viewer"], "services": {"bell": {"read": {"allowed_services": ["viewer"]}}}}
    async with core(tmp_path, {**FILES, "environments/access.yaml": rules}) as made:
        made.parts.drift.report("row", "one", "What was found.", service="bell")
        assert (await statuses(made))["bell"]["drift"] == 1
        viewer = Caller("viewer", "test", proven=True)
        found = await statuses(made, viewer)
        assert found.keys() == {"bell"}
        assert "drift" not in found["bell"]
        assert "may_write" not in found["bell"]
        assert (await statuses(made, Caller("bell", "test", proven=True))).keys() == {"bell"}


async def test_a_thousand_services_are_one_answer(tmp_path: Path):
    """Within the limits of a page."""
    many = {f"s{number}": {} for number in range(1000)}
    async with core(tmp_path, {**FILES, "environments/base.yaml": environment_file(many)}) as made:
        answer = await listed(made, limit=1000)
        assert (len(answer["configs"]), answer["next"]) == (1000, None)
