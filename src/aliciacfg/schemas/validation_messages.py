"""The wording of validation problems: type and length for any reader, the value only for its sender."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

from msgspec import UnsetType

from aliciacfg.documents import Json, JsonObject, escape, find, normalise
from aliciacfg.errors import Finding, Problem

Placing = Callable[[str], str]
"""Returns the pointer of a place as any reader may see it."""


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


def describe(
    violation: Violation, document: JsonObject, is_sensitive: Callable[[str], bool], placing: Placing, *, file: str = ""
) -> Iterator[Finding]:
    """Yield findings that name what was found and what was expected.

    Args:
        violation: The rule that is broken.
        document: The document that breaks it.
        is_sensitive: Returns of the JSON Pointer of a place that breaks a rule whether no text may quote its value.
        placing: Of the schema.
        file: The schema's file; empty if it is not known.
    """
    pointer, keyword, expected = violation
    match keyword:
        case "required":
            name = f"/{escape(str(expected))}"
            # The schema itself says this name.
            expected = "is missing; this member is required"
            yield Finding(pointer + name, placing(pointer) + name, "", expected, missing=True)
        case "additionalProperties" | "unevaluatedProperties":
            for name in expected:
                place = f"{pointer}/{escape(str(name))}"
                yield Finding(place, placing(place), "", "is not a known member; remove it or correct the name")
        case "falseSchema":
            yield Finding(pointer, placing(pointer), "", "must not be present")
        case _:
            value = find(document, pointer)
            hidden = is_sensitive(pointer)
            # A string in the place of an object may be a member written a level too high, such as a password.
            holds_more = keyword == "type" and bool(_CONTAINERS.intersection(_type_names(expected)))
            yield Finding(
                pointer,
                placing(pointer),
                found=_kind(value, hidden=hidden or (holds_more and isinstance(value, str)), keyword=keyword),
                expected=_expectation(keyword, expected, in_full=False),
                expected_in_full=_secrets_expectation(keyword, expected, file)
                if hidden
                else _expectation(keyword, expected, in_full=True),
                quotable=not hidden and not (holds_more and isinstance(value, str)),
            )


def for_sender(finding: Finding, sent: Json) -> Problem:
    """Return a problem for the client that sent the document, or a part of it, in which the problem is.

    The message quotes the value only if it stands at this place in what was sent: a document that was merged from it
    also contains values of files and of the store.

    Args:
        finding: The problem.
        sent: What the client sent, with the same pointers as the document.
    """
    value = find(sent, finding.pointer) if finding.quotable else None
    if value is None or isinstance(value, UnsetType | dict | list):
        return finding.in_full
    return finding.with_found(_quote(normalise(value)))


def _secrets_expectation(keyword: str, value: Any, file: str) -> str:
    """Return what is expected of a secret, without the values that the schema allows: they are secrets as well."""
    expected = _expectation(keyword, value, in_full=False)
    return f"{expected} ({file})" if file and keyword in _NAMES_VALUES else expected


def _expectation(keyword: str, value: Any, *, in_full: bool) -> str:
    match keyword:
        case "type":
            return f"; expected {_types(value)}"
        case "enum" if in_full and not any(map(_may_hold_secrets, value)):
            return f"; expected one of {', '.join(_quote(option) for option in value)}"
        case "enum":
            return "; expected one of the values that the schema lists"
        case "const" if in_full and not _may_hold_secrets(value):
            return f"; expected {_quote(value)}"
        case "const":
            return "; expected the one value that the schema names"
        case "pattern" if not in_full:
            return "; expected a string that matches the schema's pattern"
        case _ if keyword in _EXPECTED:
            return f"; expected {_EXPECTED[keyword].format(value=value)}"
        case _:
            return f", which the schema's {keyword!r} does not allow"


_NAMES_VALUES = frozenset({"enum", "const", "pattern"})
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


def kind(value: Any) -> str:
    """Return the type of a value, with the length of a string: what any reader may see of it."""
    match value:
        case str():
            return f"a string of {_count(len(value), 'character')}"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return "null"


def _kind(value: Any, *, hidden: bool, keyword: str) -> str:
    if isinstance(value, dict | list):
        size = {"Items": "item", "Properties": "member"}.get(keyword[3:])
        number = len(cast("Collection[object]", value))
        return kind(value) if size is None else f"{kind(value)} of {_count(number, size)}"
    if hidden:
        # The type helps where a number was quoted, as in `max_tokens: "4000"`.
        return "a string" if keyword == "type" and isinstance(value, str) else "a secret"
    return kind(value)


def _may_hold_secrets(value: object) -> bool:
    return isinstance(value, dict | list)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
