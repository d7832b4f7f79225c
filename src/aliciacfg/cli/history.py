"""The ``history`` command: the revisions of one configuration."""

import time
from collections.abc import Callable

import click
import msgspec

from aliciacfg.api.answers.configurations import HistoryAnswer, HistoryItem
from aliciacfg.api.answers.environments import EnvironmentsAnswer
from aliciacfg.cli import formatting, lookups, notices, options, output, requests, times
from aliciacfg.cli.answers import parse, print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.output import Block, Cell, Line, Table

_PAGE = 1000
_MAX_OTHERS = 3
# What says nothing that the author does not say.
_USUAL_CAUSES = {"api", "file"}


@click.command()
@click.argument("service")
@options.environment
@click.option(
    "--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, metavar="N", help="At most N revisions."
)
@click.option("--before", type=click.IntRange(min=1), metavar="REVISION", help="Only revisions older than this one.")
@click.option("--all", "everything", is_flag=True, help="All revisions.")
@times.option
@click.pass_obj
def history(
    target: Target, service: str, environment: str | None, limit: int, before: int | None, *, everything: bool
) -> None:
    """List the revisions of SERVICE, newest first.

    With time, author, cause, comment and changes.

    Examples:
        aliciacfg history voice_router
        aliciacfg history voice_router -e prod --times full
        aliciacfg history voice_router --all -o json
    """
    fields = {"environment": environment, "limit": _PAGE if everything else limit, "before": before}
    found = ask(target, "history", service, fields)
    page = parse(found, HistoryAnswer)
    revisions = page.revisions
    while everything and page.next is not None:
        page = parse(ask(target, "history", service, {**fields, "before": page.next}), HistoryAnswer)
        revisions += page.revisions
    printed = print_answer(
        {**found, "revisions": msgspec.to_builtins(revisions), "next": page.next}, HistoryAnswer, _blocks, names=_names
    )
    if environment is None and page.next is None and before is None and output.for_people():
        _hint_elsewhere(target, service, printed)


def _hint_elsewhere(target: Target, service: str, printed: HistoryAnswer) -> None:
    """Say in which environment there are more revisions: after an activation, what was done before is there."""
    quick = lookups.hurried(target, 2.0)
    known = requests.try_ask(quick, "environments", None, {}, EnvironmentsAnswer)
    others = [] if known is None else [item.name for item in known.environments if item.name != known.active]
    newest = max((item.revision for item in printed.revisions), default=0)
    for name in others[:_MAX_OTHERS]:
        found = requests.try_ask(quick, "history", service, {"environment": name, "limit": 1}, HistoryAnswer)
        last = 0 if found is None or not found.revisions else found.revisions[0].revision
        if known is not None and last > newest:
            notices.print_hint(
                f"this is {known.active}; {name} has {formatting.counted(last, 'revision')}: "
                f"aliciacfg history {service} -e {name}"
            )


def _names(answer: HistoryAnswer) -> list[str]:
    return [str(item.revision) for item in answer.revisions]


def _blocks(answer: HistoryAnswer) -> list[Block]:
    now = time.time()
    rows = [row for item in answer.revisions for row in _rows(item, now)]
    blocks: list[Block] = [Table(["revision", "version", "when", "who", "what"], rows)]
    if answer.next is not None:
        blocks.append([(f"For older revisions add --before {answer.next} or --all.", "dim")])
    return blocks


def _rows(item: HistoryItem, now: float) -> list[list[Cell]]:
    """Return the row of a revision, and for one with a comment a second row with what changed."""
    what: list[Cell] = [[("deleted", "bold red")]] if item.deleted else []
    what += [item.comment] if item.comment else []
    what += [] if item.deleted else [_changed(item)]
    when = formatting.when(item.timestamp, now=now)
    first: list[Cell] = [[(str(item.revision), "bold")], item.version, when, item.author, what[0]]
    return [first, *([*[""] * (len(first) - 1), below] for below in what[1:])]


def _changed(item: HistoryItem) -> Callable[[int], Line]:
    """Return what makes the list of the places that a revision changed, as many as there is room for."""
    cause = "" if item.cause in _USUAL_CAUSES else f"{item.cause}: "
    breaking = "breaking: " if item.breaking else ""

    def line(width: int) -> Line:
        listed = formatting.fitting(item.changed, width - len(cause + breaking)) or "nothing changed"
        return [cause, (breaking, "red"), (listed, "dim" if item.comment else "")]

    return line
