"""From a request to its operation and back: who asks, what it says, whether its condition holds, the answer."""

import asyncio
from time import perf_counter

from aiohttp import web

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import Answer
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Conflict
from aliciacfg.http.bodies import Bodies, check_known, query_fields
from aliciacfg.http.callers import identify
from aliciacfg.http.conditions import LongPolls, is_conditional, put_condition, unless_held
from aliciacfg.http.connection_limits import Limits
from aliciacfg.http.refusals import REQUEST_ID, PreconditionFailed, request_id
from aliciacfg.http.responses import HEADERS, MEDIA_TYPES, json_response
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import Operation, encode_answer

STARTED = web.RequestKey("started", float)
OPERATION = web.RequestKey("operation", str)


class OperationHandler:
    """Carries operations out for requests over HTTP."""

    def __init__(self, service: ConfigService, limits: Limits, *, max_config_bytes: int) -> None:
        self._service = service
        self._writes: set[asyncio.Task[Answer]] = set()
        self._bodies = Bodies(limits, max_config_bytes=max_config_bytes)
        self._polls = LongPolls(service.reads, limits)

    def end_polls(self) -> None:
        """Answer the requests that wait for a change, now and from now on. Safe to call twice."""
        self._polls.close()

    async def drain(self) -> None:
        """Wait until the writes that are under way have come to their end."""
        if self._writes:
            await asyncio.wait(self._writes)

    async def handle(self, operation: Operation, request: web.Request) -> web.Response:
        """Return the response to a request for an operation."""
        request[OPERATION] = operation.name
        fields = query_fields(request)
        name = request.match_info.get("name", "")
        caller = identify(request, self._service.authorizer)
        if operation.local and caller.transport != "local":
            raise web.HTTPNotFound
        self._refuse_nobody(operation, caller, name)
        if operation.body != "none" or request.body_exists:
            name = await self._bodies.read(operation, request, fields) or name
        request[REQUEST_ID] = fields.get("request_id")
        operation.authorize(self._service, caller, name)
        check_known(operation, fields)
        conditional = is_conditional(operation, request)
        if conditional:
            # RFC 9110 §13.2.1: what would be refused without its conditions is refused for that.
            operation.parse(fields)
            put_condition(operation, request, fields, name, self._service.writes)
        held = request.headers.get("If-None-Match")
        if held is not None and operation.name == "get":
            await self._polls.wait(name, operation.parse(fields), held)
            # The time that a client asks to wait is none that its answer takes.
            request[STARTED] = perf_counter()
            # Its token may have ended meanwhile.
            caller = identify(request, self._service.authorizer)
        try:
            answer = await self._carried_out(operation, caller, name, fields)
        except Conflict as error:
            if not conditional:
                raise
            # Another write came between the look at the condition and this one.
            raise PreconditionFailed(error.message, revision=error.revision, checksum=error.checksum) from error
        if answer.form != "json":
            response = web.Response(body=answer.body, content_type=MEDIA_TYPES[answer.form], charset="utf-8")
            response.headers.update({**HEADERS, "ETag": f'"{answer.etag}"'})
            return unless_held(request, response, answer.etag)
        body = encode_answer(operation, answer, request_id(request))
        if answer.etag is None:
            return json_response(body)
        if operation.writes:
            return json_response(body, status=201 if answer.created else 200, etag=answer.etag)
        return unless_held(request, json_response(body, etag=answer.etag), answer.etag)

    def _refuse_nobody(self, operation: Operation, caller: Caller, name: str) -> None:
        """Refuse whoever does not say who he is what needs that, before his body is read."""
        if caller.name is None:
            operation.authorize(self._service, caller, name)

    async def _carried_out(self, operation: Operation, caller: Caller, name: str, fields: JsonObject) -> Answer:
        """The answer of an operation; a write comes to its end also when the client is gone meanwhile."""
        if not operation.writes:
            return await operation.run(self._service, caller, name, fields)
        work = asyncio.create_task(operation.run(self._service, caller, name, fields), name="http-write")
        self._writes.add(work)
        work.add_done_callback(self._writes.discard)
        return await asyncio.shield(work)
