"""Documents that are wrapped once too often, or hold what belongs beside them."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from aliciacfg.errors import InvalidRequest
from builders import environment_file, valid_config
from cases import case
from inprocess import Core, Home, listening

PATCH = {"settings": {"volume": 3}}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncGenerator[Core]:
    files: dict[str, object] = {
        "environments/base.yaml": environment_file({"bell": {}, "synth": {}, "old": {"dry_run": False}}),
        "environments/dev.yaml": "",
        "schemas/synth.yaml": {"properties": {"patch": {"type": "object"}}},
    }
    async with Home(tmp_path, files).core() as core:
        yield core


async def test_the_form_of_a_request_over_mqtt_is_no_body(made: Core):
    """It is refused with what to do; nothing is changed, and no member of that name is made."""
    for method, query, body in [
        ("PATCH", "", {"patch": PATCH}),
        ("PATCH", "", {"patch": PATCH, "environment": "dev", "comment": "louder", "service": "bell"}),
        ("PATCH", "?dry_run", {"patch": PATCH}),
        ("PUT", "", {"config": valid_config()}),
        ("PATCH", "", {"config": {"features": {"loud": True}}, "comment": "louder"}),
        ("PATCH", "", {**PATCH, "dry_run": True}),
        ("PUT", "", {**valid_config(), "expected_revision": 1}),
    ]:
        with case(method, query, body):
            async with (
                listening(made) as url,
                aiohttp.ClientSession() as session,
                session.request(method, f"{url}/config/bell{query}", json=body) as response,
            ):
                answer = await response.json()
            assert (response.status, answer["code"]) == (400, "invalid_request")
            assert "query parameter" in answer["message"]
            (pointer,) = [problem["pointer"] for problem in answer["problems"]]
            assert pointer.removeprefix("/") in body
            assert (await made.ask("get", "bell"))["revision"] == 1


async def test_over_mqtt_and_in_a_batch_it_is_refused_too(made: Core):
    with pytest.raises(InvalidRequest, match="wrapped"):
        await made.ask("patch", "bell", patch={"patch": PATCH})
    batch = await made.ask("batch", updates=[{"service": "bell", "patch": {"patch": PATCH}}])
    assert [result["code"] for result in batch["results"]] == ["invalid_request"]


@pytest.mark.parametrize(
    ("service", "patch"),
    [
        # The schema describes it.
        ("synth", {"patch": {"name": "organ"}}),
        # The configuration has it.
        ("old", {"dry_run": True}),
        # A removal, a value that is not that of the field, a member beside others, a member further inside.
        ("bell", {"patch": None, "expected_revision": None}),
        ("bell", {"patch": "a", "dry_run": "never"}),
        ("bell", {"patch": {"name": "organ"}, **PATCH}),
        ("bell", {"settings": {"patch": {}, "dry_run": True}}),
        # What stands in it is no configuration.
        ("bell", {"config": {"organ": True, "features": {}}}),
        ("bell", {"config": {}}),
        ("bell", {"comment": "says what it is for"}),
    ],
)
async def test_members_of_such_names_are_possible(made: Core, service: str, patch: dict[str, Any]):
    assert (await made.ask("patch", service, patch=patch))["service"] == service


@pytest.mark.parametrize("body", [{**valid_config(), "dry_run": True}, {"config": valid_config()}])
async def test_validate_says_what_set_would_refuse(made: Core, body: dict[str, Any]):
    with pytest.raises(InvalidRequest) as refused:
        await made.ask("set", "bell", config=body)
    answer = await made.ask("validate", "bell", config=body)
    assert (answer["valid"], answer["problems"]) == (False, msgspec.to_builtins([*refused.value.problems]))
