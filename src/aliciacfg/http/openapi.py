"""The OpenAPI 3.1 document: every route of the HTTP server, its answers and its refusals.

It is generated from the operations table, the Structs in ``api`` and recorded exchanges. Nothing here concerns a
single operation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import Any, cast

import msgspec

from aliciacfg import http
from aliciacfg.api.answers.configurations import ConfigAnswer, PickedAnswer
from aliciacfg.api.encoding import Failure
from aliciacfg.api.events import DATA
from aliciacfg.documents import Json, JsonObject
from aliciacfg.http.refusals import STATUS, STATUS_OF_TYPE
from aliciacfg.http.responses import JSON, MEDIA_TYPES, MERGE_PATCH
from aliciacfg.operations import json_schemas
from aliciacfg.operations.json_schemas import Field
from aliciacfg.operations.table import HTTP_OPERATIONS, OPERATIONS, Operation

EXAMPLES = "examples.json"


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One recorded request to a real daemon, and its answer.

    Attributes:
        operation: The name of the operation; empty for a route that is not in the table.
        name: Identifies the exchange among those of its operation.
        summary: What the example shows.
        method: The HTTP method.
        path: The path with the query.
        headers: The request headers that matter for the example.
        body: The request's JSON body; unset where there was none.
        status: The HTTP status of the answer.
        content_type: The media type of the answer.
        answer: JSON or text; unset where the answer was empty.
        answer_headers: The answer's headers that the document declares.
    """

    operation: str
    name: str
    summary: str
    method: str
    path: str
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    body: Any | msgspec.UnsetType = msgspec.UNSET
    status: int
    content_type: str = JSON
    answer: Any | msgspec.UnsetType = msgspec.UNSET
    answer_headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])


_INTRO = """\
The single source of truth for the configuration of every service on the Alicia bus.

* A success is `{"status": "success", "request_id": …, …}`.
* A refusal is `{"status": "error", "code": …, "message": …, "problems": […], "request_id": …}`.
* An unknown field in a query or a body is refused; the message names it.
* Secrets are shown as `***`. In a write, `***` in the same place keeps the secret.
* The same operations are available over MQTT: [asyncapi.json](/asyncapi.json).
"""

# The name and the description of the response by status.
_REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("InvalidRequest", "Not JSON, wrong fields, or an invalid name."),
    401: ("Unauthorized", "Tokens or access rules exist, and the request's token is missing or not valid."),
    403: ("Forbidden", "Not allowed, or the Host or Origin is another site."),
    404: ("NotFound", "No such service, environment or revision."),
    408: ("RequestTimeout", "The body did not arrive in time."),
    409: ("Conflict", "The revision is not the expected one, or the change is breaking and lacks `allow_breaking`."),
    412: ("PreconditionFailed", "A condition does not hold; the answer has the current revision and checksum."),
    413: ("TooLarge", "A limit of size, depth or number is exceeded."),
    415: ("UnsupportedMediaType", "The body is not JSON."),
    422: ("ValidationFailed", "The configuration is invalid; every problem is listed."),
    500: ("Internal", "An unexpected error; only the daemon's log has the details."),
    503: ("Unavailable", "Too many requests wait, or the store is not available; try again."),
}

_CONFIGURATIONS = ("Configurations", "The configurations of the services.")
_ENVIRONMENTS = ("Environments", "The sets of values, one of which is active.")
_DAEMON = ("Daemon", "The daemon itself.")
# By the first part of the path; every other path concerns the daemon.
_TAGS = {"config": _CONFIGURATIONS, "configs": _CONFIGURATIONS, "environments": _ENVIRONMENTS}


@dataclass(frozen=True, slots=True)
class _OtherRoute:
    """A route for GET that is not in the table.

    Attributes:
        path: Without parameters.
        name: The operation's id in the document.
        summary: One line.
        content: The schema of the answer by media type.
        statuses: What each status means.
        authorized: A token is required once tokens or access rules exist.
        parameters: Those of the query and of headers.
        description: More about it; empty for nothing.
        refusals: Further statuses of refusals.
    """

    path: str
    name: str
    summary: str
    content: Mapping[str, JsonObject]
    statuses: Mapping[int, str]
    authorized: bool = False
    parameters: tuple[JsonObject, ...] = ()
    description: str = ""
    refusals: tuple[int, ...] = ()


