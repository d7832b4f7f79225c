"""What commands print: JSON for programs, tables, trees and colours for people; the only module that imports rich.

Standard output is for people when it is a terminal, for programs otherwise. What others wrote (names, comments,
values) reaches a terminal with its control characters escaped: it must not drive the terminal.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import click

from aliciacfg.documents import JsonObject

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

Line: TypeAlias = str | list[str | tuple[str, str]]
"""One line: text, or parts that are text or (text, style). A style is words: ``dim``, ``bold red``."""


_UNCUT = 4096


@dataclass(frozen=True, slots=True)
class Branch:
    """A place in a tree: its line, more lines about it, and what is below."""

    line: Line
    notes: list[Line] = field(default_factory=list[Line])
    branches: list["Branch"] = field(default_factory=list["Branch"])


def for_people() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def show(value: object) -> None:
    """Print JSON: coloured for people, indented the same otherwise."""
    if not for_people():
        print_json(value)
        return
    from rich.highlighter import JSONHighlighter  # noqa: PLC0415 - keeps the other commands quick

    text = printable(json.dumps(value, ensure_ascii=False, indent=2), keep="\n")
    _console().print(JSONHighlighter()(text), soft_wrap=True)


def print_json(value: object) -> None:
    """Print JSON without colours."""
    write(json.dumps(value, indent=2, ensure_ascii=False).encode())


def write(line: bytes) -> None:
    """Write a line for programs, all of it.

    Unbuffered, as ``PYTHONUNBUFFERED`` has it in containers, Python drops without a word what a pipe does not take at
    once.
    """
    sys.stdout.flush()
    left = memoryview(line + b"\n")
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def lines(printed: Iterable[Line]) -> None:
    """Print lines for people, however long."""
    console = _console()
    for line in printed:
        console.print(_text(line), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Line]]) -> None:
    """Print a table for people; what is too wide is folded."""
    from rich.table import Table  # noqa: PLC0415 - keeps the other commands quick

    made = Table(box=None, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(_text(cell) for cell in row))
    _console().print(made)


def tree(root: Branch) -> None:
    """Print a tree for people."""
    from rich.tree import Tree  # noqa: PLC0415 - keeps the other commands quick

    def grow(into: "Tree", branch: Branch) -> None:
        for below in branch.branches:
            grow(into.add(_label(below)), below)

    made = Tree(_label(root), guide_style="dim")
    grow(made, root)
    # A line is cut at the edge of the console, and with it where a value comes from; a terminal folds it.
    _console(_UNCUT).print(made, soft_wrap=True)


def width() -> int:
    """How many columns the terminal has."""
    return _console().width


def problems(answer: JsonObject) -> None:
    """Print the ``problems`` of an answer, a line each, on standard error."""
    listed = answer.get("problems")
    for problem in listed if isinstance(listed, list) else []:
        if isinstance(problem, dict):
            complain(f"  {problem.get('pointer') or '(document)'}: {problem.get('message')}")


def complain(text: str) -> None:
    """Print a line on standard error."""
    click.echo(printable(text, keep="\n"), err=True)


def printable(text: str, *, keep: str = "") -> str:
    """Text in which whatever could drive a terminal or reorder a line is escaped as JSON does, ``keep`` apart."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _label(branch: Branch) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - keeps the other commands quick

    return Text("\n").join(_text(line) for line in [branch.line, *branch.notes])


def _text(line: Line) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - keeps the other commands quick

    parts = [line] if isinstance(line, str) else line
    return Text.assemble(
        *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    )


def _console(width: int | None = None) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - keeps the other commands quick

    return Console(highlight=False, width=width)
