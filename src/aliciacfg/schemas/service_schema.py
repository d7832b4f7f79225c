"""JSON Schemas of services: checking them, validating with them, and what their annotations say.

The only module that imports ``jsonschema_rs``. A service's schema describes its whole document and stands
beside the base contract; a service without a schema file has the base contract only.

Annotations count in ``properties``, ``additionalProperties``, ``items`` and what a local ``$ref`` there leads
to. Anywhere else they would silently not apply, and a secret would be stored in the open, so a schema that
has one elsewhere is refused.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, cast

import jsonschema_rs
from msgspec import UnsetType

from aliciacfg.documents import (
    Json,
    JsonObject,
    escape,
    find,
    format_pointer,
    normalise,
    type_name,
)
from aliciacfg.errors import InvalidRequest, Problem
from aliciacfg.model import versions
from aliciacfg.schemas.base_contract import base_schema

SENSITIVE = "x-sensitive"
RESTART_REQUIRED = "x-restart-required"
ENVIRONMENT_VARIABLE = "x-env"
COMPATIBILITY = "compatibility"
Compatibility = Literal["backward", "none"]
ANNOTATIONS = frozenset({SENSITIVE, RESTART_REQUIRED, ENVIRONMENT_VARIABLE, "writeOnly"})

_SENSITIVE_NAME = re.compile(r"password|secret|key|token", re.IGNORECASE)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

# Keywords whose value is one schema, a list of schemas, or schemas by name. What is not here holds no schema.
_ONE = frozenset(
    {"additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames", "contentSchema"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_ANNOTATED = frozenset({"properties", "additionalProperties", "items"})


class Place:
    """One node of a document together with every subschema that describes it.

    Attributes:
        pointer: JSON Pointer of the node.
        value: The node.
        marks: The subschemas, local ``$ref`` followed.
        named_sensitive: A name on the way here says password, secret, key or token.
    """

    __slots__ = ("marks", "named_sensitive", "pointer", "value")

    def __init__(self, pointer: str, value: Json, marks: list[JsonObject], *, named_sensitive: bool) -> None:
        self.pointer = pointer
        self.value = value
        self.marks = marks
        self.named_sensitive = named_sensitive

    @property
    def sensitive(self) -> bool:
        """Whether the node is a secret: the schema decides, names only where it is silent."""
        if not isinstance(self.value, str):
            return False
        marked = self._marked
        return self.named_sensitive if marked is None else marked

    @property
    def hidden(self) -> bool:
        """Whether a wrong value here must not be told.

        Every secret is hidden. So is what is no string where a secret belongs: it may have been meant as one.
        """
        marked = self._marked
        return self.sensitive or (self.named_sensitive and not self.numeric if marked is None else marked)

    @property
    def numeric(self) -> bool:
        """Whether the schema wants a number or a boolean here, as in ``max_tokens``."""
        return any(mark.get("type") in ("integer", "number", "boolean") for mark in self.marks)

    @property
    def _marked(self) -> bool | None:
        """What the schema says of the place; None if it is silent."""
        said = [bool(mark[SENSITIVE]) for mark in self.marks if SENSITIVE in mark]
        said += [True for mark in self.marks if mark.get("writeOnly") is True]
        return any(said) if said else None

    @property
    def restart_required(self) -> bool:
        """Whether the service has to restart to take a change here."""
        return any(mark.get(RESTART_REQUIRED) is True for mark in self.marks)


class ServiceSchema:
    """The base contract and, where there is one, a service's own schema, compiled.

    Attributes:
        version: The ``version`` of the service's own schema; ``1.0.0`` without one.
        compatibility: Whether a write may let keys disappear or change their type without being told so.
        own: The service's own schema as its file has it; None without a file.
        file: The file as its operator names it; empty where none is at hand.
        document: The whole JSON Schema, base contract included.
    """

    def __init__(self, own: JsonObject | None, *, title: str, file: str = "") -> None:
        """Compile.

        Args:
            own: The service's own schema, which ``schema_problems`` found nothing wrong with.
            title: Names the schema where it has no ``$id``: the service's name.
            file: Where ``own`` was read.
        """
        base = base_schema()
        parts: list[JsonObject] = [base]
        if own is not None:
            # allOf needs an $id in each part, or '#/$defs' of one part resolves against the whole.
            parts.append({"$id": f"urn:aliciacfg:service:{title}", **own})
        self.own = own
        self.file = file
        self.version = str(own.get("version", "1.0.0")) if own is not None else "1.0.0"
        self.compatibility: Compatibility = "backward" if own is None else _compatibility(own) or "backward"
        self.document: JsonObject = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": list(parts),
        }
        self._roots = [(part, part) for part in parts]
        self._validators = [_compile(part) for part in parts]
        self.defaults = self._collect_defaults()

    def problems(self, document: JsonObject, *, hidden: Collection[str] = ()) -> list[Problem]:
        """Everything the schemas find wrong with a document, in our own words.

        The text names types, limits and allowed values, never a value that the document holds at a sensitive
        place, or at one of the pointers ``hidden``.
        """
        errors = [error for validator in self._validators for error in validator.iter_errors(document)]
        if not errors:
            return []
        places = {place.pointer for place in self.places(document) if place.hidden}.union(hidden)
        # With all around them: what is said of one of those would say it of them.
        sensitive = {outer for pointer in places for outer in (*_upwards(pointer), "")}
        found: dict[tuple[str, str], Problem] = {}
        for error in errors:
            for problem in _describe(error, document, sensitive):
                found.setdefault((problem.pointer, problem.message), problem)
        return sorted(found.values(), key=lambda problem: problem.pointer)

    def places(self, document: Json) -> Iterator[Place]:
        """Every node of a document with the subschemas that describe it, parents first."""
        marks = [(root, target) for root, node in self._roots for target in _follow(root, node)]
        yield from self._walk(document, "", marks, named_sensitive=False)

    def secrets(self, document: Json) -> dict[str, str]:
        """The sensitive strings of a document by JSON Pointer."""
        return {
            place.pointer: place.value
            for place in self.places(document)
            if isinstance(place.value, str) and place.sensitive
        }

    def unknown(self, document: Json) -> list[str]:
        """Pointers of members that no schema describes, outermost first."""
        known = {""}
        unknown: list[str] = []
        for place in self.places(document):
            parent = place.pointer.rpartition("/")[0]
            if place.marks or not place.pointer:
                known.add(place.pointer)
            elif parent in known and self._closed_names(parent, document):
                unknown.append(place.pointer)
        return unknown

    def _closed_names(self, pointer: str, document: Json) -> bool:
        """Whether the object at ``pointer`` has named properties, so that another name is worth a warning."""
        if not isinstance(find(document, pointer), dict):
            return False
        return any("properties" in mark for mark in self.marks_at(pointer))

    def marks_at(self, pointer: str) -> list[JsonObject]:
        """The subschemas that describe a place, whether a document has it or not."""
        marks = [(root, target) for root, node in self._roots for target in _follow(root, node)]
        for raw in pointer.split("/")[1:]:
            token = raw.replace("~1", "/").replace("~0", "~")
            marks = _item_marks(marks) if token.isdigit() and _only_items(marks) else _member_marks(marks, token)
        return [node for _, node in marks]

    def variable(self, pointer: str) -> str | None:
        """The environment variable that a program reads a place from, as ``x-env`` says."""
        return next(
            (str(mark[ENVIRONMENT_VARIABLE]) for mark in self.marks_at(pointer) if ENVIRONMENT_VARIABLE in mark), None
        )

    def restart_required(self, pointers: list[str]) -> list[str]:
        """Those of ``pointers`` whose change asks for a restart of the service."""
        return [
            pointer
            for pointer in pointers
            if any(mark.get(RESTART_REQUIRED) is True for place in _upwards(pointer) for mark in self.marks_at(place))
            or self._items_require_restart(pointer)
        ]

    def _items_require_restart(self, pointer: str) -> bool:
        """Whether the items of an array, which changes as a whole, ask for a restart."""
        items = [mark.get("items") for mark in self.marks_at(pointer)]
        return any(isinstance(item, dict) and item.get(RESTART_REQUIRED) is True for item in items)

    def _walk(
        self, value: Json, pointer: str, marks: list[tuple[JsonObject, JsonObject]], *, named_sensitive: bool
    ) -> Iterator[Place]:
        yield Place(pointer, value, [node for _, node in marks], named_sensitive=named_sensitive)
        if isinstance(value, dict):
            for key, member in value.items():
                named = named_sensitive or _SENSITIVE_NAME.search(key) is not None
                place = f"{pointer}/{escape(key)}"
                yield from self._walk(member, place, _member_marks(marks, key), named_sensitive=named)
        elif isinstance(value, list):
            inner = _item_marks(marks)
            for index, item in enumerate(value):
                yield from self._walk(item, f"{pointer}/{index}", inner, named_sensitive=named_sensitive)

    def _collect_defaults(self) -> JsonObject:
        result: JsonObject = {}
        for root, node in self._roots:
            defaults = normalise(_defaults(root, node, frozenset()))
            if isinstance(defaults, dict):
                result = _merge_defaults(result, defaults)
        return result


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
    if _compatibility(schema) is None:
        problems.append(Problem(f"/{COMPATIBILITY}", "expected backward or none"))
    if problems:
        return problems
    try:
        compiled = ServiceSchema(schema, title=title)
    except jsonschema_rs.ValidationError as error:
        place = format_pointer(error.instance_path)
        return [Problem(place, f"is not JSON Schema 2020-12: {error.message}")]
    return _default_problems(compiled)


def _compatibility(schema: JsonObject) -> Compatibility | None:
    found = schema.get(COMPATIBILITY, "backward")
    return found if found in ("backward", "none") else None


def _compile(schema: JsonObject) -> jsonschema_rs.Draft202012Validator:
    # Without offline a $ref to http:// or file:// would be fetched while compiling.
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)


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
    target = _resolve(root, node["$ref"])
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
    if name in {SENSITIVE, "writeOnly"} and all(part.get("type") != "string" for part in _follow(root, node)):
        return "only a string can be sensitive; put it beside 'type: string'"
    return None


def _has_annotation(root: JsonObject, node: Json, seen: frozenset[int]) -> bool:
    if not isinstance(node, dict) or id(node) in seen:
        return False
    if ANNOTATIONS & node.keys():
        return True
    seen |= {id(node)}
    if "$ref" in node and _has_annotation(root, _resolve(root, node["$ref"]), seen):
        return True
    return any(_has_annotation(root, inner, seen) for _, _, inner in _subschemas(node))


def _resolve(root: JsonObject, reference: Json) -> JsonObject | None:
    """The subschema a local ``$ref`` (``#`` or ``#/a/b``) leads to."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    if reference[1:] and not reference.startswith("#/"):
        return None
    try:
        target = find(root, reference[1:].replace("%25", "%").replace("%22", '"'))
    except InvalidRequest:
        return None
    return target if isinstance(target, dict) else None


def _follow(root: JsonObject, node: Json) -> list[JsonObject]:
    """A subschema and what its ``$ref`` leads to: siblings of ``$ref`` count too in 2020-12."""
    found: list[JsonObject] = []
    while isinstance(node, dict) and all(node is not known for known in found):
        found.append(node)
        node = _resolve(root, node.get("$ref"))
    return found


def _member_marks(marks: list[tuple[JsonObject, JsonObject]], key: str) -> list[tuple[JsonObject, JsonObject]]:
    result: list[tuple[JsonObject, JsonObject]] = []
    for root, node in marks:
        properties = node.get("properties")
        if isinstance(properties, dict) and key in properties:
            inner = properties[key]
        else:
            inner = node.get("additionalProperties")
        result += [(root, target) for target in _follow(root, inner)]
    return result


def _item_marks(marks: list[tuple[JsonObject, JsonObject]]) -> list[tuple[JsonObject, JsonObject]]:
    return [(root, target) for root, node in marks for target in _follow(root, node.get("items"))]


def _only_items(marks: list[tuple[JsonObject, JsonObject]]) -> bool:
    return bool(marks) and not any("properties" in node or "additionalProperties" in node for _, node in marks)


def _defaults(root: JsonObject, node: Json, seen: frozenset[int]) -> Json:
    """The defaults a subschema gives: its own ``default``, else those of its properties; None if none."""
    result: JsonObject = {}
    for target in _follow(root, node):
        if "default" in target:
            return target["default"]
        properties = target.get("properties")
        if id(target) in seen or not isinstance(properties, dict):
            continue
        for key, inner in properties.items():
            value = _defaults(root, inner, seen | {id(target)})
            if value is not None:
                result[key] = value
    return result or None


def _merge_defaults(base: JsonObject, own: JsonObject) -> JsonObject:
    result = dict(base)
    for key, value in own.items():
        old = result.get(key)
        result[key] = _merge_defaults(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _upwards(pointer: str) -> Iterator[str]:
    """A pointer and those of all places around it, the document left out."""
    while pointer:
        yield pointer
        pointer = pointer.rpartition("/")[0]


def _describe(error: jsonschema_rs.ValidationError, document: JsonObject, sensitive: set[str]) -> Iterator[Problem]:
    """Say what one error found and expected, without ever quoting a sensitive value.

    ``str(error)`` and ``error.message`` hold the value, so the text is made from ``error.kind``.
    """
    pointer = format_pointer(error.instance_path)
    kind = error.kind
    match kind.name:
        case "required":
            yield Problem(f"{pointer}/{escape(str(kind.value))}", "is missing; this member is required")
        case "additionalProperties" | "unevaluatedProperties":
            for name in kind.value:
                yield Problem(f"{pointer}/{escape(str(name))}", "is not a known member; remove it or correct the name")
        case "falseSchema":
            yield Problem(pointer, "must not be present")
        case _:
            found = _found(
                find(document, pointer),
                hidden=pointer in sensitive,
                keyword=kind.name,
                holds_more=kind.name == "type" and bool(_CONTAINERS.intersection(_type_names(kind.value))),
            )
            yield Problem(pointer, f"found {found}{_expectation(kind.name, kind.value)}")


def _expectation(keyword: str, value: Any) -> str:
    match keyword:
        case "type":
            return f"; expected {_types(value)}"
        case "enum":
            return f"; expected one of {', '.join(_quote(option) for option in value)}"
        case "const":
            return f"; expected {_quote(value)}"
        case _ if keyword in _EXPECTED:
            return f"; expected {_EXPECTED[keyword].format(value=value)}"
        case _:
            return f", which the schema's {keyword!r} does not allow"


_EXPECTED: Mapping[str, str] = {
    "minimum": "at least {value}",
    "maximum": "at most {value}",
    "exclusiveMinimum": "more than {value}",
    "exclusiveMaximum": "less than {value}",
    "multipleOf": "a multiple of {value}",
    "minLength": "at least {value} characters",
    "maxLength": "at most {value} characters",
    "minItems": "at least {value} items",
    "maxItems": "at most {value} items",
    "minProperties": "at least {value} members",
    "maxProperties": "at most {value} members",
    "pattern": "a string that matches {value}",
    "format": "a string in the format {value}",
    "uniqueItems": "items that all differ",
    "contains": "at least one item that the schema's 'contains' describes",
    "anyOf": "a value that one of the schema's 'anyOf' describes",
    "oneOf": "a value that exactly one of the schema's 'oneOf' describes",
    "not": "a value that the schema's 'not' does not describe",
    "propertyNames": "member names that the schema's 'propertyNames' allows",
}


def _found(value: object, *, hidden: bool, keyword: str, holds_more: bool) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if hidden:
        # A number that somebody quoted, as in `max_tokens: "4000"`, is told by its type.
        return "a string" if keyword == "type" and isinstance(value, str) else "a secret"
    # In the place of what has members it may be one of them, written a level too high: a password.
    return "a string" if holds_more and isinstance(value, str) else _quote(value)


def _quote(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= _MAX_QUOTED else f"'{value[:_MAX_QUOTED]}…'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


_MAX_QUOTED = 80
_CONTAINERS = frozenset({"object", "array"})


def _type_names(types: object) -> list[str]:
    return [str(name) for name in cast("list[object]", types)] if isinstance(types, list) else [str(types)]


def _types(types: object) -> str:
    articles = {"array": "an array", "integer": "an integer", "object": "an object", "null": "null"}
    return " or ".join(articles.get(name, f"a {name}") for name in _type_names(types))
