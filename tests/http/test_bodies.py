"""Query and body of a request, read into fields; no server."""

import asyncio
import json
from typing import Any
from unittest import mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request

from aliciacfg.errors import Busy, InvalidRequest, TooLarge
from aliciacfg.http.bodies import FieldReader, pop_service, query_fields, refuse_unknown, service_is_in_body
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.refusals import BodyTimeout, UnsupportedMediaType
from aliciacfg.operations.table import BY_NAME, LOCAL_OPERATIONS, OPERATIONS

MAX_CONFIG_BYTES = 1000
# 16 KiB for what a body may hold besides a configuration.
MAX_BODY_BYTES = MAX_CONFIG_BYTES + 16 * 1024


def request(
    query: str = "", body: bytes | None = None, headers: dict[str, str] | None = None, *, ended: bool = True
) -> web.Request:
    path = f"/config/bell?{query}"
    if body is None:
        return make_mocked_request("GET", path)
    stream = StreamReader(mock.Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
    stream.feed_data(body)
    if ended:
        stream.feed_eof()
    named = {"Content-Type": "application/json", **(headers or {})}
    return make_mocked_request("POST", path, headers=named, payload=stream)


def reader(**limits: Any) -> FieldReader:
    return FieldReader(Limits(**limits), max_config_bytes=MAX_CONFIG_BYTES)


def take_nothing(size: int) -> None:
    raise AssertionError(f"{size} bytes are not large")


async def read(operation: str, made: web.Request) -> Any:
    return await reader().read(BY_NAME[operation], made, take_nothing)


@pytest.mark.parametrize(
    ("operation", "query", "fields"),
    [
        ("set", "dry_run=true", {"dry_run": True}),
        ("set", "dry_run=1", {"dry_run": True}),
        ("set", "dry_run=", {"dry_run": True}),
        ("set", "dry_run", {"dry_run": True}),
        ("set", "dry_run=True", {"dry_run": True}),
        ("set", "dry_run=false&allow_breaking=0", {"dry_run": False, "allow_breaking": False}),
        ("set", "expected_revision=3&comment=3", {"expected_revision": 3, "comment": "3"}),
        ("set", "expected_revision=-1", {"expected_revision": -1}),
        ("get", "wait_seconds=1.5&revision=7&if_checksum=8", {"wait_seconds": 1.5, "revision": 7, "if_checksum": "8"}),
        ("get", "environment=null&pointer=", {"environment": "null", "pointer": ""}),
        ("list", "limit=5&prefix=5&after=true", {"limit": 5, "prefix": "5", "after": "true"}),
        ("compare", "rev1=1&rev2=2&env1=dev", {"rev1": 1, "rev2": 2, "env1": "dev"}),
        ("get", "limit=x", {"limit": "x"}),
    ],
)
def test_the_query_is_converted_as_the_request_declares(operation: str, query: str, fields: dict[str, Any]):
    """Numbers and booleans are converted; text and unknown parameters stay text."""
    found = query_fields(BY_NAME[operation], request(query))
    assert found == fields
    assert [type(value) for value in found.values()] == [type(value) for value in fields.values()]


@pytest.mark.parametrize(
    ("operation", "parameter", "texts", "expected"),
    [
        ("set", "dry_run", ["yes", "null", "2", "%20true"], "true or false"),
        ("set", "expected_revision", ["null", "", "three", "0x10", "1_000", "9" * 5000, "1e400"], "an integer"),
        ("get", "wait_seconds", ["null", "", "soon", "1_0", "1e400"], "a number"),
    ],
)
def test_text_that_cannot_be_converted_is_refused(operation: str, parameter: str, texts: list[str], expected: str):
    """The message has the name, the text and what was expected. ``null`` is not a value: it would drop a condition."""
    for text in texts:
        with pytest.raises(InvalidRequest) as caught:
            query_fields(BY_NAME[operation], request(f"{parameter}={text}"))
        assert f"parameter {parameter} is " in caught.value.message
        assert caught.value.message.endswith(f"; expected {expected}.")
        assert len(caught.value.message) < 200


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "Infinity"])
def test_not_a_number_and_infinity_are_out_of_range(text: str):
    """They are converted, and then refused by the range that the request declares."""
    operation = BY_NAME["get"]
    with pytest.raises(InvalidRequest, match="wait_seconds"):
        operation.parse(query_fields(operation, request(f"wait_seconds={text}")))


def test_a_repeated_parameter_is_refused():
    """Neither of the two is chosen."""
    with pytest.raises(InvalidRequest, match="'revision' is repeated"):
        query_fields(BY_NAME["get"], request("revision=1&revision=1"))


