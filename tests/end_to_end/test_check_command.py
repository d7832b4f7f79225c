"""``aliciacfg check``: reports problems of files and store, beside a daemon and without one."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from commands import aliciacfg, on_terminal
from daemons import Daemon


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_files_and_store_are_checked_beside_a_daemon_and_without_one(daemon: Daemon):
    """Checks every configuration of dev and every stored row; writes and locks nothing."""
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 1}}')
    beside = aliciacfg(daemon, "check", "-e", "dev")
    assert beside.returncode == 0, beside.stderr
    assert report(beside)["files"] == {"valid": 22, "problems": [], "unopened": []}
    assert (report(beside)["store"]["broken"], report(beside)["store"]["confirmed"] > 22) == ([], True)
    daemon.stop()
    alone = on_terminal(daemon, "check", "--environment", "dev")
    assert alone.returncode == 0
    assert "files: 22 configurations are valid" in alone.text
    assert re.search(r"store: \d+ rows are confirmed", alone.text)


@pytest.mark.sqlite("a home without a database: the one on a server is there")
def test_every_problem_has_its_line(make_daemon: Callable[..., Daemon]):
    """Invalid files of all environments exit with 4, an unknown environment with 3. No daemon has run here."""
    home = make_daemon()
    seen = on_terminal(home, "check")
    assert seen.returncode == 4
    for environment in ("prod", "staging"):
        place = f"environments/{environment}-secrets.yaml: /mqtt_config/password: is missing"
        assert seen.text.count(place) == 1
        assert f"make it with `aliciacfg secret generate {environment}`" in seen.text
    assert "affects advanced_voice in prod, ai_service in prod" in seen.text
    assert "set it with `aliciacfg secret set ai_service /settings/grok_api_key -e prod`" in seen.text
    assert re.search(r"files: \d+ problems; 22 configurations are valid", seen.text)
    assert "store: data has no database yet" in seen.text
    assert not home.data.exists()
    nowhere = aliciacfg(home, "check", "-e", "nowhere")
    assert (nowhere.returncode, "there are: dev, prod, staging" in nowhere.stderr) == (3, True)
    moved = aliciacfg(home, "check", "--schemas-dir", "nowhere")
    assert (moved.returncode, report(moved)["files"]["problems"][0]["file"]) == (4, "nowhere/")


def test_a_changed_row_exits_with_1(daemon: Daemon):
    """The row is named for people and for scripts, whether or not the files are valid."""
    daemon.stop()
    daemon.edit_database("UPDATE revisions SET author = 'luigi' WHERE service = 'voice_router'")
    seen = on_terminal(daemon, "check")
    assert seen.returncode == 1
    assert "dev/voice_router/1: revision 1 of voice_router in dev is not confirmed" in seen.text
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, [row["subject"] for row in report(done)["store"]["broken"]]) == (1, ["dev/voice_router/1"])


@pytest.mark.sqlite("its keys and its database are files")
def test_a_store_that_cannot_be_verified_exits_with_1(daemon: Daemon):
    """Without keys no row is confirmed, and no keys are made; a file that is not a database is reported."""
    daemon.stop()
    keys = daemon.data / "keys.json"
    kept = keys.read_bytes()
    keys.unlink()
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, "keys.json is missing" in report(done)["store"]["problem"]) == (1, True)
    assert not keys.exists()
    keys.write_bytes(kept)
    assert "chmod 600" in aliciacfg(daemon, "check", "-e", "dev").stderr
    keys.chmod(0o600)
    (daemon.data / "aliciacfg.db").write_bytes(b"no database" * 1000)
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, "not a database" in report(done)["store"]["problem"]) == (1, True)


@pytest.mark.sqlite("its database is not in the data directory")
def test_an_unreadable_data_directory_is_reported(make_daemon: Callable[..., Daemon]):
    """The error is a sentence, not a traceback."""
    done = aliciacfg(make_daemon(), "check", "-e", "dev", "--data-dir", "x" * 300)
    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
