"""Pages bounded in number and in bytes, and the operations that list items in them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from aliciacfg import documents
from aliciacfg.operations import pages
from aliciacfg.operations.pages import Page
from builders import valid_config
from inprocess import Core, Home

SERVICES = [f"service_{number}" for number in range(7)]


class Item(msgspec.Struct, frozen=True):
    text: str


@pytest.mark.parametrize(
    ("limit", "max_bytes", "sizes", "kept", "more"),
    [
        (3, 1000, [], 0, False),
        (3, 1000, [1, 1, 1], 3, False),
        (3, 1000, [1, 1, 1, 1], 3, True),
        (9, 100, [50, 50], 2, False),
        (9, 100, [50, 51], 1, True),
        (9, 100, [50, 51, 1], 1, True),
        (9, 100, [500], 1, False),
        (9, 100, [500, 1], 1, True),
    ],
)
def test_a_page_ends_at_the_first_item_without_room(
    limit: int, max_bytes: int, sizes: list[int], kept: int, more: bool
):
    """The first item always has room, so that every page goes on."""
    frame = len(documents.encode(Item("")))
    page = Page[Item](limit, max_bytes=max_bytes)
    items = [Item("x" * max(size - frame, 0)) for size in sizes]
    assert all(len(documents.encode(item)) == max(size, frame) for item, size in zip(items, sizes, strict=True))
    all(page.add(item) for item in items)
    assert (len(page.items), page.more) == (kept, more)


async def all_pages(core: Core, operation: str, name: str, place: str, listed: str, **fields: Any) -> list[list[Any]]:
    """Every page of an operation: ``next`` of one is the field ``place`` of the next."""
    found: list[list[Any]] = []
    after: dict[str, Any] = {}
    while True:
        answer = await core.ask(operation, name, **fields, **after)
        found.append(answer[listed])
        if answer["next"] is None:
            return found
        after = {place: answer["next"]}


@pytest.mark.parametrize("limit", [1000, 100, 2])
async def test_a_list_with_configurations_ends_early_and_leaves_nothing_out(tmp_path: Path, limit: int):
    """Seven configurations of 200 kB do not fit into one page of 1 MiB."""
    home = Home(tmp_path, {"environments/dev.yaml": {"services": dict.fromkeys(SERVICES, valid_config())}})
    async with home.core() as core:
        for name in SERVICES:
            await core.ask("patch", name, patch={"settings": {"text": "x" * 200_000}})
        whole = await all_pages(core, "list", "", "after", "configs", include="config", limit=limit)
        assert [item["service"] for page in whole for item in page] == SERVICES
        assert [len(page) for page in whole] == ([2, 2, 2, 1] if limit == 2 else [5, 2])
        # Without the configurations all have room.
        assert len(await all_pages(core, "list", "", "after", "configs", limit=1000)) == 1


async def test_history_and_audit_end_early_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Revisions that changed many places make long items."""
    monkeypatch.setattr(Page.__init__, "__kwdefaults__", {"max_bytes": 12_000})
    home = Home(tmp_path, {"environments/dev.yaml": {"services": {"bell": valid_config()}}})
    async with home.core() as core:
        for number in range(14):
            many = {f"place_{place}": number for place in range(150)}
            await core.ask("patch", "bell", patch={"settings": many})
        for operation, listed, mark in (("history", "revisions", "revision"), ("audit", "entries", "sequence")):
            fields = {"limit": 100, **({"service": "bell"} if operation == "audit" else {})}
            whole = await all_pages(
                core, operation, "bell" if operation == "history" else "", "before", listed, **fields
            )
            numbers = [item[mark] for page in whole for item in page]
            assert numbers == sorted(set(numbers), reverse=True)
            assert len(numbers) >= 14
            if operation == "history":
                assert len(whole) > 3
                assert numbers == list(range(15, 0, -1))
            for page in whole:
                assert len(page) == 1 or sum(len(documents.encode(item)) for item in page) <= 12_000


def test_a_page_fits_into_a_message():
    """With what surrounds it, below the largest packet that the daemon accepts and sends, 2 MiB."""
    assert pages.MAX_PAGE_BYTES * 3 // 2 < 2 * 1024 * 1024
