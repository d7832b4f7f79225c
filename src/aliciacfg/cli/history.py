"""The ``history`` command: the revisions of one configuration."""

import time

import click
import msgspec

from aliciacfg.api.answers import HistoryAnswer, HistoryItem
from aliciacfg.cli import formatting, options
from aliciacfg.cli.answers import parse, print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.output import Block, Line, Table

_PAGE = 1000


@click.command()
@click.argument("service")
@options.environment
@click.option(
    "--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, metavar="N", help="At most N revisions."
)
@click.option("--before", type=click.IntRange(min=1), metavar="REVISION", help="Only revisions older than this one.")
@click.option("--all", "everything", is_flag=True, help="All revisions.")
@click.pass_obj
def history(
    target: Target, service: str, environment: str | None, limit: int, before: int | None, *, everything: bool
) -> None:
    """List the revisions of SERVICE, newest first.

    With time, author, cause, comment and changes.
    """
    fields = {"environment": environment, "limit": _PAGE if everything else limit, "before": before}
    found = ask(target, "history", service, fields)
    page = parse(found, HistoryAnswer)
    revisions = page.revisions
    while everything and page.next is not None:
        page = parse(ask(target, "history", service, {**fields, "before": page.next}), HistoryAnswer)
        revisions += page.revisions
    print_answer(
        {**found, "revisions": msgspec.to_builtins(revisions), "next": page.next}, HistoryAnswer, _blocks, names=_names
    )


def _names(answer: HistoryAnswer) -> list[str]:
    return [str(item.revision) for item in answer.revisions]


def _blocks(answer: HistoryAnswer) -> list[Block]:
    now = time.time()
    rows = [row for item in answer.revisions for row in _rows(item, now)]
    blocks: list[Block] = [Table(["revision", "when", "who", "what"], rows)]
    if answer.next is not None:
        blocks.append([(f"For older revisions add --before {answer.next} or --all.", "dim")])
    return blocks


def _rows(item: HistoryItem, now: float) -> list[list[Line]]:
    """Return two rows for a revision: the essentials, and below them, dimmed, the details."""
    changed: Line = [
        ("breaking " if item.breaking else "", "red"),
        (formatting.pointers(item.changed) or "nothing changed", "dim" if item.comment else ""),
    ]
    what: list[Line] = [[("deleted", "bold red")]] if item.deleted else []
    what += [item.comment] if item.comment else []
    what += [] if item.deleted else [changed]
    return [
        [[(str(item.revision), "bold")], formatting.moment(item.timestamp), item.author, what[0]],
        [
            [(item.version, "dim")],
            [(formatting.ago(item.timestamp, now=now), "dim")],
            [(item.cause, "dim")],
            what[1] if len(what) > 1 else "",
        ],
    ]
