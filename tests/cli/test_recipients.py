"""``aliciacfg recipient new`` where no daemon is: on the machine of a service."""

import json
from pathlib import Path

import pytest

from aliciacfg.sealing.boxes import PrivateKey, PublicKey
from command_runs import run


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALICIACFG_KEY_FILE", raising=False)
    return tmp_path


def test_the_private_key_is_for_its_owner_and_the_public_one_for_the_daemon(directory: Path):
    """Printed is the command that registers it, and never the private key."""
    done = run("recipient", "new", "bell")
    told = json.loads(done.stdout)
    file = directory / "bell.key"
    key = PrivateKey.parse(file.read_text())
    assert (done.exit_code, file.stat().st_mode & 0o777) == (0, 0o600)
    assert PublicKey.parse(told["public_key"]) == key.public
    assert told["register"] == f"aliciacfg recipient set bell {key.public}"
    assert (told["registered"], told["key_id"]) == (False, key.public.key_id)
    assert key.reveal() not in done.output


def test_a_key_is_added_to_a_file_and_never_replaces_one(directory: Path):
    """Both stay, one a line, whatever else the file says."""
    file = directory / "bell.key"
    first = PrivateKey.generate()
    file.touch(0o600)
    file.write_text(f"# of the bell\n{first.reveal()}")
    refused = run("recipient", "new", "bell")
    assert (refused.exit_code, "--add" in refused.stderr) == (1, True)
    assert run("recipient", "new", "bell", "--add").exit_code == 0
    comment, line, added = file.read_text().splitlines()
    assert (comment, line) == ("# of the bell", first.reveal())
    assert PrivateKey.parse(added).public != first.public
    assert file.stat().st_mode & 0o777 == 0o600


def test_outside_of_a_home_a_note_says_that_the_key_is_not_registered(directory: Path):
    """And what to do; not where that is meant."""
    made = run("recipient", "new", "door_bell")
    assert made.exit_code == 0
    assert "there is no home here" in made.stderr
    assert f"--key-file {directory / 'door_bell.key'}" in made.stderr
    assert "no home" not in run("recipient", "new", "gate", "--no-register").stderr


def test_the_variable_names_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """The same as for the service."""
    monkeypatch.setenv("ALICIACFG_KEY_FILE", str(directory / "other.key"))
    assert json.loads(run("recipient", "new", "bell", "--no-register").stdout)["key_file"].endswith("other.key")
    assert (directory / "other.key").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["get"], "'get' cannot name a service"),
        (
            ["bell", "--key-file", "none/bell.key"],
            "none/bell.key cannot be written: there is no directory none;",
        ),
        (["bell", "--key-file", "readable.key", "--add"], "chmod 600"),
        (["bell", "--key-file", "link.key", "--add"], "cannot be written: it is a link"),
    ],
)
def test_what_cannot_be_is_told(directory: Path, arguments: list[str], problem: str):
    """Before anything is written."""
    for name in ("readable.key", "target.key"):
        (directory / name).write_text(PrivateKey.generate().reveal())
    (directory / "readable.key").chmod(0o644)
    (directory / "target.key").chmod(0o600)
    (directory / "link.key").symlink_to("target.key")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    done = run("recipient", "new", *arguments)
    assert done.exit_code == 2
    assert problem in " ".join(done.stderr.split())
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
