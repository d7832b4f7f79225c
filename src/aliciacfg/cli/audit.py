"""The ``audit`` command: the audit log."""

import click

from aliciacfg.api.answers import AuditAnswer
from aliciacfg.cli import formatting, options
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.output import Line, Table
from aliciacfg.model.records import Audited

_COLUMNS = ["entry", "when", "who", "where", "what", "about", "outcome", "revision", "detail"]


@click.command()
@click.option("--service", metavar="NAME", help="Only entries about this service.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="At most N entries.")
@click.option("--before", type=int, metavar="ENTRY", help="Only entries older than this one.")
@options.data_dir
@click.pass_obj
def audit(target: Target, service: str | None, limit: int, before: int | None, data_dir: str | None) -> None:
    """List the audit log, newest entry first.

    It has every write, every refusal, every secret that was delivered in the open, and as secrets_tried each secret
    that was sent and checked but not stored, by which a writer can guess it.
    """
    fields = {"service": service, "limit": limit, "before": before}
    if target.http is not None:
        found = ask(target, "audit", None, fields)
    else:
        found = administer("audit", None, fields, data_dir=data_dir)
    print_answer(
        found,
        AuditAnswer,
        lambda answer: [Table(_COLUMNS, [_row(entry) for entry in answer.entries])],
        names=lambda answer: [str(entry.sequence) for entry in answer.entries],
    )


def _row(entry: Audited) -> list[Line]:
    about = "/".join(name for name in (entry.environment, entry.service) if name)
    more = f" ({entry.count} times)" if entry.count > 1 else ""
    return [
        str(entry.sequence),
        formatting.moment(entry.timestamp),
        entry.who,
        entry.where,
        entry.operation,
        about,
        f"{entry.outcome}{more}",
        "" if entry.after is None else f"{entry.before or '-'} → {entry.after}",
        entry.detail or "",
    ]
