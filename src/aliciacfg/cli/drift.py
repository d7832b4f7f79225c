"""The commands that compare what runs with what is stored: drift, instances."""

import sys
import time

import click

from aliciacfg.api.answers.monitoring import DriftAnswer, InstanceItem, InstancesAnswer
from aliciacfg.cli import formatting, options, times
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.client import Target, ask, ask_nearest
from aliciacfg.cli.exits import EXIT_FAILED
from aliciacfg.cli.output import Block, Line, Table

_STATUS_STYLE = {"applied": "green", "rejected": "red", "restart_pending": "yellow"}


@click.command()
@click.option("--exit-code", is_flag=True, help="Exit code 1 if there is drift.")
@options.data_dir
@times.option
@click.pass_obj
def drift(target: Target, data_dir: str | None, *, exit_code: bool) -> None:
    """List everything that differs from the store.

    Retained messages, files on disk, rows of the database, and running services. Asks the daemon of the data directory,
    else the one on the broker; --http and --broker name another.

    Examples:
        aliciacfg drift
        aliciacfg drift --exit-code
    """
    answer = print_answer(
        ask_nearest(target, "drift", {}, data_dir),
        DriftAnswer,
        _drift_blocks,
        names=lambda answer: [item.subject for item in answer.drift],
    )
    if exit_code and answer.drift:
        sys.exit(EXIT_FAILED)


@click.command()
@click.argument("service")
@times.option
@click.pass_obj
def instances(target: Target, service: str) -> None:
    """List the running instances of SERVICE.

    With the revision that each one reports, and since when.

    Examples:
        aliciacfg instances voice_router
    """
    print_answer(
        ask(target, "instances", service, {}),
        InstancesAnswer,
        _instances_blocks,
        names=lambda answer: [item.instance for item in answer.instances],
    )


def _drift_blocks(answer: DriftAnswer) -> list[Block]:
    blocks: list[Block] = []
    if answer.drift:
        now = time.time()
        rows: list[list[Line]] = [
            [[(item.kind, "bold")], item.subject, formatting.when(item.since, now=now), item.message]
            for item in answer.drift
        ]
        blocks.append(Table(["kind", "what", "since", "message"], rows))
    else:
        blocks.append([("No drift.", "green")])
    counted = ", ".join(f"{kind} {count}" for kind, count in answer.found.items() if count)
    if counted:
        blocks.append([(f"Found since the daemon started: {counted}.", "dim")])
    return blocks


def _instances_blocks(answer: InstancesAnswer) -> list[Block]:
    heading = f"{answer.service} in {answer.environment} is at revision {answer.revision}."
    if not answer.instances:
        return [heading, [("No instance has reported its revision.", "dim")]]
    now = time.time()
    columns = ["instance", "revision", "status", "since", "last seen", "error"]
    return [heading, Table(columns, [_row(item, now, answer.revision) for item in answer.instances])]


def _beside(item: InstanceItem, revision: int) -> str:
    """Return what to say of a revision that is not applied: a program may have it, and need a restart for it."""
    if item.current or (item.revision == revision and item.status == "restart_pending"):
        return ""
    return " (old)" if item.revision != revision else " (not applied)"


def _row(item: InstanceItem, now: float, revision: int) -> list[Line]:
    return [
        item.instance,
        [(str(item.revision), "green" if item.current else "red"), _beside(item, revision)],
        [(item.status.replace("_", " "), _STATUS_STYLE[item.status])],
        formatting.when(item.since, now=now),
        formatting.when(item.last_seen, now=now),
        item.error or "",
    ]
