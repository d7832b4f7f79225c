"""Limits on the shape of a configuration: size, number of nodes, depth, ``null`` members, numbers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from aliciacfg.documents.pointers import escape
from aliciacfg.documents.values import MAX_DEPTH, Json, JsonObject, encode
from aliciacfg.errors import Problem

MAX_INTEGER = 2**64 - 1
MIN_INTEGER = -(2**63)


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """What a configuration may hold at most. The work on a configuration is in proportion to its nodes and secrets.

    Attributes:
        max_bytes: Its size, encoded as JSON.
        max_nodes: Its nodes: members of objects and items of arrays, at every level.
        max_secrets: Its secrets.
    """

    max_bytes: int = 256 * 1024
    max_nodes: int = 5_000
    max_secrets: int = 250


def excess_nodes(value: Json, max_nodes: int) -> str | None:
    """Return the JSON Pointer of the object or array with which a document has too many nodes; None if it has not.

    The walk ends there, so it takes no longer for a document that is far over the limit.
    """
    if not _may_have_more_nodes_than(value, max_nodes):
        return None
    left = max_nodes
    waiting: list[tuple[str, Json]] = [("", value)]
    while waiting:
        pointer, here = waiting.pop()
        if isinstance(here, dict):
            inner = [(f"{pointer}/{escape(key)}", item) for key, item in here.items() if isinstance(item, dict | list)]
        elif isinstance(here, list):
            inner = [(f"{pointer}/{index}", item) for index, item in enumerate(here) if isinstance(item, dict | list)]
        else:
            continue
        left -= len(here)
        if left < 0:
            return pointer
        waiting += reversed(inner)
    return None


def _may_have_more_nodes_than(value: Json, limit: int) -> bool:
    """Return False only if a value has no more nodes than a limit; found in its encoded form, a fifth of a walk.

    A container of n nodes has n - 1 commas and a bracket. What stands in strings makes the sum too high.
    """
    try:
        text = encode(value)
    except (UnicodeEncodeError, RecursionError):
        return True
    return text.count(b",") + text.count(b"{") + text.count(b"[") > limit


def shape_problems(value: Json) -> Iterator[Problem]:
    """Yield a problem for each level too many, ``null`` member, NaN, infinity, and integer beyond 64 bits.

    Args:
        value: A value decoded from JSON or YAML.
    """
    # Nearly every document is sound, and finding that out without pointers takes a quarter of the time.
    if not isinstance(value, dict | list) or not _is_sound(value, 1):
        yield from _problems(value, "", 1)


def _is_sound(container: JsonObject | list[Json], depth: int) -> bool:
    """Return whether an object or array on a level of its document is certainly without a problem."""
    if container and depth >= MAX_DEPTH:
        return False
    null_allowed = isinstance(container, list)
    for item in container if isinstance(container, list) else container.values():
        kind = type(item)
        if kind is str or kind is bool:
            continue
        if isinstance(item, dict | list):
            sound = _is_sound(item, depth + 1)
        elif isinstance(item, int):
            sound = MIN_INTEGER <= item <= MAX_INTEGER
        else:
            sound = math.isfinite(item) if isinstance(item, float) else item is None and null_allowed
        if not sound:
            return False
    return True


def _problems(value: Json, pointer: str, depth: int) -> Iterator[Problem]:
    """Yield the problems of a value at a pointer, on a level of its document; the document itself is level 1."""
    if depth > MAX_DEPTH:
        yield Problem(pointer, f"found level {depth}; at most {MAX_DEPTH} levels are allowed")
    elif isinstance(value, dict):
        for key, member in value.items():
            place = f"{pointer}/{escape(key)}"
            if member is None:
                yield Problem(place, "found null; leave the member out instead")
            else:
                yield from _problems(member, place, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(pointer, "found NaN or infinity; expected a finite number")
    elif isinstance(value, int) and not MIN_INTEGER <= value <= MAX_INTEGER:
        yield Problem(pointer, "found an integer beyond 64 bits; write it as a string")
