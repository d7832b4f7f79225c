"""Configurations with many secrets: the event loop neither seals nor opens them."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.documents import find
from aliciacfg.model.config_id import ConfigId
from aliciacfg.sealing.boxes import Keyring
from builders import valid_config
from inprocess import Core, core

FILES = {"environments/dev.yaml": {"services": {"bell": valid_config()}}}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, bool]]:
    """How often a value was sealed or opened, and whether the event loop waited for it."""
    done: Counter[tuple[str, bool]] = Counter()
    for name in ("seal", "open"):
        original = getattr(Keyring, name)

        def counted(self: Keyring, *arguments: Any, original: Any = original, name: str = name, **places: Any) -> str:
            done[name, threading.current_thread() is threading.main_thread()] += 1
            return original(self, *arguments, **places)

        monkeypatch.setattr(Keyring, name, counted)
    return done


def tokens(made: Core) -> Any:
    effective = made.parts.state.committed(ConfigId("dev", "bell")).effective
    assert effective is not None
    return find(effective.document, "/settings/tokens")


@pytest.mark.parametrize("operation", ["set", "patch", "batch"])
async def test_many_secrets_are_sealed_in_a_thread(tmp_path: Path, work: Counter[tuple[str, bool]], operation: str):
    """All of them once; afterwards only those that differ."""
    values = {f"t{number}": f"value {number}" for number in range(60)}
    patch: dict[str, Any] = {"settings": {"tokens": values}}
    async with core(tmp_path, FILES) as made:
        work.clear()
        if operation == "batch":
            await made.ask("batch", updates=[{"service": "bell", "patch": patch}])
        elif operation == "set":
            await made.ask("set", "bell", config=valid_config(**patch), allow_breaking=True)
        else:
            await made.ask("patch", "bell", patch=patch)
        assert (work["seal", False], work["seal", True]) == (60, 0)
        work.clear()
        await made.ask("patch", "bell", patch={"settings": {"tokens": {"t1": "another"}}})
        assert work["seal", False] + work["seal", True] == 1
        work.clear()
        await made.ask("rollback", "bell", revision=2)
        assert work["open", True] == 0
        assert tokens(made) == values


async def test_a_write_that_is_refused_after_its_secrets_were_sealed_changes_nothing(
    tmp_path: Path, work: Counter[tuple[str, bool]]
):
    """As any other: here the version that it asks for is too low."""
    values = {f"t{number}": "value" for number in range(60)}
    async with core(tmp_path, FILES) as made:
        await made.ask("patch", "bell", patch={"settings": {"tokens": values}})
        before = await made.ask("get", "bell")
        work.clear()
        with pytest.raises(Exception, match="version"):
            await made.ask(
                "patch",
                "bell",
                patch={"version": "1.1.1", "settings": {"tokens": dict.fromkeys(values, "other"), "more": 1}},
            )
        assert work["seal", False] == 60
        assert await made.ask("get", "bell") == before
