"""Conditional requests (RFC 9110 §13): ``If-Match``, ``If-None-Match``, and long polls for a change.

aiohttp parses the entity tags. Its parser ends at the first malformed one and drops the rest, so such a header
matches less, never more. Two things it does not distinguish, so the headers themselves are looked at: the wildcard
``*`` and a quoted tag ``"*"``, both ``ETag("*")``; and an empty header and none, both None, where an empty
``If-Match`` must not become an unconditional write.
"""

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import hdrs, web

from aliciacfg import documents
from aliciacfg.api.requests import GetRequest, Request, WriteRequest
from aliciacfg.errors import InvalidRequest
from aliciacfg.http.connection_limits import Limits, Slots
from aliciacfg.http.refusals import PreconditionFailed
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.table import Operation
from aliciacfg.operations.writes import Current, WriteOperations

_CONDITIONS = (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH)
_ANY = "*"
_NO_TAGS: frozenset[str] = frozenset()


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
    if_match = http_request.headers.get(hdrs.IF_MATCH)
    if_none_match = http_request.headers.get(hdrs.IF_NONE_MATCH)
    if not isinstance(request, WriteRequest):
        raise InvalidRequest(
            f"{operation.name} does not concern a single configuration; omit If-Match and If-None-Match."
        )
    if request.expected_revision is not None or None not in {if_match, if_none_match}:
        raise InvalidRequest("expected_revision, If-Match and If-None-Match exclude one another; send one of them.")
    if if_none_match is not None and if_none_match != _ANY:
        raise InvalidRequest('In a write, If-None-Match can only be "*": the configuration must not exist yet.')
    current = writes.current(service, request.environment)
    if not _holds(http_request, current):
        raise PreconditionFailed(
            f"{service} is at revision {current.revision}, which does not meet the request's condition; get it again "
            "and redo the change."
            if current.revision
            else f"{service} has no configuration here, which does not meet the request's condition; it may have been "
            "deleted. Send If-None-Match: * to write it anew.",
            revision=current.revision,
            checksum=current.checksum,
        )
    return msgspec.structs.replace(request, expected_revision=current.revision)


def is_held(request: web.Request, etag: str) -> bool:
    """Return whether the client already has what an entity tag stands for, by its ``If-None-Match``."""
    return hdrs.IF_NONE_MATCH in request.headers and held_by_client(request)(etag)


def held_tags(request: web.Request) -> frozenset[str] | None:
    """Return the entity tags that the client has, by its ``If-None-Match``; None if it has any (``*``)."""
    if hdrs.IF_NONE_MATCH not in request.headers:
        return _NO_TAGS
    if request.headers.get(hdrs.IF_NONE_MATCH) == _ANY:
        return None
    return frozenset(tag.value for tag in request.if_none_match or ())


def held_by_client(request: web.Request) -> Callable[[str], bool]:
    """Return a predicate: whether ``If-None-Match`` covers an entity tag, by weak comparison (RFC 9110 §8.8.3.2)."""
    tags = held_tags(request)
    return (lambda _etag: True) if tags is None else tags.__contains__


class LongPolls:
    """Requests that wait until a configuration changes, bounded in number.

    All of them end when the server stops.
    """

    def __init__(self, reads: ReadOperations, limits: Limits) -> None:
        self._reads = reads
        self._slots = Slots(limits.waiting, "wait for a change")
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
            with self._slots.use():
                await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                waiting.result()
        finally:
            waiting.cancel()
            closing.cancel()


def _holds(request: web.Request, current: Current) -> bool:
    """Return whether a write's condition holds: ``If-None-Match: *``, or ``If-Match`` by strong comparison.

    ``If-Match`` accepts the revision, with or without quotes, as well as the entity tag.
    """
    if_match = request.headers.get(hdrs.IF_MATCH)
    if if_match is None:
        return current.revision == 0
    if if_match == _ANY:
        return current.revision != 0
    if if_match.strip().isdecimal():
        # No entity tag (RFC 9110 §8.8.3), but what a person types.
        return int(if_match) == current.revision
    tags = {tag.value for tag in request.if_match or () if not tag.is_weak}
    return bool(tags & {str(current.revision), *current.etags})
