"""Checks of a service's own schema.

Annotations such as ``x-sensitive`` apply in ``properties``, ``additionalProperties``, ``items``, and in the target of a
local ``$ref`` there. Elsewhere they would be ignored without notice and a secret would be stored in plain text, so a
schema with an annotation elsewhere is refused.
"""

import re
from collections.abc import Iterator

from msgspec import UnsetType

from aliciacfg.documents import Json, JsonObject, escape, find, parse_pointer, type_name
from aliciacfg.errors import Problem
from aliciacfg.model import versions
from aliciacfg.model.redaction import REDACTED
from aliciacfg.model.variables import takes_over
from aliciacfg.schemas.entity_marks import HOME_ASSISTANT, is_address, mark_problem, type_problem
from aliciacfg.schemas.schema_tree import (
    ENVIRONMENT_VARIABLE,
    RESTART_REQUIRED,
    SENSITIVE,
    follow,
    has_secret_name,
    resolve,
)
from aliciacfg.schemas.service_schema import COMPATIBILITY, NotASchema, ServiceSchema, compatibility_of

ANNOTATIONS = frozenset({SENSITIVE, RESTART_REQUIRED, ENVIRONMENT_VARIABLE, HOME_ASSISTANT, "writeOnly"})
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# Keywords whose value is a schema, a list of schemas, or an object of schemas; no other keyword contains schemas.
_ONE = frozenset(
    {"additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames", "contentSchema"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_ANNOTATED = frozenset({"properties", "additionalProperties", "items"})


def schema_problems(schema: Json, *, title: str) -> list[Problem]:
    """Return all problems of a service's own schema; their pointers are into the schema.

    A schema has to be valid JSON Schema 2020-12 with local references only; annotations have to be well-formed and in
    places where they apply; ``version`` has to be a semantic version; and each default has to be valid.

    Args:
        schema: The content of the schema file.
        title: The name of the service.
    """
    if not isinstance(schema, dict):
        return [Problem("", f"found {type_name(schema)}; expected an object")]
    problems = [*_walk_schema(schema, schema, "", applies=True)]
    version = schema.get("version", "1.0.0")
    if not isinstance(version, str) or not versions.is_version(version):
        problems.append(Problem("/version", "expected a semantic version in quotes, such as 1.0.0"))
    if compatibility_of(schema) is None:
        problems.append(Problem(f"/{COMPATIBILITY}", "expected backward or none"))
    if problems:
        return problems
    try:
        compiled = ServiceSchema(schema, title=title)
    except NotASchema as error:
        return [error.problem]
    return _default_problems(compiled)


def _default_problems(compiled: ServiceSchema) -> list[Problem]:
    """Return the problems of default values; missing and unknown members are not problems of a default."""
    placeholders = [
        Problem(pointer, "a default cannot be a secret that is hidden or sealed; remove it")
        for pointer, value in compiled.secrets(compiled.defaults).items()
        if value.strip() == REDACTED or value.lstrip().lower().startswith("sealed:")
    ]
    return placeholders + [
        Problem(finding.pointer, f"the default is invalid: {finding.shown.message}")
        for finding in compiled.findings(compiled.defaults)
        if not isinstance(find(compiled.defaults, finding.pointer), dict | UnsetType)
    ]


def _walk_schema(root: JsonObject, node: Json, pointer: str, *, applies: bool) -> Iterator[Problem]:
    """Yield the problems of a subschema and of those below it; ``applies`` if annotations apply here."""
    if not isinstance(node, dict):
        return
    yield from _reference_problems(root, node, pointer, applies=applies)
    for name in ANNOTATIONS & node.keys():
        if problem := _annotation_problem(root, name, node, pointer, applies=applies):
            yield Problem(f"{pointer}/{escape(name)}", problem)
    for keyword, place, inner in _subschemas(node):
        # Annotations of a definition apply where it is referred to; _reference_problems checks that.
        inside = keyword in {"$defs", "definitions"} or (applies and keyword in _ANNOTATED)
        yield from _walk_schema(root, inner, pointer + place, applies=inside)


def _subschemas(node: JsonObject) -> Iterator[tuple[str, str, Json]]:
    """Yield each schema directly below one, with its keyword and relative pointer: keyword, pointer, schema."""
    for keyword, value in node.items():
        place = f"/{escape(keyword)}"
        if keyword in _ONE:
            yield keyword, place, value
        elif keyword in _LIST and isinstance(value, list):
            yield from ((keyword, f"{place}/{index}", item) for index, item in enumerate(value))
        elif keyword in _NAMED and isinstance(value, dict):
            yield from ((keyword, f"{place}/{escape(key)}", item) for key, item in value.items())


def _reference_problems(root: JsonObject, node: JsonObject, pointer: str, *, applies: bool) -> Iterator[Problem]:
    for keyword in ("$dynamicRef", "$recursiveRef"):
        if keyword in node:
            yield Problem(f"{pointer}/{keyword}", "is not supported; write a local $ref such as #/$defs/name")
    if "$id" in node and pointer:
        yield Problem(f"{pointer}/$id", "an $id inside a schema changes what $ref means; remove it")
    if "$ref" not in node:
        return
    target = resolve(root, node["$ref"])
    if target is None:
        yield Problem(f"{pointer}/$ref", "expected a local reference to a subschema, such as #/$defs/name")
    elif not applies and _has_annotation(root, target, frozenset()):
        yield Problem(
            f"{pointer}/$ref",
            "leads to an annotation that does not apply here; refer to it from properties or items instead",
        )


def _annotation_problem(root: JsonObject, name: str, node: JsonObject, pointer: str, *, applies: bool) -> str | None:
    if not applies:
        return "an annotation applies only in properties, additionalProperties, items and a local $ref; move it there"
    value = node[name]
    if name == ENVIRONMENT_VARIABLE:
        if not isinstance(value, str) or _VARIABLE_NAME.fullmatch(value) is None:
            return "expected the name of an environment variable, such as LOG_LEVEL"
        if takes_over(value):
            return f"{value} makes programs run or load what it names; choose another variable, such as LOG_LEVEL"
        return None
    if name == HOME_ASSISTANT:
        return mark_problem(value) or (_entity_problem(root, node, pointer) if value is not False else None)
    if not isinstance(value, bool):
        return f"found {type_name(value)}; expected true or false"
    if name in {SENSITIVE, "writeOnly"} and all(part.get("type") != "string" for part in follow(root, node)):
        return "only a string can be sensitive; put the annotation beside 'type: string'"
    return None


def _entity_problem(root: JsonObject, node: JsonObject, pointer: str) -> str | None:
    """Return why a place must not appear in Home Assistant, as far as the schema shows it."""
    schemas = follow(root, node)
    names = _names(pointer)
    if names is None:
        return "an item of an array cannot appear in Home Assistant; mark a property"
    sensitive = [bool(part[SENSITIVE]) for part in schemas if SENSITIVE in part]
    sensitive += [True for part in schemas if part.get("writeOnly") is True]
    text = any(part.get("type") == "string" for part in schemas)
    if any(sensitive) or (text and not sensitive and has_secret_name("/".join(names))):
        return "a secret never appears in Home Assistant; remove it, or add x-sensitive: false if this is none"
    if is_address(names):
        return "an address, a port or a user name never appears in Home Assistant; remove the annotation"
    return type_problem(schemas)


def _names(pointer: str) -> list[str] | None:
    """Return the names of a document's members that lead to what a place of a schema describes; None for an item."""
    names: list[str] = []
    tokens = iter(parse_pointer(pointer))
    for keyword in tokens:
        if keyword == "items":
            return None
        if keyword == "properties":
            names.append(next(tokens, ""))
        elif keyword in {"$defs", "definitions"}:
            next(tokens, "")
    return names


def _has_annotation(root: JsonObject, node: Json, seen: frozenset[int]) -> bool:
    if not isinstance(node, dict) or id(node) in seen:
        return False
    if ANNOTATIONS & node.keys():
        return True
    seen |= {id(node)}
    if "$ref" in node and _has_annotation(root, resolve(root, node["$ref"]), seen):
        return True
    return any(_has_annotation(root, inner, seen) for _, _, inner in _subschemas(node))
