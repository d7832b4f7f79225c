"""Operations of administrators, where files of the daemon cannot be written."""

from pathlib import Path

import pytest

from aliciacfg.errors import Unavailable
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
