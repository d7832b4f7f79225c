"""``aliciacfg file set``: what VALUE means."""

import json
from pathlib import Path

import pytest

from aliciacfg.sources.new_home import lay_out
from command_runs import run


def set_value(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, what the command said, and the file afterwards."""
    path = directory / "dev.yaml"
    path.write_text("services:\n  bell:\n    limits: {}\n")
    done = run("file", "set", str(path), "/services/bell/limits/x", *arguments)
    return done.exit_code, done.output, path.read_text()


@pytest.mark.parametrize(
    "value", ['{"a":1,}', "{a: 1}", '["x"', '"open', ' {"a"', '{"a": NaN}', '"\\ud800"', "[1 2]", '"a" b']
)
def test_broken_json_is_refused(tmp_path: Path, value: str):
    """It is not stored as a string; the message says where it breaks, and how to store one."""
    code, said, text = set_value(tmp_path, value)
    assert code == 2
    assert "VALUE is not JSON: " in said
    assert "--string" in said
    assert "x:" not in text


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        (['{"a":1,}', "--string"], r'x: "{\"a\":1,}"'), (["5", "--string"], 'x: "5"'), (["5"], "x: 5"),
        (['{"a": [1]}'], "a:"), (["open"], "x: open"), (["tru"], "x: tru"), (["--", "-x"], 'x: "-x"'),
    ],
)  # fmt: skip
def test_json_is_json_and_other_text_is_a_string(tmp_path: Path, arguments: list[str], stored: str):
    """With ``--string`` everything is."""
    code, said, text = set_value(tmp_path, *arguments)
    told = json.loads(said)
    assert (code, told["pointer"], told["unchanged"]) == (0, "/services/bell/limits/x", False)
    assert stored in text


@pytest.mark.parametrize("value", ["***", '"***"', '["a", " *** "]'])
def test_a_redaction_is_refused(tmp_path: Path, value: str):
    """It would be the secret itself."""
    code, said, text = set_value(tmp_path, value)
    assert (code, "stands for a secret" in said, "x:" in text) == (2, True, False)


def test_what_changed_is_told_but_no_secret(tmp_path: Path):
    """The value before and after; nothing to do is told too, and leaves the file alone."""
    path = tmp_path / "dev.yaml"
    path.write_text("services:\n  bell:\n    settings: {a: 1, api_key: old-one}\n")
    arguments = ["set", str(path), "/services/bell/settings/a", "2"]
    told = [json.loads(run("file", *arguments).stdout) for _ in range(2)]
    assert [(item.get("old"), item["new"], item["unchanged"]) for item in told] == [(1, 2, False), (2, 2, True)]
    arguments = ["unset", str(path), "/services/bell/settings/api_key"]
    gone = json.loads(run("file", *arguments).stdout)
    assert (gone["old"], "new" in gone) == ("***", False)
    other = tmp_path / "dev-secrets.yaml"
    other.write_text("services: {bell: {settings: {pin: 1234}}}\n")
    done = run("file", "set", str(other), "/services/bell/settings/pin", "0000")
    assert "1234" not in done.output


def test_an_edit_that_makes_the_home_invalid_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is written all the same, because the next edit may complete it; what was wrong before is not told again."""
    lay_out(tmp_path, "door_bell")
    monkeypatch.chdir(tmp_path)
    dev = "environments/dev.yaml"
    wrong = run("file", "set", dev, "/services/door_bell/settings/volume_percent", "900")
    assert (wrong.exit_code, json.loads(wrong.stdout)["new"]) == (0, 900)
    assert "/settings/volume_percent in door_bell in dev: found an integer; expected at most 100" in wrong.stderr
    assert run("file", "set", dev, "/services/door_bell/settings/melody", "buzzer").stderr == ""
    assert run("file", "set", dev, "/services/door_bell/settings/volume_percent", "90").stderr == ""
    assert "'service' is not known here" in run("file", "set", dev, "/service/x", "1").stderr
    assert run("file", "unset", dev, "/service").stderr == ""
