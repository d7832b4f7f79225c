"""Conditions of requests over HTTP: ``If-Match`` and ``If-None-Match`` (RFC 9110 §13)."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aliciacfg.api.requests import PatchRequest, ReloadRequest, WriteRequest
from aliciacfg.errors import InvalidRequest
from aliciacfg.http.conditions import apply_condition, held_by_client, is_conditional, is_held
from aliciacfg.http.refusals import PreconditionFailed
from aliciacfg.operations.table import BY_NAME
from aliciacfg.operations.writes import Current, WriteOperations
from builders import environment_file
from inprocess import core, eventually, listening

CURRENT = Current(3, "sum", ("abc", "def"))
MISSING = Current()


@dataclass
class Writes:
    """Stands for the operations that write: knows the current configuration of every service."""

    found: Current
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def current(self, service: str, environment: str | None) -> Current:
        self.asked.append((service, environment))
        return self.found


def request(**headers: str) -> web.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("PATCH", "/config/bell", headers=named)


def applied(found: Current, made: WriteRequest | None = None, **headers: str) -> WriteRequest:
    writes = Writes(found)
    asked = made or PatchRequest(patch={}, environment="prod")
    done = apply_condition(BY_NAME["patch"], request(**headers), "bell", asked, cast("WriteOperations", writes))
    assert writes.asked == [("bell", asked.environment)]
    assert isinstance(done, WriteRequest)
    return done


@pytest.mark.parametrize("tags", ['"abc"', '"def"', '"3"', "*", '"x", "abc"', '"3" , "9"', '"abc",,"x"', "3", " 3 "])
def test_if_match_with_what_is_current_sets_the_expected_revision(tags: str):
    """An entity tag, the revision with or without quotes, the wildcard, or a list with one of them."""
    assert applied(CURRENT, If_Match=tags) == PatchRequest(patch={}, environment="prod", expected_revision=3)


@pytest.mark.parametrize(
    "tags", ["", '""', '"2"', '"x"', "abc", "2", 'W/"abc"', 'W/"3"', '"*"', "W/*", '"abc" "x"', '"", "abc"', "*, *"]
)
def test_if_match_with_anything_else_fails(tags: str):
    """Other and weak tags, what is malformed, an empty header, and a tag that only looks like the wildcard."""
    with pytest.raises(PreconditionFailed) as caught:
        applied(CURRENT, If_Match=tags)
    assert (caught.value.revision, caught.value.checksum) == (3, "sum")


def test_a_configuration_that_does_not_exist():
    """If-None-Match: * expects revision 0; no wildcard of If-Match holds."""
    assert applied(MISSING, If_None_Match="*").expected_revision == 0
    with pytest.raises(PreconditionFailed, match="it may have been deleted"):
        applied(MISSING, If_Match="*")
    with pytest.raises(PreconditionFailed):
        applied(CURRENT, If_None_Match="*")


@pytest.mark.parametrize(
    ("made", "headers"),
    [
        (PatchRequest(patch={}), {"If_Match": '"3"', "If_None_Match": "*"}),
        (PatchRequest(patch={}), {"If_None_Match": '"3"'}),
        (PatchRequest(patch={}), {"If_None_Match": '"*"'}),
        (PatchRequest(patch={}), {"If_None_Match": ""}),
        (PatchRequest(patch={}, expected_revision=3), {"If_Match": '"3"'}),
        (ReloadRequest(), {"If_Match": "*"}),
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_compared_is_refused(made: Any, headers: dict[str, str]):
    """Two conditions, a tag where only the wildcard has a meaning, a request about no single configuration."""
    with pytest.raises(InvalidRequest):
        apply_condition(BY_NAME["patch"], request(**headers), "bell", made, cast("WriteOperations", Writes(CURRENT)))


@pytest.mark.parametrize(
    ("tags", "held"),
    [
        ('"abc"', True), ('W/"abc"', True), ('"x", W/"abc"', True), ("*", True),
        ("", False), ('"x"', False), ("abc", False), ('"*"', False), ("W/*", False), ('"a" "abc"', False),
    ],
)  # fmt: skip
def test_if_none_match_is_compared_weakly(tags: str, held: bool):
    """With a list of tags, or the wildcard; what is malformed covers nothing."""
    assert is_held(request(If_None_Match=tags), "abc") is held
    assert held_by_client(request(If_None_Match=tags))("abc") is held


def test_without_a_header_there_is_no_condition():
    """A client that names no tag holds nothing; a read has no condition to compare."""
    assert not is_held(request(), "abc")
    assert not is_conditional(BY_NAME["patch"], request())
    assert is_conditional(BY_NAME["patch"], request(If_Match=""))
    assert not is_conditional(BY_NAME["get"], request(If_Match='"3"'))


async def test_a_write_that_loses_the_race_after_the_comparison_is_412(tmp_path: Path):
    """Both have the current ETag while another write is in progress; the second one gets 412, not 409."""
    files = {"environments/base.yaml": environment_file({"bell": {}}), "environments/dev.yaml": ""}
    async with core(tmp_path, files) as made, listening(made) as url, aiohttp.ClientSession() as session:

        async def patch(volume: int, **how: Any) -> int:
            body = {"settings": {"volume": volume}}
            async with session.patch(f"{url}/config/bell", json=body, **how) as response:
                assert json.loads(await response.read()).get("code", "conflict") == "conflict"
                return response.status

        async with session.get(f"{url}/config/bell") as response:
            current = {"If-Match": response.headers["ETag"]}
        by_header = [patch(7, headers=current), patch(8, headers=current)]
        by_field = [patch(9, params={"expected_revision": "1"})]
        planning = made.parts.commits._planning
        async with planning:
            asked = asyncio.gather(*by_header, *by_field)
            await eventually(lambda: len(planning._waiters or ()) == 3)
        statuses = await asked
    assert sorted(statuses[:2]) in ([200, 412], [412, 412])
    assert sorted(statuses) in ([200, 409, 412], [200, 412, 412])
