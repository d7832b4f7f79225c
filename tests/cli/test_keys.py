"""``aliciacfg keys`` in the directory of a daemon that shares its database with others."""

import json
import os
import stat
from pathlib import Path

import pytest

from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED
from aliciacfg.sealing.key_encryption import FILE_NAME, SETTING, KeyEncryptionKey
from aliciacfg.sealing.key_file import KeyFile
from builders import valid_config
from command_runs import run
from postgres import Postgres

NOW = 1_700_000_000.0


@pytest.fixture
def data(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a home whose first key was made just now."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALICIACFG_DATABASE_URL", postgres.create())
    done = run("keys", "new")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "data"


def test_the_keys_of_the_database_are_shown(data: Path):
    """With the place, and the key that wraps them, which is in the data directory if no setting names one."""
    assert not (data / "keys.json").exists()
    key = KeyEncryptionKey.load(data / FILE_NAME)
    shown = json.loads(run("keys", "show", "-o", "json").stdout)
    assert (shown["key_encryption_key"], len(shown["keys"])) == (key.key_id, 1)
    text = run("keys", "show", "-o", "table").stdout
    assert f"wrapped by key-encryption key {key.key_id} (data/{FILE_NAME})" in text
    assert "the database postgresql://" in text


@pytest.mark.parametrize("command", [["keys", "new"], ["secret", "set", "bell", "/settings/token"]])
def test_of_a_first_key_only_the_result_is_on_standard_output(
    command: list[str], tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
):
    """The warning that the key which wraps it has to be copied is logged on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALICIACFG_DATABASE_URL", postgres.create())
    for name in ("environments", "schemas"):
        (tmp_path / name).mkdir()
    (tmp_path / "environments" / "dev.yaml").write_text(json.dumps({"services": {"bell": valid_config()}}))
    done = run("-o", "json", *command, stdin="secret")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)
    assert f"file=data/{FILE_NAME}" in done.stderr


def test_a_key_is_added_without_a_daemon_and_the_others_learn_of_it(data: Path, tmp_path: Path):
    """In the database; `new` and `rotate` say that a daemon has to run, since others seal at present."""
    assert not (data / "keys.json").exists()
    lost = KeyFile.create(tmp_path / "lost.json", now=NOW)
    done = run("keys", "add", "--from", str(tmp_path / "lost.json"))
    assert done.exit_code == 0, done.output
    assert len(json.loads(run("keys", "show", "-o", "json").stdout)["keys"]) == 2
    for command in (["new"], ["rotate"], ["remove", lost.current]):
        refused = run("keys", *command)
        assert (refused.exit_code, "start the daemon of this data directory" in refused.stderr) == (EXIT_FAILED, True)


def test_another_key_encryption_key_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As other faults of keys are, with both ids and what to do; a missing one likewise."""
    other = KeyEncryptionKey.create(tmp_path / "other.key")
    own = KeyEncryptionKey.load(data / FILE_NAME)
    monkeypatch.setenv(SETTING, str(tmp_path / "other.key"))
    refused = run("keys", "show")
    assert refused.exit_code == EXIT_FAILED
    assert f"is the key-encryption key {other.key_id}, but the keys in" in refused.stderr
    assert f"are wrapped by {own.key_id}" in refused.stderr
    monkeypatch.setenv(SETTING, str(tmp_path / "nothing.key"))
    assert "Copy it, with mode 0600, from another machine of the home" in run("keys", "show").stderr


def test_the_keys_are_wrapped_anew(data: Path, tmp_path: Path):
    """The keys stay the same; the file before opens them no longer, and it says what has to be done on each machine."""
    before = json.loads(run("keys", "show", "-o", "json").stdout)
    made = run("keys", "kek", "new.key", "-o", "json")
    assert json.loads(made.stdout)["is_new"]
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600
    assert not json.loads(run("keys", "kek", "new.key", "-o", "json").stdout)["is_new"]
    done = run("keys", "rewrap", "new.key", "-o", "table")
    assert done.exit_code == 0, done.stderr
    assert f"Put new.key in the place of data/{FILE_NAME} on every machine" in done.stdout
    # After an answer that was not seen it may be run again.
    again = run("keys", "rewrap", "new.key", "-o", "table")
    assert (again.exit_code, "already." in again.stdout) == (0, True), again.stderr
    assert run("keys", "show").exit_code == EXIT_FAILED
    (tmp_path / "new.key").replace(data / FILE_NAME)
    after = json.loads(run("keys", "show", "-o", "json").stdout)
    assert after["keys"] == before["keys"]
    assert after["key_encryption_key"] == KeyEncryptionKey.load(data / FILE_NAME).key_id
    # From a file elsewhere, which --from names.
    KeyEncryptionKey.create(tmp_path / "third.key")
    (data / FILE_NAME).rename(tmp_path / "second.key")
    assert run("keys", "rewrap", "third.key", "--from", "second.key").exit_code == 0


def test_keys_that_were_put_back_are_accepted_on_purpose(data: Path, postgres: Postgres):
    """Until then each command that needs them says what to do."""
    url = os.environ["ALICIACFG_DATABASE_URL"]
    ((home,),) = postgres.execute("SELECT home FROM aliciacfg.keys", url=url)
    assert json.loads(run("keys", "accept", "-o", "json").stdout) == {"accepted": False}
    (data / "keys-witness").write_text(f"{home} 9000000000\n")
    refused = run("keys", "show")
    assert (refused.exit_code, "`aliciacfg keys accept`" in refused.stderr) == (EXIT_FAILED, True)
    accepted = run("keys", "accept", "-o", "table")
    assert (accepted.exit_code, "count from now on" in accepted.stdout) == (0, True), accepted.stderr
    assert run("keys", "show").exit_code == 0
    ((generation,),) = postgres.execute("SELECT generation FROM aliciacfg.keys", url=url)
    assert generation == 9000000001


def test_the_keys_of_one_daemon_are_not_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It says which setting makes a shared home."""
    monkeypatch.chdir(tmp_path)
    assert run("keys", "new").exit_code == 0
    assert run("keys", "kek", "new.key").exit_code == 0
    refused = run("keys", "rewrap", "new.key")
    assert (refused.exit_code, "ALICIACFG_DATABASE_URL" in refused.stderr) == (EXIT_CODES["conflict"], True)


def test_doctor_looks_at_the_keys_in_the_database(data: Path):
    """Whether they open here; else with the remedy."""
    assert "open with the key-encryption key of this machine" in run("doctor", "-o", "json").stdout
    (data / FILE_NAME).unlink()
    assert "Copy it, with mode 0600" in run("doctor", "-o", "json").stdout
