"""Administrators' commands: where they work, and where there is nothing to work on."""

from pathlib import Path

import pytest

from command_runs import run


@pytest.mark.parametrize("command", [("token", "create", "panel"), ("token", "list"), ("audit",)])
def test_no_home_is_made_by_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]):
    """In a wrong directory the command says so; a token that it made there would open nothing."""
    monkeypatch.chdir(tmp_path)
    done = run(*command)
    assert done.exit_code == 3
    assert "no home here" in done.stderr
    assert "ALICIACFG_DATA_DIR" in done.stderr
    assert not list(tmp_path.iterdir())
