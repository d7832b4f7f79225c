"""Checks of a service's own schema, before anything is validated with it.

Annotations count in ``properties``, ``additionalProperties``, ``items`` and what a local ``$ref`` there leads
to. Anywhere else they would silently not apply, and a secret would be stored in the open, so a schema that
has one elsewhere is refused.
"""

import re
from collections.abc import Iterator

from msgspec import UnsetType

from aliciacfg.documents import Json, JsonObject, escape, find, type_name
from aliciacfg.errors import Problem
from aliciacfg.model import versions
from aliciacfg.schemas.service_schema import (
    COMPATIBILITY,
    ENVIRONMENT_VARIABLE,
    RESTART_REQUIRED,
    SENSITIVE,
    NotASchema,
    ServiceSchema,
    compatibility_of,
    follow,
    resolve,
)

ANNOTATIONS = frozenset({SENSITIVE, RESTART_REQUIRED, ENVIRONMENT_VARIABLE, "writeOnly"})

_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# Keywords whose value is one schema, a list of schemas, or schemas by name. What is not here holds no schema.
_ONE = frozenset(
    {"additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames", "contentSchema"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_ANNOTATED = frozenset({"properties", "additionalProperties", "items"})


def schema_problems(schema: Json, *, title: str) -> list[Problem]:
    """Everything wrong with a service's own schema; pointers are into the schema.

    Checks the 2020-12 meta-schema, that every ``$ref`` is local, that annotations are well-formed and stand
    where they count, that ``version`` is semantic, and that defaults are valid values.
    """
    if not isinstance(schema, dict):
        return [Problem("", f"found {type_name(schema)}; a schema is an object")]
    problems = [*_walk_schema(schema, schema, "", counted=True)]
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
    """Defaults that their own schema refuses; which members there are is no fault of a default."""
    return [
        Problem(problem.pointer, f"the default is invalid: {problem.message}")
        for problem in compiled.problems(compiled.defaults)
        if not isinstance(find(compiled.defaults, problem.pointer), dict | UnsetType)
    ]


def _walk_schema(root: JsonObject, node: Json, pointer: str, *, counted: bool) -> Iterator[Problem]:
    """Check one subschema and those below it; ``counted`` says whether annotations apply here."""
    if not isinstance(node, dict):
        return
    yield from _reference_problems(root, node, pointer, counted=counted)
    for name in ANNOTATIONS & node.keys():
        if problem := _annotation_problem(root, name, node, counted=counted):
            yield Problem(f"{pointer}/{escape(name)}", problem)
    for keyword, place, inner in _subschemas(node):
        # A definition counts where it is referred to; _reference_problems looks at that.
        inside = keyword in {"$defs", "definitions"} or (counted and keyword in _ANNOTATED)
        yield from _walk_schema(root, inner, pointer + place, counted=inside)


def _subschemas(node: JsonObject) -> Iterator[tuple[str, str, Json]]:
    """Every schema directly below one: keyword, relative pointer, schema."""
    for keyword, value in node.items():
        place = f"/{escape(keyword)}"
        if keyword in _ONE:
            yield keyword, place, value
        elif keyword in _LIST and isinstance(value, list):
            yield from ((keyword, f"{place}/{index}", item) for index, item in enumerate(value))
        elif keyword in _NAMED and isinstance(value, dict):
            yield from ((keyword, f"{place}/{escape(key)}", item) for key, item in value.items())


def _reference_problems(root: JsonObject, node: JsonObject, pointer: str, *, counted: bool) -> Iterator[Problem]:
    for keyword in ("$dynamicRef", "$recursiveRef"):
        if keyword in node:
            yield Problem(f"{pointer}/{keyword}", "is not supported; write a local $ref such as #/$defs/name")
    if "$id" in node and pointer:
        yield Problem(f"{pointer}/$id", "an $id inside a schema changes what $ref means; remove it")
    if "$ref" not in node:
        return
    target = resolve(root, node["$ref"])
    if target is None:
        yield Problem(f"{pointer}/$ref", f"found {node['$ref']!r}; expected a local reference such as #/$defs/name")
    elif not counted and _has_annotation(root, target, frozenset()):
        yield Problem(
            f"{pointer}/$ref",
            "leads to an annotation that does not count here; refer to it from properties or items instead",
        )


def _annotation_problem(root: JsonObject, name: str, node: JsonObject, *, counted: bool) -> str | None:
    if not counted:
        return "an annotation counts only in properties, additionalProperties, items and a local $ref; move it there"
    value = node[name]
    if name == ENVIRONMENT_VARIABLE:
        if not isinstance(value, str) or _VARIABLE_NAME.fullmatch(value) is None:
            return "expected the name of an environment variable, such as LOG_LEVEL"
        return None
    if not isinstance(value, bool):
        return f"found {type_name(value)}; expected true or false"
    if name in {SENSITIVE, "writeOnly"} and all(part.get("type") != "string" for part in follow(root, node)):
        return "only a string can be sensitive; put it beside 'type: string'"
    return None


def _has_annotation(root: JsonObject, node: Json, seen: frozenset[int]) -> bool:
    if not isinstance(node, dict) or id(node) in seen:
        return False
    if ANNOTATIONS & node.keys():
        return True
    seen |= {id(node)}
    if "$ref" in node and _has_annotation(root, resolve(root, node["$ref"]), seen):
        return True
    return any(_has_annotation(root, inner, seen) for _, _, inner in _subschemas(node))
