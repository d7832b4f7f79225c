"""What commands print: JSON, YAML or names for programs; tables, trees and colours for people.

The only module that imports rich. ``output_format`` says who reads. Names, comments and values come from other people,
so control characters in them are escaped: they could otherwise send commands to the terminal.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aliciacfg.cli import output_format, pager
from aliciacfg.documents import escape
from aliciacfg.terminal_text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    from aliciacfg.documents import Json
    from aliciacfg.errors import Problem

Line: TypeAlias = str | list[str | tuple[str, str]]
"""One line: text, or parts that are text or (text, style). A style is in rich's words: ``dim``, ``bold red``."""

_UNCUT_COLUMNS = 4096
# Columns between those of a table, and the fewest of a column that is folded.
_GAP: Final = 2
_NARROWEST_COLUMN: Final = 24
# The member that names a thing, the first that it has.
_NAME_KEYS: Final = ("service", "name", "environment", "token_id", "key_id", "instance", "subject", "path", "directory")


Cell: TypeAlias = Line | Callable[[int], Line]
"""A cell of a table: a line, or what makes one for the number of columns that are left for it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table. If it is wider than the terminal, its widest column is folded; what is wider still becomes a list.

    Attributes:
        columns: The heading of each column.
        rows: The cells of each row.
        empty: What is printed in place of a table without rows.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = "Nothing."


@dataclass(frozen=True, slots=True)
class Branch:
    """A tree, or a branch of one: its own line, notes below it, and its branches."""

    line: Line
    notes: list[Line] = field(default_factory=list[Line])
    branches: list["Branch"] = field(default_factory=list["Branch"])


Block: TypeAlias = Line | Table | Branch


def for_people() -> bool:
    """Return whether the output is for people: tables and sentences."""
    return output_format.current() == "table"


def print_result(
    value: object, render: Callable[[], Iterable[Block]], *, names: Callable[[], Iterable[str]] | None = None
) -> None:
    """Print a result in the format that is in force.

    Args:
        value: What programs get, as JSON or YAML.
        render: Makes what people get; called only for them.
        names: Makes what ``-o name`` prints; default: the names in ``value``, as ``names_in`` finds them.
    """
    match output_format.current():
        case "table":
            print_page(render())
        case "name":
            _print_names(names_in(value) if names is None else names())
        case "yaml":
            print_yaml(value, paged=True)
        case "json":
            print_json(value)


def print_document(value: object) -> None:
    """Print a document: JSON, with colours for people; a line for each place if a table is asked for."""
    match output_format.chosen():
        case "table":
            places = ((place, json.dumps(leaf, ensure_ascii=False)) for place, leaf in _leaves(value))
            print_page([Table(["pointer", "value"], [[place or "(document)", leaf] for place, leaf in places])])
        case "name":
            _print_names(place for place, _ in _leaves(value))
        case "yaml":
            print_yaml(value, paged=True)
        case "json" | None if sys.stdout.isatty():
            _print_colored_json(value)
        case _:
            print_json(value)


def document_is_for_people() -> bool:
    """Return whether ``print_document`` prints for people: at a terminal, or a table."""
    chosen = output_format.chosen()
    return chosen == "table" or (chosen is None and sys.stdout.isatty())


def names_in(value: object) -> list[str]:
    """Return the names of what a result is about: of each item of a list, else of the one thing."""
    if isinstance(value, list):
        return [name for item in cast("list[object]", value) for name in names_in(item)]
    if not isinstance(value, dict):
        return []
    members = cast("dict[str, object]", value)
    found = next((key for key in _NAME_KEYS if members.get(key) is not None), None)
    return [] if found is None else [str(members[found])]


def print_json(value: object) -> None:
    """Print JSON without colours."""
    write(json.dumps(value, indent=2, ensure_ascii=False).encode())


def write(line: bytes) -> None:
    """Write a line to standard output, completely: see ``streams``."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def print_page(blocks: Iterable[Block]) -> None:
    """Print blocks for people, through a pager if they are longer than the terminal."""
    if not pager.is_wanted():
        print_blocks(blocks)
        return
    page = StringIO()
    _print_on(page, blocks)
    pager.show(page.getvalue())


def print_blocks(blocks: Iterable[Block]) -> None:
    """Print lines (of any length), tables and trees for people."""
    if sys.stdout.isatty():
        _print_on(None, blocks)
        return
    # The blanks with which tables end are invisible, and programs stumble over them.
    page = StringIO()
    _print_on(page, blocks, terminal=False)
    for line in page.getvalue().splitlines():
        write(line.rstrip().encode())


def _print_on(page: StringIO | None, blocks: Iterable[Block], *, terminal: bool = True) -> None:
    """Print blocks on a page, which a terminal will show or not, or on standard output."""
    console = _console(page, terminal=terminal)
    for block in blocks:
        if isinstance(block, Table):
            _print_table(console, block)
        elif isinstance(block, Branch):
            _print_tree(page, block, terminal=terminal)
        else:
            console.print(_text(block), soft_wrap=True)


def width() -> int:
    """Return the width of the terminal in columns."""
    return _console().width


