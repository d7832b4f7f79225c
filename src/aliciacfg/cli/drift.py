"""``drift`` and ``instances``: whether what runs is what is stored."""

import sys
import time

import click

from aliciacfg.api.answers import DriftAnswer, InstanceItem, InstancesAnswer
from aliciacfg.cli import formatting, output
from aliciacfg.cli.client import Target, ask, typed
from aliciacfg.cli.exits import EXIT_FAILED

_STATUS_STYLE = {"applied": "green", "rejected": "red", "restart_pending": "yellow"}


@click.command()
@click.option("--exit-code", is_flag=True, help="Exit code 1 if anything drifts.")
@click.pass_obj
def drift(target: Target, *, exit_code: bool) -> None:
    """List what is not as the store has it.

    Retained messages, files on disk, rows of the store itself, running services.
    """
    found = ask(target, "drift", None, {})
    answer = typed(found, DriftAnswer)
    if not output.for_people():
        output.print_json(found)
    elif answer.drift:
        now = time.time()
        output.table(
            ["kind", "what", "since", "message"],
            [
                [[(item.kind, "bold")], item.subject, formatting.ago(item.since, now=now), item.message]
                for item in answer.drift
            ],
        )
    else:
        output.lines([[("Nothing drifts.", "green")]])
    if output.for_people() and (counted := {kind: count for kind, count in answer.found.items() if count}):
        listed = ", ".join(f"{kind} {count}" for kind, count in counted.items())
        output.lines([[(f"Found since the daemon started: {listed}.", "dim")]])
    if exit_code and answer.drift:
        sys.exit(EXIT_FAILED)


@click.command()
@click.argument("service")
@click.pass_obj
def instances(target: Target, service: str) -> None:
    """List the running copies of SERVICE.

    Which revision each says that it runs, and since when.
    """
    found = ask(target, "instances", service, {})
    if not output.for_people():
        output.print_json(found)
        return
    answer = typed(found, InstancesAnswer)
    output.lines([f"{answer.service} in {answer.environment} is at revision {answer.revision}."])
    if answer.instances:
        now = time.time()
        output.table(
            ["instance", "revision", "status", "since", "last seen", "error"],
            [_row(item, now) for item in answer.instances],
        )
    else:
        output.lines([[("No instance has reported what it runs.", "dim")]])


def _row(item: InstanceItem, now: float) -> list[output.Line]:
    return [
        item.instance,
        [(str(item.revision), "green" if item.current else "red"), "" if item.current else " (old)"],
        [(item.status, _STATUS_STYLE[item.status])],
        formatting.ago(item.since, now=now),
        formatting.ago(item.last_seen, now=now),
        item.error or "",
    ]
