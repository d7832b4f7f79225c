"""How values, places, times and differences are written for people."""

import json
import time
from collections.abc import Mapping, Sequence

from msgspec import UnsetType

from aliciacfg.cli import times
from aliciacfg.cli.output import Line
from aliciacfg.counted import counted  # noqa: F401 # pyright: ignore[reportUnusedImport] - commands find it here

_VALUE_WIDTH = 60
_POINTER_WIDTH = 30
_MAX_POINTERS = 3
_MAX_LACKING = 20
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_JUST_NOW_SECONDS = 5
_NARROWEST_POINTER = 12
_NARROWEST_VALUE = 16
_BETWEEN = 2

_SETTINGS = "/settings/"

REMOVED, ADDED, CHANGED = "red", "green", "yellow"


def elided(text: str, width: int) -> str:
    """Return text cut in the middle to a width, because the end of a pointer says as much as its beginning."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[head + 1 - width :]}"


def short(value: object, width: int = _VALUE_WIDTH) -> str:
    """Return a value as JSON on one line, cut at a width."""
    return cut(json.dumps(value, ensure_ascii=False), width)


def cut(text: str, width: int) -> str:
    """Return text cut at a width."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def some_of(listed: Sequence[str], most: int) -> str:
    """Return the first items of a list and the number of the others: ``a, b and 7 more``."""
    named = ", ".join(listed[:most])
    return f"{named} and {len(listed) - most} more" if len(listed) > most else named


def pointers(listed: Sequence[str], most: int = _MAX_POINTERS) -> str:
    """Return the first JSON Pointers of a list, long ones cut, and the number of the others."""
    return some_of([elided(pointer or "(document)", _POINTER_WIDTH) for pointer in listed], most)


def remedy_lines(remedies: Sequence[str]) -> list[Line]:
    """Return a line for each command that corrects what was listed."""
    return [[("Correct it with: " if number == 0 else " " * 17, "bold"), text] for number, text in enumerate(remedies)]


def lacking_lines(environment: str, lacking: Mapping[str, Sequence[str]], *, than: str) -> list[Line]:
    """Return lines about the secrets that an environment lacks and another one has, each with the command that sets it.

    Args:
        environment: The environment that lacks them.
        lacking: Their JSON Pointers by service.
        than: The environment that has them.
    """
    places = [(service, pointer) for service, pointers in lacking.items() for pointer in pointers]
    if not places:
        return []
    noun = "a secret" if len(places) == 1 else f"{len(places)} secrets"
    lines: list[Line] = [[("warning: ", "yellow"), f"{environment} lacks {noun} that {than} has:"]]
    lines += [f"  aliciacfg secret set {service} {at} -e {environment}" for service, at in places[:_MAX_LACKING]]
    return [*lines, f"  and {len(places) - _MAX_LACKING} more"] if len(places) > _MAX_LACKING else lines


def fitting(listed: Sequence[str], width: int) -> str:
    """Return as many JSON Pointers as a width has room for, each in full, and the number of the others.

    At least one is there; if it does not fit, without ``/settings``, and then cut in the middle.
    """
    places = [pointer or "(document)" for pointer in listed]
    for count in range(len(places), 1, -1):
        text = some_of(places, count)
        if len(text) <= width:
            return text
    if not places:
        return ""
    more = some_of(places, 1)[len(places[0]) :]
    place, room = places[0], max(width - len(more), _NARROWEST_POINTER)
    if len(place) > room and place.startswith(_SETTINGS):
        # Where nearly all places are; the name of the setting says more.
        place = f"…/{place.removeprefix(_SETTINGS)}"
    return elided(place, room) + more


def when(timestamp: float | None, *, now: float) -> str:
    """Return a time as ``--times`` asks for: how long ago it was, or to the second; ``unknown`` for None."""
    if timestamp is None or times.are_full():
        return moment(timestamp)
    return ago(timestamp, now=now)


def moment(timestamp: float | None) -> str:
    """Return a time in this machine's zone, to the second; ``unknown`` for None."""
    return "unknown" if timestamp is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))


def ago(timestamp: float, *, now: float) -> str:
    """Return how long ago a time was, in its largest unit."""
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
    """Return where a value comes from: ``environments/dev.yaml:12 (services)``, ``overlay, revision 7``, ``schema``."""
    file, _, section = layer.partition("#")
    place = file if line is None else f"{file}:{line}"
    if revision is not None:
        place += f", revision {revision}"
    return f"{place} ({section})" if section else place


def patch_lines(patch: Sequence[Mapping[str, object]], indent: str = "") -> list[Line]:
    """Return a JSON Patch (RFC 6902) with a line for each operation."""
    return [_patch_line(operation, indent) for operation in patch] or [[(f"{indent}nothing", "dim")]]


def difference_lines(difference: Mapping[str, Sequence[Mapping[str, object]]], indent: str = "") -> list[Line]:
    """Return the difference of a dry run: a JSON Patch for each service or environment."""
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


def side(value: object) -> str | None:
    """Return a value of a ``ValueChange`` as a side for ``change_lines``: as JSON; None where it is unset."""
    return None if isinstance(value, UnsetType) else json.dumps(value, ensure_ascii=False)


def change_lines(pointer: str, sides: tuple[str | None, str | None], *, width: int, note: str = "") -> list[Line]:
    """Return what happened to a place: on one line if there is room, else with the two values below it.

    Args:
        pointer: The place, which is never cut.
        sides: The values before and after; None where there is none.
        width: The columns of the terminal; values are cut at them.
        note: What to say about the place besides.
    """
    place, (first, second) = pointer or "(document)", sides
    remark = [("  " + note, "dim")] if note else []
    room = max(width - len(place) - len(note) - 3 * _BETWEEN, _NARROWEST_VALUE)
    if first is None:
        return [[(f"+ {place}  {cut(second or '', room)}", ADDED), *remark]]
    if second is None:
        return [[(f"- {place}  {cut(first, room)}", REMOVED), *remark]]
    if first == second:
        # Only what is hidden can differ and look the same.
        return [[("~", CHANGED), f" {place}  {cut(first, room)}, another secret", *remark]]
    if len(first) + len(second) + len(" → ") <= room:
        return [[("~", CHANGED), f" {place}  ", (first, REMOVED), " → ", (second, ADDED), *remark]]
    below = max(width - 2 * _BETWEEN, _NARROWEST_VALUE)
    return [
        [("~", CHANGED), f" {place}", *remark],
        [(f"  - {cut(first, below)}", REMOVED)],
        [(f"  + {cut(second, below)}", ADDED)],
    ]
