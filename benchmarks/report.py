"""What was measured, and how it is reported: rows, their goals, the table."""

import math
import operator
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.table import Table

DAEMON = "daemon"
# Above this share of a processor the generator may be what limits a rate.
BUSY = 0.95

Figures = dict[str, float]
UNITS = {
    "ms": "ms",
    "count": "",
    "per_second": "/s",
    "cpu_us": "µs",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "seconds": "s",
    "megabytes": "MB",
    "kilobytes": "KB",
    "share": "",
    "busy_share": "",
    "ready_share": "",
}
_NAMES = {
    "ms": "time",
    "per_second": "rate",
    "cpu_us": "processor time",
    "p50_ms": "p50",
    "p99_ms": "p99",
    "seconds": "time",
    "megabytes": "memory",
    "kilobytes": "size",
    "ready_share": "share",
}


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return that of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


Verdict = Literal["met", "within the spread", "missed", ""]


@dataclass(frozen=True)
class Goal:
    """What a row has to reach.

    Attributes:
        bound: The least or the largest value.
        key: Of which figure.
        beside: By whose figure the daemon's is divided; empty for the daemon's own.
        at_least: Whether the bound is the least.
    """

    bound: float
    key: str = "per_second"
    beside: str = ""
    at_least: bool = True

    @property
    def text(self) -> str:
        """The goal in words."""
        sign, name = "≥" if self.at_least else "≤", _NAMES.get(self.key, self.key)
        if self.beside:
            return f"{name} {sign} {self.bound:g} of {self.beside}"
        return f"{name} {sign} {self.bound:,g} {UNITS[self.key]}".replace(" /s", "/s").rstrip()

    def judge(self, spread: Spread) -> Verdict:
        """Tell whether the median meets the goal; a miss that is no larger than the spread says nothing."""
        holds = operator.ge if self.at_least else operator.le
        if holds(spread.median, self.bound):
            return "met"
        best = spread.high if self.at_least else spread.low
        return "within the spread" if holds(best, self.bound) else "missed"


@dataclass
class Row:
    """What is measured of the daemon, and of others in the same rounds.

    Attributes:
        name: What is measured.
        key: The figure that is compared.
        goals: What the daemon has to reach.
        runs: The figures of each round, by who was measured.
        subject: Who has to reach the goals.
    """

    name: str
    key: str = "per_second"
    goals: tuple[Goal, ...] = ()
    runs: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    subject: str = DAEMON

    @property
    def unit(self) -> str:
        """Of the figure that is compared."""
        return UNITS[self.key]

    @property
    def others(self) -> list[str]:
        """What was measured beside the subject."""
        return [who for who in self.runs if who != self.subject]

    def median(self, who: str, key: str) -> float | None:
        """Over the rounds; None where nothing was measured."""
        values = [figures[key] for figures in self.runs.get(who, ()) if key in figures]
        return statistics.median(values) if values else None

    def ratio(self, who: str, key: str = "") -> Spread | None:
        """The subject's figure over another's, round by round; None where one of them is missing."""
        key = key or self.key
        pairs = list(zip(self.runs[self.subject], self.runs.get(who, ()), strict=False))
        ratios = [mine[key] / other[key] for mine, other in pairs if key in mine and other.get(key)]
        return Spread.of(ratios) if ratios else None

    def reached(self, goal: Goal) -> Spread | None:
        """What the subject reached of a goal; None where it was not measured."""
        if goal.beside:
            return self.ratio(goal.beside, goal.key)
        values = [figures[goal.key] for figures in self.runs[self.subject] if goal.key in figures]
        return Spread.of(values) if values else None

    def verdict(self, goal: Goal) -> Verdict:
        """Whether a goal is reached; empty where it was not measured."""
        reached = self.reached(goal)
        return "" if reached is None or math.isnan(reached.median) else goal.judge(reached)

    @property
    def generator_busy(self) -> bool:
        """Whether a generator may have been what limited a rate."""
        return any((self.median(who, "generator_busy") or 0.0) > BUSY for who in self.runs)

    def plain(self) -> dict[str, object]:
        """For JSON: the goals and every round."""
        goals = [{"goal": goal.text, "verdict": self.verdict(goal)} for goal in self.goals]
        return {"name": self.name, "figure": self.key, "goals": goals, "rounds": self.runs}


