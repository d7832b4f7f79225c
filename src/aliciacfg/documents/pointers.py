"""JSON Pointers (RFC 6901), and walks over the strings and leaves of a value."""

import re
from collections.abc import Iterator, Mapping
from typing import overload

from msgspec import UNSET, UnsetType

from aliciacfg.documents.values import Json, JsonObject
from aliciacfg.errors import InvalidRequest

# RFC 6901 §4 forbids leading zeros. Ten digits are enough for any array that fits into memory.
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")


def escape(token: str) -> str:
    """Escape one reference token (RFC 6901 §3)."""
    return token.replace("~", "~0").replace("/", "~1")


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Split a JSON Pointer into its unescaped reference tokens.

    Raises:
        InvalidRequest: The pointer is neither empty, which means the whole document, nor begins with ``/``; or it
            contains a ``~`` that is neither ``~0`` nor ``~1``.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise InvalidRequest(
            f"The pointer {pointer!r} does not begin with '/'; write for example /limits/max_sessions."
        )
    tokens: list[str] = []
    for raw in pointer[1:].split("/"):
        if "~" in raw.replace("~0", "").replace("~1", ""):
            raise InvalidRequest(f"The pointer {pointer!r} contains a '~' that is neither '~0' nor '~1'.")
        tokens.append(raw.replace("~1", "/").replace("~0", "~"))
    return tuple(tokens)


def format_pointer(tokens: tuple[str | int, ...] | list[str | int]) -> str:
    """Join reference tokens into a JSON Pointer."""
    return "".join(f"/{escape(str(token))}" for token in tokens)


def find(value: Json, pointer: str) -> Json | UnsetType:
    """Return the value at a pointer, or ``UNSET`` if there is none.

    Raises:
        InvalidRequest: The pointer is malformed.
    """
    for token in parse_pointer(pointer):
        if isinstance(value, dict):
            if token not in value:
                return UNSET
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return UNSET
    return value


def has(value: Json, pointer: str) -> bool:
    """Return whether there is a value at a pointer."""
    return not isinstance(find(value, pointer), UnsetType)


def walk_strings(value: Json, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(pointer, string)`` for every string value at any depth, in document order."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from walk_strings(member, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk_strings(item, f"{pointer}/{index}")


@overload
def replace_strings(value: JsonObject, replacements: Mapping[str, str], pointer: str = "") -> JsonObject: ...
@overload
def replace_strings(value: Json, replacements: Mapping[str, str], pointer: str = "") -> Json: ...
def replace_strings(value: Json, replacements: Mapping[str, str], pointer: str = "") -> Json:
    """Return a copy of a value in which other strings stand at some pointers.

    Args:
        value: Any JSON value; an object stays an object.
        replacements: The new strings by JSON Pointer; a pointer at which no string stands is ignored.
        pointer: The JSON Pointer of ``value`` itself, for calls on a part of a document.
    """
    if isinstance(value, str):
        return replacements.get(pointer, value)
    if isinstance(value, dict):
        return {key: replace_strings(member, replacements, f"{pointer}/{escape(key)}") for key, member in value.items()}
    if isinstance(value, list):
        return [replace_strings(item, replacements, f"{pointer}/{index}") for index, item in enumerate(value)]
    return value


def leaves(value: Json, pointer: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every leaf with its JSON Pointer, in document order; arrays are leaves, and so are empty objects."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from leaves(member, f"{pointer}/{escape(key)}")
    else:
        yield pointer, value
