"""The core is put together, and ends as a whole."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aliciacfg.errors import Problem
from builders import environment_file
from inprocess import Home


async def test_a_core_whose_memory_does_not_follow_its_database_ends(tmp_path: Path):
    """A listener that fails after a commit ends whatever runs inside, with its error; what was committed is there."""
    home = Home(tmp_path, {"environments/base.yaml": environment_file({"one": {}})})
    home.write("environments/dev.yaml", {})
    ended: list[str] = []

    def fail(_: object) -> None:
        raise ZeroDivisionError("memory does not follow")

    async def serve() -> None:
        async with home.core() as core:
            core.parts.commits.listen(fail)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.Event().wait())
                    group.create_task(core.ask("patch", "one", patch={"settings": {"size": 1}}))
            finally:
                ended.append("served")

    with pytest.raises(ZeroDivisionError, match="memory does not follow"):
        await serve()
    assert ended == ["served"]
    async with home.core() as core:
        assert await core.settings("one") == {"size": 1}


async def test_the_log_says_each_problem_of_an_alert_once(tmp_path: Path):
    """Not those that its message names; with their places, where they have any."""
    home = Home(tmp_path, {"environments/base.yaml": environment_file({"one": {}})})
    home.write("environments/dev.yaml", {})
    place, general = Problem("/settings/size", "too large"), Problem("", "environments/dev.yaml:1: not YAML")
    async with home.core() as core:
        with capture_logs() as logged:
            core.parts.alerts.emit("validation_failed", f"Refused: {general.message}", problems=[general, place, place])
            core.parts.alerts.emit("tamper", "Somebody publishes.")
    first, second = (entry for entry in logged if entry["event"] == "alert")
    assert first["problems"] == ["/settings/size: too large"]
    assert second["problems"] is None
