"""What commands print: JSON for programs; tables, trees and colours for people. The only module that imports rich.

Output is for people if standard output is a terminal. Names, comments and values come from other people, so control
characters in them are escaped: they could otherwise send commands to the terminal.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import click

from aliciacfg.terminal_text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from aliciacfg.errors import Problem

Line: TypeAlias = str | list[str | tuple[str, str]]
"""One line: text, or parts that are text or (text, style). A style is in rich's words: ``dim``, ``bold red``."""

_UNCUT_COLUMNS = 4096


@dataclass(frozen=True, slots=True)
class Table:
    """A table; cells that are too wide are folded."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Line]]


@dataclass(frozen=True, slots=True)
class Branch:
    """A tree, or a branch of one: its own line, notes below it, and its branches."""

    line: Line
    notes: list[Line] = field(default_factory=list[Line])
    branches: list["Branch"] = field(default_factory=list["Branch"])


Block: TypeAlias = Line | Table | Branch


def for_people() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_result(value: object, render: Callable[[], Iterable[Block]]) -> None:
    """Print a result.

    Args:
        value: What programs get, as JSON.
        render: Makes what people get; called only for them.
    """
    if for_people():
        print_blocks(render())
    else:
        print_json(value)


def print_document(value: object) -> None:
    """Print JSON, with colours for people."""
    if not for_people():
        print_json(value)
        return
    from rich.highlighter import JSONHighlighter

    text = printable(json.dumps(value, ensure_ascii=False, indent=2), keep="\n")
    _console().print(JSONHighlighter()(text), soft_wrap=True)


def print_json(value: object) -> None:
    """Print JSON without colours."""
    write(json.dumps(value, indent=2, ensure_ascii=False).encode())


def write(line: bytes) -> None:
    """Write a line to standard output, completely.

    With ``PYTHONUNBUFFERED``, which is common in containers, Python's ``write`` silently drops what a pipe does not
    accept at once.
    """
    sys.stdout.flush()
    left = memoryview(line + b"\n")
    while left:
        left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print lines (of any length), tables and trees for people."""
    console = _console()
    for block in blocks:
        if isinstance(block, Table):
            _print_table(console, block)
        elif isinstance(block, Branch):
            _print_tree(block)
        else:
            console.print(_text(block), soft_wrap=True)


def width() -> int:
    """Return the width of the terminal in columns."""
    return _console().width


def problem_lines(problems: Iterable["Problem"], indent: str = "  ") -> list[str]:
    """Return a line for each problem of a document: place and message."""
    return [f"{indent}{problem.pointer or '(document)'}: {problem.message}" for problem in problems]


def print_error(*lines: str) -> None:
    """Print lines on standard error."""
    for line in lines:
        click.echo(printable(line, keep="\n"), err=True)


def _print_table(console: "Console", table: Table) -> None:
    from rich.table import Table as RichTable

    made = RichTable(box=None, header_style="bold")
    for column in table.columns:
        made.add_column(column, overflow="fold")
    for row in table.rows:
        made.add_row(*(_text(cell) for cell in row))
    console.print(made)


def _print_tree(root: Branch) -> None:
    from rich.tree import Tree

    def grow(into: "Tree", branch: Branch) -> None:
        for below in branch.branches:
            grow(into.add(_label(below)), below)

    made = Tree(_label(root), guide_style="dim")
    grow(made, root)
    # rich cuts a tree's lines at the console's width, which would hide where a value comes from; a terminal folds them.
    _console(_UNCUT_COLUMNS).print(made, soft_wrap=True)


def _label(branch: Branch) -> "Text":
    from rich.text import Text

    return Text("\n").join(_text(line) for line in [branch.line, *branch.notes])


def _text(line: Line) -> "Text":
    from rich.text import Text

    parts = [line] if isinstance(line, str) else line
    return Text.assemble(
        *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    )


def _console(columns: int | None = None) -> "Console":
    from rich.console import Console

    return Console(highlight=False, width=columns)
