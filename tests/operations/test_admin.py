"""Operations of administrators, where files of the daemon cannot be written."""

from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Write
from aliciacfg.sealing import key_store
from builders import environment_file
from inprocess import core


@pytest.mark.parametrize("operation", ["keys_rotate", "keys_remove"])
async def test_keys_that_cannot_be_written_are_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
):
    """The caller learns why, and the keys stay as they were."""
    files = {"environments/dev.yaml": environment_file({"bell": {}})}
    async with core(tmp_path, files) as made:
        old = (await made.ask("keys_show"))["keys"][0]["key_id"]
        await made.ask("keys_rotate")
        before = (await made.ask("keys_show"))["keys"]

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(key_store, "replace_file", full)
        with pytest.raises(Unavailable, match="No space left"):
            await made.ask(operation, **({"key_id": old} if operation == "keys_remove" else {}))
        assert (await made.ask("keys_show"))["keys"] == before


async def test_a_copy_that_the_daemon_cannot_make_is_in_the_audit_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The command of ``backup`` makes it itself then, as who may read the data directory can."""
    async with core(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})}) as made:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(Path, "mkdir", full)
            with pytest.raises(Unavailable, match="No space left"):
                await made.ask("backup")
        await made.parts.queue.submit(Write())
        entry = (await made.ask("audit"))["entries"][0]
        assert (entry["operation"], entry["outcome"]) == ("backup", "refused")
        assert "No space left" in entry["detail"]
