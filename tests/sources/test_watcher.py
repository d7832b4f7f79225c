"""Watching files: what counts as an edit, when it is taken, and when nothing is going on."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from aliciacfg.settings import resolve
from aliciacfg.sources.loader import stamp_files
from aliciacfg.sources.source_files import SourceFiles
from aliciacfg.sources.watcher import FileWatcher, Snapshot

OLD: Snapshot = {"base.yaml": (1, 1, 1)}
HALF: Snapshot = {"base.yaml": (2, 1, 1)}
NEW: Snapshot = {"base.yaml": (3, 2, 1)}
NEWER: Snapshot = {"base.yaml": (4, 2, 1)}


class _NothingLeft(Exception):
    """All given snapshots were seen."""


class Watched:
    """A watcher that sees given snapshots, one at each look, and what it did about them."""

    def __init__(
        self,
        looks: list[Snapshot],
        *,
        taken: Callable[[int], bool] = lambda _number: True,
        during: Callable[[], Awaitable[None]] | None = None,
        again: Iterator[bool] | None = None,
        digests: list[bytes] | None = None,
    ) -> None:
        self.looks = list(looks)
        self.did: list[str | Snapshot] = []
        self._taken = taken
        self._during = during
        self.watcher = FileWatcher(
            self._look,
            self._change,
            take_digest=lambda: digests.pop(0) if digests else b"",
            on_settled=self.did.append,
            again=lambda: next(again) if again is not None else False,
            interval_seconds=0,
        )

    def _look(self) -> Snapshot:
        if not self.looks:
            raise _NothingLeft
        return self.looks.pop(0)

    async def _change(self) -> bool:
        if self._during is not None:
            await self._during()
        self.did.append("change")
        return self._taken(self.did.count("change"))

    async def run(self) -> list[str | Snapshot]:
        """Look until there is nothing left to see."""
        with pytest.raises(_NothingLeft):
            async with asyncio.timeout(40):
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


async def test_an_edit_that_leaves_the_same_stamp_is_found_by_its_content():
    """Once: what was read since is compared with what was there just before it was read."""
    settled = [OLD] * 19
    watched = Watched([OLD] * 41, digests=[b"1", b"2", b"2", b"2"])
    assert await watched.run() == [*settled, "change", *settled, OLD]


async def test_an_error_of_a_callback_does_not_lose_the_edit():
    """The supervisor runs the watcher again, which handles the edit then."""
    failed: list[int] = []

    async def fail_once() -> None:
        if not failed:
            failed.append(1)
            raise ZeroDivisionError

    watched = Watched([OLD, NEW, NEW, NEW, NEW, NEW], during=fail_once)
    with pytest.raises(ZeroDivisionError):
        await watched.watcher.run()
    assert await watched.run() == ["change", NEW]


EDITS = {
    "same time": lambda path: path.write_text("b: 2\n"),
    "older": lambda path: (path.write_text("b: 2\n"), os.utime(path, ns=(5, 5))),
    "renamed into place": lambda path: path.with_suffix(".new").rename(path),
    "link to another file": lambda path: (path.unlink(), path.symlink_to("base.new")),
}


@pytest.mark.parametrize("name", ["environments/base.yaml", "environments/access.yaml", "schemas/a.yaml", ".env"])
@pytest.mark.parametrize("how", EDITS)
def test_an_edit_of_the_same_size_and_time_changes_the_stamp(tmp_path: Path, name: str, how: str):
    """Whatever sets the modification time back: the status time, the inode or the device tells."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "schemas").mkdir()
    path = tmp_path / name
    for place, text in ((path, "a: 1\n"), (path.with_suffix(".new"), "b: 2\n"), (path.parent / "base.new", "b: 2\n")):
        place.write_text(text)
        os.utime(place, ns=(10**18, 10**18))
    before = stamp_files([path])
    EDITS[how](path)
    if how != "older":
        os.utime(path, ns=(10**18, 10**18))
    assert stamp_files([path]) != before


def test_the_digest_follows_the_content_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With stamps that are the same; things that are no files do not stop it."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / name for name in ("environments/base.yaml", "schemas/a/migrations/1-to-2.yaml", ".env")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    os.mkfifo(tmp_path / "environments" / "dev.yaml")
    flags = {"environments_dir": str(tmp_path / "environments"), "schemas_dir": str(tmp_path / "schemas")}
    files = SourceFiles(resolve(flags, environ={}, dotenv_values={}).settings)
    digests = {files.digest()}
    for path in paths:
        path.write_text("2")
        digests.add(files.digest())
    assert len(digests) == len(paths) + 1
