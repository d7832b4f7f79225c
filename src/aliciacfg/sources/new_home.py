"""Lays out a new home: the files that people edit, from those that this program carries."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from aliciacfg.atomic_files import FilesTogether
from aliciacfg.errors import AliciacfgError

Example = Literal["door_bell", "alicia"]

ENVIRONMENTS, SCHEMAS = "environments", "schemas"
_IGNORED = ".gitignore"
# What a directory of environments or schemas has at most when there is no home in it yet.
_ENDINGS = (".yaml", ".json")
# In a working copy there may be secrets and rules beside the example.
_PRIVATE = ("-secrets.yaml", "access.yaml")
_CARRIED = (*_ENDINGS, ".example")


class FilesExist(AliciacfgError):
    """Files stand where the new home would be.

    Attributes:
        paths: Those files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        super().__init__(f"in the way: {', '.join(map(str, paths))}")


@dataclass(frozen=True, slots=True)
class NewHome:
    """What was laid out.

    Attributes:
        created: The files, relative to the home.
        unprotected: What the home's own ``.gitignore``, which was there before, does not name.
    """

    created: list[str]
    unprotected: list[str]


def lay_out(directory: Path, example: Example) -> NewHome:
    """Write the files of a new home; never over another file.

    Args:
        directory: The home; made if it is missing.
        example: Which services it has: one to learn from, or the 22 of the Alicia home.

    Raises:
        FilesExist: Files of a home are there already; nothing was written.
        OSError: A directory or file cannot be written; none was.
    """
    wanted = dict(_files(example))
    _check_free(directory, wanted)
    unprotected: list[str] = []
    if os.path.lexists(directory / _IGNORED):
        there = (directory / _IGNORED).read_text("utf-8", "replace")
        unprotected = _missing_lines(there, wanted.pop(_IGNORED).decode())
    # A part of a home is none, and an empty .gitignore would let git take the secrets.
    with FilesTogether() as files:
        for name in (ENVIRONMENTS, SCHEMAS):
            files.make_directory(directory / name)
        for name, content in wanted.items():
            files.create(directory / name, content)
    return NewHome(list(wanted), unprotected)


def _check_free(directory: Path, wanted: dict[str, bytes]) -> None:
    found = {directory / name for name in wanted if name != _IGNORED and os.path.lexists(directory / name)}
    for name in (ENVIRONMENTS, SCHEMAS):
        there = directory / name
        if os.path.lexists(there) and not there.is_dir():
            found.add(there)
        elif there.is_dir():
            # They would become part of the home, and it might not be valid with them.
            found |= {path for path in there.iterdir() if path.suffix in _ENDINGS and not path.name.startswith(".")}
    if found:
        raise FilesExist(sorted(found))


def _missing_lines(there: str, wanted: str) -> list[str]:
    lines = {line.strip().strip("/") for line in there.splitlines()}
    needed = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    return [line for line in needed if line.strip("/") not in lines]


def _files(example: Example) -> Iterator[tuple[str, bytes]]:
    starter = _carried("starter")
    yield _IGNORED, starter.joinpath("gitignore").read_bytes()
    root = starter if example == "door_bell" else _alicia()
    for directory in (ENVIRONMENTS, SCHEMAS):
        for file in sorted(root.joinpath(directory).iterdir(), key=lambda file: file.name):
            if file.name.endswith(_CARRIED) and not file.name.endswith(_PRIVATE):
                yield f"{directory}/{file.name}", file.read_bytes()


def _alicia() -> Traversable:
    """Return the directory of the example home: in a wheel beside this module, else in the working copy."""
    carried = _carried("alicia")
    return carried if carried.is_dir() else Path(__file__).resolve().parents[3]


def _carried(name: str) -> Traversable:
    return files("aliciacfg.sources").joinpath(name)
