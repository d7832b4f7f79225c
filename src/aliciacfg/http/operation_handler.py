"""The way of one HTTP request through its operation: caller, authorization, fields, condition, call, response."""

import asyncio
from functools import partial
from time import perf_counter
from typing import Any

from aiohttp import web

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import GetRequest, Request
from aliciacfg.cancellation import note_end
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Conflict
from aliciacfg.http.bodies import FieldReader, pop_service, refuse_unknown, service_is_in_body
from aliciacfg.http.callers import CALLER, identify
from aliciacfg.http.conditions import LongPolls, apply_condition, held_by_client, is_conditional, is_held
from aliciacfg.http.connection_limits import Limits, Share
from aliciacfg.http.refusals import REQUEST_ID, PreconditionFailed
from aliciacfg.http.responses import MEDIA_TYPES, Reply, not_modified, respond
from aliciacfg.operations.operation import confirmed
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import Operation, encode_answer

STARTED = web.RequestKey("started", float)
"""When the work on a request began, in seconds of ``time.perf_counter``."""
OPERATION = web.RequestKey("operation", str)
"""The name of the operation that a request asks for."""
TARGET = web.RequestKey("target", str)
"""The name in the path of a request; empty where the path has none."""
PROTECTED = web.RequestKey("protected", bool)
"""Whether the task that handles a request goes on when its client disconnects."""


class OperationHandler:
    """Carries out the operations that HTTP requests ask for.

    A request is identified once, authorized once before its body is read, and parsed once. Only if the daemon waited
    for the rest of the body, or for a change in a long poll, it identifies and authorizes the client again.
    """

    def __init__(self, service: ConfigService, limits: Limits, *, max_config_bytes: int) -> None:
        self._service = service
        self._fields = FieldReader(limits, max_config_bytes=max_config_bytes)
        self._polls = LongPolls(service.reads, limits)
        # Writes under way; each runs to its end even when its client disconnects.
        self._writes: set[asyncio.Task[Any]] = set()

    def end_polls(self) -> None:
        """End the wait of every long poll, present and future. Safe to call twice."""
        self._polls.close()

    def protect(self, write: "asyncio.Task[Any]") -> None:
        """Note a task that carries out a write, and that nothing cancels: the server waits for it before it stops."""
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def drain(self) -> None:
        """Wait until the writes under way are complete."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def handle(self, operation: Operation, http_request: web.Request) -> Reply:
        """Carry out an operation and return the reply.

        Raises:
            OperationError: The request is refused.
            web.HTTPNotFound: The operation is local, and the request did not arrive on the Unix socket.
        """
        http_request[OPERATION] = operation.name
        caller = self._identify(http_request)
        if operation.local and caller.transport != "local":
            raise web.HTTPNotFound
        with self._fields.budget.share() as share:
            return await self._handle(operation, caller, http_request, share)

    async def _handle(self, operation: Operation, caller: Caller, http_request: web.Request, share: Share) -> Reply:
        caller, name, fields = await self._read(operation, caller, http_request, share)
        request = operation.parse(fields)
        conditional = is_conditional(operation, http_request)
        if conditional:
            # After authorization and parse: RFC 9110 §13.2.1 puts every other refusal before that of a condition.
            try:
                request = await confirmed(
                    self._service.following,
                    partial(self._with_condition, operation, http_request, name, request),
                )
            except PreconditionFailed:
                # RFC 9110 §13.1.1 allows a success where the request was carried out before, by what it asks for now.
                if self._service.ledger is None:
                    raise
                kept = await self._service.ledger.kept(operation.name, caller, name, request)
                if kept is None:
                    raise
                return _reply(operation, http_request, kept, request.request_id)
        elif isinstance(request, GetRequest) and request.wait_seconds and http_request.if_none_match is not None:
            wait = partial(self._polls.wait, name, request, held_by_client(http_request))
            await confirmed(self._service.following, wait)
            # The time that the client asked to wait does not count as the daemon's response time.
            http_request[STARTED] = perf_counter()
            # The token may have expired or been revoked during the wait, and the rules may have changed.
            caller = self._identify(http_request)
            operation.authorize(self._service, caller, name)
        try:
            if operation.writes and not http_request.get(PROTECTED, False):
                answer = await self._shielded(operation, caller, name, request)
            else:
                answer = await operation.call(self._service, caller, name, request)
        except Conflict as error:
            if not conditional:
                raise
            # Another write was committed after the condition was compared.
            raise PreconditionFailed(error.message, revision=error.revision, checksum=error.checksum) from error
        return _reply(operation, http_request, answer, request.request_id)

    async def _with_condition(
        self, operation: Operation, http_request: web.Request, name: str, request: Request
    ) -> Request:
        return apply_condition(operation, http_request, name, request, self._service.writes)

    def _identify(self, http_request: web.Request) -> Caller:
        # Of the first identification nothing stays: a token that has ended since names no one in the audit log.
        if CALLER in http_request:
            del http_request[CALLER]
        caller = http_request[CALLER] = identify(http_request, self._service.authorizer)
        return caller

    async def _read(
        self, operation: Operation, caller: Caller, http_request: web.Request, share: Share
    ) -> tuple[Caller, str, JsonObject]:
        """Authorize the caller and read the request's fields; return the caller, the operation's target and the fields.

        Authorization comes before the body, so that a refused client is not waited for. Where the body names the
        service, only an anonymous caller is refused before it.
        """
        name = http_request[TARGET]
        in_body = service_is_in_body(operation)
        if caller.name is None or not in_body:
            operation.authorize(self._service, caller, name)
        body_waits = not http_request.content.is_eof()
        fields = await self._fields.read(operation, http_request, share.take)
        http_request[REQUEST_ID] = fields.get("request_id")
        if in_body:
            name = pop_service(fields)
        if body_waits:
            # The token may have expired or been revoked during the wait, and the rules may have changed.
            caller = self._identify(http_request)
        if body_waits or (in_body and caller.name is not None):
            operation.authorize(self._service, caller, name)
        refuse_unknown(operation, fields)
        return caller, name, fields

    async def _shielded(self, operation: Operation, caller: Caller, name: str, request: Request) -> Answer:
        """Return the answer of a write, which is completed even if the client disconnects meanwhile."""
        write = asyncio.create_task(operation.call(self._service, caller, name, request), name=f"http-{operation.name}")
        self.protect(write)
        try:
            return await asyncio.shield(write)
        except asyncio.CancelledError:
            write.add_done_callback(note_end)
            raise
        finally:
            # A refusal's traceback refers to this call, and the task to the refusal: a circle would keep the document
            # until Python looks for circles.
            del write


def _reply(operation: Operation, http_request: web.Request, answer: Answer, request_id: str | None) -> Reply:
    if not operation.writes and answer.etag is not None and is_held(http_request, answer.etag):
        return not_modified(answer.etag)
    if answer.form != "json":
        return respond(answer.body, media_type=MEDIA_TYPES[answer.form], charset="utf-8", etag=answer.etag)
    body = encode_answer(operation, answer, request_id)
    return respond(body, status=201 if answer.created else 200, etag=answer.etag)
