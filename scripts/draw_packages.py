"""Draw the packages and their imports, and count what makes a tree easy or hard to find one's way in.

python scripts/draw_packages.py               # the working tree
python scripts/draw_packages.py REV [REV …]   # beside it, the same figures of other revisions
"""

import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "src/aliciacfg"
LONG_CLASS, LONG_FUNCTION, LONG_MODULE = 300, 60, 400

Graph = dict[str, set[str]]


def sources(revision: str | None) -> dict[str, str]:
    """Return the text of each module by its dotted name, of a revision or of the working tree."""
    if revision is None:
        found = {str(path.relative_to(ROOT / SOURCE)): path.read_text() for path in (ROOT / SOURCE).rglob("*.py")}
    else:
        archive = subprocess.run(["git", "archive", revision, SOURCE], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            members = {item.name: tar.extractfile(item) for item in tar if item.name.endswith(".py")}
            found = {name.removeprefix(f"{SOURCE}/"): file.read().decode() for name, file in members.items() if file}
    return {dotted(path): text for path, text in found.items()}


def dotted(path: str) -> str:
    """Return the dotted name of a module, packages without ``__init__``."""
    parts = Path(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(modules: Mapping[str, ast.Module]) -> Graph:
    """Return what each module imports of the others."""
    graph: Graph = {}
    for name, tree in modules.items():
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aliciacfg":
                module = node.module.removeprefix("aliciacfg").removeprefix(".")
                for alias in node.names:
                    inner = f"{module}.{alias.name}".removeprefix(".")
                    found |= {inner} if inner in modules else {module} & modules.keys()
        graph[name] = found - {name}
    return graph


def packages(graph: Graph) -> Graph:
    """Return the imports between packages; a module at the root is a package of its own."""
    result: Graph = {}
    for name, others in graph.items():
        package = name.split(".")[0]
        result.setdefault(package, set()).update({other.split(".")[0] for other in others} - {package})
    return result


def levels(graph: Graph) -> dict[str, int]:
    """Return the length of the longest way down from each node."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        found[name] = 1 + max((found[other] for other in graph.get(name, ())), default=0)
    return found


def long(modules: Mapping[str, ast.Module], kind: tuple[type[ast.AST], ...], lines: int) -> list[str]:
    """Return the classes or functions of more than so many lines."""
    return [
        f"{name}.{node.name} ({node.end_lineno - node.lineno + 1})"
        for name, tree in sorted(modules.items())
        for node in ast.walk(tree)
        if isinstance(node, kind)
        and isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= lines
    ]


def figures(revision: str | None) -> dict[str, str]:
    """Return the figures of a revision by their titles."""
    texts = sources(revision)
    modules = {name: ast.parse(text) for name, text in texts.items()}
    graph = imports(modules)
    between = packages(graph)
    folders = Counter(name.rpartition(".")[0] or "(root)" for name in modules)
    classes = long(modules, (ast.ClassDef,), LONG_CLASS)
    functions = long(modules, (ast.FunctionDef, ast.AsyncFunctionDef), LONG_FUNCTION)
    modules_too_long = [name for name, text in texts.items() if text.count("\n") > LONG_MODULE]
    return {
        "modules": str(len(modules)),
        "  levels of modules": str(max(levels(graph).values())),
        "  arrows between modules": str(sum(map(len, graph.values()))),
        "packages (and modules at the root)": str(len(between)),
        "  levels of packages": str(max(levels(between).values())),
        "  arrows between packages": str(sum(map(len, between.values()))),
        "most files in one folder": "{1} in {0}".format(*folders.most_common(1)[0]),
        f"modules over {LONG_MODULE} lines": str(len(modules_too_long)),
        f"classes over {LONG_CLASS} lines": str(len(classes)),
        f"functions over {LONG_FUNCTION} lines": str(len(functions)),
    }


def draw() -> None:
    """Print each package with its files and the packages that it imports, highest first."""
    modules = {name: ast.parse(text) for name, text in sources(None).items()}
    between = packages(imports(modules))
    heights = levels(between)
    files = Counter(name.split(".")[0] for name in modules)
    for name in sorted(between, key=lambda item: (-heights[item], item)):
        others = sorted(between[name], key=lambda item: (-heights[item], item))
        print(f"{heights[name]:>3}  {name:<14} {files[name]:>2}  {' '.join(others)}")
    for title, found in (
        (f"classes over {LONG_CLASS} lines", long(modules, (ast.ClassDef,), LONG_CLASS)),
        (
            f"functions over {LONG_FUNCTION} lines",
            long(modules, (ast.FunctionDef, ast.AsyncFunctionDef), LONG_FUNCTION),
        ),
    ):
        print(f"\n{title}: {', '.join(found) or 'none'}")


def main(revisions: list[str]) -> None:
    """Print the drawing, and the figures of each revision beside those of the working tree."""
    print("level  package files  imports")
    draw()
    columns = {**{revision: figures(revision) for revision in revisions}, "working tree": figures(None)}
    print(f"\n{'':<36}" + "".join(f"{name[:16]:>18}" for name in columns))
    for row in next(iter(columns.values())):
        print(f"{row:<36}" + "".join(f"{column[row]:>18}" for column in columns.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
