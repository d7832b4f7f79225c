"""The wording of validation problems, which never quotes a value at a sensitive place."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

from aliciacfg.documents import JsonObject, escape, find
from aliciacfg.errors import Problem


class Violation(NamedTuple):
    """A rule of a schema that a document breaks.

    Attributes:
        pointer: JSON Pointer of the place in the document.
        keyword: The broken keyword of JSON Schema 2020-12; ``falseSchema`` for the schema ``false``.
        expected: The value of the keyword; for ``required`` the name of the missing member, for
            ``additionalProperties`` and ``unevaluatedProperties`` the names of the unknown members.
    """

    pointer: str
    keyword: str
    expected: Any


def describe(violation: Violation, document: JsonObject, sensitive: Collection[str]) -> Iterator[Problem]:
    """Yield problems that name what was found and what was expected.

    Args:
        violation: The rule that is broken.
        document: The document that breaks it.
        sensitive: JSON Pointers of the places whose values no text may quote.
    """
    pointer, keyword, expected = violation
    match keyword:
        case "required":
            yield Problem(f"{pointer}/{escape(str(expected))}", "is missing; this member is required")
        case "additionalProperties" | "unevaluatedProperties":
            for name in expected:
                yield Problem(f"{pointer}/{escape(str(name))}", "is not a known member; remove it or correct the name")
        case "falseSchema":
            yield Problem(pointer, "must not be present")
        case _:
            found = _found(
                find(document, pointer),
                hidden=pointer in sensitive,
                keyword=keyword,
                holds_more=keyword == "type" and bool(_CONTAINERS.intersection(_type_names(expected))),
            )
            yield Problem(pointer, f"found {found}{_expectation(keyword, expected)}")


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
        # The type helps where a number was quoted, as in `max_tokens: "4000"`.
        return "a string" if keyword == "type" and isinstance(value, str) else "a secret"
    # A string in the place of an object may be a member written a level too high, such as a password.
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
