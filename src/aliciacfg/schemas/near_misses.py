"""Names that are probably meant as others: a misspelt key is a key that no schema knows."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

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
    ranked = sorted((distance, other) for other in known if (distance := _distance(name, other)) is not None)
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
    for section in sorted(root.declared, key=lambda section: (section != _OWN, section)):
        inside = root.step(section).declared
        found = next((known for known in sorted(inside) if _distance(name, known) == 0), None)
        if found is not None:
            return f"/{escape(section)}/{escape(found)}"
    return None


def _distance(name: str, other: str) -> int | None:
    """Return how far apart two names are that are near each other; None if they are not."""
    words, others = (_WORDS.findall(text) for text in (name, other))
    joined, other_joined = ("".join(parts).lower() for parts in (words, others))
    if joined == other_joined:
        return 0 if joined else None
    if len(words) != len(others):
        distance = _edits(joined, other_joined)
        return distance if distance == 1 and len(other_joined) > _SHORT else None
    pairs = ((one.lower(), two.lower()) for one, two in zip(words, others, strict=True))
    different = [(one, two) for one, two in pairs if one != two]
    if len(different) != 1 or any(word.isdigit() for word in different[0]):
        return None
    one, two = different[0]
    distance, longest = _edits(one, two), max(len(one), len(two))
    return distance if distance <= (1 if longest <= _SHORT else 2) and longest > distance + 1 else None


def _edits(one: str, two: str) -> int:
    """Return the number of insertions, deletions, substitutions and swaps of neighbours between two texts; 3 for more.

    The optimal string alignment distance.
    """
    if abs(len(one) - len(two)) > _MOST_EDITS:
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