_READY: JsonObject = {
    "type": "object",
    "properties": {
        "ready": {"type": "boolean"},
        "mqtt_connected": {"type": "boolean"},
        "reason": {"type": "string", "description": "Why it is not ready."},
    },
    "required": ["ready", "mqtt_connected"],
}
_KEY: JsonObject = {
    "type": "object",
    "properties": {
        "key_id": {"type": "string", "description": "The first 16 hex digits of the key's SHA-256."},
        "public_key": {"type": "string", "description": "X25519, standard base64."},
    },
    "required": ["key_id", "public_key"],
}
_EVENTS = """\
Server-sent events ([WHATWG HTML §9.2](https://html.spec.whatwg.org/multipage/server-sent-events.html)), until the
client disconnects. The `data` of each is one line of JSON, with the schema `HelloEvent`, `ChangeEvent` and so on by its
kind. None has a value of a configuration. A quiet stream has a comment every 15 seconds.
"""


def _listed(name: str, text: str, items: JsonObject) -> JsonObject:
    """Return a parameter of the query that may be repeated."""
    schema: JsonObject = {"type": "array", "maxItems": 100, "items": items}
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _name(kind: str) -> JsonObject:
    return {key: value for key, value in json_schemas.TARGETS[kind].items() if key != "description"}


_OTHER_ROUTES = (
    _OtherRoute(
        "/events", "events", "Listen to what happens",
        {
            "text/event-stream": {
                "type": "string",
                "description": "Each event has the lines `event` and `data`, and `id` if a reader can go on after it.",
            }
        },
        {200: "Events, beginning with `hello`."}, authorized=True, description=_EVENTS, refusals=(400, 503),
        parameters=(
            _listed("service", "Only changes, instances and registrations of these services.", _name("service")),
            _listed("environment", "Only changes in these environments.", _name("environment")),
            _listed("event", "Only these kinds of events, besides `hello`, `reset` and `end`.", {"enum": [*DATA]}),
            {
                "name": "last_event_id", "in": "query", "schema": {"type": "string"},
                "description": "As the header `Last-Event-ID`, which counts if both are sent.",
            },
            {
                "name": "Last-Event-ID", "in": "header", "schema": {"type": "string"},
                "description": "The `id` of the last event that the client knows, of any daemon of the home.",
            },
        ),
    ),
    _OtherRoute(
        "/ready", "ready", "Whether store and broker are usable", {JSON: _READY},
        {200: "Both are, and memory is up to date.", 503: "Something is not."},
    ),
    _OtherRoute(
        "/metrics", "metrics", "Metrics for Prometheus",
        {"text/plain": {"type": "string"}, "application/openmetrics-text": {"type": "string"}},
        {200: "Plain text, or OpenMetrics if `Accept` allows it."}, authorized=True,
    ),
    _OtherRoute(
        "/keys/current", "key", "The key that secrets for the daemon are sealed with", {JSON: _KEY},
        {200: "The current key."},
    ),
    _OtherRoute("/openapi.json", "openapi", "This document", {JSON: {"type": "object"}}, {200: "OpenAPI 3.1."}),
    _OtherRoute("/asyncapi.json", "asyncapi", "The API over MQTT", {JSON: {"type": "object"}}, {200: "AsyncAPI 3.0."}),
    _OtherRoute("/docs", "docs", "This document as a web page", {"text/html": {"type": "string"}}, {200: "A page."}),
)  # fmt: skip
_TEXTS: Mapping[str, JsonObject] = {
    MEDIA_TYPES["yaml"]: {"description": "The configuration, or the value at `pointer`."},
    MEDIA_TYPES["env"]: {"type": "string", "description": "`NAME=value` lines for a shell, Docker and systemd."},
}
_ETAG: JsonObject = {
    "description": "An opaque tag for `If-Match` and `If-None-Match` (RFC 9110).",
    "schema": {"type": "string"},
    "required": True,
}


def recorded() -> list[Exchange]:
    """Return the recorded exchanges that the document shows as examples."""
    data = resources.files(http).joinpath(EXAMPLES).read_bytes()
    return msgspec.json.decode(data, type=list[Exchange])


