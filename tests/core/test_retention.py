"""Retention in a running core: what a caller sees of it."""

import asyncio
from pathlib import Path

import pytest

from aliciacfg.errors import NotFound
from builders import environment_file
from inprocess import Home


async def test_a_revision_that_was_removed_is_told_from_one_that_never_was(tmp_path: Path):
    """By `get`, `rollback` and in the history; what is kept is served, whole and verified, also after a restart."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"lamp": {}, "bell": {}})})
    settings = {"history_keep": "2", "audit_keep": "3"}
    async with home.core(**settings) as core:
        for level in range(1, 6):
            await core.ask("patch", "lamp", patch={"settings": {"level": level}})
        removed = await core.parts.retention.apply()
        assert (removed.revisions, removed.audit) == (4, 4)
        for operation in ("get", "rollback"):
            with pytest.raises(NotFound, match=r"Revision 4 .* was removed, as ALICIACFG_HISTORY_KEEP .* kept is 5\."):
                await core.ask(operation, "lamp", revision=4)
            with pytest.raises(NotFound, match=r"There is no revision 9"):
                await core.ask(operation, "lamp", revision=9)
        assert [item["revision"] for item in (await core.ask("history", "lamp"))["revisions"]] == [6, 5]
        assert await core.settings("lamp", revision=5) == {"level": 4}
        async with asyncio.timeout(40):
            while (told := (await core.ask("audit", limit=1))["entries"][0])["operation"] != "retention":
                pass
        assert told["detail"] == "removed: 4 revisions, 4 of the audit log"
        assert (await core.parts.retention.apply()).revisions == 0
    async with home.core(**settings) as core:
        assert await core.settings("lamp") == {"level": 5}
        assert not (await core.parts.store.verify()).broken
        assert core.standing == {}


async def test_nothing_is_removed_by_default(tmp_path: Path):
    """A home has to be busy for a long time before it loses anything."""
    home = Home(tmp_path, {"environments/dev.yaml": environment_file({"lamp": {}})})
    async with home.core() as core:
        for level in range(1, 30):
            await core.ask("patch", "lamp", patch={"settings": {"level": level}})
        removed = await core.parts.retention.apply()
        assert (removed.revisions, removed.audit) == (0, 0)
