"""The files of the broker: their lines, and their permissions."""

import os
import stat
from pathlib import Path

import pytest

from aliciacfg.access.rules import without_rules
from aliciacfg.access.rules_file import load
from aliciacfg.atomic_files import LinkRefused
from aliciacfg.errors import InvalidRequest
from aliciacfg.mqtt.broker.access_list import access_list
from aliciacfg.mqtt.broker.files import ACL, PASSWORDS, is_complete, prepare_directory, write_broker_files


def listing(*services: str) -> str:
    return access_list(without_rules(services, tokens=True))


def users(directory: Path) -> list[str]:
    return [line.partition(":")[0] for line in (directory / PASSWORDS).read_text().splitlines()]


def add(directory: Path, line: bytes) -> None:
    """As ``mosquitto_passwd`` does."""
    with (directory / PASSWORDS).open("ab") as file:
        file.write(line)


def test_both_files_are_for_the_broker_alone(tmp_path: Path):
    """The directory is made; the files have its group, and no other user can read them."""
    directory = tmp_path / "access"
    prepare_directory(directory)
    assert list(directory.iterdir()) == []
    assert not is_complete(directory)
    write_broker_files(directory, access=listing("a"), passwords={"a": "of-a"})
    assert stat.S_IMODE(directory.stat().st_mode) & 0o007 == 0
    for name in (ACL, PASSWORDS):
        status = (directory / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, directory.stat().st_gid)
    assert (directory / ACL).read_text() == listing("a")
    assert users(directory) == ["a"]
    assert "of-a" not in (directory / PASSWORDS).read_text()
    prepare_directory(directory)
    assert {path.name for path in directory.iterdir()} == {ACL, PASSWORDS}
    assert is_complete(directory)


@pytest.mark.parametrize("name", [ACL, PASSWORDS])
def test_a_directory_in_which_a_file_cannot_be_is_told_before(tmp_path: Path, name: str):
    """Before any password is made for it; as is one whose parent is not there."""
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=name):
        prepare_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        prepare_directory(tmp_path / "a" / "b")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another group")
def test_the_group_is_that_of_the_directory(tmp_path: Path):
    """Whatever the groups of this process are, and of the files of before."""
    os.chown(tmp_path, -1, 1883)
    for _ in range(2):
        write_broker_files(tmp_path, access=listing("a"), passwords={"a": "of-a"})
        assert {path.stat().st_gid for path in tmp_path.iterdir()} == {1883}
        os.chown(tmp_path / ACL, -1, 0)


def test_users_of_others_keep_their_lines(tmp_path: Path):
    """Those added by hand stay, comments too; a service that is gone cannot log in any more."""
    write_broker_files(tmp_path, access=listing("a", "b"), passwords={"a": "of-a", "b": "of-b"})
    add(tmp_path, b"# people\nzigbee2mqtt:$7$101$c2FsdA==$a2V5\n")
    write_broker_files(tmp_path, access=listing("a"), passwords={"a": "other"})
    assert users(tmp_path) == ["a", "# people", "zigbee2mqtt"]
    # Added by hand in the name of a service: the configuration's password counts.
    add(tmp_path, b"c:$7$101$c2FsdA==$a2V5\n")
    write_broker_files(tmp_path, access=listing("a", "c"), passwords={"a": "of-a", "c": "of-c"})
    assert users(tmp_path) == ["a", "c", "# people", "zigbee2mqtt"]


def test_lines_of_others_stay_byte_for_byte(tmp_path: Path):
    """Whatever their encoding; only a newline ends a line. What does not end in one is ended."""
    odd = "b\x85c\u2028d:$7$101$c2FsdA==$a2V5".encode()
    write_broker_files(tmp_path, access=listing("a"), passwords={"a": "of-a"})
    add(tmp_path, b"# f\xfcr G\xe4ste\n" + odd)
    for _ in range(2):
        write_broker_files(tmp_path, access=listing("a"), passwords={"a": "of-a"})
        assert (tmp_path / PASSWORDS).read_bytes().split(b"\n")[1:] == [b"# f\xfcr G\xe4ste", odd, b""]


def test_an_administrator_of_the_rules_keeps_a_line_that_was_added(tmp_path: Path):
    """The list names it, and nothing says its password but that line."""
    rules = access_list(load("admins: [operator]\n", services=["a"]))
    write_broker_files(tmp_path, access=rules, passwords={"a": "of-a", "operator": "typed"})
    before = (tmp_path / PASSWORDS).read_text().splitlines()[1]
    write_broker_files(tmp_path, access=rules, passwords={"a": "of-a"})
    assert (tmp_path / PASSWORDS).read_text().splitlines()[1] == before
    write_broker_files(tmp_path, access=listing("a"), passwords={"a": "of-a"})
    assert users(tmp_path) == ["a"]


def test_what_cannot_be_written_changes_nothing(tmp_path: Path):
    """A password that can be none is refused before anything is touched."""
    write_broker_files(tmp_path, access=listing("a"), passwords={"a": "of-a"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidRequest, match="no password file"):
        write_broker_files(tmp_path, access=listing("b"), passwords={"b": ""})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", [ACL, PASSWORDS])
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard"])
def test_a_link_that_the_broker_planted_is_not_followed(tmp_path: Path, name: str, kind: str):
    """Neither to write what it leads to, nor to read it into a file that the broker can read."""
    directory, target = tmp_path / "access", tmp_path / "secret"
    prepare_directory(directory)
    write_broker_files(directory, access=listing("a"), passwords={"a": "of-a"})
    (directory / name).unlink()
    if kind != "dangling":
        target.write_text("hidden:line\n")
    if kind == "hard":
        (directory / name).hardlink_to(target)
    else:
        (directory / name).symlink_to(target)
    before = target.read_bytes() if target.exists() else None
    for attempt in (
        lambda: prepare_directory(directory),
        lambda: write_broker_files(directory, access=listing("a", "b"), passwords={"b": "of-b"}),
    ):
        with pytest.raises(LinkRefused, match="remove it") as refused:
            attempt()
        assert refused.value.filename == str(directory / name)
    assert (target.read_bytes() if target.exists() else None) == before
    other = directory / (ACL if name == PASSWORDS else PASSWORDS)
    assert b"hidden" not in other.read_bytes()
    if kind != "hard":
        assert not is_complete(directory)


def test_a_trial_leaves_nothing_and_writes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The broker's user may replace what appears in the directory at any time."""
    directory, elsewhere = tmp_path / "access", tmp_path / "elsewhere"
    elsewhere.mkdir()
    prepare_directory(directory)
    real = os.fchown

    def replaced(descriptor: int, *ids: int) -> None:
        for path in directory.iterdir():
            path.unlink()
            path.symlink_to(elsewhere / "acl")
        real(descriptor, *ids)

    monkeypatch.setattr("os.fchown", replaced)
    prepare_directory(directory)
    assert list(elsewhere.iterdir()) == []
