"""What the client costs a program at its start: processor time of the import, and memory, beside what it stands on.

    python benchmarks/client_start.py

Each figure is the median of runs in processes of their own, whose modules are compiled already. Memory is the resident
set after the import, less that of an interpreter that has imported asyncio, ssl and logging, which nearly every program
on a bus has.
"""

import statistics
import subprocess
import sys

RUNS = 15
PROGRAM = """
import asyncio, ssl, logging, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4
before, begun = resident(), time.process_time()
{}
print((time.process_time() - begun) * 1000, (resident() - before) / 1024)
"""
ROWS = {
    "aiomqtt, msgspec, nacl.public": "import aiomqtt, msgspec, nacl.public",
    "aliciacfg.client": "import aliciacfg.client",
    "aliciacfg.daemon": "import aliciacfg.daemon",
}


def measured(statement: str) -> tuple[float, float]:
    """Return the milliseconds and the megabytes of one import."""
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    milliseconds, megabytes = printed.split()
    return float(milliseconds), float(megabytes)


def main() -> None:
    """Measure in turn, and print a table."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
    for _ in range(RUNS):
        for name, statement in ROWS.items():
            figures[name].append(measured(statement))
    print("| import | processor, ms | memory, MiB |\n|---|---|---|")
    for name, runs in figures.items():
        times, sizes = zip(*runs, strict=True)
        print(f"| {name} | {statistics.median(times):.0f} | {statistics.median(sizes):.1f} |")


if __name__ == "__main__":
    main()
