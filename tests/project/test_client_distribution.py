"""The distribution of the client alone: exactly the modules that it imports, and none of the daemon's libraries."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from repository import ROOT

SOURCES = ROOT / "src"
CLIENT = tomllib.loads((ROOT / "packaging" / "client" / "pyproject.toml").read_text())
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())


def file_of(module: str) -> Path | None:
    path = SOURCES.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imported(file: Path) -> Iterator[str]:
    """The names of everything that a module imports from this project, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.split(".")[0] == "aliciacfg")


def closure(module: str) -> set[Path]:
    """The files of a module, of all that it imports, and of the packages around them."""
    waiting, files = [module], dict[str, Path]()
    while waiting:
        name = waiting.pop()
        file = file_of(name)
        if name not in files and file is not None:
            files[name] = file
            waiting += [*imported(file), name.rpartition(".")[0]]
    return set(files.values())


def test_it_has_exactly_the_modules_that_the_client_imports():
    """The list in packaging/client/pyproject.toml; ``py.typed`` makes the types known."""
    files = {*closure("aliciacfg.client"), SOURCES / "aliciacfg" / "py.typed"}
    expected = {f"../../{file.relative_to(ROOT)}": str(file.relative_to(SOURCES)) for file in files}
    assert CLIENT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == expected


def test_its_dependencies_are_three_of_the_whole():
    """With the same bounds; and the rest of what is said of a distribution."""
    ours, whole = CLIENT["project"], WHOLE["project"]
    assert set(ours["dependencies"]) < set(whole["dependencies"])
    assert [line.split(">")[0] for line in ours["dependencies"]] == ["aiomqtt", "msgspec", "PyNaCl"]
    for name in ("requires-python", "license", "authors", "classifiers"):
        assert ours[name] == whole[name], name
    assert CLIENT["build-system"] == WHOLE["build-system"]
