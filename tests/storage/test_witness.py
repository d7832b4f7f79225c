"""The file beside the database that shows whether the database went back."""

import os
from pathlib import Path

import pytest

from aliciacfg.model.records import Position
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.witness import KeysWitness, Witness
from stored_rows import CHAIN

HIGHEST = Position(2**53 - 1, 2**53 - 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "witness"


def test_the_last_position_is_read_back(path: Path):
    """Also by the next process; the file is for its owner, and keeps its length."""
    witness = Witness(path, CHAIN)
    assert witness.read() is None
    lengths: set[int] = set()
    for position in (Position(1, 0), Position(1, 9), Position(2, 3), HIGHEST):
        witness.write(position)
        assert Witness(path, CHAIN).read() == position
        lengths.add(path.stat().st_size)
    assert len(lengths) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lower_position_does_not_replace_what_shows_that_the_database_went_back(path: Path):
    """Only a higher one does, as that of the raised epoch."""
    Witness(path, CHAIN).write(Position(1, 9))
    witness = Witness(path, CHAIN)
    assert witness.read() == Position(1, 9)
    witness.write(Position(1, 5))
    assert witness.read() == Position(1, 9)
    witness.write(Position(2, 6))
    assert witness.read() == Position(2, 6)


def test_what_was_not_written_with_these_keys_is_ignored(path: Path, capsys: pytest.CaptureFixture[str]):
    """Of other keys, cut, edited, of another kind: told in the log, and overwritten by the next commit."""
    Witness(path, CHAIN).write(Position(3, 9))
    right = path.read_bytes()
    Witness(path, Chain(Keyring.ephemeral())).write(Position(3, 9))
    for content in (path.read_bytes(), b"", right[:-1], right + b"\n", right.replace(b"9", b"8", 1), b"\xff" * 99):
        path.write_bytes(content)
        witness = Witness(path, CHAIN)
        assert witness.read() is None
        assert "witness_ignored" in capsys.readouterr().out
        witness.write(Position(1, 1))
        assert witness.read() == Position(1, 1)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert Witness(path, CHAIN).read() is None
    path.unlink()
    os.mkfifo(path)
    assert Witness(path, CHAIN).read() is None


def test_a_file_that_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A commit does not fail because of it."""
    witness = Witness(tmp_path / "missing" / "witness", CHAIN)
    witness.write(Position(1, 1))
    witness.write(Position(1, 2))
    assert capsys.readouterr().out.count("witness_not_written") == 1


def test_the_generation_of_the_keys_is_read_back(path: Path):
    """Of the same home only; a file that cannot be used counts as none."""
    witness = KeysWitness(path)
    assert witness.read("ab") == 0
    witness.write("ab", 7)
    witness.write("ab", 12)
    assert KeysWitness(path).read("ab") == 12
    assert KeysWitness(path).read("cd") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"\xff\n")
    assert KeysWitness(path).read("ab") == 0


def test_a_file_for_the_generation_that_cannot_be_written_is_logged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Everything else goes on."""
    witness = KeysWitness(tmp_path / "missing" / "keys-witness")
    witness.write("ab", 7)
    witness.write("ab", 8)
    assert capsys.readouterr().out.count("keys_witness_not_written") == 1
