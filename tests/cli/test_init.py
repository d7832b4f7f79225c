"""``aliciacfg init``: what it says; and what commands say where there is no home."""

import json
from pathlib import Path

import pytest

from command_runs import run


def test_the_next_steps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Beginning with the way into the home, if one is not there already."""
    monkeypatch.chdir(tmp_path)
    there = json.loads(run("init", "my home").stdout)
    assert there["next"][0] == "cd 'my home'"
    monkeypatch.chdir(tmp_path / "my home")
    refused = run("init")
    assert refused.exit_code == 5
    assert "  environments/base.yaml\n" in refused.stderr
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "serve --dev" in json.loads(run("init").stdout)["next"][0]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path):
    """In one line, with the reason."""
    (tmp_path / "file").write_text("")
    done = run("init", str(tmp_path / "file" / "home"))
    assert done.exit_code == 1
    assert "Not a directory" in done.stderr


@pytest.mark.parametrize("command", [["serve", "--dev"], ["check"]])
def test_without_a_home_the_command_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
):
    """In one line, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    done = run(*command)
    assert done.exit_code == (8 if command[0] == "serve" else 3)
    assert done.stderr.count("\n") == 1
    assert "`aliciacfg init`" in done.stderr
    assert not list(tmp_path.iterdir())
