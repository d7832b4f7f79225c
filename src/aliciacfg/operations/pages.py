"""Pages of answers that list items, bounded in number by the request and in bytes for every transport."""

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from aliciacfg import documents

Item = TypeVar("Item", bound=msgspec.Struct)

MAX_PAGE_BYTES = 1024 * 1024
"""The largest size of the items of a page, but for a single item that is larger."""


class Page(Generic[Item]):
    """The items of one page.

    Attributes:
        items: Those that were added.
        more: Whether an item had no room.
    """

    def __init__(self, limit: int, *, max_bytes: int = MAX_PAGE_BYTES) -> None:
        """Start an empty page.

        Args:
            limit: The largest number of items.
            max_bytes: The largest size of all items as JSON.
        """
        self._limit = limit
        self._room = max_bytes
        self.items: list[Item] = []
        self.more = False

    def add(self, item: Item) -> bool:
        """Add the next item; return whether there was room, which the first one always has."""
        size = len(documents.encode(item))
        self.more = bool(self.items) and (len(self.items) >= self._limit or size > self._room)
        if not self.more:
            self.items.append(item)
            self._room -= size
        return not self.more

    def extend(self, items: Iterable[Item]) -> None:
        """Add items in order, up to the first one that has no room."""
        for item in items:
            if not self.add(item):
                return
