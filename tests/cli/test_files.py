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


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an environment in a new home, in which commands run."""
    lay_out(tmp_path, "door_bell")
    monkeypatch.chdir(tmp_path)
    return Path("environments/dev.yaml")


def test_what_a_daemon_would_refuse_is_not_written(dev: Path):
    """Unless that is asked for, or the service was not valid before: the next edit may complete it."""
    before = dev.read_text()
    volume = "/services/door_bell/settings/volume_percent"
    wrong = run("file", "set", str(dev), volume, "900")
    assert wrong.exit_code == 4
    assert "/settings/volume_percent in door_bell in dev: found an integer; expected at most 100" in wrong.stderr
    unknown = run("file", "set", str(dev), "/service/x", "1")
    assert (unknown.exit_code, "'service' is not known here" in unknown.stderr) == (4, True)
    assert dev.read_text() == before
    forced = run("file", "set", str(dev), volume, "900", "--force")
    assert (forced.exit_code, "so a daemon keeps the values before it" in forced.stderr) == (0, True)
    assert run("file", "set", str(dev), volume, "800").exit_code == 0
    assert run("file", "set", str(dev), "/services/door_bell/settings/melody", "buzzer").exit_code == 0
    assert run("file", "set", str(dev), volume, "90").stderr == ""


@pytest.mark.parametrize("place", ["/services/door_bell/settings/volume_percnt", "/services/dor_bell/settings/melody"])
def test_a_misspelt_name_is_written_only_by_force(dev: Path, place: str):
    """Of a setting, and of a service, which would be another one."""
    Path("schemas/door_bell.yaml").write_text("properties: {settings: {properties: {volume_percent: {}}}}\n")
    before = dev.read_text()
    refused = run("file", "set", str(dev), place, "5")
    assert (refused.exit_code, "did you mean" in refused.stderr, "--force" in refused.stderr) == (4, True, True)
    assert dev.read_text() == before
    assert run("file", "set", str(dev), place, "5", "--force").exit_code == 0


@pytest.mark.parametrize("url", ["", "postgresql://127.0.0.1:1/home"])
def test_an_edit_in_a_home_of_several_machines_says_that_it_is_on_this_one(
    dev: Path, monkeypatch: pytest.MonkeyPatch, url: str
):
    """Each of them has files of its own."""
    monkeypatch.setenv("ALICIACFG_DATABASE_URL", url)
    done = run("file", "set", str(dev), "/services/thermostat/settings/room", "attic")
    assert done.exit_code == 0, done.stderr
    assert (f"copy {dev} to the other machines" in done.stderr) == bool(url)
