"""The figures of growing homes, beside those of a small one, with the goals of a large one."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from document import machine
from growth import Growth, measure
from processes import HERE
from report import Goal
from rounds import Rounds

SMALL = 100
MIDDLE = 1000
LARGE = 10_000
# What "flat" means: a large home's figure beside a small one's.
_FLAT = 1.5
_UNITS = {"s": "seconds", "mb": "megabytes", "ms": "ms"}
_MOST = {
    "start_s": 5.0,
    "restart_s": 4.0,
    "memory_mb": 180.0,
    "changed_memory_mb": 250.0,
    "change_s": 6.0,
    "change_worst_get_ms": 50.0,
}
# Beside which home. Half a page of `list` is all that the smallest one has behind its middle.
_FLAT_FIGURES = {
    "get_ms": SMALL,
    "started_get_ms": SMALL,
    "list_ms": MIDDLE,
    "started_list_ms": MIDDLE,
    "patch_ms": SMALL,
    "changed_patch_ms": SMALL,
}
_NAMES = {
    "start_s": "start to READY, nothing stored",
    "restart_s": "start to READY, all stored",
    "start_processor_s": "processor time of the first",
    "restart_processor_s": "processor time of the second",
    "memory_mb": "resident memory",
    "changed_memory_mb": "resident memory after a change of all",
    "get_ms": "get over HTTP",
    "started_get_ms": "get in the seconds after a start",
    "started_worst_get_ms": "longest get in these seconds",
    "list_ms": "list of 100 from the middle",
    "started_list_ms": "list in the seconds after a start",
    "explain_ms": "explain",
    "patch_ms": "durable PATCH",
    "created_ms": "PUT of a new service",
    "changed_patch_ms": "longest PATCH after a change of all",
    "change_s": "edit of dev.yaml that changes all, until the last is served",
    "told_s": "the same edit, until the broker has all",
    "change_get_ms": "get meanwhile",
    "change_worst_get_ms": "longest get meanwhile",
}


# The figures of the last run that measured homes of many more services, which takes long.
_LARGER = HERE / "larger_homes.json"


def measure_growth(rounds: Rounds, scratch: Path, note: Callable[[str], None], more: Sequence[int] = ()) -> None:
    """Measure homes of each size in turn.

    Args:
        rounds: Gets the section.
        scratch: A directory for the homes, on a disk.
        note: Tells what is done.
        more: Sizes beside those of the effort, each measured once; the figures are kept. Without any, those of an
            earlier run are shown.
    """
    section = rounds.section(
        "Growth",
        "Generated homes, each with a daemon and a Mosquitto of its own, one request at a time; medians. *flat* is at "
        f"most {_FLAT:g} times a home of {SMALL} services, of {MIDDLE:,} for `list`.",
    )
    section.side_by_side = True
    sizes = (SMALL, *rounds.effort.services)
    found = [
        asdict(_measure(count, scratch, note))
        for number in range(rounds.effort.growth_rounds)
        for count in (sizes if number % 2 == 0 else reversed(sizes))
    ]
    if more:
        homes = [asdict(_measure(count, scratch, note)) for count in more]
        _LARGER.write_text(json.dumps({"machine": machine(), "homes": homes}, indent=2) + "\n")
    larger = json.loads(_LARGER.read_text()) if _LARGER.exists() else {"homes": []}
    if larger["homes"]:
        when = "in this run" if more else f"in an earlier run, on {larger['machine']}"
        section.text += f" A home of more than {LARGE:,} services was measured once, {when}."
    measured: defaultdict[int, list[dict[str, float]]] = defaultdict(list)
    for home in [*found, *larger["homes"]]:
        measured[int(home["services"])].append(home)
    for field in fields(Growth)[1:]:
        key = _UNITS[field.name.rpartition("_")[2]]
        row = rounds.row(_NAMES.get(field.name, field.name), *_goals(field.name, key, measured), key=key)
        row.subject = _who(LARGE)
        for count in sorted(measured):
            # An earlier run may lack a figure.
            row.runs[_who(count)] = [{key: home[field.name]} for home in measured[count] if field.name in home]


def _measure(count: int, scratch: Path, note: Callable[[str], None]) -> Growth:
    note(f"a home of {count:,} services")
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        (home,) = measure([count], Path(directory))
    return home


def _goals(name: str, key: str, sizes: Collection[int]) -> list[Goal]:
    if LARGE not in sizes:
        return []
    if name in _MOST:
        return [Goal(_MOST[name], key, at_least=False)]
    beside = _FLAT_FIGURES.get(name)
    return [] if beside is None else [Goal(_FLAT, key, _who(beside), at_least=False)]


def _who(count: int) -> str:
    return f"{count:,} services"
