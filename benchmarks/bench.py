"""Measures the daemon beside its limits, what it replaces, and its peers, all in one run.

Rounds are interleaved, so that whatever else the machine does meets all sides. A figure is the median of the rounds, a
ratio the median of the rounds' own ratios, and the spread lies between their quartiles. Ends with 1 if a goal is missed
by more than the spread.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import console
import document
import fairness
import fanout
import growing
import reads
import replicas
import starts
import writes
from processes import HERE, BenchmarkError
from report import Section, judged, show
from rounds import FULL, QUICK, Rounds
from scene import open_scene

PARTS = {
    "mqtt": reads.add_mqtt,
    "mqtt311": reads.add_older_mqtt,
    "http": reads.add_http,
    "writes": writes.add_writes,
    "inside": writes.add_inside,
    "latency": writes.add_latency,
    "fairness": fairness.add_fairness,
    "overload": fairness.add_overload,
    "fanout": fanout.add_fanout,
    "replicas": replicas.add_replicas,
    "holds": lambda rounds, scene: fairness.add_holds(rounds, scene.scratch),
}
ALL = ("starts", "console", *PARTS, "growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(ALL)}")
    parser.add_argument("--quick", action="store_true", help="in two minutes, with more noise")
    parser.add_argument("--rounds", type=int, help="how many")
    parser.add_argument(
        "--services",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="measure larger homes too, such as 100000, once; their figures are kept for the next runs",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there")
    parser.add_argument(
        "--document", action="store_true", help="write docs/performance.md; of some parts, only their sections"
    )
    options = parser.parse_args()
    unknown = set(options.parts) - set(ALL)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    # Ends like any other error, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rounds = Rounds(QUICK if options.quick else FULL, count=options.rounds)
    try:
        title = measure(rounds, set(options.parts or ALL), options.services)
    except BenchmarkError as error:
        sys.exit(f"bench.py: {error}")
    show(rounds.sections, title=title)
    if options.document:
        document.write(rounds, title)
    if options.json is not None:
        rows = [row.plain() for section in rounds.sections for row in section.rows]
        options.json.write_text(json.dumps({"title": title, "rows": rows}, indent=1))
    missed = [(row, goal) for row, goal, _, verdict in judged(rounds.sections) if verdict == "missed"]
    for row, goal in missed:
        note(f"missed: {row.name}: {goal.text}")
    sys.exit(1 if missed else 0)


def measure(rounds: Rounds, parts: set[str], services: Sequence[int]) -> str:
    """Measure some parts, and homes of so many services beside the usual ones; return the title of the figures."""
    # Beside the sources: the system's own temporary directory may be in memory, and writes go to a disk.
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as directory, ExitStack() as stack:
        scratch = Path(directory)
        if "starts" in parts:
            note("starting and stopping the daemon")
            starts.measure_starts(rounds, scratch)
        if "console" in parts:
            note("the console in a browser")
            console.measure_console(rounds, scratch)
        # Before anything else runs: a large home takes the machine for itself.
        growth = _measure_growth(rounds, scratch, services) if "growth" in parts else []
        scene = open_scene(stack, scratch)
        for name, add in PARTS.items():
            if name in parts:
                add(rounds, scene)
        rounds.run(note)
        rounds.sections += growth
        return document.title(rounds, scene)


def _measure_growth(rounds: Rounds, scratch: Path, services: Sequence[int]) -> list[Section]:
    """Return the section, which stands last."""
    if not rounds.effort.services and not services:
        return []
    growing.measure_growth(rounds, scratch, note, services)
    return [rounds.sections.pop()]


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
