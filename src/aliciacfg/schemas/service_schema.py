"""The JSON Schemas of services: validation, and the meaning of their annotations.

The only module that imports jsonschema_rs. A service's own schema describes its whole document, in addition to the base
contract; a service without a schema file has the base contract only.
"""

from collections.abc import Collection, Iterator
from functools import cache
from itertools import islice
from typing import Literal

import jsonschema_rs

from aliciacfg.documents import Json, JsonObject, escape, find, format_pointer, normalise, parse_pointer
from aliciacfg.errors import AliciacfgError, Finding, Problem
from aliciacfg.schemas import schema_tree
from aliciacfg.schemas.base_contract import base_schema
from aliciacfg.schemas.schema_tree import Node, Place, follow
from aliciacfg.schemas.validation_messages import Violation, describe

COMPATIBILITY = "compatibility"
Compatibility = Literal["backward", "none"]
# More are not corrected at once, and an answer with every problem of a hostile document would be many times its size.
MAX_PROBLEMS = 1000

# A value breaks such a rule, or does not, because of the strings inside it.
_JUDGES_CONTENT = frozenset({"anyOf", "oneOf", "not", "contains", "enum", "const"})

# Those of JSON Schema; its own message only says that none of its alternatives fits.
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")


class NotASchema(AliciacfgError):
    """A document is not a JSON Schema 2020-12.

    Attributes:
        problem: The first problem; its pointer is into the schema.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.pointer or '(the schema)'} {problem.message}")


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
        base, base_validator = _base()
        parts, self._validators = [base], [base_validator]
        if own is not None:
            # Without an $id in each part of allOf, '#/$defs' would be resolved in the whole document.
            parts.append({"$id": f"urn:aliciacfg:service:{title}", **own})
            self._validators.append(_compile(parts[-1]))
        self.own = own
        self.file = file
        self.version = str(own.get("version", "1.0.0")) if own is not None else "1.0.0"
        self.compatibility: Compatibility = "backward" if own is None else compatibility_of(own) or "backward"
        self.document: JsonObject = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "allOf": list(parts),
        }
        self._parts = parts
        self._root = schema_tree.compile_tree(parts)
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
        # The places around them as well, because a quoted object would contain the value.
        further = {outer for pointer in hidden for outer in (*_upwards(pointer), "")}

        # Asked of the places that break a rule only: to look at all took a quarter of the time of a refused write.
        @cache
        def is_sensitive(pointer: str) -> bool:
            return pointer in further or schema_tree.hides(self._root, document, pointer)

        found: dict[Finding, None] = {}
        for number, violation in enumerate(map(_violation, errors)):
            if len(found) >= MAX_PROBLEMS:
                more = f"breaks the schema in {len(errors) - number} more ways; correct these first"
                found[Finding("", "", "", more)] = None
                break
            if violation.pointer in opaque or (violation.keyword in _JUDGES_CONTENT and violation.pointer in around):
                continue
            described = describe(violation, document, is_sensitive, self.place, file=self.file)
            found.update(dict.fromkeys(islice(described, MAX_PROBLEMS)))
        return sorted(found, key=lambda finding: finding.pointer)

    def place(self, pointer: str) -> str:
        """Return a pointer as any reader may see it, with ``*`` for each name that the schema does not declare.

        Such a name may be confidential, for example in a map from a person to a number.
        """
        node = self._root
        place = ""
        for token in parse_pointer(pointer):
            place += f"/{escape(token)}" if node.is_index(token) or token in node.declared else "/*"
            node = node.step(token)
        return place

    def places(self, document: Json) -> Iterator[Place]:
        """Yield every node of a document with the subschemas that describe it, parents first."""
        return schema_tree.walk(self._root, document)

    def secrets(self, document: Json) -> dict[str, str]:
        """Return the sensitive strings of a document by JSON Pointer."""
        return schema_tree.secrets(self._root, document)

    @property
    def tree(self) -> Node:
        """The tree of the schemas, for ``inspection``."""
        return self._root

    def is_secret(self, document: Json, pointer: str) -> bool:
        """Return whether a string of a document is one of its ``secrets``."""
        return schema_tree.is_secret(self._root, document, pointer)

    def expects_secret(self, pointer: str) -> bool:
        """Return whether a string at a place would be a secret, whether or not a document has the place."""
        return schema_tree.expects_secret(self._root, pointer)

    def unknown(self, document: Json) -> list[str]:
        """Return the JSON Pointers of members that no schema describes, outermost first."""
        return schema_tree.unknown(self._root, document)

    def variable(self, pointer: str) -> str | None:
        """Return the environment variable of a place (``x-env``), or None."""
        return schema_tree.node_at(self._root, pointer).variable

    def restart_required(self, pointers: list[str]) -> list[str]:
        """Return the pointers of ``pointers`` that the service applies only at a restart."""
        return schema_tree.restart_required(self._root, pointers)

    def _collect_defaults(self) -> JsonObject:
        result: JsonObject = {}
        for part in self._parts:
            defaults = normalise(_defaults(part, part, frozenset()))
            if isinstance(defaults, dict):
                result = _merge_defaults(result, defaults)
        return result


def compatibility_of(schema: JsonObject) -> Compatibility | None:
    """Return the ``compatibility`` of a schema, by default ``backward``; None if the value is invalid."""
    found = schema.get(COMPATIBILITY, "backward")
    return found if found in ("backward", "none") else None


@cache
def _base() -> tuple[JsonObject, jsonschema_rs.Draft202012Validator]:
    """Return the base contract and its validator; all services share them, which saves each 350 µs and some memory."""
    base = base_schema()
    return base, _compile(base)


def _compile(schema: JsonObject) -> jsonschema_rs.Draft202012Validator:
    try:
        # Without offline, a $ref to http:// or file:// would be fetched here.
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    except jsonschema_rs.ValidationError as error:
        # The chained error would show the value, and the message of this library does.
        raise NotASchema(_not_a_schema(schema, error)) from None


def _not_a_schema(schema: JsonObject, error: jsonschema_rs.ValidationError) -> Problem:
    violation = _violation(error)
    finding = next(describe(violation, schema, lambda _pointer: False, str), None)
    if finding is None:
        return Problem(violation.pointer, "is not JSON Schema 2020-12")
    message = finding.shown.message
    if finding.pointer.endswith("/type") and isinstance(find(schema, finding.pointer), str):
        message = f"{message.partition(';')[0]}; expected one of {', '.join(_TYPES)}"
    return Problem(finding.pointer, f"is not JSON Schema 2020-12: {message}")


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    # The message of the error is not used, because it quotes the value.
    return Violation(format_pointer(error.instance_path), error.kind.name, error.kind.value)


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
