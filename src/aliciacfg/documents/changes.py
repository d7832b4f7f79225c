"""Differences between two documents, rated by what they mean to readers of the older one."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from aliciacfg.documents.pointers import escape, leaves
from aliciacfg.documents.values import Json, equal, type_name

Bump = Literal["major", "minor", "patch"]


class Change(msgspec.Struct, frozen=True):
    """One leaf that differs between two documents.

    Attributes:
        pointer: JSON Pointer of the leaf; arrays are leaves, and so are empty objects.
        bump: The part of a semantic version to raise: ``major`` if the key disappeared or its value has another JSON
            type, ``minor`` if the key is new, ``patch`` if only the value differs.
    """

    pointer: str
    bump: Bump


def changes(old: Json, new: Json, pointer: str = "") -> Iterator[Change]:
    """Yield every leaf that differs between two documents, in document order."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            if key not in new:
                yield from (Change(leaf, "major") for leaf, _ in leaves(value, f"{pointer}/{escape(key)}"))
            # Pointers only where something may differ: of most members nothing does.
            elif value is not (other := new[key]) and (isinstance(value, dict) or not equal(value, other)):
                yield from changes(value, other, f"{pointer}/{escape(key)}")
        for key, value in new.items():
            if key not in old:
                yield from (Change(leaf, "minor") for leaf, _ in leaves(value, f"{pointer}/{escape(key)}"))
    elif type_name(old) != type_name(new):
        yield Change(pointer, "major")
    elif not equal(old, new):
        yield Change(pointer, "patch")
