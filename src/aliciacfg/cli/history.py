"""``history``: the revisions of one configuration."""

import time

import click
import msgspec

from aliciacfg.api.answers import HistoryAnswer, HistoryItem
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.client import Target, ask, typed

_PAGE = 1000


@click.command()
@click.argument("service")
@options.environment
@click.option(
    "--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, metavar="N", help="At most so many."
)
@click.option("--before", type=click.IntRange(min=1), metavar="REVISION", help="Only older ones.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.pass_obj
def history(
    target: Target, service: str, environment: str | None, limit: int, before: int | None, *, everything: bool
) -> None:
    """List the revisions of SERVICE, newest first.

    When, by whom, why, and what changed.
    """
    fields = {"environment": environment, "limit": _PAGE if everything else limit, "before": before}
    found = ask(target, "history", service, fields)
    page = typed(found, HistoryAnswer)
    revisions = page.revisions
    while everything and page.next is not None:
        page = typed(ask(target, "history", service, {**fields, "before": page.next}), HistoryAnswer)
        revisions += page.revisions
    if not output.for_people():
        output.print_json({**found, "revisions": msgspec.to_builtins(revisions), "next": page.next})
        return
    now = time.time()
    output.table(["revision", "when", "who", "what"], [row for item in revisions for row in _rows(item, now)])
    if page.next is not None:
        output.lines([[(f"There are older ones: --before {page.next}, or --all.", "dim")]])


def _rows(item: HistoryItem, now: float) -> list[list[output.Line]]:
    """Two rows for a revision: what it is, and under it in grey what is looked at second."""
    changed: output.Line = [
        ("breaking " if item.breaking else "", "red"),
        (formatting.pointers(item.changed) or "nothing changed", "dim" if item.comment else ""),
    ]
    told: list[output.Line] = [[("deleted", "bold red")]] if item.deleted else []
    told += [item.comment] if item.comment else []
    told += [] if item.deleted else [changed]
    return [
        [[(str(item.revision), "bold")], formatting.moment(item.timestamp), item.author, told[0]],
        [
            [(item.version, "dim")],
            [(formatting.ago(item.timestamp, now=now), "dim")],
            [(item.cause, "dim")],
            told[1] if len(told) > 1 else "",
        ],
    ]
