"""The operations table: every operation once, from which topics, routes and API documents come."""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Literal, get_args

import msgspec

from aliciacfg.access.caller import Caller
from aliciacfg.api import requests
from aliciacfg.api.answers import (
    ActivateAnswer,
    AuditAnswer,
    BatchAnswer,
    CompareAnswer,
    ConfigAnswer,
    DeletedAnswer,
    DriftAnswer,
    EnvironmentsAnswer,
    ExplainAnswer,
    HealthAnswer,
    HistoryAnswer,
    InstancesAnswer,
    KeysAnswer,
    ListAnswer,
    PasswordsAnswer,
    RecipientAnswer,
    ReloadAnswer,
    SchemaAnswer,
    TokenAnswer,
    TokensAnswer,
    UnchangedAnswer,
    ValidateAnswer,
    WriteAnswer,
)
from aliciacfg.api.encoding import Answer, encode_success
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.api.requests import MAX_BATCH_BYTES, Request
from aliciacfg.documents import Json, JsonObject, escape
from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.writes import WriteOperations

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
        answer: The answer's fields; a union where there are several kinds of answer.
        call: Carries it out on a service.
        method: HTTP method.
        path: HTTP path; ``{target}`` is the name.
        body: What the HTTP body is.
        writes: Whether it changes anything.
        creates: Whether it can bring a configuration into being.
        own_status: The answer's ``status`` is its own, so none is put in front.
        local: Only for whoever may write the data directory.
        http_only: Fields that mean nothing over MQTT, and are ignored there.
        items: The field that is a list of objects, and what these are.
        max_bytes: The largest request; None for one that holds a configuration.
    """

    name: str
    summary: str
    target: Literal["service", "environment"] | None
    request: type[Request]
    answer: type[msgspec.Struct] | UnionType
    call: Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]
    method: str
    path: str
    body: Body = "none"
    writes: bool = False
    creates: bool = False
    own_status: bool = False
    local: bool = False
    http_only: frozenset[str] = frozenset()
    items: tuple[str, type[msgspec.Struct]] | None = None
    max_bytes: int | None = None

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
        self.authorize(service, caller, name)
        return await self.call(service, caller, name, self.parse(fields))

    def authorize(self, service: ConfigService, caller: Caller, name: str) -> None:
        """Refuse who may not; ``run`` does it too.

        Raises:
            Unauthorized: Nobody, or nobody proven, asks.
            Forbidden: The caller may not do this.
        """
        service.authorizer.check(caller, self.name, name if self.target == "service" else None)

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

    def unknown(self, fields: JsonObject) -> Iterator[tuple[str, Collection[str]]]:
        """Yield the JSON Pointer of each member that is no field, with the names that are known there."""
        for name in sorted(fields.keys() - self.fields):
            yield f"/{escape(name)}", self.fields
        if self.items is None:
            return
        field, item_type = self.items
        listed = fields.get(field)
        for index, item in enumerate(listed if isinstance(listed, list) else []):
            known = item_type.__struct_encode_fields__
            for name in sorted(item.keys() - set(known)) if isinstance(item, dict) else ():
                yield f"/{field}/{index}/{escape(name)}", known

    @property
    def answers(self) -> tuple[type[msgspec.Struct], ...]:
        """The kinds of answer."""
        return (self.answer,) if isinstance(self.answer, type) else get_args(self.answer)

    @property
    def required(self) -> frozenset[str]:
        """The names of the fields that have to be there, null or not."""
        return frozenset(field.encode_name for field in msgspec.structs.fields(self.request) if field.required)

    @property
    def fields(self) -> frozenset[str]:
        """The names of the request's fields."""
        return frozenset(self.request.__struct_encode_fields__)


def _as_problem(error: msgspec.ValidationError) -> Problem:
    """A message of msgspec, with its path (``$.config``) as a JSON Pointer."""
    text, _, path = str(error).partition(" - at `$")
    pointer = "".join(f"/{escape(part)}" for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".")[1:])
    return Problem(pointer, text[:1].lower() + text[1:] + (f" at {pointer}" if pointer else ""))


