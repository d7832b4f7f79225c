"""Refusals: from an error to its status, its headers and its error object; aiohttp's own exceptions too."""

from collections.abc import Mapping

from aiohttp import web

from aliciacfg.api.encoding import encode_failure, encode_internal
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.errors import Busy, Conflict, ErrorCode, InvalidRequest, NotFound, OperationError, TooLarge, Unauthorized
from aliciacfg.http.responses import JSON, Reply, respond

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
"""The field ``request_id`` as it was sent, of any type, once the fields were read."""

_RETRY_AFTER_SECONDS = 1


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this method.

    Attributes:
        allowed: The methods that the path has, as for the header ``Allow``.
    """

    def __init__(self, message: str, *, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class UnsupportedMediaType(InvalidRequest):
    """The body has a media type that is not JSON."""


class UnsupportedCoding(UnsupportedMediaType):
    """The body has a content coding; none is decoded."""


class ExpectationFailed(InvalidRequest):
    """The header ``Expect`` asks for something else than ``100-continue``."""


class BodyTimeout(InvalidRequest):
    """The body did not arrive in time."""


class MalformedBody(InvalidRequest):
    """The body ended early, or its framing is wrong."""


class TargetTooLong(TooLarge):
    """The target in the request line is too long."""


class HeadersTooLong(TooLarge):
    """A header, or all of them together, are too long."""


class MethodNotImplemented(InvalidRequest):
    """The request uses a method or a transfer coding that this server does not have."""


class VersionNotSupported(InvalidRequest):
    """The request is in another version of HTTP."""


class PreconditionFailed(Conflict):
    """The condition in ``If-Match`` or ``If-None-Match`` of a write does not hold."""


STATUS_OF_TYPE: Mapping[type[OperationError], int] = {
    MethodNotAllowed: 405,
    BodyTimeout: 408,
    PreconditionFailed: 412,
    TargetTooLong: 414,
    UnsupportedMediaType: 415,
    UnsupportedCoding: 415,
    ExpectationFailed: 417,
    HeadersTooLong: 431,
    MethodNotImplemented: 501,
    VersionNotSupported: 505,
}
"""The refusals that HTTP alone distinguishes, by their status; the public error code is that of the base class."""


def status_of(error: OperationError) -> int:
    """Return the HTTP status of a refusal."""
    return STATUS_OF_TYPE.get(type(error)) or STATUS[error.code]


def refusal(request: web.BaseRequest, error: OperationError) -> Reply:
    """Return the reply to a refused request: status, headers and error object.

    The connection is closed afterwards where the rest of a body must not be read as the next request.
    """
    reply = respond(encode_failure(error, _request_id(request)), status=status_of(error))
    if error.code in {"busy", "unavailable"}:
        seconds = error.retry_after_seconds if isinstance(error, Busy) else _RETRY_AFTER_SECONDS
        reply.headers["Retry-After"] = str(seconds)
    if isinstance(error, Unauthorized):
        reply.headers["WWW-Authenticate"] = 'Bearer realm="aliciacfg"'
    if isinstance(error, MethodNotAllowed):
        reply.headers["Allow"] = error.allowed
    if isinstance(error, UnsupportedCoding):
        # RFC 9110 §15.5.16.
        reply.headers["Accept-Encoding"] = "identity"
    if isinstance(error, BodyTimeout | MalformedBody) or not request.content.is_eof():
        # RFC 9110 §15.5.9 and §10.1.1: the client may have given up sending the rest.
        reply.closes = True
    return reply


def plain_answer(error: OperationError) -> bytes:
    """Return the whole response to a client with which no request can be exchanged, as it is sent."""
    body = encode_failure(error, None)
    head = f"HTTP/1.1 {status_of(error)} {error.code}\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def internal_error(request: web.BaseRequest) -> Reply:
    """Return the reply to a request that failed unexpectedly: it gives no details."""
    return respond(encode_internal(_request_id(request)), status=STATUS["internal"])


def from_aiohttp(request: web.BaseRequest, error: web.HTTPException) -> OperationError:
    """Return the refusal that corresponds to one of aiohttp's own exceptions."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path[:200]} does not support {request.method}; it supports: {allowed}."
        return MethodNotAllowed(message, allowed=allowed)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge("The body is larger than allowed (ALICIACFG_MAX_CONFIG_BYTES).")
    if isinstance(error, web.HTTPExpectationFailed):
        return ExpectationFailed("The only expectation that can be met is 100-continue; omit the header Expect.")
    if error.status == STATUS["not_found"]:
        return NotFound(f"There is nothing at {request.path[:200]}; GET /docs shows the operations.")
    return InvalidRequest(f"The request is malformed: {error.reason}.")


def _request_id(request: web.BaseRequest) -> str | None:
    """Return the request's id to be echoed: from the fields once they were read, otherwise from the query."""
    given = request.get(REQUEST_ID) or request.query.get("request_id")
    return given if isinstance(given, str) and len(given.encode()) <= MAX_REQUEST_ID_BYTES else None
