"""Secrets in the open: no command writes them into a file that git takes, and check and doctor find them."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import forking
from aliciacfg.sources.new_home import lay_out
from daemons import Daemon

_TOKEN = "/services/door_bell/settings/api_token"
_PROD = "environments/prod.yaml"


@pytest.fixture
def home(tmp_path: Path) -> Daemon:
    """A new home in which nothing runs."""
    directory = tmp_path / "home"
    lay_out(directory, "door_bell")
    return Daemon(directory, broker_port=1)


def run(home: Daemon, *arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in home.environment().items() if not name.startswith("MQTT_")}
    return forking.run(arguments, directory=home.directory, environ={**given, **(environ or {})}, stdin=b"")


def warned(home: Daemon, *arguments: str) -> list[tuple[str, int]]:
    """File and line of the secrets in the open that ``check`` finds; ``doctor`` finds as many."""
    done = run(home, "check", "-o", "json", *arguments)
    assert done.returncode == 0, done.stderr
    told = [item for item in json.loads(done.stdout)["files"].get("warnings", []) if "in the open" in item["message"]]
    assert all(f"aliciacfg seal-file {item['file']}" in item["message"] for item in told)
    found = json.loads(run(home, "doctor", "-o", "json").stdout)
    secrets = [item for item in found if item["about"] == "secrets"]
    if not arguments:
        assert [item["remedy"] for item in secrets] == [f"run: aliciacfg seal-file {item['file']}" for item in told]
    return [(item["file"], item["line"]) for item in told]


def git(home: Daemon, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=home.directory, check=True, capture_output=True)


def test_file_set_writes_no_secret_in_the_open(home: Daemon):
    """It names the command that seals it. What is no secret is written, and --force writes it all the same."""
    path = home.directory / _PROD
    before = path.read_text()
    for file, environment in ((_PROD, "prod"), ("environments/base.yaml", "ENVIRONMENT")):
        done = run(home, "file", "set", file, _TOKEN, "plain123")
        assert done.returncode == 2
        assert "error: /settings/api_token is a secret" in done.stderr
        assert f"aliciacfg secret set door_bell /settings/api_token -e {environment}" in done.stderr
        assert "plain123" not in done.stdout + done.stderr
    address = run(home, "file", "set", _PROD, "/services/door_bell/settings/url", "http://me:word@host/")
    assert (address.returncode, "mark it with x-sensitive: true" in address.stderr) == (2, True)
    inside = run(home, "file", "set", _PROD, "/services/door_bell/settings/cloud", '{"token": "plain123"}')
    assert (inside.returncode, "/settings/cloud/token is a secret" in inside.stderr) == (2, True)
    assert path.read_text() == before
    forced = run(home, "file", "set", _PROD, _TOKEN, "plain123", "--force")
    assert (forced.returncode, "stands in the open now" in forced.stderr) == (0, True)
    assert "plain123" in path.read_text()
    other = run(home, "file", "set", _PROD, "/services/door_bell/settings/melody", "buzzer")
    assert other.returncode == 0, other.stderr


def test_a_sealed_secret_is_not_replaced_by_a_plain_one(home: Daemon):
    """The place is secret whatever stands there."""
    given = {name: value for name, value in home.environment().items() if not name.startswith("MQTT_")}
    arguments = ["secret", "set", "door_bell", "/settings/api_token", "-e", "prod"]
    done = forking.run(arguments, directory=home.directory, environ=given, stdin=b"word")
    assert done.returncode == 0, done.stderr
    file = "environments/prod-secrets.yaml"
    before = (home.directory / file).read_text()
    plain = run(home, "file", "set", file, _TOKEN, "plain123")
    assert (plain.returncode, "is a secret" in plain.stderr) == (2, True)
    assert (home.directory / file).read_text() == before


@pytest.mark.parametrize("repository", [False, True])
def test_check_and_doctor_find_secrets_in_files_that_git_takes(home: Daemon, repository: bool):
    """With file, line and the command that seals them, which needs no daemon; ignored files are left."""
    if repository:
        git(home, "init", "-q")
    assert warned(home) == []
    prod, secrets = home.directory / _PROD, home.environments / "prod-secrets.yaml"
    prod.write_text("services:\n  door_bell:\n    settings:\n      api_token: plain123\n")
    secrets.write_text("services:\n  door_bell:\n    settings:\n      camera_password: plain456\n")
    assert warned(home) == [(_PROD, 4)]
    assert warned(home, "-e", "dev") == []
    if repository:
        git(home, "add", "-A")
        assert warned(home) == [(_PROD, 4)]
        git(home, "add", "-f", str(secrets))
        assert warned(home) == [("environments/prod-secrets.yaml", 4), (_PROD, 4)]
    (home.directory / ".gitignore").unlink()
    assert ("environments/prod-secrets.yaml", 4) in warned(home) or not repository
    for path in (prod, secrets):
        done = run(home, "seal-file", str(path.relative_to(home.directory)))
        assert done.returncode == 0, done.stderr
        assert "plain" not in path.read_text()
    assert warned(home) == []


def test_the_example_home_has_none(tmp_path: Path):
    """Nor has the one to begin with."""
    for example in ("alicia", "door_bell"):
        directory = tmp_path / example
        lay_out(directory, example)
        found = json.loads(run(Daemon(directory, broker_port=1), "check", "-e", "dev", "-o", "json").stdout)
        assert "in the open" not in json.dumps(found)
