"""Reads the fields of a request from its query and its body, within limits of size, time and media type."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import get_type_hints

import msgspec
from aiohttp import HttpVersion11, hdrs, web

from aliciacfg import documents
from aliciacfg.api.requests import Request
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import InvalidRequest, Problem, TooLarge
from aliciacfg.http.connection_limits import Budget, Limits, Slots
from aliciacfg.http.refusals import BodyTimeout, MalformedBody, UnsupportedCoding, UnsupportedMediaType
from aliciacfg.http.responses import JSON, MERGE_PATCH
from aliciacfg.operations.table import Operation

_JSON_TYPES = frozenset({JSON, MERGE_PATCH})
# What a body may hold besides a configuration of the largest size.
_BODY_OVERHEAD_BYTES = 16 * 1024
# A body that never has to wait for room: there are fewer of these than connections.
_SMALL_BYTES = 64 * 1024
_MALFORMED = "The body is not framed as its headers say: its chunks or its length are wrong."
# What a query parameter's text is converted to, and how the type is named in a refusal.
_FROM_TEXT: Mapping[type[bool | int | float], str] = {bool: "true or false", int: "an integer", float: "a number"}


class FieldReader:
    """Reads the fields of requests.

    Attributes:
        budget: What large bodies may take together, until their requests are answered.
    """

    def __init__(self, limits: Limits, *, max_config_bytes: int) -> None:
        self._limits = limits
        self._max_config_bytes = max_config_bytes
        self._slots = Slots(limits.waiting, "wait for the rest of their body")
        self.budget = Budget(limits.body_bytes, "taken by the bodies of other requests")

    async def read(self, operation: Operation, request: web.Request, take: Callable[[int], None]) -> JsonObject:
        """Return the fields of a request, those of the query converted from text, those of the body as they are.

        Args:
            operation: What the request asks for.
            request: The request.
            take: Takes a number of bytes from ``budget``; called for a large body as it arrives.

        Raises:
            Busy: Too many requests wait for the rest of their body, or their bodies take all the room.
            InvalidRequest: A parameter cannot be converted, or the body is not what the operation takes; subclasses
                for a wrong media type or a content coding (415), and for a body that does not arrive in time (408).
            TooLarge: The body exceeds its limit.
        """
        fields = query_fields(operation, request)
        if operation.body == "none" and not request.body_exists:
            return fields
        _check_coding(request)
        limit = (operation.max_bytes or self._max_config_bytes) + _BODY_OVERHEAD_BYTES
        data = await self._read_body(request, limit, take)
        if operation.body == "none":
            if data:
                raise InvalidRequest(f"{request.method} {request.path} takes no body; send query parameters.")
            return fields
        if data and request.content_type not in _JSON_TYPES:
            raise UnsupportedMediaType(
                f"The body is {request.content_type}; send JSON with Content-Type: application/json."
            )
        if operation.body == "fields":
            return _merged(fields, documents.decode(data) if data else {})
        if not data:
            raise InvalidRequest(f"The body is empty; send the {operation.body} as JSON.")
        fields[operation.body] = documents.decode(data)
        return fields

    async def _read_body(self, request: web.Request, limit: int, take: Callable[[int], None]) -> bytes:
        """Return the body, of at most ``limit`` bytes."""
        length = request.content_length or 0
        if 0 < length <= min(limit, _SMALL_BYTES) and request.content.is_eof():
            # It arrived together with its headers and waits for nothing: a timer takes longer than to read it.
            return _arrived(request)
        seconds = self._limits.body_seconds
        data = bytearray()
        # A body that arrived together with its headers waits for nothing, and needs no slot.
        slot = contextlib.nullcontext() if request.content.is_eof() else self._slots.use()
        try:
            async with asyncio.timeout(seconds):
                with slot:
                    if length <= limit:
                        await _let_continue(request)
                    while length <= limit and len(data) <= limit and (chunk := await request.content.readany()):
                        data += chunk
                        if len(data) > _SMALL_BYTES:
                            take(len(chunk))
        except TimeoutError as error:
            raise BodyTimeout(
                f"The body did not arrive completely within {seconds:g} s; send the request again on a new connection."
            ) from error
        except web.RequestPayloadError as error:
            raise MalformedBody(_MALFORMED) from error
        if max(length, len(data)) > limit:
            raise TooLarge(f"The body is larger than the allowed {limit} bytes.")
        return bytes(data)


def _arrived(request: web.Request) -> bytes:
    """Return a body that has arrived completely."""
    try:
        return request.content.read_nowait()
    except web.RequestPayloadError as error:
        raise MalformedBody(_MALFORMED) from error


def _check_coding(request: web.Request) -> None:
    """Refuse a body with a content coding: to decode one costs more than it saves.

    Raises:
        UnsupportedCoding: It is not ``identity``.
    """
    if hdrs.CONTENT_ENCODING not in request.headers:
        return
    coding = ", ".join(request.headers.getall(hdrs.CONTENT_ENCODING, ()))
    if coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedCoding(f"The content coding {coding[:40]!r} is not supported; send the body as it is.")


async def _let_continue(request: web.Request) -> None:
    """Let a client that waits for it send the body (RFC 9110 §10.1.1)."""
    if hdrs.EXPECT in request.headers and request.version >= HttpVersion11 and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The response itself has not begun.
        request.writer.output_size = 0


def query_fields(operation: Operation, request: web.Request) -> JsonObject:
    """Return the query parameters as fields; numbers and booleans are converted from text as the request declares.

    Ranges are not checked here: ``Operation.parse`` checks them alike for every transport.

    Raises:
        InvalidRequest: A parameter is repeated, or its text cannot be converted to the type of its field.
    """
    fields: JsonObject = {}
    if not request.query_string:
        return fields
    kinds = _converted(operation.request)
    for name, value in request.query.items():
        if name in fields:
            raise InvalidRequest(f"The query parameter {name[:80]!r} is repeated; send it once.")
        kind = kinds.get(name)
        fields[name] = value if kind is None else _from_text(name, value, kind)
    return fields


def service_is_in_body(operation: Operation) -> bool:
    """Return whether an operation's service is named by the field ``service`` instead of the path."""
    return operation.target is not None and "{target}" not in operation.path


