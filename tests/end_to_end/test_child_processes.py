"""Programs that run beside this process, such as the broker of ``serve --dev``, and those that an earlier one left."""

import os
import sys
from pathlib import Path

import pytest

from aliciacfg.mqtt.broker import child_process
from aliciacfg.mqtt.broker.child_process import beside, end_left


def command(tmp_path: Path) -> list[str]:
    return ["/bin/sh", "-c", "while :; do sleep 60; done", str(tmp_path / "its own")]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("platform", ["linux", "darwin"])
async def test_a_program_runs_for_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str):
    """With the help of the kernel or without it; its number is noted meanwhile."""
    monkeypatch.setattr(sys, "platform", platform)
    note = tmp_path / "pid"
    async with beside(command(tmp_path), note) as process:
        assert note.read_text() == f"{process.pid}\n"
        assert is_alive(process.pid)
    assert not is_alive(process.pid)
    assert not note.exists()


@pytest.mark.parametrize("shown_by", ["proc", "ps"])
async def test_what_an_earlier_run_left_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_by: str):
    """As after a run that was killed; with ps where there is no /proc."""
    note = tmp_path / "pid"
    async with beside(command(tmp_path), note) as process:
        if shown_by == "ps":
            monkeypatch.setattr(child_process, "_PROC", tmp_path / "none")
        assert await end_left(command(tmp_path), note)
        assert await process.wait() < 0
        assert not await end_left(command(tmp_path), note)
