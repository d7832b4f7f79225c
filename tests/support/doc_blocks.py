"""The blocks of code in the documentation's pages, and what a test has to know of them.

A comment directly above a block says it, invisible to readers: ``<!-- test: … -->`` with any of

    skip REASON      not run; the reason is one of ``SKIPPED``
    exit=4           the exit code of its last command; 0 without it
    background       runs until the page ends; a daemon has to print READY
    file=NAME        the block is the content of this file, which is written
    input="text"     what is typed; backslash and n are a line end

A comment of its own, ``<!-- page: home=own -->``, says which home the commands of a page are typed in.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from repository import ROOT

DOCS = ROOT / "docs"
SHELL = ("sh", "console")
# Why a block cannot run in the tests, and the programs that its lines may name.
SKIPPED = {
    "network": (
        "pip",
        "pipx",
        "uvx",
        "uv",
        "git",
        "python3",
        "npm",
        "apt",
        "sudo",
        "make",
        ".venv/bin/pip",
        "/opt/aliciacfg/bin/pip",
    ),
    "docker": ("docker",),
    "systemd": ("sudo", "systemctl", "journalctl", "systemd-analyze", "systemd-creds", "loginctl"),
    "root": ("sudo", "install", "chown", "useradd", "adduser", "groupadd"),
    "terminal": ("aliciacfg", "sudo", "source", "eval"),
    "forever": ("aliciacfg", "curl", "mosquitto_sub", "node", "examples/shell/door_bell.sh"),
    "postgres": ("aliciacfg",),
    "elsewhere": ("promtool", "ssh", "scp", "rsync", "restic", "crontab"),
}
_FENCE = re.compile(
    r"(?:^(?P<indent> *)<!-- test: (?P<marks>[^\n]*?) -->\n)?^(?P<space> *)```(?P<language>[a-z]*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=space)```$",
    re.MULTILINE | re.DOTALL,
)
_PAGE = re.compile(r"^<!-- page: (.*?) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code."""

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def skipped(self) -> str:
        """Why it does not run; empty if it does."""
        return self.marks.get("skip", "")

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands, each with the lines that the page shows as its output; one whole script for ``sh``."""
        if self.language == "sh":
            return [(self.text, [])]
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> ") and found and not found[-1][1]:
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
            elif found:
                found[-1][1].append(line)
            else:
                raise AssertionError(f"{self.place}: a console block begins with '$ '")
        return found


@dataclass(frozen=True)
class Page:
    """A page with commands."""

    name: str
    home: str
    blocks: list[Block]


def pages() -> Iterator[Page]:
    """Yield every page of docs/ that has blocks which are run, or could be."""
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).as_posix()
        text = path.read_text()
        blocks = [block for block in blocks_of(name, text) if block.language in SHELL or "file" in block.marks]
        if any(block.language in SHELL for block in blocks):
            found = _PAGE.search(text)
            home = marks_of(found[1])["home"] if found else "alicia"
            yield Page(name, home, blocks)


def blocks_of(name: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("space")) + 1
        space = found["space"]
        lines = [part.removeprefix(space) for part in found["text"].splitlines()]
        content = "".join(f"{part}\n" for part in lines)
        yield Block(name, line, found["language"], content, marks_of(found["marks"] or ""))


def marks_of(text: str) -> dict[str, str]:
    """Return what a comment says, by name."""
    marks: dict[str, str] = {}
    words = shlex.split(text)
    while words:
        name, _, value = words.pop(0).partition("=")
        marks[name] = words.pop(0) if name == "skip" else value
    return marks


def written(block: Block, directory: Path) -> None:
    """Write the file that a block shows."""
    path = directory / block.marks["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)
