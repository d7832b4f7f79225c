"""A new home: what is laid out, that it is valid at once, and that nothing is overwritten."""

import os
import resource
import tomllib
from functools import partial
from pathlib import Path

import pytest

from aliciacfg.core.file_check import check_files
from aliciacfg.documents import DocumentLimits
from aliciacfg.sources import loader
from aliciacfg.sources.new_home import Example, FilesExist, lay_out
from repository import ROOT, SERVICES


def files_of(directory: Path) -> dict[str, bytes]:
    """The content of every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize(("example", "environment", "valid"), [("door_bell", None, 2), ("alicia", "dev", 22)])
def test_a_new_home_is_valid_at_once(tmp_path: Path, example: Example, environment: str | None, valid: int):
    """Without a variable and without a secret; nor does any line of it do nothing."""
    home = tmp_path / "not" / "there"
    assert sorted(lay_out(home, example).created) == list(files_of(home))
    load = partial(loader.load, environments_dir=home / "environments", schemas_dir=home / "schemas", variables={})
    found = check_files(load, None, limits=DocumentLimits(), environment=environment)
    assert (found.valid, found.problems, found.warnings) == (valid, [], [])


def test_the_large_example_is_the_repositorys_own(tmp_path: Path):
    """One source of truth; secrets and rules that somebody put beside it are left behind."""
    lay_out(tmp_path, "alicia")
    made = files_of(tmp_path)
    assert {Path(name).stem for name in made if name.startswith("schemas/")} == set(SERVICES)
    assert all((ROOT / name).read_bytes() == content for name, content in made.items() if name != ".gitignore")
    assert not [name for name in made if name.endswith(("-secrets.yaml", "access.yaml"))]


def test_the_wheel_is_told_of_every_file_of_the_large_example(tmp_path: Path):
    """The environment files are named one by one; one that is new must not be left out."""
    lay_out(tmp_path, "alicia")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    included: dict[str, str] = settings["force-include"]
    assert all(target == f"aliciacfg/sources/alicia/{source}" for source, target in included.items())
    made = {name for name in files_of(tmp_path) if name.startswith("environments/")}
    assert included.keys() == {"schemas", *made}


def test_a_disk_that_becomes_full_leaves_no_part_of_a_home(tmp_path: Path):
    """Neither half a file nor an empty .gitignore, which would let git take secrets; then there is room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Room for .gitignore, and for a part of base.yaml.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        for home in (tmp_path, tmp_path / "new" / "home"):
            with pytest.raises(OSError, match="File too large"):
                lay_out(home, "door_bell")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert lay_out(tmp_path, "door_bell").unprotected == []


@pytest.mark.parametrize(
    "there", ["environments/base.yaml", "environments/staging.yaml", "schemas/lamp.json", "environments", "schemas"]
)
def test_what_stands_in_the_way_is_named_and_nothing_is_written(tmp_path: Path, there: str):
    """A file of the same name, another file that would become part of the home, or a file for a directory."""
    path = tmp_path / there
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine\n")
    before = files_of(tmp_path)
    with pytest.raises(FilesExist) as refused:
        lay_out(tmp_path, "door_bell")
    assert refused.value.paths == [path]
    assert files_of(tmp_path) == before


def test_a_link_that_leads_nowhere_is_in_the_way_too(tmp_path: Path):
    """Writing through it would make a file elsewhere."""
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "dev.yaml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FilesExist):
        lay_out(tmp_path, "door_bell")
    assert not os.path.lexists(tmp_path / "elsewhere")


def test_ones_own_gitignore_stays_and_what_it_lacks_is_told(tmp_path: Path):
    """Otherwise secrets would be committed."""
    (tmp_path / ".gitignore").write_text("*.pyc\ndata/\n")
    made = lay_out(tmp_path, "door_bell")
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\ndata/\n"
    assert made.unprotected == ["environments/*-secrets.yaml", ".env", "*.key", "*.password", "/access/"]
    assert ".gitignore" not in made.created