def problem_lines(problems: Iterable["Problem"], indent: str = "  ") -> list[str]:
    """Return a line for each problem of a document: place and message."""
    return [f"{indent}{problem.pointer or '(document)'}: {problem.message}" for problem in problems]


def _print_table(console: "Console", table: Table) -> None:
    from rich.table import Table as RichTable

    if not table.rows:
        console.print(_text([(table.empty, "dim")]))
        return
    folded = _folded_column(table, console.width)
    if folded is None:
        _print_records(console, table)
        return
    made = RichTable(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0))
    for number, column in enumerate(table.columns):
        made.add_column(column, overflow="fold", no_wrap=number != folded)
    left = console.width - sum(_widths(table)[:folded] + _widths(table)[folded + 1 :]) - _GAP * (len(table.columns) - 1)
    for row in table.rows:
        made.add_row(*(_text(cell(left) if callable(cell) else cell) for cell in row))
    console.print(made)


def _folded_column(table: Table, width: int) -> int | None:
    """Return the column that is folded if there is too little room for all; None if not even that is enough."""
    widths = _widths(table)
    makes_itself = [number for row in table.rows for number, cell in enumerate(row) if callable(cell)]
    folded = makes_itself[0] if makes_itself else widths.index(max(widths))
    beside = sum(widths) - widths[folded] + _GAP * (len(widths) - 1)
    least = min(widths[folded], _NARROWEST_COLUMN) if not makes_itself else _NARROWEST_COLUMN
    return folded if beside + least <= width else None


def _widths(table: Table) -> list[int]:
    """Return the width that each column needs; 0 for cells that make themselves of what is left."""
    return [
        max([len(column), *(_cell_width(row[number]) for row in table.rows)])
        for number, column in enumerate(table.columns)
    ]


def _cell_width(cell: Cell) -> int:
    return 0 if callable(cell) else _text(cell).cell_len


def _print_records(console: "Console", table: Table) -> None:
    """Print each row as a list of its cells, with the column's name before each."""
    longest = max(map(len, table.columns))
    for number, row in enumerate(table.rows):
        # A row that begins with nothing goes on with the one before.
        goes_on = number > 0 and not callable(row[0]) and not _text(row[0])
        if number and not goes_on:
            console.print()
        for column, cell in zip(table.columns, row, strict=True):
            line = cell(console.width - longest - _GAP) if callable(cell) else cell
            if _text(line):
                parts: Line = [line] if isinstance(line, str) else line
                label = "" if goes_on else column
                console.print(_text([(f"{label:{longest}}", "dim"), " " * _GAP, *parts]), soft_wrap=True)


def _print_tree(page: StringIO | None, root: Branch, *, terminal: bool) -> None:
    from rich.tree import Tree

    def grow(into: "Tree", branch: Branch) -> None:
        for below in branch.branches:
            grow(into.add(_label(below)), below)

    made = Tree(_label(root), guide_style="dim")
    grow(made, root)
    # rich cuts a tree's lines at the console's width, which would hide where a value comes from; a terminal folds them.
    _console(page, _UNCUT_COLUMNS, terminal=terminal).print(made, soft_wrap=True)


def _label(branch: Branch) -> "Text":
    from rich.text import Text

    return Text("\n").join(_text(line) for line in [branch.line, *branch.notes])


def _text(line: Line) -> "Text":
    from rich.text import Text

    parts = [line] if isinstance(line, str) else line
    return Text.assemble(
        *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    )


def _print_colored_json(value: object) -> None:
    from rich.highlighter import JSONHighlighter

    text = JSONHighlighter()(printable(json.dumps(value, ensure_ascii=False, indent=2), keep="\n"))
    page = StringIO() if pager.is_wanted() else None
    _console(page).print(text, soft_wrap=True)
    if page is not None:
        pager.show(page.getvalue())


def print_yaml(value: object, *, paged: bool = False) -> None:
    """Print a value as YAML, through a pager if that is wanted."""
    from aliciacfg.documents import yaml_writer

    text = yaml_writer.dump_blocks(cast("Json", value))
    shown = printable(text, keep="\n") if sys.stdout.isatty() else text
    if paged and pager.is_wanted():
        pager.show(shown)
    else:
        write(shown.removesuffix("\n").encode())


def _print_names(names: Iterable[str]) -> None:
    for name in names:
        write((printable(name) if sys.stdout.isatty() else name).encode())


def _leaves(value: object, pointer: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, member in cast("dict[str, object]", value).items():
            yield from _leaves(member, f"{pointer}/{escape(name)}")
    else:
        yield pointer, value


def _console(page: StringIO | None = None, columns: int | None = None, *, terminal: bool = True) -> "Console":
    """Return a console that prints on a page, which a terminal will show or not, or on standard output."""
    from rich.console import Console

    # A table is folded to the width of a terminal; a file or a program that searches lines gets whole ones.
    shown = terminal if page is not None else sys.stdout.isatty()
    return Console(
        file=page, force_terminal=None if page is None else terminal, highlight=False,
        width=columns or (None if shown else _UNCUT_COLUMNS),
    )  # fmt: skip
