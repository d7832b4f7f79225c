"""What commands print: JSON for programs, tables and colours for people; the only module that imports rich.

Standard output is for people when it is a terminal, for programs otherwise.
"""

import json
import sys

import click

from aliciacfg.documents import JsonObject


def for_people() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()


def show(value: object) -> None:
    """Print JSON: coloured and indented for people, otherwise indented the same."""
    if not for_people():
        print_json(value)
        return
    from rich.console import Console  # noqa: PLC0415 - keeps the other commands quick

    Console().print_json(data=value)


def print_json(value: object) -> None:
    """Print JSON without colours."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table for people."""
    from rich.console import Console  # noqa: PLC0415 - keeps the other commands quick
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=None, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*row)
    Console().print(made)


def problems(answer: JsonObject) -> None:
    """Print the ``problems`` of an answer, a line each, on standard error."""
    listed = answer.get("problems")
    for problem in listed if isinstance(listed, list) else []:
        if isinstance(problem, dict):
            click.echo(f"  {problem.get('pointer') or '(document)'}: {problem.get('message')}", err=True)
