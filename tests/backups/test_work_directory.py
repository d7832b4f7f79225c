"""Where a backup is made beside its file, and what becomes of it if its process is killed."""

import tempfile
from pathlib import Path

import pytest

from aliciacfg.backups.work_directory import work_directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a home with a name."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "instance").write_text("0123456789abcdef")
    return data


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "stick"
    place.mkdir()
    return place


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def left(place: Path, data: Path) -> Path:
    """Leave what a process leaves that is killed while it makes a backup: no process has it locked any more."""
    with work_directory(place, data) as made:
        (made / "archive").write_text("half")
        killed = made
        made.rename(place / "as it was")
    return (place / "as it was").rename(killed)


def test_nothing_is_left_of_it(place: Path, data: Path):
    """Also where the block fails; only this user may look into it meanwhile."""
    with work_directory(place, data) as made:
        assert (made.parent, made.stat().st_mode & 0o777) == (place, 0o700)
    with pytest.raises(FileExistsError), work_directory(place, data) as made:
        made.mkdir()
    assert names(place) == set()


def test_what_a_killed_process_left_goes_with_the_next(place: Path, data: Path):
    """But neither what another process makes just now, nor what is another home's, nor files of other names."""
    killed = left(place, data)
    with work_directory(place, data) as other:
        # The one before it went.
        assert names(place) == {other.name}
        killed = left(place, data)
        other_home = left(place, data).rename(place / killed.name.replace("0123456789abcdef", "f" * 16))
        (place / ".snapshot-mine").mkdir()
        linked = killed.with_name(f"{killed.name}-link")
        linked.symlink_to(data)
        with work_directory(place, data) as made:
            assert names(place) == {made.name, other.name, other_home.name, ".snapshot-mine", linked.name}
    assert names(place) == {other_home.name, ".snapshot-mine", linked.name}
    assert names(data) == {"instance"}


def test_a_home_without_a_name_removes_nothing(place: Path, tmp_path: Path):
    """It could be any other's."""
    unnamed = tmp_path / "unnamed"
    unnamed.mkdir()
    killed = left(place, unnamed)
    with work_directory(place, unnamed):
        assert killed.exists()


def test_one_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    place: Path, data: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another backup begins just then."""
    make = tempfile.mkdtemp
    taken: list[Path] = []

    def slow(**options: str) -> str:
        name = make(**options)
        if not taken:
            taken.append(Path(name))
            with work_directory(place, data):
                assert not taken[0].exists()
        return name

    monkeypatch.setattr(tempfile, "mkdtemp", slow)
    with work_directory(place, data) as made:
        assert taken != [made]
        assert names(place) == {made.name}
