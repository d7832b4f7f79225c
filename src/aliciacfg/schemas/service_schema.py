"""The JSON Schemas of services: validation, and the meaning of their annotations.

The only module that imports jsonschema_rs. A service's own schema describes its whole document, in addition to the base
contract; a service without a schema file has the base contract only.
"""

import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Literal

import jsonschema_rs

from aliciacfg.documents import Json, JsonObject, escape, find, format_pointer, normalise, parse_pointer
from aliciacfg.errors import AliciacfgError, Finding, InvalidRequest, Problem
from aliciacfg.schemas.base_contract import base_schema
from aliciacfg.schemas.validation_messages import Violation, describe

SENSITIVE = "x-sensitive"
RESTART_REQUIRED = "x-restart-required"
ENVIRONMENT_VARIABLE = "x-env"
COMPATIBILITY = "compatibility"
Compatibility = Literal["backward", "none"]
# Nobody corrects more at once, and an answer with every problem of a hostile document would be many times its size.
MAX_PROBLEMS = 1000

_Marks = list[tuple[JsonObject, JsonObject]]
"""The subschemas that describe a place, each with the schema in which its ``$ref`` is resolved."""

# A value breaks such a rule, or does not, because of the strings inside it.
_JUDGES_CONTENT = frozenset({"anyOf", "oneOf", "not", "contains", "enum", "const"})
_SENSITIVE_NAME = re.compile(r"password|secret|key|token", re.IGNORECASE)