def document(version: str, exchanges: Iterable[Exchange]) -> JsonObject:
    """Return the whole document.

    Args:
        version: The version of this package.
        exchanges: The source of the examples.
    """
    shown = list(exchanges)
    paths: dict[str, JsonObject] = {}
    for row in (*OPERATIONS, *HTTP_OPERATIONS):
        paths.setdefault(path_of(row), {})[row.method.lower()] = _operation(
            row, [one for one in shown if one.operation == row.name]
        )
    for other in _OTHER_ROUTES:
        paths[other.path] = {"get": _other_operation(other, [one for one in shown if one.path == other.path])}
    structs = [struct for row in (*OPERATIONS, *HTTP_OPERATIONS) for struct in _answer_structs(row)]
    structs += [row.items[1] for row in OPERATIONS if row.items is not None]
    structs += DATA.values()
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "aliciacfg",
            "summary": "Configurations of the services of a home, over HTTP.",
            "description": _INTRO,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "tags": [{"name": name, "description": text} for name, text in (_CONFIGURATIONS, _ENVIRONMENTS, _DAEMON)],
        "paths": cast("JsonObject", paths),
        "components": {
            "schemas": json_schemas.schemas([*structs, Failure]),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Created with `aliciacfg token create`; required once tokens or access rules exist.",
                }
            },
            "responses": {name: _refusal(status, shown) for status, (name, _) in _REFUSALS.items()},
        },
    }


def path_of(row: Operation) -> str:
    """Return the path of an operation, with its target as the parameter's name."""
    return row.path.replace("{target}", f"{{{row.target}}}")


def _operation(row: Operation, shown: list[Exchange]) -> JsonObject:
    fields = json_schemas.fields(row)
    operation: JsonObject = {
        "operationId": row.name,
        "tags": [_TAGS.get(row.path.split("/")[1], _DAEMON)[0]],
        "summary": row.summary,
        "description": json_schemas.description(row),
        "parameters": cast("list[Json]", [*_path_parameters(row, shown), *_query(row, fields), *_headers(row)]),
    }
    if row.body != "none":
        operation["requestBody"] = _body(row, fields, shown)
    operation["responses"] = _responses(row, shown)
    if "unauthorized" not in json_schemas.refusals(row):
        operation["security"] = []
    return operation


def _path_parameters(row: Operation, shown: list[Exchange]) -> list[JsonObject]:
    if row.target is None or "{target}" not in row.path:
        return []
    schema = dict(json_schemas.TARGETS[row.target])
    parameter: JsonObject = {
        "name": row.target,
        "in": "path",
        "required": True,
        "description": schema.pop("description"),
        "schema": schema,
    }
    place = row.path.split("/").index("{target}")
    example = next(
        (one.path.partition("?")[0].split("/")[place] for one in shown if one.status < HTTPStatus.BAD_REQUEST), None
    )
    return [parameter if example is None else {**parameter, "example": example}]


def _query(row: Operation, fields: Mapping[str, Field]) -> list[JsonObject]:
    """Return the query parameters: the fields that are not in the body."""
    if row.body == "fields":
        return []
    return [
        {
            "name": name,
            "in": "query",
            "schema": field.given,
            **_described(field, http_only=name in row.http_only),
            **({"required": True} if field.required else {}),
        }
        for name, field in fields.items()
        if name != row.body
    ]


def _described(field: Field, *, http_only: bool) -> JsonObject:
    text = f"{field.description} Over HTTP only." if http_only else field.description
    return {"description": text.strip()} if text else {}


def _headers(row: Operation) -> list[JsonObject]:
    """Return the condition headers (RFC 9110 §13.1)."""
    if not _has_etag(row):
        return []
    if not row.writes:
        return [_header("If-None-Match", "The ETag that the client has; while it is current, the answer is 304.")]
    found = [_header("If-Match", 'The expected ETag or `"<revision>"`, or `*` for any; replaces `expected_revision`.')]
    if row.creates:
        found.append(
            {**_header("If-None-Match", "`*`: the configuration must not exist yet."), "schema": {"const": "*"}}
        )
    return found


def _header(name: str, text: str) -> JsonObject:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}


def _has_etag(row: Operation) -> bool:
    return any(issubclass(struct, ConfigAnswer) for struct in row.answers)


