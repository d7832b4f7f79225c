"""The documents cannot drift from the code."""

import ast
import errno
import functools
import importlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

import build_site
import doc_blocks
import draw_pictures
import write_reference
from aliciacfg.operations.table import OPERATIONS
from repository import ROOT

README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"


def test_every_generated_table_is_what_the_code_says():
    """Settings, operations, errors, exit codes, metrics, commands; ``scripts/write_reference.py`` writes them."""
    found = set[str]()
    for page in write_reference.pages():
        text = page.read_text()
        found |= {region[2] for region in write_reference.REGION.finditer(text)}
        assert write_reference.written(text) == text, f"{page}: run scripts/write_reference.py"
    assert found == set(write_reference.GENERATORS)


def test_every_operation_is_in_the_readme_with_its_route():
    """Topic and route as the table has them."""
    for operation in OPERATIONS:
        path = operation.path.replace("{target}", f"{{{operation.target}}}")
        row = next(line for line in README.splitlines() if line.startswith(f"| {operation.name} |"))
        assert f"`{operation.method} {path}`" in row


def test_the_pictures_are_those_that_the_script_draws():
    """``scripts/draw_pictures.py`` writes them."""
    drawn = {f"{name}.svg": draw().svg for name, draw in draw_pictures.PICTURES.items()}
    assert drawn == {path.name: path.read_text() for path in draw_pictures.IMAGES.glob("*.svg")}


def test_every_field_is_documented():
    """In the table of fields."""
    fields = (DOCS / "reference" / "operations.md").read_text().partition("## Fields")[2].partition("## ")[0]
    for operation in OPERATIONS:
        for name in operation.fields:
            assert f"`{name}`" in fields, name


def test_every_kind_of_alert_is_documented():
    """Each kind that the code raises has a row in the table of alerts, and no other kind has."""
    table = (DOCS / "reference" / "alerts.md").read_text()
    documented = {name.partition(":")[0] for name in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)}
    assert documented == kinds_of_alerts()


@functools.cache
def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in (ROOT / "src").rglob("*.py")}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(sources()[path])


def kinds_of_alerts() -> set[str]:
    """The first argument of every call that raises an alert, a text or a constant of the module."""
    kinds = set[str]()
    for tree in (tree_of(path) for path, text in sources().items() if re.search(r"\.\s*(raise_|emit)\b", text)):
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
                kind = call.args[0]
                value = kind.value if isinstance(kind, ast.Constant) else constants.get(getattr(kind, "id", ""))
                if call.func.attr in {"raise_", "emit"} and isinstance(value, str):
                    kinds.add(value)
    return kinds


def test_every_message_of_the_troubleshooting_exists():
    """Each part of a quoted message, between the ``…`` for what differs, is in the source, or is the system's own."""
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^```text\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    assert len(messages) > 15
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in os.strerror(errno.ECONNREFUSED) or is_said(part.strip()), part


def is_said(part: str) -> bool:
    """Return whether a text in the source holds the part; only of files that may is the tree made."""
    letters = re.compile(r"[^a-zA-Z]*".join(re.findall(r"[a-zA-Z]+", part)))
    return any(
        any(part in text for text in texts_of(tree_of(path)))
        for path, source in joined_sources().items()
        if letters.search(source)
    )


@functools.cache
def joined_sources() -> dict[Path, str]:
    """The sources with each text that goes on in the next line in one piece."""
    return {path: re.sub(r"[\"\']\s*\n\s*[fbr]*[\"\']", "", text) for path, text in sources().items()}


def texts_of(tree: ast.Module) -> Iterator[str]:
    """Every text in the source; ``\ufffd`` stands for each value that is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\ufffd" for part in node.values)


def test_code_that_is_shown_is_sound():
    """Python parses and imports what exists; JSON and YAML parse, apart from YAML of other programs."""
    for page in DOCS.rglob("*.md"):
        for block in doc_blocks.blocks_of(page.name, page.read_text()):
            if block.language == "python":
                tree = compile(block.text, block.place, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                for node in ast.walk(tree):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aliciacfg"):
                        module = importlib.import_module(node.module or "")
                        assert all(hasattr(module, name.name) for name in node.names), block.place
            elif block.language == "json":
                json.loads(block.text)
            elif block.language == "yaml" and "!secret" not in block.text:
                YAML(typ="safe", pure=True).load(block.text)


def test_links_lead_somewhere():
    """Relative links of all documents name existing files and headings."""
    documents = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("*/README.md")]
    for document in documents:
        for link in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
            if link.startswith("http"):
                continue
            name, _, anchor = link.partition("#")
            target = document.parent / name if name else document
            assert target.exists(), (document.name, link)
            headings = re.findall(r"^#+ (.*)$", without_blocks(target.read_text()), re.MULTILINE) if anchor else []
            slugs = {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not anchor or anchor in slugs, (document.name, link)


def without_blocks(text: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^( *)(```+).*?^\1\2 *$", "", text, flags=re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "", without_blocks(text))


def test_every_page_has_its_place_in_the_site():
    """The navigation of the site names every page once, and no other."""
    settings = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    named = [page for section in settings["nav"] for pages in section.values() for page in pages]
    places = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(named) == sorted([*places, *build_site.PROJECT_PAGES.values()])


def test_every_page_begins_with_what_it_is_for():
    """A title, then a sentence in plain words."""
    for page in DOCS.rglob("*.md"):
        title, blank, sentence = page.read_text().split("\n")[:3]
        assert title.startswith("# "), page
        assert blank == "", page
        assert re.match(r"[A-Z`]", sentence), page


def test_the_readme_begins_with_the_two_commands():
    """The commands to start and to test come first."""
    text = (ROOT / "README.md").read_text()
    assert text.index("make run") < text.index("make test") < text.index("**Over MQTT.**")
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test", "test-unit", "lint", "bench", "soak"} <= set(targets)
