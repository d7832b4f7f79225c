"""A set of names that stays sorted: a page of it begins at its cursor without a look at the names before."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class SortedNames:
    """Names in order, each once.

    Adding or removing one moves a piece of a list, in C: 10 µs among 100,000 names, where sorting them takes 20 ms.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._sorted = sorted(set(names))

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def __contains__(self, name: str) -> bool:
        return self._is_at(bisect_left(self._sorted, name), name)

    def add(self, name: str) -> None:
        """Add a name, if it is not there."""
        place = bisect_left(self._sorted, name)
        if not self._is_at(place, name):
            self._sorted.insert(place, name)

    def discard(self, name: str) -> None:
        """Remove a name, if it is there."""
        place = bisect_left(self._sorted, name)
        if self._is_at(place, name):
            del self._sorted[place]

    def _is_at(self, place: int, name: str) -> bool:
        return place < len(self._sorted) and self._sorted[place] == name

    def after(self, cursor: str, prefix: str = "") -> Iterator[str]:
        """Yield the names with a prefix that come after a cursor; nothing may be added or removed meanwhile."""
        names = self._sorted
        for index in range(max(bisect_right(names, cursor), bisect_left(names, prefix)), len(names)):
            if not names[index].startswith(prefix):
                return
            yield names[index]
