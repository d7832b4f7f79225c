"""An operation: its name, fields, authorization, handler, topic and route."""

import functools
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Need
from aliciacfg.api.encoding import Answer
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.api.requests import CurrentRequest, Request
from aliciacfg.core.following import Following
from aliciacfg.documents import Json, JsonObject, escape
from aliciacfg.errors import Conflict, InvalidRequest, NotFound, Problem
from aliciacfg.model.names import HttpOperationName, LocalOperationName, OperationName
from aliciacfg.operations.service import ConfigService

T = TypeVar("T")
Part = TypeVar("Part")
Fields = TypeVar("Fields", bound=Request)

Body = Literal["none", "config", "patch", "fields"]
"""The content of an HTTP request's body: nothing, the configuration or patch itself, or an object of the fields."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A method of a part of the service, with the request that it takes.

    Attributes:
        request: The type of the request.
        call: Takes the service, the caller, the target's name (empty without a target) and the request.
        description: The method's docstring.
    """

    request: type[Request]
    call: Callable[[ConfigService, Caller, str, Request], Awaitable[Answer]]
    description: str


def on_target(
    part: Callable[[ConfigService], Part],
    method: Callable[[Part, Caller, str, Fields], Awaitable[Answer]],
    request: type[Fields],
) -> Handler:
    """Return the handler of an operation on one service or environment.

    Args:
        part: Returns the part of the service.
        method: A method of that part.
        request: The type of the method's request.
    """

    async def call(service: ConfigService, caller: Caller, name: str, fields: Request) -> Answer:
        return await method(part(service), caller, name, _typed(fields, request))

    return Handler(request, call, method.__doc__ or "")


def on_all(
    part: Callable[[ConfigService], Part],
    method: Callable[[Part, Caller, Fields], Awaitable[Answer]],
    request: type[Fields],
) -> Handler:
    """Return the handler of an operation without a target; arguments as for ``on_target``."""

    async def call(service: ConfigService, caller: Caller, _name: str, fields: Request) -> Answer:
        return await method(part(service), caller, _typed(fields, request))

    return Handler(request, call, method.__doc__ or "")


def _typed(fields: Request, request: type[Fields]) -> Fields:
    if not isinstance(fields, request):
        raise TypeError(f"expected {request.__name__}, got {type(fields).__name__}")
    return fields


