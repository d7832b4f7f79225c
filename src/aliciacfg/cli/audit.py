"""The ``audit`` command: the audit log."""

import time

import click

from aliciacfg.api.answers.administration import AuditAnswer
from aliciacfg.cli import formatting, options, times
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Cell, Line, Table
from aliciacfg.model.records import Audited

_COLUMNS = ["entry", "when", "who", "over", "what", "about", "result"]


@click.command()
@click.option("--service", metavar="NAME", help="Only entries about this service.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="At most N entries.")
@click.option("--before", type=int, metavar="ENTRY", help="Only entries older than this one.")
@times.option
@options.data_dir
@click.pass_obj
def audit(target: Target, service: str | None, limit: int, before: int | None, data_dir: str | None) -> None:
    """List the audit log, newest entry first.

    It has every write, every refusal, every secret that was delivered in the open, and as secrets_tried each secret
    that was sent and checked but not stored, by which a writer can guess it.

    Examples:
        aliciacfg audit --limit 10
        aliciacfg audit --service voice_router --times full
        aliciacfg audit -o json | jq '.entries[] | select(.outcome != "done")'
    """
    fields = {"service": service, "limit": limit, "before": before}
    if target.http is not None:
        found = ask(target, "audit", None, fields)
    else:
        found = administer("audit", None, fields, data_dir=data_dir)
    print_answer(
        found,
        AuditAnswer,
        _blocks,
        names=lambda answer: [str(entry.sequence) for entry in answer.entries],
    )


def _blocks(answer: AuditAnswer) -> list[Table]:
    now = time.time()
    return [Table(_COLUMNS, [_row(entry, now) for entry in answer.entries], empty="No entries.")]


def _row(entry: Audited, now: float) -> list[Cell]:
    about = "/".join(name for name in (entry.environment, entry.service) if name)
    when = formatting.when(entry.timestamp, now=now)
    return [str(entry.sequence), when, entry.who, entry.where, entry.operation, about, _result(entry)]


def _result(entry: Audited) -> Line:
    """Return what came of it: the revisions of a write, else the outcome, and its detail."""
    parts: list[str | tuple[str, str]] = []
    if entry.outcome != "done" or entry.after is None:
        parts.append(entry.outcome if entry.outcome == "done" else (entry.outcome, "red"))
    if entry.after is not None:
        parts.append(f"{entry.before or 'new'} → {entry.after}")
    if entry.count > 1:
        parts.append(f"{entry.count} times")
    if entry.detail:
        parts.append(entry.detail)
    spaced = [item for part in parts for item in (", ", part)]
    return spaced[1:]
