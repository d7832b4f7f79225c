"""``aliciacfg check``: what is wrong with files and store, found without asking a daemon."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.core.file_check import FileFindings, check_files
from aliciacfg.errors import NotFound
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sources import loader
from support import Daemon, aliciacfg, on_terminal

DOCUMENT = """
    mqtt_config: {host: broker, port: 1883, password: "%s"}
    api_config: {host: 127.0.0.1, port: 8000}
"""
ONE = "services:\n  one:" + DOCUMENT


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Directories for environments and schemas, empty."""
    for name in ("environments", "schemas"):
        (tmp_path / name).mkdir()
    return tmp_path


def check(home: Path, keyring: Keyring | None = None, environment: str | None = None) -> FileFindings:
    load = partial(
        loader.load,
        environments_dir=home / "environments",
        schemas_dir=home / "schemas",
        variables={},
    )
    return check_files(load, keyring, max_bytes=100_000, environment=environment)


def test_valid_files_are_counted(home: Path):
    """Two environments with one service each make two configurations."""
    (home / "environments/base.yaml").write_text(ONE % "p")
    for name in ("dev", "prod"):
        (home / f"environments/{name}.yaml").write_text("defaults: {}\n")
    assert check(home) == FileFindings(2, [], [])


def test_each_problem_is_told_once_with_its_line_and_all_that_it_spoils(home: Path):
    """A wrong value in base.yaml is one thing to mend, however many environments take it."""
    (home / "environments/base.yaml").write_text(ONE % "p" + "    limits:\n      x: many\n")
    for name in ("dev", "prod"):
        (home / f"environments/{name}.yaml").write_text("defaults: {}\n")
    findings = check(home)
    assert findings.valid == 0
    (problem,) = findings.problems
    assert (problem.file, problem.line, problem.pointer) == ("environments/base.yaml", 6, "/limits/x")
    assert problem.configurations == ["one in dev", "one in prod"]
    assert "expected a number" in problem.message


def test_every_environment_is_looked_at_and_one_if_asked(home: Path):
    """A broken file of one environment leaves the others checked; an environment can be picked."""
    (home / "environments/base.yaml").write_text(ONE % "p")
    (home / "environments/dev.yaml").write_text("servises: {}\n")
    (home / "environments/prod.yaml").write_text("services: {one: {limits: {x: y}}}\n")
    findings = check(home)
    assert [(problem.file, problem.line) for problem in findings.problems] == [
        ("environments/dev.yaml", 1),
        ("environments/prod.yaml", 1),
    ]
    assert [problem.file for problem in check(home, environment="prod").problems] == ["environments/prod.yaml"]
    with pytest.raises(NotFound, match="dev, prod"):
        check(home, environment="stage")


def test_schemas_that_cannot_be_used_are_all_told(home: Path):
    """What concerns every environment is told without a configuration."""
    (home / "environments/dev.yaml").write_text(ONE % "p")
    (home / "schemas/one.yaml").write_text("properties: 5\n")
    (home / "schemas/two.yml").write_text("{}\n")
    findings = check(home)
    assert {problem.file for problem in findings.problems} == {"schemas/one.yaml", "schemas/two.yml"}
    assert all(problem.configurations == [] for problem in findings.problems)


def test_sealed_values_open_with_the_key_and_are_left_out_without_one(home: Path):
    """With the key a box is checked; with another one it is a problem; with none it is said that nobody looked."""
    right, wrong = Keyring.ephemeral(), Keyring.ephemeral()
    place = {"service": "one", "environment": "dev", "pointer": "/mqtt_config/password"}
    (home / "environments/dev.yaml").write_text(ONE % right.seal("p", **place))
    assert check(home, right) == FileFindings(1, [], [])
    (problem,) = check(home, wrong).problems
    assert problem.pointer == "/mqtt_config/password"
    assert check(home, None) == FileFindings(0, [], ["one in dev"])


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_files_and_store_are_checked_beside_a_daemon_and_without_one(daemon: Daemon):
    """Every configuration of dev and every recorded row; nothing is written, nothing locked."""
    aliciacfg(daemon, "patch", "voice_router", '{"limits": {"x": 1}}')
    beside = aliciacfg(daemon, "check", "-e", "dev")
    assert beside.returncode == 0, beside.stderr
    assert told(beside)["files"] == {"valid": 22, "problems": [], "unopened": []}
    assert (told(beside)["store"]["broken"], told(beside)["store"]["confirmed"] > 22) == ([], True)
    daemon.stop()
    alone = on_terminal(daemon, "check", "--environment", "dev")
    assert alone.returncode == 0
    assert "files: 22 configurations are valid" in alone.text
    assert re.search(r"store: \d+ rows are confirmed", alone.text)


def test_every_problem_is_told_with_its_line(make_daemon: Callable[..., Daemon]):
    """All environments: what prod and staging lack is told, 4; a name that is none is 3. No daemon ever ran here."""
    home = make_daemon()
    seen = on_terminal(home, "check")
    assert seen.returncode == 4
    assert re.search(r"environments/base\.yaml:\d+: /mqtt_config/password: is missing", seen.text)
    assert "spoils voice_router in prod, voice_router in staging" in seen.text
    assert re.search(r"files: \d+ to mend, 22 configurations are valid", seen.text)
    assert "store: nothing is recorded in data yet" in seen.text
    assert not home.data.exists()
    nowhere = aliciacfg(home, "check", "-e", "nowhere")
    assert (nowhere.returncode, "there are: dev, prod, staging" in nowhere.stderr) == (3, True)
    moved = aliciacfg(home, "check", "--schemas-dir", "nowhere")
    assert (moved.returncode, told(moved)["files"]["problems"][0]["file"]) == (4, "nowhere/")


def test_a_row_that_somebody_changed_is_1(daemon: Daemon):
    """Whatever the files are: the row is named, by eye and for scripts."""
    daemon.stop()
    with closing(sqlite3.connect(daemon.data / "aliciacfg.db")) as database:
        database.execute("UPDATE revisions SET author = 'luigi' WHERE service = 'voice_router'")
        database.commit()
    seen = on_terminal(daemon, "check")
    assert seen.returncode == 1
    assert "dev/voice_router/1: revision 1 of voice_router in dev is not confirmed" in seen.text
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, [row["subject"] for row in told(done)["store"]["broken"]]) == (1, ["dev/voice_router/1"])


def test_a_store_that_cannot_be_compared_is_1(daemon: Daemon):
    """Without its keys nothing is confirmed, and no keys are made; what is no database is none."""
    daemon.stop()
    keys = daemon.data / "keys.json"
    kept = keys.read_bytes()
    keys.unlink()
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, "keys.json is missing" in told(done)["store"]["problem"]) == (1, True)
    assert not keys.exists()
    keys.write_bytes(kept)
    assert "chmod 600" in aliciacfg(daemon, "check", "-e", "dev").stderr
    keys.chmod(0o600)
    (daemon.data / "aliciacfg.db").write_bytes(b"no database" * 1000)
    done = aliciacfg(daemon, "check", "-e", "dev")
    assert (done.returncode, "not a database" in told(done)["store"]["problem"]) == (1, True)


def test_a_data_directory_that_cannot_be_looked_at_is_said_to_be(make_daemon: Callable[..., Daemon]):
    """A closed one, or a name that is none: a sentence, no traceback."""
    done = aliciacfg(make_daemon(), "check", "-e", "dev", "--data-dir", "x" * 300)
    assert (done.returncode, "cannot be read" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
