"""``aliciacfg secret``: which environments lack what another one has."""

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
