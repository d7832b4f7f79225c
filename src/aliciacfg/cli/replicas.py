"""The command that lists the daemons of a home: replicas."""

import time

import click
import msgspec

from aliciacfg.api.answers.health import ReplicaItem, ReplicasAnswer
from aliciacfg.cli import formatting, options, times
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.client import Target, ask_nearest
from aliciacfg.cli.output import Block, Line, Table

_STYLES = {"ready": "green", "not_ready": "yellow", "gone": "red"}


@click.command()
@options.data_dir
@times.option
@click.pass_obj
def replicas(target: Target, data_dir: str | None) -> None:
    """List the daemons that serve the home.

    With what each one reports once a second: whether it leads, whether it is ready for requests, its version and the
    highest format of the database that it works with, by how much its memory may lag, since when it runs, where it
    listens, and whether its files differ from the leader's. Says why the format does not rise, if one knows a higher
    one. Asks the daemon of the data directory, else one on the broker; --http and --broker name another.

    Examples:
        aliciacfg replicas
        aliciacfg replicas -o name
        aliciacfg --http http://127.0.0.1:8026 replicas -o json
    """
    print_answer(
        ask_nearest(target, "replicas", {}, data_dir),
        ReplicasAnswer,
        _blocks,
        names=lambda answer: [item.name for item in answer.replicas],
    )


def _blocks(answer: ReplicasAnswer) -> list[Block]:
    now = time.time()
    columns = ["name", "role", "state", "version", "format", "lag", "since", "http", "files"]
    blocks: list[Block] = [Table(columns, [_row(item, now) for item in answer.replicas])]
    blocks.extend([(f"{item.name} is not ready: {item.problem}", "yellow")] for item in answer.replicas if item.problem)
    if answer.format_waits is not msgspec.UNSET:
        blocks.append([f"The database has format {answer.format}; {answer.format_waits}."])
    if answer.leader is None:
        blocks.append([("No daemon leads at present.", "red")])
    return blocks


def _row(item: ReplicaItem, now: float) -> list[Line]:
    return [
        item.name,
        [(item.role, "bold" if item.role == "leader" else "")],
        [(item.state.replace("_", " "), _STYLES[item.state])],
        item.version,
        "" if item.format is msgspec.UNSET else str(item.format),
        f"{item.lag_seconds:.1f} s",
        formatting.when(item.since, now=now),
        item.url,
        [("differ", "yellow")] if item.files_differ else "",
    ]
