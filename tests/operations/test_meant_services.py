"""What a request for a service that does not exist is answered with: the one that was probably meant."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Forbidden, NotFound
from builders import environment_file
from cases import case
from inprocess import Core, core

FILES: dict[str, object] = {
    "environments/base.yaml": environment_file({"door_bell": {}, "thermostat": {}}),
    "environments/dev.yaml": "",
}
RULES: dict[str, object] = {
    "services": {"door_bell": {"read": {"allowed_services": ["reader"]}}},
    "users": ["reader", "stranger"],
    "admins": ["operator"],
}


async def refused(made: Core, caller: Caller, operation: str, name: str, **fields: Any) -> str:
    with pytest.raises(NotFound) as caught:
        await made.ask_as(caller, operation, name, **fields)
    return str(caught.value)


async def test_a_mistyped_service_is_answered_with_the_one_that_is_there(tmp_path: Path):
    """By every operation on a service; a name that is like none is answered as before."""
    for operation, fields in [
        ("get", {}),
        ("schema", {}),
        ("history", {}),
        ("explain", {}),
        ("instances", {}),
        ("delete", {}),
        ("patch", {"patch": {}}),
        ("recipient", {"public_key": None}),
    ]:
        with case(operation, fields):
            admin = Caller("operator", "test", proven=True, role="admin")
            async with core(tmp_path, FILES) as made:
                assert (await refused(made, admin, operation, "dorbell", **fields)).endswith("Did you mean door_bell?")
                assert "Did you mean" not in await refused(made, admin, operation, "oven", **fields)


async def test_a_service_that_exists_is_what_was_meant(tmp_path: Path):
    """What is not found of it, such as a revision or a place, is no matter of its name."""
    async with core(tmp_path, {**FILES, "environments/prod.yaml": "services: {dor_bell: {settings: {a: 1}}}"}) as made:
        caller = Caller("operator", "test", proven=True, role="admin")
        assert "Did you mean" not in await refused(made, caller, "get", "door_bell", revision=7)
        assert "Did you mean" not in await refused(made, caller, "get", "door_bell", pointer="/nothing")
        assert "Did you mean door_bell?" in await refused(made, caller, "get", "dor_bell")


async def test_only_services_that_the_caller_may_read_are_named(tmp_path: Path):
    """Nobody learns by guessing which services there are."""
    reader, stranger, operator = (Caller(name, "test", proven=True) for name in ("reader", "stranger", "operator"))
    async with core(tmp_path, {**FILES, "environments/access.yaml": RULES}) as made:
        assert "Did you mean thermostat?" in await refused(made, operator, "get", "thermostt")
        for caller in (reader, stranger):
            with pytest.raises(Forbidden) as caught:
                await made.ask_as(caller, "get", "thermostt")
            assert "thermostat" not in str(caught.value)
        # What a service may always ask for is its own configuration.
        thermostt = Caller("thermostt", "test", proven=True)
        assert "Did you mean" not in await refused(made, thermostt, "get", "thermostt")
