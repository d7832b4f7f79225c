"""Interleaved rounds: everything that is compared is measured once in each of them."""

from collections.abc import Callable
from dataclasses import dataclass

from processes import load
from report import Goal, Row, Section

Job = Callable[[], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Of everything but starts and growing homes.
        starts: How often the daemon is started.
        seconds: Of each load.
        warm_seconds: Before each load is measured.
        limit_seconds: Of what the disk and SQLite can do by themselves.
        samples: Of the time from a set to its update, in each round.
        fairness_seconds: Of the client that is looked at beside others.
        subscribers: To how many a change is fanned out.
        services: Of the growing homes, beside the small one.
        growth_rounds: How often each of these is measured.
        visits: Of the console.
    """

    rounds: int
    starts: int
    seconds: float
    warm_seconds: float
    limit_seconds: float
    samples: int
    fairness_seconds: float
    subscribers: tuple[int, ...]
    services: tuple[int, ...]
    growth_rounds: int
    visits: int


QUICK = Effort(
    rounds=2,
    starts=1,
    seconds=0.4,
    warm_seconds=0.15,
    limit_seconds=0.2,
    samples=60,
    fairness_seconds=1.0,
    subscribers=(1000,),
    services=(),
    growth_rounds=1,
    visits=1,
)
FULL = Effort(
    rounds=5,
    starts=3,
    seconds=2.0,
    warm_seconds=0.4,
    limit_seconds=1.0,
    samples=200,
    fairness_seconds=4.0,
    subscribers=(1000, 5000),
    services=(1000, 10_000),
    growth_rounds=3,
    visits=3,
)


class Rounds:
    """Collects sections of rows, and the jobs of one round that fill them.

    Attributes:
        effort: How much is measured.
        count: How many rounds there are.
        sections: In the order in which they are shown.
        jobs: What a round does.
    """

    def __init__(self, effort: Effort, *, count: int | None = None) -> None:
        self.effort = effort
        self.count = count or effort.rounds
        self.sections: list[Section] = []
        self.jobs: list[Job] = []

    def section(self, title: str, text: str) -> Section:
        """Begin a section."""
        self.sections.append(Section(title, text))
        return self.sections[-1]

    def row(self, name: str, *goals: Goal, key: str = "per_second") -> Row:
        """Add a row to the last section."""
        row = Row(name, key, goals)
        self.sections[-1].rows.append(row)
        return row

    def add_load(self, into: list[tuple[Row, str]], kind: str, *, pid: int = 0, **options: object) -> None:
        """Add a run of a load generator to the round; its figures go into rows, each under a name."""
        timing = {"seconds": self.effort.seconds, "warm": self.effort.warm_seconds}

        def job() -> None:
            figures = load(kind, pid=pid, **{**timing, **options})
            for row, who in into:
                row.runs[who].append(figures)

        self.jobs.append(job)

    def run(self, note: Callable[[str], None]) -> None:
        """Do every job once a round; backwards in every other round, so that none is always first."""
        for number in range(self.count):
            note(f"round {number + 1} of {self.count}")
            for job in self.jobs if number % 2 == 0 else reversed(self.jobs):
                job()
