"""Reads that are answered from the cache without the way through the operations table.

``CachedReads.parse`` finds out whether a request is such a read; the result depends on the request alone, so that it
may be kept. ``CachedReads.answer`` then decides by the rules, tokens and configurations of this moment. Both return
None where anything but an answer from the cache is to be given: a refusal, a wait, a body, secrets in plain text that
have to be audited. The full way then gives it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs, web

from aliciacfg.access.caller import Caller
from aliciacfg.access.tokens import Presented, presented
from aliciacfg.errors import InvalidRequest, Unauthorized
from aliciacfg.http.callers import BrowserGuard, bearer_token, is_local
from aliciacfg.http.conditions import held_tags
from aliciacfg.http.responses import LARGE_BYTES
from aliciacfg.operations.service import ConfigService

if TYPE_CHECKING:
    from aliciacfg.access.rules import Access
    from aliciacfg.model.records import Token

# Of a repeatable read, which is kept: a client has one copy, and 400 tags fit in a request, which take 50 KB as a set.
_MAX_TAGS = 8
# Only allowed ones are kept; beyond this, each is decided once more.
_MAX_DECISIONS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class CachedRead:
    """What a request asks for.

    Attributes:
        service: The service whose configuration is read, in the active environment.
        pointer: The part of it, a JSON Pointer; None for the whole.
        held: The entity tags that the client has; None if it has any (``*``).
        token: The token of the caller; None for an anonymous one.
        repeatable: Whether the same bytes on another connection ask for the same, and this is small enough to be kept.
    """

    service: str
    pointer: str | None
    held: frozenset[str] | None
    token: Presented | None
    repeatable: bool


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """What a read is answered with.

    Attributes:
        etag: The opaque value of the entity tag.
        body: Encoded; None if the client has it already (304).
    """

    etag: str
    body: bytes | None


class CachedReads:
    """Answers reads from the cache."""

    def __init__(self, service: ConfigService, guard: BrowserGuard) -> None:
        """Use what the full way uses.

        Args:
            service: Has the cached answers, the rules and the tokens.
            guard: Knows the hosts that passed its check.
        """
        self._reads = service.reads
        self._authorizer = service.authorizer
        self._guard = guard
        # The stored tokens that may read the public view of a service, by what was presented and the service. It holds
        # while the rules and the stored token are the same objects: both are replaced as a whole when anything about
        # them changes. That the token expires is looked at each time. To confirm a token and decide anew takes 2.5 of
        # the 12 µs of a repeated read.
        self._allowed: dict[tuple[Presented, str], Token] = {}
        # The rules that decided so; one set only, as they are large in a large home.
        self._decided_by: Access | None = None

    def parse(self, request: web.Request, name: str) -> CachedRead | None:
        """Return what a request of the route of ``get`` asks for; None if the cache has no answer to such requests.

        Args:
            request: The request.
            name: The service in its path.
        """
        headers = request.headers
        if (
            request.body_exists
            or headers.get(hdrs.HOST) not in self._guard.accepted_hosts
            or hdrs.ORIGIN in headers
            or hdrs.EXPECT in headers
            or hdrs.UPGRADE in headers
        ):
            return None
        pointer = token = None
        if request.query_string:
            query = request.query
            pointer = query.get("pointer")
            if pointer is None or len(query) != 1:
                return None
        if hdrs.AUTHORIZATION in headers:
            # At the Unix socket a token counts for nothing.
            if is_local(request):
                return None
            try:
                token = presented(bearer_token(headers[hdrs.AUTHORIZATION]))
            except Unauthorized:
                return None
        held = held_tags(request)
        repeatable = (
            request.method == hdrs.METH_GET
            and request.version == HttpVersion11
            and bool(request.keep_alive)
            and len(held or ()) <= _MAX_TAGS
        )
        return CachedRead(name, pointer, held, token, repeatable)

    def answer(self, read: CachedRead) -> CachedResponse | None:
        """Return the answer to a read by the rules, tokens and configurations of now; None if the full way has it."""
        if not self._is_allowed(read):
            return None
        if read.pointer is None:
            cached = self._reads.cached_get(read.service)
            if cached is None:
                return None
            body = cached.plain
        else:
            try:
                found = self._reads.cached_part(read.service, read.pointer)
            except InvalidRequest:
                return None
            if found is None:
                return None
            cached, body = found
        if read.held is None or cached.etag in read.held:
            return CachedResponse(cached.etag, None)
        return CachedResponse(cached.etag, body) if len(body) <= LARGE_BYTES else None

    def _is_allowed(self, read: CachedRead) -> bool:
        """Return whether the caller may read the public view; False also if there may be another one for it."""
        authorizer = self._authorizer
        access, sent = authorizer.access, read.token
        if sent is None:
            return not access.enforced
        if self._decided_by is not access:
            self._allowed.clear()
            self._decided_by = access
        known = self._allowed.get((sent, read.service))
        if known is not None and known is authorizer.tokens.get(sent.token_id):
            return not authorizer.is_expired(known)
        if read.service in access.plaintext:
            return False
        try:
            token = authorizer.confirm_token(sent)
        except Unauthorized:
            return False
        caller = Caller(token.name, "http", proven=True, role=token.role)
        if not access.allows(caller, "read", read.service):
            return False
        if len(self._allowed) >= _MAX_DECISIONS:
            self._allowed.clear()
        self._allowed[sent, read.service] = token
        return True
