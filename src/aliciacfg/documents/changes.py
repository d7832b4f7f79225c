"""Differences between two documents, rated by what they mean to readers of the older one."""

from typing import Literal

import msgspec

from aliciacfg.documents.pointers import escape, leaves
from aliciacfg.documents.values import Json, JsonObject, equal, type_name

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


def changes(old: Json, new: Json) -> list[Change]:
    """Return every leaf that differs between two documents, in document order."""
    found: list[Change] = []
    if isinstance(old, dict) and isinstance(new, dict):
        _collect(old, new, "", found)
    elif not equal(old, new):
        found.append(_of_leaf(old, new, ""))
    return found


def _collect(old: JsonObject, new: JsonObject, pointer: str, found: list[Change]) -> None:
    # Makes pointers only of what differs and of objects: of most members nothing differs.
    for key, value in old.items():
        if key not in new:
            found += [Change(leaf, "major") for leaf, _ in leaves(value, f"{pointer}/{escape(key)}")]
            continue
        other = new[key]
        if value is other:
            continue
        if isinstance(value, dict) and isinstance(other, dict):
            _collect(value, other, f"{pointer}/{escape(key)}", found)
        elif not equal(value, other):
            found.append(_of_leaf(value, other, f"{pointer}/{escape(key)}"))
    for key, value in new.items():
        if key not in old:
            found += [Change(leaf, "minor") for leaf, _ in leaves(value, f"{pointer}/{escape(key)}")]


def _of_leaf(old: Json, new: Json, pointer: str) -> Change:
    return Change(pointer, "patch" if type_name(old) == type_name(new) else "major")
