"""JSON Schemas (2020-12) of requests and answers, for both API documents.

msgspec generates the schemas. This module adds the members that precede every successful answer, the descriptions in
a docstring's ``Attributes``, and the types of members that are already encoded.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import msgspec

from aliciacfg.access.rules import Need
from aliciacfg.api.answers.configurations import BatchAnswer, PickedAnswer, WriteAnswer
from aliciacfg.api.encoding import Failure
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import ErrorCode
from aliciacfg.model import names
from aliciacfg.operations.table import HTTP_OPERATIONS, OPERATIONS, Operation

_REF = "#/components/schemas/{name}"

TARGETS: Mapping[str, JsonObject] = {
    "service": {
        "description": "The name of a service.",
        "type": "string",
        "pattern": f"^{names.PATTERN}$",
        "not": {"enum": cast("list[Json]", sorted(names.RESERVED_SERVICES))},
    },
    "environment": {
        "description": "The name of an environment.",
        "type": "string",
        "pattern": f"^{names.PATTERN}$",
        "not": {"enum": cast("list[Json]", sorted(names.RESERVED_ENVIRONMENTS))},
    },
    "token": {"description": "The id of a token.", "type": "string", "pattern": "^[0-9a-f]{12}$"},
}
"""The schema of each kind of target."""

_ENVELOPE: JsonObject = {
    "status": {"const": "success"},
    "request_id": {"description": "The id of the request.", "anyOf": [{"type": "string"}, {"type": "null"}]},
}
_SUCCESSES = {PickedAnswer.__name__}.union(
    answer.__name__ for row in (*OPERATIONS, *HTTP_OPERATIONS) if not row.own_status for answer in row.answers
)
# The items of ``results``, which msgspec does not know because they are encoded already.
_RESULTS: Mapping[str, tuple[type[msgspec.Struct], ...]] = {
    BatchAnswer.__name__: (WriteAnswer, Failure),
    Failure.__name__: (Failure,),
}
_ALLOWED_CALLERS: Mapping[Need, str] = {
    "read": "callers who may read the service",
    "write": "callers who may write the service",
    "read_any": "callers who may read at least one service, limited to those services",
    "write_any": "callers who may write at least one service, limited to those services",
    "own": "the service itself and administrators",
    "admin": "administrators",
}
# For operations without a target.
_ALLOWED_CALLERS_OF_ALL: Mapping[Need, str] = {"read": "callers who may read all services"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n        .*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a request.

    Attributes:
        schema: The schema of its value in a JSON object, where null may mean that it is absent.
        given: The schema of its value without null.
        description: Markdown; empty if there is none.
        required: Whether a request without it is refused.
    """

    schema: JsonObject
    given: JsonObject
    description: str
    required: bool


def one_of(structs: Iterable[type[msgspec.Struct]]) -> JsonObject:
    """Return the schema of a value of one of these types."""
    refs: list[Json] = [{"$ref": _REF.format(name=struct.__name__)} for struct in structs]
    return cast("JsonObject", refs[0]) if len(refs) == 1 else {"anyOf": refs}


def schemas(structs: Iterable[type[msgspec.Struct]]) -> JsonObject:
    """Return the schemas of these Structs and of all Structs that they refer to, by name."""
    wanted = dict.fromkeys(structs)
    for struct in list(wanted):
        wanted |= dict.fromkeys(_RESULTS.get(struct.__name__, ()))
    _, made = msgspec.json.schema_components(list(wanted), ref_template=_REF)
    return {name: _finished(name, component) for name, component in sorted(cast("JsonObject", made).items())}


def fields(operation: Operation) -> dict[str, Field]:
    """Return the fields of an operation's request by name, in the order of its Struct."""
    component = cast("JsonObject", schemas([operation.request])[operation.request.__name__])
    required = cast("list[str]", component.get("required", []))
    found: dict[str, Field] = {}
    for name, schema in cast("dict[str, JsonObject]", component["properties"]).items():
        given = _without_null(schema)
        description = cast("str", given.pop("description", ""))
        found[name] = Field(schema, given, description, name in required)
    return found


def description(operation: Operation) -> str:
    """Return the description of an operation as Markdown.

    It is the docstring of its request if that begins with the name of the operation, otherwise the docstring of the
    method that carries it out.
    """
    own = operation.request.__doc__ or ""
    prefix = f"``{operation.name}``: "
    text, _ = _documented(own.removeprefix(prefix) if own.startswith(prefix) else operation.handler.description)
    need = operation.needs
    callers = _ALLOWED_CALLERS_OF_ALL.get(need) if operation.target is None else None
    rules = f"\n\nWith access rules: for {callers or _ALLOWED_CALLERS[need]}." if need != "nothing" else ""
    return text[:1].upper() + text[1:] + rules


def refusals(operation: Operation) -> list[ErrorCode]:
    """Return the codes with which an operation can be refused."""
    codes: list[ErrorCode] = ["invalid_request", "forbidden"]
    if operation.needs != "nothing":
        codes.append("unauthorized")
    if not operation.own_status:
        codes.append("not_found")
    if operation.fields & {"expected_revision", "updates"}:
        codes.append("conflict")
    if "allow_breaking" in operation.fields:
        codes.append("incompatible")
    if operation.body != "none":
        codes.append("too_large")
    if operation.writes:
        codes.extend(("validation_failed", "busy"))
    codes.extend(("internal", "unavailable"))
    return codes


def _finished(name: str, component: Json) -> JsonObject:
    schema = dict(cast("JsonObject", component))
    text, descriptions = _documented(cast("str", schema.pop("description", "")))
    if text:
        schema["description"] = text
    if "properties" not in schema:
        return schema
    properties: JsonObject = {
        key: _described(_tidy(value), descriptions.get(key))
        for key, value in cast("JsonObject", schema["properties"]).items()
    }
    required = cast("list[Json]", schema.pop("required", []))
    if name in _SUCCESSES:
        properties = {**_ENVELOPE, **properties}
        required = [*_ENVELOPE, *required]
    if name in _RESULTS:
        properties["results"] = {**cast("JsonObject", properties["results"]), "items": one_of(_RESULTS[name])}
    schema["properties"] = properties
    return {**schema, "required": required} if required else schema


def _described(schema: JsonObject, text: str | None) -> JsonObject:
    return schema if text is None else {"description": text, **schema}


def _tidy(schema: Json) -> JsonObject:
    """Remove a default of null, and the empty schema that msgspec generates for members that are encoded already."""
    tidied = dict(cast("JsonObject", schema))
    if tidied.get("default", ...) is None:
        del tidied["default"]
    kinds = cast("list[JsonObject]", tidied.get("anyOf", []))
    if len(kinds) > 1 and {} in kinds:
        del tidied["anyOf"]
        kinds = [kind for kind in kinds if kind]
        return {**tidied, **(kinds[0] if len(kinds) == 1 else {"anyOf": cast("list[Json]", kinds)})}
    return tidied


def _without_null(schema: JsonObject) -> JsonObject:
    """Return the schema of a value without null."""
    given = dict(schema)
    kinds = [kind for kind in cast("list[JsonObject]", given.pop("anyOf", [])) if kind != {"type": "null"}]
    if len(kinds) == 1:
        return {**kinds[0], **given}
    return {**given, "anyOf": cast("list[Json]", kinds)} if kinds else given


def _documented(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text and the descriptions of its ``Attributes`` by name, as Markdown."""
    text, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    return _markdown(text.partition("\n\nRaises:\n")[0]), {
        name: _markdown(description) for name, description in _ATTRIBUTE.findall(attributes)
    }


def _markdown(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(paragraphs).replace("``", "`").strip()
