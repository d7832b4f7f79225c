"""Watching files: what counts as an edit, when it is taken, and when nothing is going on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from aliciacfg.sources.watcher import FileWatcher, Snapshot

OLD: Snapshot = {"base.yaml": (1, 1, 1)}
HALF: Snapshot = {"base.yaml": (2, 1, 1)}
NEW: Snapshot = {"base.yaml": (3, 2, 1)}
NEWER: Snapshot = {"base.yaml": (4, 2, 1)}


class Watched:
    """A watcher that sees given snapshots, one at each look, and what it did about them."""

    def __init__(
        self,
        looks: list[Snapshot],
        *,
        taken: Callable[[int], bool] = lambda _number: True,
        during: Callable[[], Awaitable[None]] | None = None,
        again: Iterator[bool] | None = None,
    ) -> None:
        self.looks = iter(looks)
        self.did: list[str | Snapshot] = []
        self._taken = taken
        self._during = during
        self.watcher = FileWatcher(
            lambda: next(self.looks),
            self._change,
            on_settled=self.did.append,
            again=lambda: next(again) if again is not None else False,
            interval_seconds=0,
        )

    async def _change(self) -> bool:
        if self._during is not None:
            await self._during()
        self.did.append("change")
        return self._taken(self.did.count("change"))

    async def run(self) -> list[str | Snapshot]:
        """Look until there is nothing left to see."""
        with pytest.raises(RuntimeError):
            async with asyncio.timeout(5):
                await self.watcher.run()
        return self.did


async def test_an_edit_is_taken_when_two_looks_agree():
    """Not while it is being written; and once."""
    assert await Watched([OLD, OLD, HALF, NEW, NEW, NEW]).run() == [OLD, "change", NEW]


async def test_an_edit_that_cannot_be_taken_is_tried_again():
    """It is told as it is until then."""
    watched = Watched([OLD, NEW, NEW, NEW, NEW], taken=lambda number: number == 2)
    assert await watched.run() == ["change", NEW, "change", NEW]


async def test_an_edit_in_the_middle_of_taking_another_is_no_difference_to_tell():
    """What was seen before is not compared with what was read since; the next edit is taken by itself."""
    assert await Watched([OLD, NEW, NEW, NEWER, NEWER, NEWER]).run() == ["change", "change", NEWER]


async def test_files_are_tried_again_without_an_edit_when_there_is_a_reason():
    """What was in their way is gone."""
    watched = Watched([OLD, OLD, OLD, OLD], again=iter([False, True, False]))
    assert await watched.run() == [OLD, "change", OLD]
