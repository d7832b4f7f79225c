"""What a write with a misspelt name is answered, and what an edit with one is told."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aliciacfg.errors import ValidationFailed
from builders import environment_file
from inprocess import Home

SCHEMA = {"properties": {"settings": {"properties": {"max_sessions": {"type": "integer"}, "tone": {"type": "string"}}}}}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one service, whose schema is open."""
    return Home(
        tmp_path,
        {
            "schemas/bell.yaml": SCHEMA,
            "environments/base.yaml": environment_file({"bell": {"settings": {"max_sessions": 3}}}),
            "environments/dev.yaml": "",
        },
    )


async def test_the_warning_says_what_is_probably_meant(home: Home):
    """A write is carried out; its warning, and that of validate, names the place."""
    warning = "/settings/max_sesions is not described by the schema; did you mean /settings/max_sessions?"
    async with home.core() as made:
        answer = await made.ask("patch", "bell", patch={"settings": {"max_sesions": 5, "colour": "red"}})
        assert (
            answer["warnings"] == ["/settings/colour is not described by the schema; is the name right?", warning][::-1]
        )
        config = (await made.ask("get", "bell"))["config"]
        assert warning in (await made.ask("validate", "bell", config=config))["warnings"]


async def test_a_caller_can_have_it_refused(home: Home):
    """Nothing is stored; a batch refuses that update; other unknown names are taken."""
    wrong, right = {"settings": {"max_sesions": 5}}, {"settings": {"colour": "red"}}
    async with home.core() as made:
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("patch", "bell", patch=wrong, refuse_near_misses=True)
        (problem,) = refused.value.problems
        assert (problem.pointer, problem.message) == ("/settings/max_sesions", "did you mean /settings/max_sessions?")
        updates = [{"service": "bell", "patch": wrong}, {"service": "bell", "patch": right}]
        batch = await made.ask("batch", updates=updates, refuse_near_misses=True)
        assert [result["status"] for result in batch["results"]] == ["error", "success"]


async def test_what_is_there_already_is_in_nobodys_way(home: Home):
    """Only a new name is refused: one that was taken once must not stop every later write."""
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"max_sesions": 5}})
        answer = await made.ask("patch", "bell", patch={"settings": {"tone": "low"}}, refuse_near_misses=True)
        assert answer["changed"] == ["/settings/tone"]


async def test_an_edit_of_a_file_is_taken_with_a_warning(home: Home):
    """With file and line, in the answer to reload and once in the log, without the name that only the file has."""
    async with home.core() as made:
        home.write("environments/dev.yaml", "services:\n  bell:\n    settings:\n      max_sesions: 5\n")
        with capture_logs() as logs:
            trial = await made.ask("reload", dry_run=True)
            answer = await made.ask("reload")
            await made.ask("reload")
        assert answer["changed"] == ["bell"]
        (warning,) = answer["warnings"]
        assert warning.startswith("environments/dev.yaml:4: ")
        assert "did you mean max_sessions?" in warning
        assert "max_sesions" not in warning
        assert trial["warnings"] == answer["warnings"]
        assert [entry["places"] for entry in logs if entry["event"] == "name_misspelt"] == [[warning]]


async def test_services_with_the_same_places_are_told_each(home: Home):
    """What is known of one is used for the next one, with its own line; not for one with another schema."""
    home.write("schemas/lamp.yaml", {"properties": {"settings": {"properties": {"max_sesions": {}}}}})
    home.write("schemas/gong.yaml", SCHEMA)
    wrong = "    settings:\n      max_sesions: 5\n"
    text = "services:\n" + "".join(f"  {name}:\n{wrong}" for name in ("bell", "gong", "lamp"))
    async with home.core() as made:
        home.write("environments/base.yaml", environment_file({"bell": {}, "gong": {}, "lamp": {}}))
        home.write("environments/dev.yaml", text)
        answer = await made.ask("reload")
        places = [warning.partition(": ")[0] for warning in answer["warnings"]]
        assert places == ["environments/dev.yaml:4", "environments/dev.yaml:7"]
