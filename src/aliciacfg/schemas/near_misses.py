"""Names that are probably meant as others: a misspelt key is a key that no schema knows."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from aliciacfg.documents import escape, parse_pointer
from aliciacfg.schemas.schema_tree import Node

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Up to this length, names that differ in two characters are rather different names: `min` and `max`.
_SHORT = 5
# What a service's own names stand in.
_OWN = "settings"


def near_miss(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a name is probably a misspelling of; None if there is none.

    Names that differ in case and separators only, as ``maxSessions`` and ``max_sessions``; or in one word, by an edit
    or two. Names that differ in a number, as ``room1`` and ``room2``, are meant to differ.
    """
    split = _split(name)
    ranked = sorted((distance, other) for other in known if (distance := _distance(split, other)) is not None)
    return ranked[0][1] if ranked else None


def suggestions(root: Node, pointers: Iterable[str]) -> Mapping[str, str]:
    """Return where the members at some places probably belong, by the pointers of those that are near misses.

    Args:
        root: The tree of the service's schemas.
        pointers: JSON Pointers of members that no schema describes. One at the top that the schema knows inside an
            object there, such as ``settings``, belongs into that.
    """
    return dict(_suggested(root, pointers))


def _suggested(root: Node, pointers: Iterable[str]) -> Iterator[tuple[str, str]]:
    for pointer in pointers:
        node = root
        *around, name = parse_pointer(pointer)
        for token in around:
            node = node.step(token)
        meant = near_miss(name, node.declared)
        if meant is not None:
            yield pointer, f"{pointer.rpartition('/')[0]}/{escape(meant)}"
        elif not around and (place := _below(root, name)) is not None:
            yield pointer, place


def _below(root: Node, name: str) -> str | None:
    """Return where an object at the top of the document has a member of this name; None if none has."""
    split = _split(name)
    for section in sorted(root.declared, key=lambda section: (section != _OWN, section)):
        inside = root.step(section).declared
        found = next((known for known in sorted(inside) if _distance(split, known) == 0), None)
        if found is not None:
            return f"/{escape(section)}/{escape(found)}"
    return None


class _Split(NamedTuple):
    """A name: its words as they are written, and all of them in lower case without what separates them."""

    words: Sequence[str]
    joined: str


def _split(name: str) -> _Split:
    words = _WORDS.findall(name)
    return _Split(words, "".join(words).lower())


# Of the known names alone: callers may ask for any number of others, which are not kept.
_split_known = lru_cache(maxsize=2048)(_split)


def _distance(name: _Split, other: str) -> int | None:
    """Return how far a name and a known one are apart that are near each other; None if they are not."""
    (words, joined), (others, other_joined) = name, _split_known(other)
    if joined == other_joined:
        return 0 if joined else None
    if len(words) != len(others):
        return 1 if len(other_joined) > _SHORT and _one_edit_apart(joined, other_joined) else None
    pairs = ((one.lower(), two.lower()) for one, two in zip(words, others, strict=True))
    different = [(one, two) for one, two in pairs if one != two]
    if len(different) != 1 or any(word.isdigit() for word in different[0]):
        return None
    one, two = different[0]
    distance, longest = _edits(one, two), max(len(one), len(two))
    return distance if distance <= (1 if longest <= _SHORT else 2) and longest > distance + 1 else None


def _one_edit_apart(one: str, two: str) -> bool:
    if abs(len(one) - len(two)) > 1:
        return False
    start = next((at for at, (first, second) in enumerate(zip(one, two, strict=False)) if first != second), None)
    if start is None:
        return len(one) != len(two)
    first, second = one[start:], two[start:]
    swapped = first[:2] == second[1::-1] and first[2:] == second[2:]
    return swapped or first[1:] in (second, second[1:]) or first == second[1:]


def _edits(one: str, two: str) -> int:
    """Return the number of insertions, deletions, substitutions and swaps of neighbours between two texts; 3 for more.

    The optimal string alignment distance.
    """
    # An edit puts at most one character in and takes one out.
    if abs(len(one) - len(two)) > _MOST_EDITS or len(set(one) ^ set(two)) > 2 * _MOST_EDITS:
        return _MOST_EDITS + 1
    before, row = list[int](), list(range(len(two) + 1))
    for index, character in enumerate(one, 1):
        before, last, row = row, before, [index]
        for at, other in enumerate(two, 1):
            cost = min(before[at] + 1, row[at - 1] + 1, before[at - 1] + (character != other))
            if index > 1 and at > 1 and character == two[at - 2] and one[index - 2] == other:
                cost = min(cost, last[at - 2] + 1)
            row.append(cost)
    return min(row[-1], _MOST_EDITS + 1)


_MOST_EDITS = 2
