"""JSON Pointers (RFC 6901), and walks over the strings and leaves of a value."""

import re
from collections.abc import Iterator, Mapping
from typing import overload

from msgspec import UNSET, UnsetType

from aliciacfg.documents.values import Json, JsonObject
from aliciacfg.errors import InvalidRequest

_Container = dict[str, Json] | list[Json]

# RFC 6901 §4 forbids leading zeros. Ten digits are enough for any array that fits into memory.
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
_OTHER_PATH = re.compile(r"\w{1,64}(?:[./]\w{1,64}){1,8}")


def escape(token: str) -> str:
    """Escape one reference token (RFC 6901 §3)."""
    if "~" in token or "/" in token:
        return token.replace("~", "~0").replace("/", "~1")
    return token


def _unescape(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~") if "~" in token else token


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Split a JSON Pointer into its unescaped reference tokens.

    Raises:
        InvalidRequest: The pointer is neither empty, which means the whole document, nor begins with ``/``; or it
            contains a ``~`` that is neither ``~0`` nor ``~1``.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise InvalidRequest(f"The pointer {pointer!r} does not begin with '/'; {_example(pointer)}.")
    if "~" not in pointer:
        return tuple(pointer[1:].split("/"))
    tokens: list[str] = []
    for raw in pointer[1:].split("/"):
        if "~" in raw.replace("~0", "").replace("~1", ""):
            raise InvalidRequest(f"The pointer {pointer!r} contains a '~' that is neither '~0' nor '~1'.")
        tokens.append(_unescape(raw))
    return tuple(tokens)


def _example(written: str) -> str:
    """Return how a place that was written as a path of another kind is written as a pointer."""
    if _OTHER_PATH.fullmatch(written):
        return f"write /{written.replace('.', '/')}"
    return "write for example /settings/log_level"


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


def pointers_of(value: Json, text: str) -> list[str]:
    """Return the JSON Pointer of every string of a value that is equal to a text, in document order."""
    if isinstance(value, str):
        return [""] if value == text else []
    found: list[str] = []
    if isinstance(value, dict | list):
        _collect_pointers(value, text, "", found)
    return found


def _collect_pointers(container: _Container, text: str, pointer: str, found: list[str]) -> None:
    # Makes pointers of containers and of what is found only, which halves the time.
    for token, item in container.items() if isinstance(container, dict) else enumerate(container):
        if isinstance(item, str):
            if item == text:
                found.append(f"{pointer}/{escape(str(token))}")
        elif item and isinstance(item, dict | list):
            _collect_pointers(item, text, f"{pointer}/{escape(str(token))}", found)


@overload
def replace_strings(value: JsonObject, replacements: Mapping[str, str]) -> JsonObject: ...
@overload
def replace_strings(value: Json, replacements: Mapping[str, str]) -> Json: ...
def replace_strings(value: Json, replacements: Mapping[str, str]) -> Json:
    """Return a value in which other strings stand at some pointers; the parts without any are shared, not copied.

    Args:
        value: Any JSON value; an object stays an object.
        replacements: The new strings by JSON Pointer; a pointer at which no string stands is ignored.
    """
    if isinstance(value, str):
        return replacements.get("", value)
    if not replacements:
        return value
    # Copies of the objects and arrays on the way to a replacement, by pointer; None where neither stands.
    copies: dict[str, _Container | None] = {"": _shallow_copy(value)}
    for pointer, text in replacements.items():
        parent, slash, token = pointer.rpartition("/")
        container = _copy_at(parent, copies) if slash else None
        if isinstance(container, dict):
            # Most replacements are members of objects.
            name = _unescape(token)
            if isinstance(container.get(name), str):
                container[name] = text
        elif isinstance(_member(container, token), str):
            _put(container, token, text)
    found = copies[""]
    return value if found is None else found


def _copy_at(pointer: str, copies: dict[str, _Container | None]) -> _Container | None:
    """Return the copy of the object or array at a pointer, made once, inside the copies around it."""
    known = copies.get(pointer)
    if known is not None:
        return known
    if pointer not in copies:
        parent, _, token = pointer.rpartition("/")
        container = _copy_at(parent, copies)
        found = copies[pointer] = _shallow_copy(_member(container, token))
        if found is not None:
            _put(container, token, found)
    return copies[pointer]


def _shallow_copy(value: Json | UnsetType) -> _Container | None:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else None


def _member(container: _Container | None, token: str) -> Json | UnsetType:
    """Return the member of an object, or the item of an array, that an escaped token names."""
    if isinstance(container, dict):
        return container.get(_unescape(token), UNSET)
    if isinstance(container, list) and _INDEX.fullmatch(token) and int(token) < len(container):
        return container[int(token)]
    return UNSET


def _put(container: _Container | None, token: str, value: Json) -> None:
    if isinstance(container, dict):
        container[_unescape(token)] = value
    elif container is not None:
        container[int(token)] = value


def leaves(value: Json, pointer: str = "") -> list[tuple[str, Json]]:
    """Return every leaf with its JSON Pointer, in document order; arrays are leaves, and so are empty objects."""
    if not isinstance(value, dict) or not value:
        return [(pointer, value)]
    found: list[tuple[str, Json]] = []
    _collect_leaves(value, pointer, found)
    return found


def _collect_leaves(value: JsonObject, pointer: str, found: list[tuple[str, Json]]) -> None:
    for key, member in value.items():
        place = f"{pointer}/{escape(key)}"
        if isinstance(member, dict) and member:
            _collect_leaves(member, place, found)
        else:
            found.append((place, member))
