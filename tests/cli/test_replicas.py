"""The table of a home's daemons."""

import msgspec

from aliciacfg.api.answers.health import ReplicaItem, ReplicasAnswer
from aliciacfg.cli import replicas
from aliciacfg.cli.output import Line, Table

ONE = ReplicaItem(
    replica="0.1", name="attic", role="leader", state="ready", version="1.2.0", url="http://attic:8026", since=0.0,
    lag_seconds=0.04, lag_commits=0, silent_seconds=0.6,
)  # fmt: skip


def plain(line: Line) -> str:
    return line if isinstance(line, str) else "".join(part if isinstance(part, str) else part[0] for part in line)


def test_each_daemon_has_a_row_and_what_is_wrong_is_said_below():
    """Why one is not ready, and that none leads."""
    other = msgspec.structs.replace(
        ONE, name="barn", role="follower", state="not_ready", lag_seconds=3.5, files_differ=True, problem="it lags"
    )
    table, *below = replicas._blocks(ReplicasAnswer(leader="attic", replicas=[ONE, other]))
    assert isinstance(table, Table)
    rows = [[plain(cell) for cell in row if isinstance(cell, str | list)] for row in table.rows]
    assert [[*row[:4], row[5], *row[7:]] for row in rows] == [
        ["attic", "leader", "ready", "1.2.0", "0.0 s", "http://attic:8026", ""],
        ["barn", "follower", "not ready", "1.2.0", "3.5 s", "http://attic:8026", "differ"],
    ]
    assert len(table.columns) == len(rows[0])
    assert [plain(block) for block in below if isinstance(block, list)] == ["barn is not ready: it lags"]
    *_, last = replicas._blocks(ReplicasAnswer(leader=None, replicas=[other]))
    assert isinstance(last, list)
    assert plain(last) == "No daemon leads at present."


def test_formats_are_shown_with_what_the_home_waits_for():
    """Of each daemon the highest that it works with; nothing is said when there is nothing to wait for."""
    old, new = (msgspec.structs.replace(ONE, name=name, format=known) for name, known in (("attic", 1), ("barn", 2)))
    table, said = replicas._blocks(
        ReplicasAnswer(leader="attic", format=1, format_waits="it rises to 2 later", replicas=[old, new])
    )
    assert isinstance(table, Table)
    assert [row[table.columns.index("format")] for row in table.rows] == ["1", "2"]
    assert said == ["The database has format 1; it rises to 2 later."]
    assert len(replicas._blocks(ReplicasAnswer(leader="attic", format=2, replicas=[new]))) == 1
