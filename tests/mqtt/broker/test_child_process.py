"""Notes about processes that an earlier run left, and that are not there."""

import os
from pathlib import Path

import pytest

from aliciacfg.mqtt.broker.child_process import end_left


def command(tmp_path: Path) -> list[str]:
    return ["mosquitto", "-c", str(tmp_path / "its own")]


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "999999999999999999999", None])
async def test_a_note_that_names_no_process_of_ours_ends_none(tmp_path: Path, content: str | None):
    """Damaged, or the number is another program's by now: here, this one."""
    note = tmp_path / "pid"
    note.write_text(f"{os.getpid()}\n" if content is None else content)
    assert not await end_left(command(tmp_path), note)


async def test_without_a_note_nothing_is_ended(tmp_path: Path):
    assert not await end_left(command(tmp_path), tmp_path / "pid")
