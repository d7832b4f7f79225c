"""How values, places, times and differences are put for people."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from aliciacfg.cli.output import Line
from aliciacfg.documents import Json

_VALUE_WIDTH = 60
_POINTER_WIDTH = 30
_MAX_POINTERS = 3
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_JUST_NOW_SECONDS = 5

REMOVED, ADDED, CHANGED = "red", "green", "yellow"


def elided(text: str, width: int) -> str:
    """Text cut in its middle to a width: the end of a pointer tells as much as its beginning."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


def short(value: object, width: int = _VALUE_WIDTH) -> str:
    """A JSON value on one line of at most a width."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def pointers(listed: Sequence[str], most: int = _MAX_POINTERS) -> str:
    """The first few of a list of pointers, and how many more there are."""
    shown = ", ".join(elided(pointer or "(document)", _POINTER_WIDTH) for pointer in listed[:most])
    return f"{shown} and {len(listed) - most} more" if len(listed) > most else shown


def moment(timestamp: float) -> str:
    """A time in this machine's zone, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def when(timestamp: Json) -> str:
    """Return a time of an answer in this machine's zone; ``unknown`` for anything else."""
    if not isinstance(timestamp, int | float):
        return "unknown"
    return datetime.fromtimestamp(timestamp).astimezone().isoformat(" ", "seconds")


def ago(timestamp: float, *, now: float) -> str:
    """How long ago a time is, in its largest unit."""
    seconds = now - timestamp
    if abs(seconds) < _JUST_NOW_SECONDS:
        return "just now"
    if seconds < 0:
        return "in the future"
    for size, unit in ((_YEAR, "years"), (_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit.removesuffix('s') if count == 1 and len(unit) > 1 else unit} ago"
    return "just now"


def origin(layer: str, line: int | None, revision: int | None) -> str:
    """Where a value comes from: ``environments/dev.yaml:12 (services)``, ``overlay, revision 7``, ``schema``."""
    file, _, section = layer.partition("#")
    place = file if line is None else f"{file}:{line}"
    if revision is not None:
        place += f", revision {revision}"
    return f"{place} ({section})" if section else place


def patch_lines(patch: Sequence[Mapping[str, object]], indent: str = "") -> list[Line]:
    """A JSON Patch (RFC 6902), a line for each operation."""
    return [_patch_line(operation, indent) for operation in patch] or [[(f"{indent}nothing", "dim")]]


def difference_lines(difference: Mapping[str, Sequence[Mapping[str, object]]], indent: str = "") -> list[Line]:
    """The difference of a dry run: what it would do to each service, or in each environment."""
    found: list[Line] = []
    for name, patch in difference.items():
        found.append([indent, (name, "bold")])
        found += patch_lines(patch, f"{indent}  ")
    return found


def _patch_line(operation: Mapping[str, object], indent: str) -> Line:
    path = str(operation.get("path")) or "(document)"
    match operation.get("op"):
        case "add":
            return [indent, (f"+ {path}  {short(operation.get('value'))}", ADDED)]
        case "remove":
            return [indent, (f"- {path}", REMOVED)]
        case "replace":
            return [indent, (f"~ {path}  {short(operation.get('value'))}", CHANGED)]
        case other:
            verb = {"move": "moved", "copy": "copied"}.get(str(other), str(other))
            return [indent, (f"~ {path}  {verb} from {operation.get('from')}", CHANGED)]
