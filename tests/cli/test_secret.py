"""``aliciacfg secret``: which environments lack what another one has; what is not valid is not written."""

import json
from pathlib import Path

import pytest

from aliciacfg.sources.new_home import lay_out
from command_runs import run

PLACE = "/settings/camera_password"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new home, in which commands run."""
    lay_out(tmp_path, "door_bell")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("home")
def test_a_secret_of_one_environment_is_missed_in_the_others():
    """Set says where it is still missing, and generate what it cannot make, until both have it."""
    done = run("secret", "set", "door_bell", PLACE, stdin="of-the-camera\n")
    assert json.loads(done.stdout)["lacking_in"] == ["prod"], done.output
    told = json.loads(run("secret", "generate", "prod").stdout)
    assert told["lacking_secrets"] == {"door_bell": [PLACE]}
    again = run("secret", "set", "door_bell", PLACE, "-e", "prod", stdin="of-the-other-camera\n")
    assert json.loads(again.stdout)["lacking_in"] == []
    assert json.loads(run("secret", "generate", "prod").stdout)["lacking_secrets"] == {}


@pytest.mark.usefixtures("home")
def test_nothing_to_make_and_a_secret_that_is_missing_are_one_sentence():
    """The active environment has a secret that is not required; then none has."""
    assert run("secret", "set", "door_bell", PLACE, stdin="of-the-camera\n").exit_code == 0
    assert run("secret", "generate", "prod", "-o", "table").exit_code == 0
    again = run("secret", "generate", "prod", "-o", "table").stdout.splitlines()
    assert again == [
        "nothing to make: prod lacks no password that is required, only a secret that dev has:",
        f"  aliciacfg secret set door_bell {PLACE} -e prod",
    ]
    assert run("secret", "set", "door_bell", PLACE, "-e", "prod", stdin="of-the-other-camera\n").exit_code == 0
    assert run("secret", "generate", "prod", "-o", "table").stdout == "nothing to make: prod lacks no password\n"


def test_the_environments_that_keep_another_secret_are_named(home: Path):
    """With file and line, and the command; not those that have the same one, opened. What does not open is another."""
    (home / "camera.env").write_text("CAMERA_PASSWORD=old\n")
    assert run("import", "camera.env", "--service", "door_bell").exit_code == 0
    place = "environments/prod-secrets.yaml"
    lines = (home / place).read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if "camera_password" in text]
    done = run("secret", "set", "door_bell", PLACE, "-o", "table", stdin="new")
    command = f"aliciacfg secret set door_bell {PLACE} -e prod"
    assert f"prod still has another one, from {place}:{line}; to set it there too: {command}" in done.stdout
    told = json.loads(run("secret", "set", "door_bell", PLACE, "-e", "prod", stdin="new").stdout)
    assert told["others"] == []
    (home / place).unlink()
    base = home / "environments" / "base.yaml"
    base.write_text(base.read_text().replace("melody:", "camera_password: ${WORD:-old}\n      melody:", 1))
    told = json.loads(run("secret", "set", "door_bell", PLACE, stdin="newer").stdout)
    assert [(other["environment"], other["file"]) for other in told["others"]] == [("prod", "environments/base.yaml")]
    assert told["lacking_in"] == []


def test_a_place_that_is_no_secret_yet_is_answered_with_the_lines_that_make_it_one(home: Path):
    """The lines stand as the schema needs them; no way to keep the value in the open is named."""
    assert run("service", "add", "irrigation", "--setting", "zone=garden", "--schema").exit_code == 0
    assert run("service", "add", "plain", "--setting", "zone=garden").exit_code == 0
    schema, pin = home / "schemas" / "irrigation.yaml", "/settings/valve_pin"
    refused = run("secret", "set", "irrigation", pin, "-o", "table", stdin="2580")
    lines = "      valve_pin:\n        type: string\n        x-sensitive: true\n"
    assert refused.exit_code == 4
    assert f"Add this to schemas/irrigation.yaml, under properties: settings: properties:\n{lines}" in refused.stderr
    assert "file set" not in refused.stderr
    schema.write_text(schema.read_text() + lines)
    assert run("secret", "set", "irrigation", pin, stdin="2580").exit_code == 0
    known = run("secret", "set", "irrigation", "/settings/zone", "-o", "table", stdin="2580").stderr
    assert "under properties: settings: properties: zone:\n        x-sensitive: true\n" in known
    new = run("secret", "set", "plain", pin, "-o", "table", stdin="2580").stderr
    _, _, text = new.partition("Add this to schemas/plain.yaml:\n")
    (home / "schemas" / "plain.yaml").write_text(text)
    assert run("secret", "set", "plain", pin, stdin="2580").exit_code == 0, text
    whole = run("secret", "set", "irrigation", "/settings", "-o", "table", stdin="2580").stderr
    assert "Mark it with x-sensitive: true in schemas/irrigation.yaml" in whole


def test_a_secret_inside_of_what_is_no_object_is_refused(home: Path):
    """A daemon would refuse the file; what else is wrong with the service is no reason to refuse a secret."""
    melody = run("secret", "set", "door_bell", "/settings/melody/password", stdin="planted")
    assert (melody.exit_code, "/settings/melody in dev: found an object" in melody.stderr) == (4, True)
    large = run("secret", "set", "door_bell", PLACE, stdin="x" * 300_000)
    assert (large.exit_code, "at most 262144 are allowed" in large.stderr) == (4, True)
    secrets = home / "environments" / "dev-secrets.yaml"
    assert not secrets.exists()
    (home / "environments" / "dev.yaml").write_text("services: {door_bell: {settings: {volume_percent: 900}}}\n")
    schema = home / "schemas" / "door_bell.yaml"
    schema.write_text(schema.read_text() + "    maxProperties: 2\n")
    assert "camera_password" in run("secret", "set", "door_bell", PLACE, stdin="planted").stdout
    assert "sealed:v1:" in secrets.read_text()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/settings/camera_pasword", PLACE),
        ("/settings/camra_password", PLACE),
        ("/setings/camera_password", PLACE),
        ("/camera_password", PLACE),
    ],
)
def test_a_mistyped_place_is_answered_with_the_one_that_is_there(home: Path, typed: str, meant: str):
    """Before anything is asked or written; a new name that is meant is taken with --force, if it can be a secret."""
    done = run("secret", "set", "door_bell", typed, stdin="planted\n")
    assert done.exit_code == 4
    assert f"no schema knows {typed} of door_bell\nhint: did you mean {meant}?" in done.stderr
    assert not (home / "environments" / "dev-secrets.yaml").exists()
    forced = run("secret", "set", "door_bell", "/settings/camra_password", "--force", stdin="planted\n")
    assert forced.exit_code == 0, forced.stderr