async def confirmed(following: Following | None, ask: Callable[[], Awaitable[T]]) -> T:
    """Return what a function returns; one that does not find what it needs is asked again if memory lagged.

    Args:
        following: Follows the other daemons; None where there are none.
        ask: Reads or changes configurations. If it raises NotFound or Conflict, it has changed nothing.

    Raises:
        Unavailable: The database cannot be read, so it is not known whether another daemon changed something.
        OperationError: As the function.
    """
    if following is None:
        return await ask()
    followed, composed = following.followed, following.composes
    try:
        return await ask()
    except (NotFound, Conflict):
        await following.confirm()
        if not following.composes:
            # Files that serve by now may name an environment that those before did not.
            await following.load_files()
        elif composed and following.followed == followed:
            raise
    return await ask()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A row of the operations table.

    Attributes:
        name: The MQTT topic level after ``alicia/config/``.
        summary: One line for the API documents.
        needs: The permission that the caller needs.
        handler: Carries the operation out.
        answer: The type of the answer; a union if there are several.
        method: The HTTP method.
        path: The HTTP path; ``{target}`` is replaced by the target's name.
        target: The kind of name in the topic or path; None for an operation without a target.
        body: The content of the HTTP body.
        writes: Whether it changes anything.
        creates: Whether it can create a configuration.
        own_status: Whether the answer has a ``status`` of its own, so that none is added.
        local: Whether it is available only through the socket in the data directory.
        http_only: Fields that are ignored over MQTT.
        items: The field that is a list of objects, and the type of the objects.
        max_bytes: The largest request; None for the limit of a request with a configuration.
    """

    name: OperationName | HttpOperationName | LocalOperationName
    summary: str
    needs: Need
    handler: Handler
    answer: type[msgspec.Struct] | UnionType
    method: str
    path: str
    target: Literal["service", "environment", "token"] | None = None
    body: Body = "none"
    writes: bool = False
    creates: bool = False
    own_status: bool = False
    local: bool = False
    http_only: frozenset[str] = frozenset()
    items: tuple[str, type[msgspec.Struct]] | None = None
    max_bytes: int | None = None

    @property
    def request(self) -> type[Request]:
        """The type of the request."""
        return self.handler.request

    async def call(self, service: ConfigService, caller: Caller, name: str, request: Request) -> Answer:
        """Carry out the operation for an authorized caller, within the caller's share; arguments as for ``run``.

        Raises:
            Busy: Too much work of this caller waits.
            OperationError: The operation is refused.
        """
        if self.writes and service.ledger is not None:
            return await service.ledger.once(
                self.name,
                caller,
                name,
                request,
                lambda asking: service.workload.run(
                    asking, self.name, lambda: self._carry_out(service, asking, name, request), writes=True
                ),
            )
        return await service.workload.run(
            caller, self.name, lambda: self._carry_out(service, caller, name, request), writes=self.writes
        )

    def _carry_out(self, service: ConfigService, caller: Caller, name: str, request: Request) -> Awaitable[Answer]:
        if isinstance(request, CurrentRequest) and request.at_least is not None:
            return self._carry_out_later(service, caller, name, request, request.at_least)
        if service.following is None:
            return self._call(service, caller, name, request)
        return confirmed(service.following, lambda: self._call(service, caller, name, request))

    async def _carry_out_later(
        self, service: ConfigService, caller: Caller, name: str, request: Request, revision: int
    ) -> Answer:
        """Carry the operation out when a revision is here."""

        async def find() -> None:
            service.reads.check_names(name, request.environment)

        await confirmed(service.following, find)
        await service.reads.wait_for_revision(name, request.environment, revision)
        return await confirmed(service.following, lambda: self._call(service, caller, name, request))

    async def _call(self, service: ConfigService, caller: Caller, name: str, request: Request) -> Answer:
        """Call the handler; say which service was probably meant if there is none of the name."""
        try:
            return await self.handler.call(service, caller, name, request)
        except NotFound as error:
            meant = service.reads.meant(caller, name, request.environment) if self.target == "service" else None
            if meant is None:
                raise
            raise NotFound(f"{error.message} Did you mean {meant}?") from error

    async def run(self, service: ConfigService, caller: Caller, name: str, fields: JsonObject) -> Answer:
        """Authorize the caller, check the fields and carry out the operation.

        Args:
            service: The operations of the daemon.
            caller: The caller.
            name: The name of the target; empty for an operation without a target.
            fields: The request's fields as JSON; unknown ones are ignored.

        Raises:
            OperationError: The operation is refused.
        """
        self.authorize(service, caller, name)
        return await self.call(service, caller, name, self.parse(fields))

    def authorize(self, service: ConfigService, caller: Caller, name: str) -> None:
        """Raise an error if the caller is not allowed to carry out the operation; ``run`` does this too.

        Raises:
            Unauthorized: The caller is anonymous, or its name is not proven.
            Forbidden: The caller is not allowed to do this.
        """
        service.authorizer.check(caller, self.needs, name if self.target == "service" else None, operation=self.name)

    def parse(self, fields: Mapping[str, Json]) -> Request:
        """Return the request with the given fields.

        Raises:
            InvalidRequest: A field is missing or has the wrong type; the message names it.
        """
        try:
            request = msgspec.convert(dict(fields), self.request)
        except msgspec.ValidationError as error:
            problem = _as_problem(error, self.request)
            if (field := _missing(problem.message)) in _EXAMPLES:
                example = f'{{"{field}": {_EXAMPLES[field]}}}'
                problem = msgspec.structs.replace(problem, message=f"{problem.message}; send {example}")
            raise InvalidRequest(f"{self.name}: {problem.message}.", [problem]) from error
        if request.request_id is not None and len(request.request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InvalidRequest(f"request_id is longer than {MAX_REQUEST_ID_BYTES} bytes; send a shorter one.")
        return request

    def unknown(self, fields: JsonObject) -> Iterator[tuple[str, Collection[str]]]:
        """Yield the JSON Pointer of each unknown member, with the names of the fields known at its place."""
        known_here = self.fields
        if not fields.keys() <= known_here:
            for name in sorted(fields.keys() - known_here):
                yield f"/{escape(name)}", known_here
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
        """The types of the answer."""
        return (self.answer,) if isinstance(self.answer, type) else get_args(self.answer)

    @property
    def required(self) -> frozenset[str]:
        """The names of the required fields, including those that may be null."""
        return frozenset(field.encode_name for field in msgspec.structs.fields(self.request) if field.required)

    @property
    def fields(self) -> frozenset[str]:
        """The names of the request's fields."""
        return _names_of_fields(self.request)


@functools.cache
def _names_of_fields(request: type[Request]) -> frozenset[str]:
    return frozenset(request.__struct_encode_fields__)


# What stands in a request for a field that is required.
_EXAMPLES = {
    "config": "{…}", "patch": "{…}", "updates": "[…]", "pointer": '"/limits/x"', "revision": "3", "public_key": '"…"',
}  # fmt: skip
_MISSING = re.compile(r"missing required field `(\w+)`")


def _missing(message: str) -> str:
    found = _MISSING.search(message)
    return "" if found is None else found[1]


# msgspec names some types as Python does; requests are JSON.
_JSON_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_PYTHON_NAME = re.compile(r"\b(?:str|int|float|bool)\b(?=[^`]*`)")


def _as_problem(error: msgspec.ValidationError, request: type[Request]) -> Problem:
    """Return a message of msgspec with the names of JSON's types, its path (``$.config``) as a JSON Pointer."""
    text, _, path = str(error).partition(" - at `$")
    text = _PYTHON_NAME.sub(lambda found: _JSON_NAMES[found[0]], text)
    pointer = "".join(f"/{escape(part)}" for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".")[1:])
    if choices := _choices(request, pointer.removeprefix("/")) if text.startswith("Invalid enum value") else []:
        # msgspec does not say which values there are.
        text += f"; expected one of {', '.join(choices)}"
    return Problem(pointer, text[:1].lower() + text[1:] + (f" at {pointer}" if pointer else ""))


def _choices(request: type[Request], name: str) -> list[str]:
    """Return the values of a field that is an enumeration; none of any other."""
    declared = get_type_hints(request).get(name)
    literals = [kind for kind in (declared, *get_args(declared)) if get_origin(kind) is Literal]
    return [str(value) for literal in literals for value in get_args(literal)]
