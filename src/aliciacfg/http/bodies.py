"""Query and body of a request, as the operation's fields."""

import asyncio
import contextlib

from aiohttp import web

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import InvalidRequest, Problem, TooLarge
from aliciacfg.http.connection_limits import Limits, Room
from aliciacfg.http.refusals import BodyTimeout, UnsupportedMediaType
from aliciacfg.http.responses import JSON, MERGE_PATCH
from aliciacfg.operations.table import Operation

_JSON_TYPES = frozenset({JSON, MERGE_PATCH})
_BODY_OVERHEAD_BYTES = 16 * 1024
# Query parameters are text; these fields are not.
_INTEGERS = frozenset({"expected_revision", "revision", "limit", "before", "rev1", "rev2"})
_NUMBERS = frozenset({"wait_seconds"})
_BOOLEANS = frozenset({"dry_run", "allow_breaking", "migrate", "atomic"})


class Bodies:
    """Reads bodies, each within its limits."""

    def __init__(self, limits: Limits, *, max_config_bytes: int) -> None:
        self._limits = limits
        self._max_config_bytes = max_config_bytes
        self._room = Room(limits.waiting, "wait for the rest of their body")

    async def read(self, operation: Operation, request: web.Request, fields: JsonObject) -> str | None:
        """Put what the body says into ``fields``; returns the service where the body names it."""
        data = await self._body_bytes(request, self._max_bytes(operation))
        if operation.body == "none":
            if data:
                raise InvalidRequest(f"{request.method} {request.path} takes no body; send query parameters.")
            return None
        if data and request.content_type not in _JSON_TYPES:
            raise UnsupportedMediaType(
                f"The body is {request.content_type}; send JSON with Content-Type: application/json."
            )
        if operation.body == "fields":
            return _take_fields(operation, documents.decode(data) if data else {}, fields)
        if not data:
            raise InvalidRequest(f"The body is empty; send the {operation.body} as JSON.")
        fields[operation.body] = documents.decode(data)
        return None

    def _max_bytes(self, operation: Operation) -> int:
        return (operation.max_bytes or self._max_config_bytes) + _BODY_OVERHEAD_BYTES

    async def _body_bytes(self, request: web.Request, limit: int) -> bytes:
        length = request.content_length or 0
        seconds = self._limits.body_seconds
        data = bytearray()
        # One that came with its headers waits for nobody.
        room = contextlib.nullcontext() if request.content.is_eof() else self._room.taken()
        try:
            async with asyncio.timeout(seconds):
                with room:
                    while length <= limit and len(data) <= limit and (chunk := await request.content.readany()):
                        data += chunk
        except TimeoutError as error:
            raise BodyTimeout(
                f"Only a part of the body came within {seconds:g} s; send the request again on a new connection."
            ) from error
        except web.RequestPayloadError as error:
            raise InvalidRequest("The body is not what its headers say: its encoding or its end is wrong.") from error
        if max(length, len(data)) > limit:
            raise TooLarge(f"The body is larger than the {limit} bytes that are allowed.")
        return bytes(data)


def query_fields(request: web.Request) -> JsonObject:
    """The query parameters as the operation's fields.

    Raises:
        InvalidRequest: One comes twice, or is not what it should be.
    """
    fields: JsonObject = {}
    for name, value in request.query.items():
        if name in fields:
            raise InvalidRequest(f"The query parameter {name[:80]!r} comes twice.")
        fields[name] = _typed(name, value)
    return fields


def _typed(name: str, text: str) -> Json:
    if name in _INTEGERS:
        with contextlib.suppress(ValueError):
            return int(text)
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected a number.")
    if name in _NUMBERS:
        with contextlib.suppress(ValueError):
            return float(text)
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected a number of seconds.")
    if name in _BOOLEANS:
        if text in {"true", "1", ""}:
            return True
        if text in {"false", "0"}:
            return False
        raise InvalidRequest(f"The query parameter {name} is {text[:80]!r}; expected true or false.")
    return text


def _take_fields(operation: Operation, content: Json, fields: JsonObject) -> str | None:
    """Put an object of fields into ``fields``; returns the service where the body names it.

    Raises:
        InvalidRequest: It is no object, says what the query says, or does not name the service it has to.
    """
    if not isinstance(content, dict):
        raise InvalidRequest(f"The body is {documents.type_name(content)}; send a JSON object.")
    if twice := sorted(content.keys() & fields.keys()):
        raise InvalidRequest(f"{twice[0]} comes in the query and in the body; send it once.")
    fields.update(content)
    if operation.target is None or "{target}" in operation.path:
        return None
    name = fields.pop("service", None)
    if not isinstance(name, str):
        raise InvalidRequest('The body names no service; send {"service": …, "config": …}.')
    return name


def check_known(operation: Operation, fields: JsonObject) -> None:
    """Over HTTP an unknown field is a mistake worth telling; over MQTT the bus adds its own."""
    unknown = list(operation.unknown(fields))
    if unknown:
        pointer, known = unknown[0]
        name = documents.parse_pointer(pointer)[-1]
        raise InvalidRequest(
            f"{operation.name} does not know {name[:80]!r}; it takes: {', '.join(sorted(known))}.",
            [Problem(pointer, "is not known here") for pointer, _ in unknown],
        )