class NotASchema(AliciacfgError):
    """A document is not a JSON Schema 2020-12.

    Attributes:
        problem: The first problem; its pointer is into the schema.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.pointer or '(the schema)'} {problem.message}")


class Place:
    """A node of a document, and the subschemas that describe it.

    Attributes:
        pointer: JSON Pointer of the node.
        value: The value of the node.
        marks: The subschemas, including the targets of their local ``$ref``.
        named_sensitive: Whether a name on the way to the node contains password, secret, key or token.
    """

    __slots__ = ("marks", "named_sensitive", "pointer", "value")

    def __init__(self, pointer: str, value: Json, marks: list[JsonObject], *, named_sensitive: bool) -> None:
        self.pointer = pointer
        self.value = value
        self.marks = marks
        self.named_sensitive = named_sensitive

    @property
    def sensitive(self) -> bool:
        """Whether the node is a secret; names decide only if the schema has no annotation."""
        if not isinstance(self.value, str):
            return False
        marked = self._marked
        return self.named_sensitive if marked is None else marked

    @property
    def hidden(self) -> bool:
        """Whether no message may quote the value.

        That is the case for each secret, and for a value of another type in the place of a secret, since it may have
        been meant as one.
        """
        marked = self._marked
        return self.sensitive or (self.named_sensitive and not self.numeric if marked is None else marked)

    @property
    def numeric(self) -> bool:
        """Whether the schema expects a number or a boolean, as for ``max_tokens``."""
        return any(mark.get("type") in ("integer", "number", "boolean") for mark in self.marks)

    @property
    def _marked(self) -> bool | None:
        """Whether the schema marks the node as sensitive; None if it has no annotation."""
        said = [bool(mark[SENSITIVE]) for mark in self.marks if SENSITIVE in mark]
        said += [True for mark in self.marks if mark.get("writeOnly") is True]
        return any(said) if said else None

    @property
    def restart_required(self) -> bool:
        """Whether the service has to restart to apply a change of the node."""
        return any(mark.get(RESTART_REQUIRED) is True for mark in self.marks)


class ServiceSchema:
    """The compiled schema of a service: the base contract and, if it has one, the service's own schema.

    Attributes:
        version: The ``version`` of the service's own schema; ``1.0.0`` without one.
        compatibility: ``backward`` if a write needs ``allow_breaking`` to remove a key or change its type.
        own: The content of the service's schema file; None without a file.
        file: The file's name relative to the home; empty if it is not known.
        document: The whole JSON Schema, base contract included.
        defaults: The default values of all properties, as one document.
    """

    def __init__(self, own: JsonObject | None, *, title: str, file: str = "") -> None:
        """Compile the schemas.

        Args:
            own: The service's own schema, in which ``schema_problems`` finds no problem; None without a file.
            title: The name of the service, which identifies a schema without ``$id``.
            file: The file from which ``own`` was read.

        Raises:
            NotASchema: ``own`` is not a JSON Schema 2020-12.
        """
        base = base_schema()
        parts: list[JsonObject] = [base]
        if own is not None:
            # Without an $id in each part of allOf, '#/$defs' would be resolved in the whole document.
            parts.append({"$id": f"urn:aliciacfg:service:{title}", **own})
        self.own = own
        self.file = file
        self.version = str(own.get("version", "1.0.0")) if own is not None else "1.0.0"
        self.compatibility: Compatibility = "backward" if own is None else compatibility_of(own) or "backward"
        self.document: JsonObject = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": list(parts),
        }
        self._roots = [(part, part) for part in parts]
        self._validators = [_compile(part) for part in parts]
        self.defaults = self._collect_defaults()

    def findings(
        self, document: JsonObject, *, hidden: Collection[str] = (), opaque: Collection[str] = ()
    ) -> list[Finding]:
        """Return the problems of a document: all, or of very many ``MAX_PROBLEMS`` and how many more there are.

        Args:
            document: The document.
            hidden: JSON Pointers of further places whose values no message may quote.
            opaque: JSON Pointers of stand-ins for values that are not to be judged: each counts as meeting every rule,
                also a rule for a value around it.
        """
        errors = [error for validator in self._validators for error in validator.iter_errors(document)]
        if not errors:
            return []
        around = {outer for pointer in opaque for outer in (*_upwards(pointer), "")}
        places = {place.pointer for place in self.places(document) if place.hidden}.union(hidden)
        # The places around them as well, because a quoted object would contain the value.
        sensitive = {outer for pointer in places for outer in (*_upwards(pointer), "")}
        found: dict[Finding, None] = {}
        for number, violation in enumerate(map(_violation, errors)):
            if len(found) >= MAX_PROBLEMS:
                more = f"breaks the schema in {len(errors) - number} more ways; correct these first"
                found[Finding("", "", "", more)] = None
                break
            if violation.pointer in opaque or (violation.keyword in _JUDGES_CONTENT and violation.pointer in around):
                continue
            described = describe(violation, document, sensitive, self.place)
            found.update(dict.fromkeys(islice(described, MAX_PROBLEMS)))
        return sorted(found, key=lambda finding: finding.pointer)

    def place(self, pointer: str) -> str:
        """Return a pointer as everybody may see it, with ``*`` for each name that the schema does not declare.

        Such a name may be confidential, for example in a map from a person to a number.
        """
        marks = self._marks_at("", {})
        place = ""
        for token in parse_pointer(pointer):
            if token.isdigit() and _only_items(marks):
                declared, marks = True, _item_marks(marks)
            else:
                declared = any(token in properties for properties in _properties(marks))
                marks = _member_marks(marks, token)
            place += f"/{escape(token)}" if declared else "/*"
        return place

    def places(self, document: Json) -> Iterator[Place]:
        """Yield every node of a document with the subschemas that describe it, parents first."""
        marks = [(root, target) for root, node in self._roots for target in follow(root, node)]
        yield from self._walk(document, "", marks, named_sensitive=False)

    def secrets(self, document: Json) -> dict[str, str]:
        """Return the sensitive strings of a document by JSON Pointer."""
        return {
            place.pointer: place.value
            for place in self.places(document)
            if isinstance(place.value, str) and place.sensitive
        }

    def unknown(self, document: Json) -> list[str]:
        """Return the JSON Pointers of members that no schema describes, outermost first."""
        known = {""}
        unknown: list[str] = []
        closed: dict[str, bool] = {}
        marks: dict[str, _Marks] = {}
        for place in self.places(document):
            parent = place.pointer.rpartition("/")[0]
            if place.marks or not place.pointer:
                known.add(place.pointer)
            elif parent in known:
                if parent not in closed:
                    closed[parent] = self._closed_names(parent, document, marks)
                if closed[parent]:
                    unknown.append(place.pointer)
        return unknown

    def _closed_names(self, pointer: str, document: Json, marks: dict[str, _Marks]) -> bool:
        """Return whether the schema names properties of the object at a pointer, so that other names are suspect."""
        if not isinstance(find(document, pointer), dict):
            return False
        return any("properties" in mark for _, mark in self._marks_at(pointer, marks))

    def marks_at(self, pointer: str) -> list[JsonObject]:
        """Return the subschemas that describe a place, whether or not a document contains it."""
        return [node for _, node in self._marks_at(pointer, {})]

    def _marks_at(self, pointer: str, known: dict[str, _Marks]) -> _Marks:
        """Return the subschemas of a place with their roots; ``known`` has those of other places of the same walk."""
        if pointer not in known:
            if not pointer:
                known[pointer] = [(root, target) for root, node in self._roots for target in follow(root, node)]
            else:
                outer, _, raw = pointer.rpartition("/")
                marks, token = self._marks_at(outer, known), raw.replace("~1", "/").replace("~0", "~")
                in_array = token.isdigit() and _only_items(marks)
                known[pointer] = _item_marks(marks) if in_array else _member_marks(marks, token)
        return known[pointer]

    def variable(self, pointer: str) -> str | None:
        """Return the environment variable of a place (``x-env``), or None."""
        return next(
            (str(mark[ENVIRONMENT_VARIABLE]) for mark in self.marks_at(pointer) if ENVIRONMENT_VARIABLE in mark), None
        )

    def restart_required(self, pointers: list[str]) -> list[str]:
        """Return the pointers of ``pointers`` that the service applies only at a restart."""
        known: dict[str, _Marks] = {}
        restarts: dict[str, bool] = {"": False}

        def inside(pointer: str) -> bool:
            """Return whether a place, or one around it, needs a restart."""
            if pointer not in restarts:
                own = any(mark.get(RESTART_REQUIRED) is True for _, mark in self._marks_at(pointer, known))
                restarts[pointer] = own or inside(pointer.rpartition("/")[0])
            return restarts[pointer]

        def items(pointer: str) -> bool:
            """Return whether the items of an array need a restart; an array changes as a whole."""
            found = [mark.get("items") for _, mark in self._marks_at(pointer, known)]
            return any(isinstance(item, dict) and item.get(RESTART_REQUIRED) is True for item in found)

        return [pointer for pointer in pointers if inside(pointer) or items(pointer)]

    def _walk(self, value: Json, pointer: str, marks: _Marks, *, named_sensitive: bool) -> Iterator[Place]:
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


def compatibility_of(schema: JsonObject) -> Compatibility | None:
    """Return the ``compatibility`` of a schema, by default ``backward``; None if the value is invalid."""
    found = schema.get(COMPATIBILITY, "backward")
    return found if found in ("backward", "none") else None


def _compile(schema: JsonObject) -> jsonschema_rs.Draft202012Validator:
    try:
        # Without offline, a $ref to http:// or file:// would be fetched here.
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    except jsonschema_rs.ValidationError as error:
        # The chained error would show the value, and the message of this library does.
        raise NotASchema(_not_a_schema(schema, error)) from None


def _not_a_schema(schema: JsonObject, error: jsonschema_rs.ValidationError) -> Problem:
    violation = _violation(error)
    finding = next(describe(violation, schema, (), str), None)
    if finding is None:
        return Problem(violation.pointer, "is not JSON Schema 2020-12")
    return Problem(finding.pointer, f"is not JSON Schema 2020-12: {finding.shown.message}")


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    # The message of the error is not used, because it quotes the value.
    return Violation(format_pointer(error.instance_path), error.kind.name, error.kind.value)


def resolve(root: JsonObject, reference: Json) -> JsonObject | None:
    """Return the target of a local ``$ref`` (``#`` or ``#/a/b``); None if it is not a subschema."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    if reference[1:] and not reference.startswith("#/"):
        return None
    try:
        target = find(root, reference[1:].replace("%25", "%").replace("%22", '"'))
    except InvalidRequest:
        return None
    return target if isinstance(target, dict) else None


def follow(root: JsonObject, node: Json) -> list[JsonObject]:
    """Return a subschema and the targets of its ``$ref``; in 2020-12 the siblings of a ``$ref`` apply, too."""
    found: list[JsonObject] = []
    while isinstance(node, dict) and all(node is not known for known in found):
        found.append(node)
        node = resolve(root, node.get("$ref"))
    return found


def _member_marks(marks: _Marks, key: str) -> _Marks:
    result: _Marks = []
    for root, node in marks:
        properties = node.get("properties")
        if isinstance(properties, dict) and key in properties:
            inner = properties[key]
        else:
            inner = node.get("additionalProperties")
        result += [(root, target) for target in follow(root, inner)]
    return result


def _item_marks(marks: _Marks) -> _Marks:
    return [(root, target) for root, node in marks for target in follow(root, node.get("items"))]


def _properties(marks: _Marks) -> Iterator[JsonObject]:
    for _, node in marks:
        properties = node.get("properties")
        if isinstance(properties, dict):
            yield properties


def _only_items(marks: _Marks) -> bool:
    return bool(marks) and not any("properties" in node or "additionalProperties" in node for _, node in marks)


def _defaults(root: JsonObject, node: Json, seen: frozenset[int]) -> Json:
    """Return the default of a subschema: its own ``default``, otherwise those of its properties; None without any."""
    result: JsonObject = {}
    for target in follow(root, node):
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
    """Yield a pointer and those of the places around it, except for the whole document."""
    while pointer:
        yield pointer
        pointer = pointer.rpartition("/")[0]