Method = Callable[..., Awaitable[Answer]]
_Call = Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]


def _method(part: Literal["reads", "writes", "admin"], method: Method, *, named: bool) -> _Call:
    """A method of a part of the service; the table pairs it with the request type it takes.

    Args:
        part: Whose method.
        method: Takes the caller, the name it is about if it is ``named``, and the request.
        named: It is about one service or environment.
    """

    async def call(service: ConfigService, caller: Caller, name: str, request: Request) -> Answer:
        about = (name,) if named else ()
        return await method(getattr(service, part), caller, *about, request)

    call.__doc__ = method.__doc__
    return call


_read, _read_all = partial(_method, "reads", named=True), partial(_method, "reads", named=False)
_write, _write_all = partial(_method, "writes", named=True), partial(_method, "writes", named=False)
_administer, _administer_all = partial(_method, "admin", named=True), partial(_method, "admin", named=False)


def _local(
    name: str, summary: str, request: type[Request], answer: type[msgspec.Struct], method: Method, *, writes: bool
) -> Operation:
    """A row for whoever may write the data directory."""
    call = _administer_all(method)
    return Operation(
        name, summary, None, request, answer, call, "POST", f"/local/{name}", body="fields", writes=writes, local=True
    )


async def _health(service: ConfigService, caller: Caller, _name: str, request: Request) -> Answer:
    """How the daemon is."""
    return await service.health(caller, request)


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "get", "Read one configuration", "service", requests.GetRequest,
        ConfigAnswer | UnchangedAnswer, _read(ReadOperations.get), "GET", "/config/{target}",
        http_only=frozenset({"pointer", "format", "wait_seconds"}),
    ),
    Operation(
        "set", "Replace one configuration", "service", requests.SetRequest, WriteAnswer,
        _write(WriteOperations.set), "PUT", "/config/{target}", body="config", writes=True, creates=True,
    ),
    Operation(
        "patch", "Apply a merge patch (RFC 7396)", "service", requests.PatchRequest, WriteAnswer,
        _write(WriteOperations.patch), "PATCH", "/config/{target}", body="patch", writes=True, creates=True,
    ),
    Operation(
        "unset", "Drop one run-time change", "service", requests.UnsetRequest, WriteAnswer,
        _write(WriteOperations.unset), "POST", "/config/{target}/unset", body="fields", writes=True,
    ),
    Operation(
        "delete", "Drop all run-time changes", "service", requests.WriteRequest,
        WriteAnswer | DeletedAnswer, _write(WriteOperations.delete), "DELETE", "/config/{target}", writes=True,
    ),
    Operation(
        "validate", "Check a configuration", "service", requests.ValidateRequest, ValidateAnswer,
        _write(WriteOperations.validate), "POST", "/config/validate", body="fields",
    ),
    Operation(
        "schema", "Read a service's JSON Schema", "service", requests.Request, SchemaAnswer,
        _read(ReadOperations.schema), "GET", "/config/schema/{target}",
    ),
    Operation(
        "list", "List the configurations", None, requests.ListRequest, ListAnswer,
        _read_all(ReadOperations.list), "GET", "/configs",
    ),
    Operation(
        "batch", "Carry out several writes in one transaction", None, requests.BatchRequest, BatchAnswer,
        _write_all(WriteOperations.batch), "POST", "/configs/batch", body="fields", writes=True,
        items=("updates", requests.BatchUpdate), max_bytes=MAX_BATCH_BYTES,
    ),
    Operation(
        "history", "List the revisions of one configuration", "service", requests.HistoryRequest,
        HistoryAnswer, _read(ReadOperations.history), "GET", "/config/{target}/history",
    ),
    Operation(
        "rollback", "Go back to an old revision", "service", requests.RollbackRequest, WriteAnswer,
        _write(WriteOperations.rollback), "POST", "/config/{target}/rollback", body="fields", writes=True, creates=True,
    ),
    Operation(
        "explain", "Say where each value comes from", "service", requests.Request, ExplainAnswer,
        _read(ReadOperations.explain), "GET", "/config/{target}/explain",
    ),
    Operation(
        "compare", "Compare environments or revisions", "service", requests.CompareRequest, CompareAnswer,
        _read(ReadOperations.compare), "GET", "/config/compare/{target}",
    ),
    Operation(
        "environments", "List the environments", None, requests.Request, EnvironmentsAnswer,
        _read_all(ReadOperations.environments), "GET", "/environments",
    ),
    Operation(
        "activate", "Make an environment the active one", "environment", requests.ActivateRequest,
        ActivateAnswer, _write(WriteOperations.activate), "POST", "/environments/{target}/activate", body="fields",
        writes=True,
    ),
    Operation(
        "reload", "Read the files again", None, requests.ReloadRequest, ReloadAnswer,
        _write_all(WriteOperations.reload), "POST", "/reload", body="fields", writes=True,
    ),
    Operation(
        "instances", "List the running copies of a service", "service", requests.Request, InstancesAnswer,
        _read(ReadOperations.instances), "GET", "/config/{target}/instances",
    ),
    Operation(
        "drift", "List what is not as it should be", None, requests.Request, DriftAnswer,
        _read_all(ReadOperations.drift), "GET", "/drift",
    ),
    Operation(
        "recipient", "Set the key that a service's secrets are sealed to", "service", requests.RecipientRequest,
        RecipientAnswer, _administer(AdminOperations.recipient), "PUT", "/config/{target}/recipient",
        body="fields", writes=True,
    ),
    Operation(
        "audit", "List what was done and refused", None, requests.AuditRequest, AuditAnswer,
        _administer_all(AdminOperations.audit), "GET", "/audit",
    ),
    Operation(
        "health", "How the daemon is", None, requests.Request, HealthAnswer,
        _health, "GET", "/health", own_status=True,
    ),
)  # fmt: skip

