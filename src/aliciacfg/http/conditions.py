"""Conditional requests (RFC 9110 §13): ``If-Match``, ``If-None-Match``, and waiting for a change."""

import asyncio

from aiohttp import web

from aliciacfg import documents
from aliciacfg.api.requests import GetRequest, Request, WriteRequest
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest
from aliciacfg.http.connection_limits import Limits, Room
from aliciacfg.http.refusals import PreconditionFailed
from aliciacfg.http.responses import HEADERS
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.table import Operation
from aliciacfg.operations.writes import Current, WriteOperations

_CONDITIONS = ("If-Match", "If-None-Match")


def is_conditional(operation: Operation, request: web.Request) -> bool:
    """Return whether a write came with a condition header."""
    return operation.writes and any(header in request.headers for header in _CONDITIONS)


def put_condition(
    operation: Operation, request: web.Request, fields: JsonObject, service: str, writes: WriteOperations
) -> None:
    """Turn ``If-Match`` and ``If-None-Match: *`` (RFC 9110 §13.1) into ``expected_revision``."""
    if_match = request.headers.get("If-Match")
    if_none_match = request.headers.get("If-None-Match")
    if not issubclass(operation.request, WriteRequest):
        raise InvalidRequest(
            f"{operation.name} is about no single configuration; leave If-Match and If-None-Match out."
        )
    if "expected_revision" in fields or None not in {if_match, if_none_match}:
        raise InvalidRequest("expected_revision, If-Match and If-None-Match say the same; send one of them.")
    if if_none_match is not None and if_none_match.strip() != "*":
        raise InvalidRequest('A write takes If-None-Match only as "*", which means: must not exist yet.')
    environment = fields.get("environment")
    current = writes.current(service, environment if isinstance(environment, str) else None)
    expected = 0 if if_match is None else _expected(if_match, current)
    if expected != current.revision:
        raise PreconditionFailed(
            f"{service} is at revision {current.revision}, which is not what the request's condition says; get it "
            "again and redo the change.",
            revision=current.revision,
            checksum=current.checksum,
        )
    fields["expected_revision"] = expected


def unless_held(request: web.Request, response: web.Response, etag: str | None) -> web.Response:
    """RFC 9110 §13.1.2: what the client has already is not sent again."""
    condition = request.headers.get("If-None-Match")
    if condition is not None and etag is not None and _etag_matches(condition, etag):
        return web.Response(status=304, headers={**HEADERS, "ETag": f'"{etag}"'})
    return response


class LongPolls:
    """Requests that wait for a change."""

    def __init__(self, reads: ReadOperations, limits: Limits) -> None:
        self._reads = reads
        self._room = Room(limits.waiting, "wait for a change")
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every wait, and those to come. Safe to call twice."""
        self._closing.set()

    async def wait(self, name: str, request: Request, held: str) -> None:
        """Until what the client holds is no longer current, its time is over, or the daemon stops."""
        if not isinstance(request, GetRequest) or not request.wait_seconds:
            return
        if request.revision is not None:
            raise InvalidRequest("wait_seconds waits for the newest revision; leave revision out.")
        # A malformed pointer is told before the wait, not after it.
        documents.parse_pointer(request.pointer or "")
        waiting = asyncio.ensure_future(
            self._reads.while_current(
                name, request.environment, lambda etag: _etag_matches(held, etag), request.wait_seconds
            )
        )
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            with self._room.taken():
                await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()


def _etag_matches(header: str, etag: str) -> bool:
    """Weak comparison (RFC 9110 §8.8.3.2) with a list of entity tags, or ``*``."""
    return header.strip() == "*" or any(part.strip().removeprefix("W/") == f'"{etag}"' for part in header.split(","))


def _expected(if_match: str, current: Current) -> int:
    """The revision that ``If-Match`` expects; -1, which no configuration has, where it is not the current one."""
    revision = current.revision
    if if_match.strip() == "*":
        return revision or -1
    tags = {tag.strip().strip('"') for tag in if_match.split(",")}
    known = {str(revision), *current.etags}
    return revision if tags & known else -1
