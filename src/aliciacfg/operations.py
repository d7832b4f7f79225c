"""The operations table: every operation once, from which topics, routes and API documents come."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from aliciacfg import messages
from aliciacfg.documents import Json, JsonObject, escape
from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.messages import MAX_REQUEST_ID_BYTES, Caller, Request
from aliciacfg.service import Answer, ConfigService

Body = Literal["none", "config", "patch", "fields"]
"""What the body over HTTP is: nothing, the document or patch itself, or an object of the request's fields."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One row.

    Attributes:
        name: The MQTT topic level after ``alicia/config/``.
        summary: One line for the API documents.
        target: What a name in topic or path means; None for operations about everything.
        request: The request's fields.
        answer: The answer's fields.
        call: Carries it out on a service.
        method: HTTP method.
        path: HTTP path; ``{target}`` is the name.
        body: What the HTTP body is.
        writes: Whether it changes anything.
        own_status: The answer's ``status`` is its own, so none is put in front.
    """

    name: str
    summary: str
    target: Literal["service", "environment"] | None
    request: type[Request]
    answer: type[msgspec.Struct]
    call: Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]
    method: str
    path: str
    body: Body = "none"
    writes: bool = False
    own_status: bool = False

    async def run(self, service: ConfigService, caller: Caller, name: str, fields: JsonObject) -> Answer:
        """Carry the operation out.

        Args:
            service: What carries it out.
            caller: Who asks.
            name: The service or environment; empty for operations about everything.
            fields: The request's fields as JSON; unknown ones are ignored.

        Raises:
            OperationError: It was refused.
        """
        return await self.call(service, caller, name, self.parse(fields))

    def parse(self, fields: Mapping[str, Json]) -> Request:
        """Check a request's fields.

        Raises:
            InvalidRequest: One is missing, or has the wrong type; names it.
        """
        try:
            request = msgspec.convert(dict(fields), self.request)
        except msgspec.ValidationError as error:
            problem = _as_problem(error)
            raise InvalidRequest(f"{self.name}: {problem.message}.", [problem]) from error
        if request.request_id is not None and len(request.request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InvalidRequest(f"request_id is longer than {MAX_REQUEST_ID_BYTES} bytes; send a shorter one.")
        return request

    @property
    def fields(self) -> frozenset[str]:
        """The names of the request's fields."""
        return frozenset(self.request.__struct_encode_fields__)


def _as_problem(error: msgspec.ValidationError) -> Problem:
    """A message of msgspec, with its path (``$.config``) as a JSON Pointer."""
    text, _, path = str(error).partition(" - at `$")
    pointer = "".join(f"/{escape(part)}" for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".")[1:])
    return Problem(pointer, text[:1].lower() + text[1:] + (f" at {pointer}" if pointer else ""))


def _on(method: Callable[..., Awaitable[Answer]]) -> Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]:
    """A method that takes a name; the table pairs it with the request type it takes."""

    async def call(service: ConfigService, caller: Caller, name: str, request: Request) -> Answer:
        return await method(service, caller, name, request)

    return call


def _all(
    method: Callable[..., Awaitable[Answer]],
) -> Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]:
    """A method that is about everything."""

    async def call(service: ConfigService, caller: Caller, _name: str, request: Request) -> Answer:
        return await method(service, caller, request)

    return call


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "get", "Read one configuration", "service", messages.GetRequest, messages.ConfigAnswer,
        _on(ConfigService.get), "GET", "/config/{target}",
    ),
    Operation(
        "set", "Replace one configuration", "service", messages.SetRequest, messages.WriteAnswer,
        _on(ConfigService.set), "PUT", "/config/{target}", body="config", writes=True,
    ),
    Operation(
        "patch", "Apply a merge patch (RFC 7396)", "service", messages.PatchRequest, messages.WriteAnswer,
        _on(ConfigService.patch), "PATCH", "/config/{target}", body="patch", writes=True,
    ),
    Operation(
        "unset", "Drop one run-time change", "service", messages.UnsetRequest, messages.WriteAnswer,
        _on(ConfigService.unset), "POST", "/config/{target}/unset", body="fields", writes=True,
    ),
    Operation(
        "delete", "Drop all run-time changes", "service", messages.WriteRequest, messages.WriteAnswer,
        _on(ConfigService.delete), "DELETE", "/config/{target}", writes=True,
    ),
    Operation(
        "validate", "Check a configuration", "service", messages.ValidateRequest, messages.ValidateAnswer,
        _on(ConfigService.validate), "POST", "/config/validate", body="fields",
    ),
    Operation(
        "schema", "Read a service's JSON Schema", "service", messages.Request, messages.SchemaAnswer,
        _on(ConfigService.schema), "GET", "/config/schema/{target}",
    ),
    Operation(
        "list", "List the configurations", None, messages.ListRequest, messages.ListAnswer,
        _all(ConfigService.list), "GET", "/configs",
    ),
    Operation(
        "environments", "List the environments", None, messages.Request, messages.EnvironmentsAnswer,
        _all(ConfigService.environments), "GET", "/environments",
    ),
    Operation(
        "reload", "Read the files again", None, messages.Request, messages.ReloadAnswer,
        _all(ConfigService.reload), "POST", "/reload", body="fields", writes=True,
    ),
    Operation(
        "health", "How the daemon is", None, messages.Request, messages.HealthAnswer,
        _all(ConfigService.health), "GET", "/health", own_status=True,
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}


def encode_answer(operation: Operation, answer: Answer, request_id: str | None) -> bytes:
    """The whole answer of an operation."""
    return answer.body if operation.own_status else messages.encode_success(answer.body, request_id)