def _body(row: Operation, fields: Mapping[str, Field], shown: list[Exchange]) -> JsonObject:
    if row.body == "fields":
        properties: JsonObject = {}
        required: list[Json] = []
        if row.target is not None and "{target}" not in row.path:
            properties[row.target] = json_schemas.TARGETS[row.target]
            required.append(row.target)
        properties |= {name: field.schema for name, field in fields.items()}
        required += [name for name, field in fields.items() if field.required]
        schema: JsonObject = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            schema["required"] = required
        content: JsonObject = {JSON: _media(schema, _requests(shown))}
        return {"required": bool(required), "content": content}
    field = fields[row.body]
    types = [JSON, MERGE_PATCH] if row.body == "patch" else [JSON]
    media = _media(field.given, _requests(shown))
    return {"required": True, "content": dict.fromkeys(types, cast("Json", media))}


def _media(schema: JsonObject, examples: JsonObject) -> JsonObject:
    return {"schema": schema, "examples": examples} if examples else {"schema": schema}


def _requests(shown: list[Exchange]) -> JsonObject:
    return {
        one.name: {"summary": one.summary, "value": one.body}
        for one in shown
        if one.body is not msgspec.UNSET and one.status < HTTPStatus.BAD_REQUEST
    }


def _responses(row: Operation, shown: list[Exchange]) -> JsonObject:
    responses: JsonObject = {"200": _success(row, "Done." if row.writes else "The answer.", 200, shown)}
    if row.creates:
        responses["201"] = _success(row, "Done; the configuration did not exist before.", 201, shown)
    if _has_etag(row) and not row.writes:
        responses["304"] = {"description": "The client's copy is current.", "headers": {"ETag": _ETAG}}
    for status in _statuses(row):
        name, _ = _REFUSALS[status]
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return responses


def _answer_structs(row: Operation) -> list[type[msgspec.Struct]]:
    return [*row.answers, *([PickedAnswer] if "pointer" in row.http_only else [])]


def _success(row: Operation, text: str, status: int, shown: list[Exchange]) -> JsonObject:
    kinds = MEDIA_TYPES.values() if "format" in row.http_only else [JSON]
    content: JsonObject = {}
    for kind in kinds:
        schema = json_schemas.one_of(_answer_structs(row)) if kind == JSON else _TEXTS[kind]
        examples = _answers(one for one in shown if (one.status, one.content_type.partition(";")[0]) == (status, kind))
        content[kind] = _media(schema, examples)
    response: JsonObject = {"description": text, "content": content}
    return {**response, "headers": {"ETag": {**_ETAG, "required": False}}} if _has_etag(row) else response


def _answers(shown: Iterable[Exchange]) -> JsonObject:
    return {
        f"{one.operation}_{one.name}": {"summary": one.summary, "value": one.answer}
        for one in shown
        if one.answer is not msgspec.UNSET
    }


def _statuses(row: Operation) -> list[int]:
    statuses = {STATUS[code] for code in json_schemas.refusals(row)}
    if row.body != "none":
        statuses |= {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
    if row.writes and _has_etag(row):
        statuses.add(HTTPStatus.PRECONDITION_FAILED)
    return sorted(statuses)


def _refusal(status: int, shown: list[Exchange]) -> JsonObject:
    _, text = _REFUSALS[status]
    codes = [error.code for error, its in STATUS_OF_TYPE.items() if its == status]
    codes = codes or [code for code, its in STATUS.items() if its == status]
    schema: JsonObject = {**json_schemas.one_of([Failure]), "properties": {"code": {"enum": cast("list[Json]", codes)}}}
    response: JsonObject = {
        "description": text,
        "content": {JSON: _media(schema, _answers(one for one in shown if one.status == status))},
    }
    if status == STATUS["busy"]:
        response["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    elif status == STATUS["unauthorized"]:
        response["headers"] = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}
    return response


def _other_operation(route: _OtherRoute, shown: list[Exchange]) -> JsonObject:
    responses: JsonObject = {}
    for status, text in route.statuses.items():
        examples = _answers(one for one in shown if one.status == status)
        content: JsonObject = {kind: _media(schema, examples) for kind, schema in route.content.items()}
        responses[str(status)] = {"description": text, "content": content}
    refusals = {*route.refusals, STATUS["forbidden"], *([STATUS["unauthorized"]] if route.authorized else [])}
    for status in sorted(refusals):
        responses[str(status)] = {"$ref": f"#/components/responses/{_REFUSALS[status][0]}"}
    return {
        "operationId": route.name,
        "tags": [_DAEMON[0]],
        "summary": route.summary,
        **({"description": route.description} if route.description else {}),
        **({"parameters": cast("list[Json]", list(route.parameters))} if route.parameters else {}),
        **({} if route.authorized else {"security": []}),
        "responses": responses,
    }
