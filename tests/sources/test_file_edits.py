"""Edits of environment files that are made together."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from aliciacfg import atomic_files
from aliciacfg.atomic_files import replace_file
from aliciacfg.errors import SourceError
from aliciacfg.sources.file_edits import FileEdits

DISK_BYTES = 1200


def edits(home: Path) -> FileEdits:
    (home / "environments").mkdir(exist_ok=True)
    return FileEdits(environments_dir=home / "environments", schemas_dir=home / "schemas")


def test_what_an_edit_does_not_name_stays(tmp_path: Path):
    """Comments, order, and the members beside those that are set; nothing is written before it is asked for."""
    made = edits(tmp_path)
    path = made.base()
    before = "# mine\nservices:\n  bell:\n    settings:\n      a: 1  # one\n      b: {c: 2}\n  lamp: {}\n"
    path.write_text(before)
    made.set_service(path, "bell", {"settings": {"a": 5, "b": {"d": 3}}, "limits": {"x": 1}})
    made.set_service(path, "lamp", {"settings": {"lit": True}})
    assert path.read_text() == before
    made.write()
    assert path.read_text() == (
        "# mine\nservices:\n  bell:\n    settings:\n      a: 5  # one\n      b: {c: 2, d: 3}\n"
        "    limits:\n      x: 1\n  lamp:\n    settings:\n      lit: true\n"
    )


def test_a_new_file_of_secrets_is_private_and_says_what_it_is(tmp_path: Path):
    """One that others could read so far becomes private; another file keeps its mode."""
    made = edits(tmp_path)
    made.set_services(made.secrets("prod"), {"a": {"x": 1}, "b": {"x": 2}})
    made.set_services(made.secrets("prod"), {"b": {"z": 3}})
    dev = made.secrets("dev")
    dev.write_text("services:\n  a: {x: 1}\n")
    dev.chmod(0o664)
    made.set_service(dev, "a", {"x": 2})
    made.base().write_text("")
    made.base().chmod(0o664)
    made.set_service(made.base(), "a", {})
    made.write()
    prod = made.secrets("prod")
    assert prod.read_text().startswith("# Secrets of the environment prod. ")
    assert prod.read_text().endswith("services:\n  a:\n    x: 1\n  b:\n    x: 2\n    z: 3\n")
    assert [path.stat().st_mode & 0o777 for path in (prod, dev, made.base())] == [0o600, 0o660, 0o664]


def test_what_somebody_else_saves_meanwhile_is_not_overwritten(tmp_path: Path):
    """Whether the file was there before or not; no other file is written either."""
    made = edits(tmp_path)
    made.base().write_text("services: {}\n")
    for path in (made.base(), made.environment("dev"), made.secrets("dev")):
        made.set_service(path, "bell", {"settings": {"x": 1}})
    made.base().write_text("services: {}\n# saved meanwhile\n")
    made.secrets("dev").write_text("# mine\n")
    with pytest.raises(SourceError, match=r"base\.yaml: was changed .*\n.*dev-secrets\.yaml: was changed "):
        made.write()
    assert made.base().read_text() == "services: {}\n# saved meanwhile\n"
    assert made.secrets("dev").read_text() == "# mine\n"
    assert not made.environment("dev").exists()


def test_a_file_that_cannot_be_written_leaves_the_others_as_they_were(tmp_path: Path):
    """One that was written before it gets its old content and mode back, a new one is removed."""
    made = edits(tmp_path)
    made.base().write_text("# mine\n")
    made.base().chmod(0o640)
    for path in (made.base(), made.environment("dev")):
        made.set_service(path, "bell", {"settings": {"x": 1}})
    made.texts[made.schema("bell")] = "type: object\n"
    with pytest.raises(OSError, match="schemas"):
        made.write()
    assert (made.base().read_text(), made.base().stat().st_mode & 0o777) == ("# mine\n", 0o640)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["base.yaml"]


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """A home on a small disk, where both contents of a file that is replaced need room; return its files."""

    def files() -> dict[str, str]:
        return {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    def replace(path: Path, content: bytes, *, mode: int | None = None) -> None:
        if sum(map(len, files().values())) + len(content) > DISK_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        replace_file(path, content, mode=mode)

    monkeypatch.setattr(atomic_files, "replace_file", replace)
    return files


def texts(made: FileEdits, sizes: dict[str, int]) -> dict[str, str]:
    """Have edits give environment files texts of some sizes; return them."""
    written = {name: f"# {name[0] * (size - 3)}\n" for name, size in sizes.items()}
    made.texts = {made.environment(name.removesuffix(".yaml")): text for name, text in written.items()}
    return written


def test_a_disk_that_becomes_full_in_the_middle_has_what_it_had(
    tmp_path: Path, small_disk: Callable[[], dict[str, str]]
):
    """There is room for the old text of the first file only when the second one, a new file, is gone."""
    made = edits(tmp_path)
    made.base().write_text(f"# {'o' * 900}\n")
    before = small_disk()
    texts(made, {"base.yaml": 50, "dev.yaml": 600, "prod.yaml": 900})
    with pytest.raises(OSError, match=r"No space left on device: .*prod\.yaml"):
        made.write()
    assert small_disk() == before


def test_one_that_cannot_be_put_back_keeps_none_of_the_others(
    tmp_path: Path, small_disk: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
):
    """The error names it."""
    made = edits(tmp_path)
    for name in ("base", "dev"):
        made.environment(name).write_text(f"# {name}\n")
    before = small_disk()
    written = texts(made, {"base.yaml": 50, "dev.yaml": 60, "prod.yaml": 1100})
    replace = atomic_files.replace_file

    def hindered(path: Path, content: bytes, *, mode: int | None = None) -> None:
        if content.decode() == before["dev.yaml"]:
            raise OSError(errno.EIO, "Input/output error", str(path))
        replace(path, content, mode=mode)

    monkeypatch.setattr(atomic_files, "replace_file", hindered)
    with pytest.raises(OSError, match=r"Input/output error: .*dev\.yaml"):
        made.write()
    assert small_disk() == {**before, "dev.yaml": written["dev.yaml"]}


def test_an_interrupt_in_the_middle_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C, after the first of two files."""
    made = edits(tmp_path)
    made.base().write_text("# mine\n")
    texts(made, {"base.yaml": 50, "dev.yaml": 60})

    def interrupted(path: Path, content: bytes, *, mode: int | None = None) -> None:
        if path == made.environment("dev"):
            raise KeyboardInterrupt
        replace_file(path, content, mode=mode)

    monkeypatch.setattr(atomic_files, "replace_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.write()
    assert made.base().read_text() == "# mine\n"
