"""The warnings about values of files that run-time changes hide."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.errors import ValidationFailed
from builders import environment_file
from inprocess import Core, Home

SCHEMA = {"properties": {"settings": {"properties": {"volume": {"type": "integer"}, "tone": {"type": "string"}}}}}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one service, of which a file sets a value."""
    return Home(
        tmp_path,
        {
            "schemas/bell.yaml": SCHEMA,
            "environments/base.yaml": environment_file({"bell": {}}),
            "environments/dev.yaml": dev("3"),
        },
    )


def dev(volume: str, tone: str = "low") -> str:
    return f"services:\n  bell:\n    settings:\n      volume: {volume}\n      tone: {tone}\n"


async def patched(made: Core) -> int:
    """Hide the volume of the file; return the revision that does."""
    return (await made.ask("patch", "bell", patch={"settings": {"volume": 5}}))["revision"]


def details(answer: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return what the warnings of an answer are about, by kind; each has the text of the warning at its place."""
    found: dict[str, list[dict[str, Any]]] = {}
    assert [detail.pop("message") for detail in answer["warning_details"]] == answer["warnings"]
    for detail in answer["warning_details"]:
        found.setdefault(detail.pop("kind"), []).append(detail)
    return found


async def test_an_edit_that_is_hidden_is_told(home: Home):
    """In the answer to reload, with file and line, and by an alert; what comes into force beside it is not."""
    async with home.core() as made:
        revision = await patched(made)
        home.write("environments/dev.yaml", dev("4", tone="high"))
        answer = await made.ask("reload")
        line = f"environments/dev.yaml:4: bell /settings/volume: shadowed by overlay, revision {revision}"
        assert answer["changed"] == ["bell"]
        assert answer["warnings"] == [line]
        (alert,) = [alert for alert in made.heard if alert.kind == "shadowed"]
        assert line in alert.message
        assert "warnings" not in await made.ask("reload")


async def test_an_edit_to_the_same_value_is_not(home: Home):
    """It is in force, be it by the file or by the overlay."""
    async with home.core() as made:
        await patched(made)
        home.write("environments/dev.yaml", dev("5"))
        assert "warnings" not in await made.ask("reload")


async def test_a_write_tells_whose_edits_it_hides(home: Home):
    """With file and line, once; a change of the same place again says nothing, nor does one that no file sets."""
    async with home.core() as made:
        answer = await made.ask("patch", "bell", patch={"settings": {"volume": 5, "colour": "red"}})
        warning = "/settings/volume: the value of environments/dev.yaml:4 is shadowed by overlay, revision 2"
        assert [text for text in answer["warnings"] if "shadowed" in text] == [warning]
        assert details(answer)["shadowed"] == [
            {"pointer": "/settings/volume", "file": "environments/dev.yaml", "line": 4, "overlay_revision": 2}
        ]
        again = await made.ask("patch", "bell", patch={"settings": {"volume": 6}})
        assert again["warnings"] == []
        assert "warning_details" not in again


async def test_of_many_hidden_values_the_rest_is_counted(home: Home):
    """In one warning without a place."""
    async with home.core() as made:
        settings = {f"n{number}": number for number in range(12)}
        home.write("environments/dev.yaml", {"services": {"bell": {"settings": settings}}})
        await made.ask("reload")
        answer = await made.ask("patch", "bell", patch={"settings": dict.fromkeys(settings, 0.5)}, dry_run=True)
        found = details(answer)["shadowed"]
        assert (len(found), found[-1]) == (11, {})
        assert answer["warnings"][-1] == "2 more values of files are shadowed by overlay"


async def test_a_forgotten_level_is_told(home: Home):
    """By the write that adds the name, with where it belongs; on request the write is refused."""
    async with home.core() as made:
        meant = "did you mean /settings/volume?"
        with pytest.raises(ValidationFailed, match=meant.replace("?", r"\?")):
            await made.ask("patch", "bell", patch={"volume": 5}, refuse_near_misses=True)
        answer = await made.ask("patch", "bell", patch={"volume": 5})
        assert answer["warnings"] == [f"/volume is not described by the schema; {meant}"]
        told = {"unknown_name": [{"pointer": "/volume", "did_you_mean": "/settings/volume"}]}
        assert details(answer) == told
        valid = await made.ask("validate", "bell", config=answer["config"])
        assert (details(valid), valid["warnings"]) == (told, answer["warnings"])
        assert (await made.ask("patch", "bell", patch={"volume": 6}))["warnings"] == []


async def test_a_hidden_value_that_is_not_valid_shows(home: Home):
    """In environments and explain, with file and line, as long as the file has it."""
    async with home.core() as made:
        revision = await patched(made)
        home.write("environments/dev.yaml", dev("loud"))
        answer = await made.ask("reload")
        message = (
            "environments/dev.yaml:4: bell /settings/volume: found a string of 4 characters; expected an integer "
            f"(shadowed by overlay, revision {revision})"
        )
        assert message in answer["warnings"]
        place = {"file": "environments/dev.yaml", "line": 4, "service": "bell"}
        problem = {"pointer": "/services/bell/settings/volume", "message": message, **place}
        assert (await made.ask("explain", "bell"))["hidden"] == [problem]
        await made.ask("patch", "bell", patch={"settings": {"tone": "high"}})
        assert [item.get("hidden") for item in (await made.ask("environments"))["environments"]] == [[problem]]
        home.write("environments/dev.yaml", dev("4"))
        await made.ask("reload")
        assert "hidden" not in await made.ask("explain", "bell")


async def test_what_only_the_overlay_has_is_not_a_problem_of_the_files(tmp_path: Path):
    """A required secret may be set at run time alone."""
    schema = {"properties": {"settings": {"properties": {"pin": {"type": "string"}}, "required": ["pin"]}}}
    files = {
        "environments/base.yaml": environment_file({"bell": {"settings": {"pin": "1"}}}),
        "environments/dev.yaml": "",
    }
    home = Home(tmp_path, {"schemas/bell.yaml": schema, **files})
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"pin": "2"}})
        home.write("environments/base.yaml", environment_file({"bell": {"settings": {}}}))
        answer = await made.ask("reload")
        assert answer["warnings"] == ["environments/base.yaml:1: bell /settings/pin: shadowed by overlay, revision 2"]
        assert "hidden" not in await made.ask("explain", "bell")


async def test_refused_edits_show_wherever_people_look(home: Home):
    """With file and line, in list, get, environments and health, until the file is corrected; health has no message."""
    async with home.core() as made:
        await made.ask("get", "bell")
        home.write("environments/dev.yaml", dev("loud"))
        with pytest.raises(ValidationFailed):
            await made.ask("reload")
        place = {"file": "environments/dev.yaml", "line": 4}
        message = "bell /settings/volume: found a string of 4 characters; expected an integer"
        for operation, name in (("get", "bell"), ("list", ""), ("environments", "")):
            refused = (await made.ask(operation, name))["refused_edits"]
            assert refused == [{**place, "message": message, "service": "bell"}]
        assert (await made.ask("health"))["refused_edits"] == [place]
        home.write("environments/dev.yaml", dev("4"))
        await made.ask("reload")
        for operation, name in (("get", "bell"), ("list", ""), ("environments", ""), ("health", "")):
            assert "refused_edits" not in await made.ask(operation, name)
        for file, about, right in (
            ("schemas/bell.yaml", "bell", SCHEMA),
            ("schemas/front.door/migrations/1-to-2.yaml", "front.door", "[]"),
            ("environments/dev.yaml", None, dev("4")),
        ):
            home.write(file, "settings: [")
            with pytest.raises(ValidationFailed):
                await made.ask("reload")
            (edit,) = (await made.ask("list"))["refused_edits"]
            assert (edit["file"], edit.get("service")) == (file, about)
            home.write(file, right)


async def test_what_is_wrong_with_another_service_is_for_its_readers(home: Home):
    """Who reads one service learns that a file was refused, and where, not what it says of another one."""
    home.write("environments/base.yaml", environment_file({"bell": {}, "lamp": {}}))
    home.write("environments/access.yaml", "admins: [tester]\n")
    async with home.core() as made:
        home.write("environments/dev.yaml", dev("loud"))
        with pytest.raises(ValidationFailed):
            await made.ask("reload")
        lamp = Caller("lamp", "test", proven=True)
        for answer in (await made.ask_as(lamp, "get", "lamp"), await made.ask_as(lamp, "list")):
            assert answer["refused_edits"] == [{"file": "environments/dev.yaml", "line": 4}]
        bell = await made.ask_as(Caller("bell", "test", proven=True), "get", "bell")
        assert "/settings/volume" in bell["refused_edits"][0]["message"]