@dataclass
class Section:
    """Rows that belong together.

    Attributes:
        title: What they measure.
        text: How they are measured.
        rows: In the order in which they are shown.
        side_by_side: Whether who was measured stands above the columns, instead of in lines below each other.
        subject: What the others are compared with, above the column of the ratio.
    """

    title: str
    text: str
    rows: list[Row] = field(default_factory=list)
    side_by_side: bool = False
    subject: str = DAEMON


def wide_console() -> Console:
    """Standard output, wide enough for the tables where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def titled_table(title: str) -> Table:
    """An empty table in the style of all of them."""
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold")


_COLUMNS = ("measured", "", "figure", "p50 ms", "p99 ms", "CPU µs", "{} ÷ it", "quartiles")


def table_of(section: Section) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the heads of the columns and the lines of a section, without columns that say nothing there."""
    if section.side_by_side:
        everyone = list(dict.fromkeys(who for row in section.rows for who in row.runs))
        figures = [(row.name, *(shown(row.median(who, row.key), row.unit) for who in everyone)) for row in section.rows]
        return ["measured", *everyone], figures
    cells = [line for row in section.rows for line in _lines(row)]
    kept = [at for at in range(len(_COLUMNS)) if at < 3 or any(line[at] for line in cells)]
    return [_COLUMNS[at].format(section.subject) for at in kept], [[line[at] for at in kept] for line in cells]


def _lines(row: Row) -> list[tuple[str, ...]]:
    """Return the cells of a row: a line for the daemon, and one for each of the others."""
    found: list[tuple[str, ...]] = []
    for who in (row.subject, *row.others):
        ratio = None if who == row.subject else row.ratio(who)
        found.append(
            (
                "" if found else row.name,
                who,
                shown(row.median(who, row.key), row.unit),
                shown(row.median(who, "p50_ms")),
                shown(row.median(who, "p99_ms")),
                shown(row.median(who, "cpu_us")),
                "" if ratio is None else f"{ratio.median:.2f}",
                "" if ratio is None else f"{ratio.low:.2f} to {ratio.high:.2f}",
            )
        )
    return found


def judged(sections: Sequence[Section]) -> list[tuple[Row, Goal, Spread, Verdict]]:
    """Return every goal that was measured, with what was reached."""
    return [
        (row, goal, reached, row.verdict(goal))
        for section in sections
        for row in section.rows
        for goal in row.goals
        if row.verdict(goal) and (reached := row.reached(goal)) is not None
    ]


def told(goal: Goal, reached: Spread) -> str:
    """Return what was reached of a goal, in words."""
    unit = "" if goal.beside else UNITS[goal.key]
    return f"{shown(reached.median, unit)} ({shown(reached.low)} to {shown(reached.high)})"


def show(sections: Sequence[Section], *, title: str) -> None:
    """Print the tables, and which goals are met."""
    console = wide_console()
    console.print(title, highlight=False)
    for section in sections:
        table = titled_table(section.title)
        columns, cells = table_of(section)
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number < 2 else "right", no_wrap=number > 0)
        for line in cells:
            table.add_row(*line)
        console.print(table)
    goals = titled_table("Goals")
    for column in ("measured", "goal", "reached (quartiles)", ""):
        goals.add_column(column)
    for row, goal, reached, verdict in judged(sections):
        goals.add_row(row.name, goal.text, told(goal, reached), verdict)
    console.print(goals)
    busy = [row.name for section in sections for row in section.rows if row.generator_busy]
    if busy:
        console.print(f"The load generator was busy all the time, the true rate may be higher: {'; '.join(busy)}.")


def shown(value: float | None, unit: str = "") -> str:
    """Return a figure with as many digits as it is worth."""
    if value is None or math.isnan(value):
        return ""
    # A share of nearly all is not all.
    digits = 4 if 0.99 < value < 1 else 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".replace(" /s", "/s").rstrip()