async def test_query_and_body_make_the_fields():
    """A document is one field; an object of fields joins those of the query, its values unconverted."""
    assert await read("set", request("dry_run=1", b'{"a": 1}')) == {"dry_run": True, "config": {"a": 1}}
    assert await read("patch", request("", b"[]", {"Content-Type": "application/merge-patch+json"})) == {"patch": []}
    assert await read("unset", request("dry_run", b'{"pointer": 5}')) == {"dry_run": True, "pointer": 5}
    assert await read("unset", request("", b'{"dry_run": "1"}')) == {"dry_run": "1"}
    assert await read("reload", request("", b"")) == {}
    assert await read("get", request("revision=2")) == {"revision": 2}
    assert await read("get", request("revision=2", b"")) == {"revision": 2}


@pytest.mark.parametrize(
    ("operation", "body", "media_type", "error", "text"),
    [
        ("set", b"{}", "text/plain", UnsupportedMediaType, "The body is text/plain; send JSON"),
        ("reload", b"a=1", "application/x-www-form-urlencoded", UnsupportedMediaType, "send JSON"),
        ("set", b"", "application/json", InvalidRequest, "send the config as JSON"),
        ("set", b"{", "application/json", InvalidRequest, "JSON"),
        ("unset", b"[]", "application/json", InvalidRequest, "send a JSON object"),
        ("unset", b'{"dry_run": true}', "application/json", InvalidRequest, "dry_run is in the query and in the body"),
        ("delete", b"{}", "application/json", InvalidRequest, "takes no body"),
    ],
)
async def test_a_body_that_the_operation_does_not_take_is_refused(
    operation: str, body: bytes, media_type: str, error: type[Exception], text: str
):
    """Each with the error that says what to send."""
    with pytest.raises(error, match=text):
        await read(operation, request("dry_run=1", body, {"Content-Type": media_type}))


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_is_limited_by_its_size(declared: bool):
    """By its Content-Length before anything is read, and by what arrives; a batch may be larger."""

    def sized(size: int) -> web.Request:
        body = json.dumps("x" * (size - 2)).encode()
        return request("", body, {"Content-Length": str(size)} if declared else {})

    assert len((await read("set", sized(MAX_BODY_BYTES)))["config"]) == MAX_BODY_BYTES - 2
    with pytest.raises(TooLarge, match=str(MAX_BODY_BYTES)):
        await read("set", sized(MAX_BODY_BYTES + 1))
    with pytest.raises(InvalidRequest, match="send a JSON object"):
        await read("batch", sized(MAX_BODY_BYTES + 1))


async def test_a_body_is_limited_by_time_and_number():
    """An incomplete body is refused after its time; the number of requests that wait for theirs is limited."""
    slow = reader(body_seconds=0.01, waiting=1)
    with pytest.raises(BodyTimeout, match="completely within"):
        await slow.read(BY_NAME["set"], request("", b"{", ended=False), take_nothing)
    patient = reader(waiting=1)
    first = asyncio.create_task(patient.read(BY_NAME["set"], request("", b"{", ended=False), take_nothing))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await patient.read(BY_NAME["set"], request("", b"{", ended=False), take_nothing)
    # A body that is complete already waits for nothing.
    assert await patient.read(BY_NAME["set"], request("", b"{}"), take_nothing) == {"config": {}}
    first.cancel()


def test_only_validate_names_its_service_in_the_body():
    """Every other operation has its target in the path, or none."""
    rows = (*OPERATIONS, *LOCAL_OPERATIONS)
    assert [row.name for row in rows if service_is_in_body(row)] == ["validate"]
    fields: dict[str, Any] = {"service": "bell", "config": {}}
    assert pop_service(fields) == "bell"
    assert fields == {"config": {}}
    fields["service"] = 5
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="names no service"):
            pop_service(fields)


def test_unknown_fields_are_refused_by_their_pointers():
    """Those of a batch's updates too; known ones pass."""
    refuse_unknown(BY_NAME["unset"], {"pointer": "/a", "comment": "c"})
    with pytest.raises(InvalidRequest, match="list has no field 'limt'; its fields are: after, ") as caught:
        refuse_unknown(BY_NAME["list"], {"limt": 1})
    assert [problem.pointer for problem in caught.value.problems] == ["/limt"]
    with pytest.raises(InvalidRequest) as caught:
        refuse_unknown(BY_NAME["batch"], {"updates": [{}, {"a/b": 1}], "x": 1})
    assert [problem.pointer for problem in caught.value.problems] == ["/x", "/updates/1/a~1b"]
