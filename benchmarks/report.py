"""What was measured, and how it is told: rows, the table, the goals."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

DAEMON = "daemon"
# Above this share of a processor the generator may be what limits a rate.
BUSY = 0.95

Figures = dict[str, float]


@dataclass
class Row:
    """One line of the table: the daemon, and what is measured beside it in the same rounds.

    Attributes:
        name: What is measured.
        key: Which figure counts; a rate is better when higher, all else when lower.
        unit: Of that figure.
        min_ratio: The goal, over the first of what was measured beside it.
        max_value: The goal, for the figure itself.
        runs: The figures of each round, by who was measured.
    """

    name: str
    key: str = "per_second"
    unit: str = "/s"
    min_ratio: float | None = None
    max_value: float | None = None
    runs: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))

    def median(self, who: str, key: str) -> float | None:
        """Over the rounds; None where nothing was measured."""
        values = [figures[key] for figures in self.runs.get(who, ()) if key in figures]
        return statistics.median(values) if values else None

    def ratios(self, who: str) -> list[float]:
        """The daemon's figure over another's, round by round."""
        pairs = zip(self.runs[DAEMON], self.runs[who], strict=True)
        return [mine[self.key] / other[self.key] for mine, other in pairs]

    @property
    def others(self) -> list[str]:
        """What was measured beside the daemon."""
        return [who for who in self.runs if who != DAEMON]

    @property
    def goal(self) -> str:
        """In words; empty without one."""
        if self.min_ratio is not None:
            return f"ratio ≥ {self.min_ratio}"
        return "" if self.max_value is None else f"< {self.max_value:g} {self.unit}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one, or without a figure."""
        value = self.median(DAEMON, self.key)
        if self.min_ratio is not None and self.others:
            return statistics.median(self.ratios(self.others[0])) >= self.min_ratio
        if self.max_value is not None and value is not None:
            return value < self.max_value
        return None

    @property
    def generator_busy(self) -> bool:
        """Whether a generator may have been what limited a rate."""
        return any((self.median(who, "generator_busy") or 0.0) > BUSY for who in self.runs)

    def plain(self) -> dict[str, object]:
        """For JSON: medians, ratios and every round."""
        keys = {key for runs in self.runs.values() for figures in runs for key in figures}
        return {
            "name": self.name,
            "figure": self.key,
            "median": {who: {key: self.median(who, key) for key in sorted(keys)} for who in self.runs},
            "ratio": {who: statistics.median(self.ratios(who)) for who in self.others},
            "goal": self.goal,
            "met": self.met,
            "rounds": self.runs,
        }


def wide_console() -> Console:
    """Standard output, wide enough for the tables where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=150)


def titled_table(title: str) -> Table:
    """An empty table in the style of all of them."""
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold")


def show(rows: Sequence[Row], *, title: str) -> None:
    """Print the table, and which goals are met."""
    console, table = wide_console(), titled_table(title)
    for column in ("measured", "daemon", "p50 ms", "p99 ms", "beside it", "", "ratio", "its range", "goal", "met"):
        left = column in {"measured", "beside it", "goal"}
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "measured")
    for row in rows:
        _add(table, row)
    console.print(table)
    busy = [row.name for row in rows if row.generator_busy]
    if busy:
        console.print(f"The load generator was busy all the time, the true rate may be higher: {'; '.join(busy)}.")
    judged = [row for row in rows if row.met is not None]
    missed = [f"{row.name} ({row.goal})" for row in judged if not row.met]
    console.print(f"Goals met: {len(judged) - len(missed)} of {len(judged)}.", highlight=False)
    for name in missed:
        console.print(f"Not met: {name}", highlight=False)


def _add(table: Table, row: Row) -> None:
    others = row.others or [""]
    for number, other in enumerate(others):
        ratios = row.ratios(other) if other else []
        first = number == 0
        table.add_row(
            row.name if first else "",
            _figure(row.median(DAEMON, row.key), row.unit) if first else "",
            _figure(row.median(DAEMON, "p50_ms")) if first else "",
            _figure(row.median(DAEMON, "p99_ms")) if first else "",
            other,
            _figure(row.median(other, row.key), row.unit) if other else "",
            f"{statistics.median(ratios):.2f}" if ratios else "",
            f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "",
            row.goal if first else "",
            {True: "yes", False: "NO", None: ""}[row.met] if first else "",
        )


def _figure(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".replace(" /s", "/s").rstrip()
