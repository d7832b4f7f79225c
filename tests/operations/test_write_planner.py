"""What a refused write says of values that it did not send."""

from pathlib import Path

import pytest

from aliciacfg.errors import Conflict, ValidationFailed
from builders import environment_file, valid_config
from inprocess import Home

SCHEMA = {"properties": {"settings": {"properties": {"volume": {"type": "integer"}, "code": {"maxLength": 4}}}}}
SECRET = "planted-in-a-file-81d2"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose files are invalid without the changes that were made at run time."""
    return Home(
        tmp_path,
        {
            "schemas/bell.yaml": SCHEMA,
            "environments/base.yaml": environment_file({"bell": {}}),
            "environments/dev.yaml": "services:\n  bell:\n    settings:\n      volume: 3\n",
        },
    )


@pytest.mark.parametrize("operation", ["unset", "delete"])
async def test_what_a_file_holds_is_named_with_file_and_line(home: Home, operation: str):
    """A run-time change hides an invalid value of a file; removing the change is refused with file and line."""
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"volume": 5}})
        home.write("environments/dev.yaml", "services:\n  bell:\n    settings:\n      volume: loud\n")
        await made.parts.reloads.reload()
        with pytest.raises(ValidationFailed) as refused:
            await made.ask(operation, "bell", **({"pointer": "/settings/volume"} if operation == "unset" else {}))
        (problem,) = refused.value.problems
        assert problem.pointer == "/settings/volume"
        assert problem.message == "found a string of 4 characters; expected an integer (environments/dev.yaml:4)"


async def test_what_was_sent_has_no_file(home: Home):
    """Also where a file holds the same value, and where it holds another one."""
    async with home.core() as made:
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("patch", "bell", patch={"settings": {"volume": "loud", "code": "too long"}})
        assert not any("dev.yaml" in problem.message for problem in refused.value.problems)


async def test_a_secret_of_a_file_is_not_compared(home: Home):
    """That what is in force is the file's would say something of it."""
    pin = {"type": "string", "x-sensitive": True, "maxLength": 4}
    home.write("schemas/bell.yaml", {"properties": {"settings": {"properties": {"pin": pin}}}})
    async with home.core() as made:
        await made.ask("patch", "bell", patch={"settings": {"pin": "1234"}})
        home.write("environments/dev.yaml", {"services": {"bell": {"settings": {"pin": SECRET}}}})
        await made.parts.reloads.reload()
        with pytest.raises(ValidationFailed) as refused:
            await made.ask("unset", "bell", pointer="/settings/pin")
        (problem,) = refused.value.problems
        assert (problem.pointer, "dev.yaml" in problem.message) == ("/settings/pin", False)
        assert SECRET not in problem.message


async def test_a_sealed_value_that_does_not_open_is_told_where_there_is_nothing_to_patch(home: Home):
    """And is in the audit log: it may be a guess."""
    async with home.core() as made:
        with pytest.raises(ValidationFailed, match="do not open"):
            await made.ask("patch", "siren", patch={"settings": {"token": "sealed:v1:00:zz"}})
        await made.parts.queue.flush()
        entries = (await made.ask("audit"))["entries"]
        assert [entry["operation"] for entry in entries if entry["outcome"] == "secrets_tried"] == ["patch"]


async def test_a_write_to_what_was_deleted_is_told_so(home: Home):
    """There is no revision to get again; what to expect instead is."""
    async with home.core() as made:
        await made.ask("set", "lamp", config=valid_config())
        await made.ask("delete", "lamp")
        with pytest.raises(Conflict, match=r"may have been deleted\. Send expected_revision 0") as refused:
            await made.ask("patch", "lamp", patch={"settings": {"on": True}}, expected_revision=1)
        assert refused.value.revision == 0
        with pytest.raises(Conflict, match="is at revision 1, not 3"):
            await made.ask("patch", "bell", patch={"settings": {"volume": 4}}, expected_revision=3)
