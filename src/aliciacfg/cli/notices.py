"""What commands print on standard error: errors, warnings, notes and hints, each in one style.

Names and values come from other people, so control characters in them are escaped.
"""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

import click

from aliciacfg.cli import output_format
from aliciacfg.documents import Json
from aliciacfg.terminal_text import printable

_COLORS: Final = {"error": "red", "warning": "yellow", "note": "cyan", "hint": "cyan", "usage": "cyan"}
_INDENT: Final = "  "
_NARROWEST: Final = 40


def print_error(message: str, lines: Sequence[str] = (), *, usage: str | None = None, hint: str | None = None) -> None:
    """Print an error.

    Args:
        message: What is wrong; further lines of it are indented.
        lines: The places that are wrong.
        usage: How the command is called.
        hint: What to do.
    """
    _print_labelled("error", message)
    for line in lines:
        _print_line(f"{_INDENT}{line}", indent=_INDENT * 2)
    if usage is not None:
        _print_labelled("usage", usage)
    if hint is not None:
        _print_labelled("hint", hint)


def print_warning(message: str) -> None:
    """Print a warning: the command goes on, but something needs attention."""
    _print_labelled("warning", message)


def print_note(message: str) -> None:
    """Print a note: what was done besides."""
    _print_labelled("note", message)


def print_hint(message: str) -> None:
    """Print what to do next."""
    _print_labelled("hint", message)


def for_people() -> bool:
    """Return whether a person reads standard error: it is a terminal, and nothing asks for JSON or YAML."""
    return sys.stderr.isatty() and output_format.chosen() not in {"json", "yaml"}


def print_object(value: Json) -> None:
    """Print a value on standard error for programs, as JSON or, if that is chosen, as YAML."""
    if output_format.chosen() == "yaml":
        from aliciacfg.documents import yaml_writer

        click.echo(yaml_writer.dump_blocks(value), err=True, nl=False)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False), err=True)


def _print_labelled(label: str, message: str) -> None:
    first, *further = message.splitlines() or [""]
    color = None if os.environ.get("NO_COLOR") else _COLORS[label]
    shown = click.style(f"{label}:", fg=color, bold=True) if _with_styles() else f"{label}:"
    _print_line(first, lead=shown, lead_width=len(label) + 1, indent=_INDENT)
    for line in further:
        _print_line(line if line.startswith(" ") else f"{_INDENT}{line}", indent=_INDENT * 2)


def _print_line(line: str, *, indent: str, lead: str = "", lead_width: int = 0) -> None:
    """Print a line; on a terminal it is broken between words, elsewhere it stays one line for programs that search."""
    text = printable(line)
    if lead:
        text = f"{'.' * lead_width} {text}"
    if sys.stderr.isatty():
        width = max(shutil.get_terminal_size().columns - 1, _NARROWEST)
        text = textwrap.fill(
            text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
    click.echo(lead + text[lead_width:], err=True)


def _with_styles() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
