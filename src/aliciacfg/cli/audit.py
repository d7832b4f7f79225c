"""The ``audit`` command."""

import click

from aliciacfg.cli import formatting, output
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.local_client import administer
from aliciacfg.cli.options import data_dir
from aliciacfg.documents import JsonObject


@click.command()
@click.option("--service", metavar="NAME", help="Only what is about this service.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="At most so many entries.")
@click.option("--before", type=int, metavar="N", help="Only entries below this one.")
@data_dir
@click.pass_obj
def audit(target: Target, service: str | None, limit: int, before: int | None, data_dir: str | None) -> None:
    """List what was done and refused, newest first."""
    fields = {"service": service, "limit": limit, "before": before}
    if target.http is not None:
        found = ask(target, "audit", None, fields)
    else:
        found = administer("audit", None, fields, data_dir=data_dir)
    if not output.for_people():
        output.print_json(found)
        return
    entries = found.get("entries")
    rows = [_audit_row(item) for item in (entries if isinstance(entries, list) else []) if isinstance(item, dict)]
    output.table(["entry", "when", "who", "where", "what", "about", "outcome", "revision", ""], rows)


def _audit_row(item: JsonObject) -> list[str]:
    about = "/".join(str(item[key]) for key in ("environment", "service") if item.get(key))
    after = item.get("after")
    count = item.get("count")
    more = f" ({count} times)" if isinstance(count, int) and count > 1 else ""
    return [
        str(item.get("sequence")),
        formatting.when(item.get("timestamp")),
        str(item.get("who")),
        str(item.get("where")),
        str(item.get("operation")),
        about,
        f"{item.get('outcome')}{more}",
        "" if after is None else f"{item.get('before') or '-'} → {after}",
        str(item.get("detail") or ""),
    ]
