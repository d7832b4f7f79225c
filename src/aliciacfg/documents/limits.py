"""Limits on the shape of a configuration: depth, ``null`` members, numbers."""

import math
from collections.abc import Iterator

from aliciacfg.documents.pointers import escape
from aliciacfg.documents.values import MAX_DEPTH, Json
from aliciacfg.errors import Problem

_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)


def shape_problems(value: Json, pointer: str = "", depth: int = 1) -> Iterator[Problem]:
    """Yield a problem for each level too many, ``null`` member, NaN, infinity, and integer beyond 64 bits.

    Args:
        value: A value decoded from JSON or YAML.
        pointer: JSON Pointer of ``value`` in its document.
        depth: The level of ``value``; the document itself is level 1.
    """
    if depth > MAX_DEPTH:
        yield Problem(pointer, f"found level {depth}; at most {MAX_DEPTH} levels are allowed")
    elif isinstance(value, dict):
        for key, member in value.items():
            place = f"{pointer}/{escape(key)}"
            if member is None:
                yield Problem(place, "found null; leave the member out instead")
            else:
                yield from shape_problems(member, place, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from shape_problems(item, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(pointer, "found NaN or infinity; expected a finite number")
    elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        yield Problem(pointer, "found an integer beyond 64 bits; write it as a string")
