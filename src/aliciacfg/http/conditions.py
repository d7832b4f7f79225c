"""Conditional requests (RFC 9110 §13): ``If-Match``, ``If-None-Match``, and long polls for a change."""

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from aliciacfg import documents
from aliciacfg.api.requests import GetRequest, Request, WriteRequest
from aliciacfg.errors import InvalidRequest
from aliciacfg.http.connection_limits import Limits, Room
from aliciacfg.http.refusals import PreconditionFailed
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.table import Operation
from aliciacfg.operations.writes import Current, WriteOperations

_CONDITIONS = ("If-Match", "If-None-Match")


def is_conditional(operation: Operation, request: web.Request) -> bool:
    """Return whether a write carries a condition header."""
    return operation.writes and any(header in request.headers for header in _CONDITIONS)


def apply_condition(
    operation: Operation, http_request: web.Request, service: str, request: Request, writes: WriteOperations
) -> Request:
    """Compare a write's condition with the current configuration; return the request with ``expected_revision`` set.

    Raises:
        InvalidRequest: The operation takes no condition, there are two conditions, or ``If-None-Match`` is not ``*``.
        PreconditionFailed: The condition does not hold.
        NotFound: There is no such environment.
    """
    if_match = http_request.headers.get("If-Match")
    if_none_match = http_request.headers.get("If-None-Match")
    if not isinstance(request, WriteRequest):
        raise InvalidRequest(
            f"{operation.name} does not concern a single configuration; omit If-Match and If-None-Match."
        )
    if request.expected_revision is not None or None not in {if_match, if_none_match}:
        raise InvalidRequest("expected_revision, If-Match and If-None-Match exclude one another; send one of them.")
    if if_none_match is not None and if_none_match.strip() != "*":
        raise InvalidRequest('In a write, If-None-Match can only be "*": the configuration must not exist yet.')
    current = writes.current(service, request.environment)
    holds = current.revision == 0 if if_match is None else _matches_current(if_match, current)
    if not holds:
        raise PreconditionFailed(
            f"{service} is at revision {current.revision}, which does not meet the request's condition; get it again "
            "and redo the change.",
            revision=current.revision,
            checksum=current.checksum,
        )
    return msgspec.structs.replace(request, expected_revision=current.revision)


def is_held(request: web.Request, etag: str) -> bool:
    """Return whether the client already has what an entity tag stands for, by its ``If-None-Match``."""
    return "If-None-Match" in request.headers and held_by_client(request)(etag)


def held_by_client(request: web.Request) -> Callable[[str], bool]:
    """Return a predicate: whether ``If-None-Match`` covers an entity tag, by weak comparison (RFC 9110 §8.8.3.2)."""
    header = request.headers.get("If-None-Match", "")
    if header.strip() == "*":
        return lambda _etag: True
    held = {part.strip().removeprefix("W/") for part in header.split(",")}
    return lambda etag: f'"{etag}"' in held


class LongPolls:
    """Requests that wait until a configuration changes, bounded in number.

    All of them end when the server stops.
    """

    def __init__(self, reads: ReadOperations, limits: Limits) -> None:
        self._reads = reads
        self._room = Room(limits.waiting, "wait for a change")
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every wait, present and future. Safe to call twice."""
        self._closing.set()

    async def wait(self, service: str, request: GetRequest, is_held: Callable[[str], bool]) -> None:
        """Wait until the client's copy is no longer current, ``wait_seconds`` are over, or ``close`` is called.

        Args:
            service: The service whose configuration is watched.
            request: Its environment and how long to wait.
            is_held: Returns whether the client has the configuration with an entity tag.

        Raises:
            Busy: Too many requests wait already.
            InvalidRequest: An old revision is requested, or the pointer is malformed.
            NotFound: The configuration does not exist, or was deleted during the wait.
        """
        if request.revision is not None:
            raise InvalidRequest("wait_seconds waits for the newest revision; omit revision.")
        # A malformed pointer is refused before the wait instead of after it.
        documents.parse_pointer(request.pointer or "")
        waiting = asyncio.ensure_future(
            self._reads.while_current(service, request.environment, is_held, request.wait_seconds)
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


def _matches_current(if_match: str, current: Current) -> bool:
    """Return whether ``If-Match`` names the current configuration: its entity tag, its revision, or ``*``."""
    if if_match.strip() == "*":
        return current.revision != 0
    tags = {tag.strip().strip('"') for tag in if_match.split(",")}
    return bool(tags & {str(current.revision), *current.etags})
