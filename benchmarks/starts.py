"""Starts of the daemon with the repository's services."""

from pathlib import Path

from processes import Daemon, daemon, mosquitto
from report import DAEMON, Figures, Goal
from rounds import Rounds

MAX_READY_SECONDS = 2.0
MAX_MEMORY_MB = 80.0


def measure_starts(rounds: Rounds, scratch: Path) -> None:
    """From the start of the process to its READY line: with nothing stored yet, then with all stored."""
    rounds.section(
        "Start",
        "With the repository's services, from the start of the process to its READY line. Memory is VmRSS in MB of a "
        "million bytes.",
    )
    ready = Goal(MAX_READY_SECONDS, "seconds", at_least=False)
    first = rounds.row("start, empty data directory", ready, key="seconds")
    second = rounds.row("second start", ready, key="seconds")
    size = Goal(MAX_MEMORY_MB, "megabytes", at_least=False)
    memory = rounds.row("resident memory when READY", size, key="megabytes")
    for number in range(rounds.effort.starts):
        directory = scratch / f"start-{number}"
        with mosquitto(directory / "broker") as mqtt_port:
            for row in (first, second):
                with daemon(directory / "home", mqtt_port) as started:
                    row.runs[DAEMON].append({"seconds": started.ready_seconds})
                    memory.runs[DAEMON].append(memory_of(started))


def memory_of(home: Daemon) -> Figures:
    """Return what the daemon holds; nothing without /proc."""
    megabytes = home.memory_mb()
    return {} if megabytes is None else {"megabytes": megabytes}