LOCAL_OPERATIONS: tuple[Operation, ...] = (
    _local(
        "token_create", "Make a token", requests.TokenCreateRequest, TokenAnswer,
        AdminOperations.token_create, writes=True,
    ),
    _local(
        "token_list", "List the tokens", requests.Request, TokensAnswer,
        AdminOperations.token_list, writes=False,
    ),
    _local(
        "token_revoke", "Take a token back", requests.TokenRevokeRequest, TokensAnswer,
        AdminOperations.token_revoke, writes=True,
    ),
    _local(
        "keys_show", "Show the sealing keys", requests.Request, KeysAnswer,
        AdminOperations.keys_show, writes=False,
    ),
    _local(
        "keys_rotate", "Seal everything with a fresh key", requests.Request, KeysAnswer,
        AdminOperations.keys_rotate, writes=True,
    ),
    _local(
        "keys_add", "Take a key for opening", requests.KeyAddRequest, KeysAnswer,
        AdminOperations.keys_add, writes=True,
    ),
    _local(
        "keys_remove", "Forget a key", requests.KeyRemoveRequest, KeysAnswer,
        AdminOperations.keys_remove, writes=True,
    ),
    _local(
        "broker_passwords", "Tell the passwords that services connect to the broker with", requests.Request,
        PasswordsAnswer, AdminOperations.broker_passwords, writes=False,
    ),
)  # fmt: skip
"""What only whoever may write the data directory can ask for, through the daemon's socket there."""

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in (*OPERATIONS, *LOCAL_OPERATIONS)}


def encode_answer(operation: Operation, answer: Answer, request_id: str | None) -> bytes:
    """The whole answer of an operation."""
    return answer.body if operation.own_status else encode_success(answer.body, request_id)