def pop_service(fields: JsonObject) -> str:
    """Remove the field ``service`` and return it.

    Raises:
        InvalidRequest: It is missing or not a string.
    """
    name = fields.pop("service", None)
    if not isinstance(name, str):
        raise InvalidRequest('The body names no service; send {"service": …, "config": …}.')
    return name


def refuse_unknown(operation: Operation, fields: JsonObject) -> None:
    """Refuse fields that the operation does not have: over HTTP they are mistakes, over MQTT the bus adds its own.

    Raises:
        InvalidRequest: Lists the pointer of each unknown field.
    """
    unknown = list(operation.unknown(fields))
    if unknown:
        pointer, known = unknown[0]
        name = documents.parse_pointer(pointer)[-1]
        raise InvalidRequest(
            f"{operation.name} has no field {name[:80]!r}; its fields are: {', '.join(sorted(known))}.",
            [Problem(pointer, "is not a known field") for pointer, _ in unknown],
        )


def _merged(fields: JsonObject, content: Json) -> JsonObject:
    """Return the fields of the query together with those of the body."""
    if not isinstance(content, dict):
        raise InvalidRequest(f"The body is {documents.type_name(content)}; send a JSON object.")
    if repeated := sorted(content.keys() & fields.keys()):
        raise InvalidRequest(f"{repeated[0]} is in the query and in the body; send it once.")
    return {**fields, **content}


@functools.cache
def _converted(request: type[Request]) -> Mapping[str, type[bool | int | float]]:
    """Return the type of each field of a request whose text in a query is converted: boolean, integer or number.

    ``None`` is left out of the types: msgspec reads the text ``null`` as it, and ``expected_revision=null`` must not
    become an unconditional write.
    """
    return {
        name: kind
        for name, declared in get_type_hints(request).items()
        for kind in _FROM_TEXT
        if declared in {kind, kind | None}
    }


def _from_text(name: str, text: str, kind: type[bool | int | float]) -> Json:
    if kind is bool and not text:
        # As a flag, ?dry_run; msgspec refuses the empty text.
        return True
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected {_FROM_TEXT[kind]}.") from error
