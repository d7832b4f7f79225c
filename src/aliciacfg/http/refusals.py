"""From an error to its answer: status, error object and headers, aiohttp's own errors included."""

from collections.abc import Mapping

import structlog
from aiohttp import web

from aliciacfg.api.encoding import encode_failure, encode_internal
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.errors import Conflict, ErrorCode, InvalidRequest, NotFound, OperationError, TooLarge, Unauthorized
from aliciacfg.http.responses import json_response

_log = structlog.get_logger(__name__)

STATUS: Mapping[ErrorCode, int] = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "incompatible": 409,
    "too_large": 413,
    "validation_failed": 422,
    "busy": 503,
    "unavailable": 503,
    "internal": 500,
}

REQUEST_ID = web.RequestKey("request_id", object)
_RETRY_AFTER_SECONDS = "1"


class MethodNotAllowed(InvalidRequest):
    """405."""

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class UnsupportedMediaType(InvalidRequest):
    """415."""


class BodyTimeout(InvalidRequest):
    """408."""


class PreconditionFailed(Conflict):
    """412: the condition came as a header."""


def refused(request: web.Request, error: OperationError) -> web.Response:
    """Log a refusal and return its response."""
    status = _status(error)
    _log.info(
        "refused", transport="http", method=request.method, path=request.path, status=status, code=error.code,
        message=error.message,
    )  # fmt: skip
    response = json_response(encode_failure(error, request_id(request)), status=status)
    if status == STATUS["busy"]:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="aliciacfg"'
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = error.allowed
    if isinstance(error, BodyTimeout):
        # RFC 9110 §15.5.9; what comes of the body later is no request.
        response.force_close()
    return response


def failed(request: web.Request) -> web.Response:
    """Log the exception being handled and return a response that tells nothing of it."""
    _log.exception("failed", transport="http", method=request.method, path=request.path)
    return json_response(encode_internal(request_id(request)), status=500)


def request_id(request: web.Request) -> str | None:
    """The requester's own id as it can be echoed: out of the body once that was read, else of the query."""
    given = request.get(REQUEST_ID) or request.query.get("request_id")
    return given if isinstance(given, str) and len(given.encode()) <= MAX_REQUEST_ID_BYTES else None


def _status(error: OperationError) -> int:
    match error:
        case MethodNotAllowed():
            return 405
        case BodyTimeout():
            return 408
        case UnsupportedMediaType():
            return 415
        case PreconditionFailed():
            return 412
        case _:
            return STATUS[error.code]


def from_aiohttp(request: web.Request, error: web.HTTPException) -> OperationError:
    """Return the refusal that stands for one of aiohttp's own exceptions."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(
            f"{request.method} is not possible on {request.path}; possible: {allowed}.", allowed=allowed
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("The body is larger than allowed (ALICIACFG_MAX_CONFIG_BYTES).")
    if error.status == STATUS["not_found"]:
        return NotFound(f"There is nothing at {request.path[:200]}; the operations are listed in the README.")
    return InvalidRequest(f"The request is malformed: {error.reason}.")
