"""``env`` on files, without a daemon."""

import json
from pathlib import Path

import pytest

from command_runs import run

SCHEMA = "properties: {settings: {properties: {level: {type: string, x-env: LOG_LEVEL}}}}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "bell.yaml").write_text("settings: {level: 'it''s', pin: '1234'}")
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    return tmp_path


def test_a_configuration_in_a_file(files: Path):
    """Named by the schema, else after the pointers; also as ``get --answer`` prints it."""
    named = run("env", "bell", "--file", f"{files}/bell.yaml", "--schema", f"{files}/schema.yaml")
    assert named.output == "LOG_LEVEL='it\\'s'\n"
    made = run("env", "bell", "--format", "json", "--file", f"{files}/bell.yaml")
    assert json.loads(made.output) == {"SETTINGS_LEVEL": "it's", "SETTINGS_PIN": "1234"}
    answer = json.dumps({"revision": 3, "config": {"settings": {"level": "x"}}})
    assert run("env", "bell", "--file", answer, "--format", "export").output == "export SETTINGS_LEVEL=x\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--schema", "schema.yaml"], 2, "--schema needs --file"),
        (["--file", "{}", "-e", "dev"], 2, "leave -e out"),
        (["--file", "{}", "--schema", '{"properties": {"a": {"x-env": "LD_PRELOAD"}}}'], 4, "/properties/a/x-env"),
        (["--file", '{"a": "***"}'], 6, "A (/a)"),
        (["--file", "[]"], 4, "expected a JSON or YAML object"),
        (["--file", "/no/such/file"], 1, "'/no/such/file' is neither JSON nor a file"),
        (["--file", "no-such.yaml"], 1, "there is no file no-such.yaml"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, said: str):
    """With the exit codes of the other commands."""
    done = run("env", "bell", *arguments)
    assert done.exit_code == code
    assert said in " ".join(done.output.split())
