"""From an error to its response; no server."""

import json
from typing import Any, get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aliciacfg.errors import (
    Busy,
    Conflict,
    ErrorCode,
    Forbidden,
    Incompatible,
    InvalidRequest,
    NotFound,
    OperationError,
    Problem,
    TooLarge,
    Unauthorized,
    Unavailable,
    ValidationFailed,
)
from aliciacfg.http.refusals import (
    REQUEST_ID,
    STATUS,
    BodyTimeout,
    ExpectationFailed,
    HeadersTooLong,
    MalformedBody,
    MethodNotAllowed,
    MethodNotImplemented,
    PreconditionFailed,
    TargetTooLong,
    UnsupportedCoding,
    UnsupportedMediaType,
    VersionNotSupported,
    from_aiohttp,
    internal_error,
    refusal,
)


def request(query: str = "") -> web.Request:
    return make_mocked_request("PUT", f"/config/bell?{query}")


def content(response: web.Response) -> Any:
    assert response.content_type == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def test_every_code_has_a_status():
    """The table of the contract is complete."""
    assert STATUS.keys() == set(get_args(ErrorCode))


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (InvalidRequest("m"), 400, "invalid_request", {}),
        (Unauthorized("m"), 401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="aliciacfg"'}),
        (Forbidden("m"), 403, "forbidden", {}),
        (NotFound("m"), 404, "not_found", {}),
        (MethodNotAllowed("m", allowed="GET, PUT"), 405, "invalid_request", {"Allow": "GET, PUT"}),
        (BodyTimeout("m"), 408, "invalid_request", {}),
        (MalformedBody("m"), 400, "invalid_request", {}),
        (Conflict("m", revision=2, checksum="c"), 409, "conflict", {}),
        (Incompatible("m"), 409, "incompatible", {}),
        (PreconditionFailed("m", revision=2, checksum="c"), 412, "conflict", {}),
        (TooLarge("m"), 413, "too_large", {}),
        (TargetTooLong("m"), 414, "too_large", {}),
        (UnsupportedMediaType("m"), 415, "invalid_request", {}),
        (UnsupportedCoding("m"), 415, "invalid_request", {"Accept-Encoding": "identity"}),
        (ExpectationFailed("m"), 417, "invalid_request", {}),
        (HeadersTooLong("m"), 431, "too_large", {}),
        (MethodNotImplemented("m"), 501, "invalid_request", {}),
        (VersionNotSupported("m"), 505, "invalid_request", {}),
        (ValidationFailed("m", [Problem("/a", "p")]), 422, "validation_failed", {}),
        (Busy("m"), 503, "busy", {"Retry-After": "1"}),
        (Unavailable("m"), 503, "unavailable", {"Retry-After": "1"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OperationError) else None,
)
def test_a_refusal_has_its_status_headers_and_error_object(
    error: OperationError, status: int, code: str, headers: dict[str, str]
):
    """The whole contract of failures."""
    response = refusal(request("request_id=abc"), error).response()
    found = content(response)
    assert response.status == status
    expected = {"status": "error", "code": code, "message": "m", "request_id": "abc"}
    assert {name: found[name] for name in expected} == expected
    assert [problem["pointer"] for problem in found["problems"]] == [problem.pointer for problem in error.problems]
    special = ("WWW-Authenticate", "Allow", "Retry-After", "Accept-Encoding")
    assert {name: response.headers[name] for name in special if name in response.headers} == headers
    assert bool(response.keep_alive is False) is isinstance(error, BodyTimeout | MalformedBody)
    if isinstance(error, Conflict):
        assert (found["revision"], found["checksum"]) == (2, "c")


def test_an_unexpected_failure_gives_no_details():
    """500 with the request's id, and nothing about the cause."""
    response = internal_error(request("request_id=abc")).response()
    assert response.status == 500
    assert content(response) == {
        "status": "error",
        "code": "internal",
        "message": "The daemon failed on this request; its log says why.",
        "problems": [],
        "request_id": "abc",
    }


@pytest.mark.parametrize(
    ("read", "query", "echoed"),
    [
        (None, "", None),
        (None, "request_id=q", "q"),
        ("b", "", "b"),
        ("b" * 65, "", None),
        ("é" * 32, "", "é" * 32),
        ("é" * 33, "", None),
        (5, "", None),
    ],
)
def test_the_request_id_is_echoed_as_far_as_it_is_one(read: object, query: str, echoed: str | None):
    """From the fields once they were read, else from the query; a string of at most 64 bytes."""
    made = request(query)
    if read is not None:
        made[REQUEST_ID] = read
    assert content(refusal(made, NotFound("m")).response())["request_id"] == echoed


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (web.HTTPNotFound(), 404, "nothing at /config/bell"),
        (web.HTTPMethodNotAllowed("PUT", {"POST", "GET"}), 405, "does not support PUT; it supports: GET, POST."),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "larger than allowed"),
        (web.HTTPBadRequest(reason="Bad Thing"), 400, "malformed: Bad Thing."),
        (web.HTTPExpectationFailed(), 417, "omit the header Expect."),
    ],
)
def test_exceptions_of_aiohttp_become_refusals(error: web.HTTPException, status: int, text: str):
    """The public error object instead of aiohttp's plain text."""
    refused = from_aiohttp(request(), error)
    assert text in refused.message
    response = refusal(request(), refused).response()
    assert response.status == status
    assert response.headers.get("Allow") == ("GET, POST" if status == 405 else None)
