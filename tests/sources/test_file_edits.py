"""Edits of environment files that are made together."""

from pathlib import Path

import pytest

from aliciacfg.errors import SourceError
from aliciacfg.sources.file_edits import FileEdits


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
