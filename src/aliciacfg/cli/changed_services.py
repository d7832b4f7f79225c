"""What people read of a change of several services or environments: old → new of each place, or of the first ones."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.cli import formatting, output
from aliciacfg.cli.output import Line

_MAX_PLACES = 60
_FEWEST_OF_ONE = 3
_MAX_NAMES = 30
_FEWEST_SHARING = 3
_INDENT = "  "
_NOTHING_ELSE = "nothing else in "

_Sides = tuple[str | None, str | None]
_Place = tuple[str, _Sides]


@dataclass(frozen=True, slots=True)
class ChangedServices:
    """What an answer says of a change of several services, or of several environments.

    Attributes:
        changes: By name: the old and the new value by JSON Pointer.
        left_out: By name: how many changed places are not in ``changes``.
        added: The services that get their first configuration.
        removed: The services that have none any more.
        complete: Whether the answer has what ``changes`` leaves out in another member.
    """

    changes: Mapping[str, Mapping[str, ValueChange]]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    added: Sequence[str] = ()
    removed: Sequence[str] = ()
    complete: bool = True


def lines(found: ChangedServices, *, noun: str = "service") -> list[Line]:
    """Return old → new of each place by service, indented; of a large change the first places and the counts.

    What most services have in common is listed once.

    Args:
        found: The change.
        noun: What the names name, in the singular.
    """
    places = {name: [(at, _sides(change)) for at, change in changes.items()] for name, changes in found.changes.items()}
    names = sorted({*places, *found.left_out})
    counts = {name: len(places.get(name, ())) + found.left_out.get(name, 0) for name in names}
    shared = _shared(places)
    own = {name: [place for place in places.get(name, ()) if place not in shared] for name in names}
    listed: list[Line] = []
    if len(names) > 1:
        total = formatting.counted(sum(counts.values()), "place")
        listed.append(f"{total} in {formatting.counted(len(names), noun)}")
    for (pointer, sides), count in shared.items():
        note = f"in all {count} {noun}s" if count == len(names) else f"in {count} of {len(names)} {noun}s"
        listed += formatting.change_lines(pointer, sides, width=output.width() - len(_INDENT), note=note)
    alike = [name for name in names if not own[name] and not found.left_out.get(name)]
    if alike and len(alike) < len(names):
        room = output.width() - len(_INDENT) - len(_NOTHING_ELSE)
        listed.append([(_NOTHING_ELSE, "dim"), formatting.fitting(alike, room)])
    listed += _own_lines({name: own[name] for name in names if name not in alike}, counts, found, noun)
    listed += _names_lines(found.added, ("+ ", formatting.ADDED), "new", noun)
    listed += _names_lines(found.removed, ("- ", formatting.REMOVED), "no configuration any more", noun)
    return [[_INDENT, *([line] if isinstance(line, str) else line)] for line in listed]


def _own_lines(
    own: Mapping[str, Sequence[_Place]], counts: Mapping[str, int], found: ChangedServices, noun: str
) -> Iterator[Line]:
    """Yield the places of each service that are not common to most, the first ones of each if they are many."""
    most = _most_of_one([len(places) for places in own.values()])
    names = list(own)[: _MAX_PLACES if most else 2 * _MAX_PLACES]
    cut = len(names) < len(own)
    for name in names:
        here = len(own[name]) + found.left_out.get(name, 0)
        count = formatting.counted(counts[name], "place")
        yield [(name, "bold"), (f"  {count}" if here == counts[name] else f"  {here} of its {count}", "dim")]
        for pointer, sides in own[name][:most]:
            for line in formatting.change_lines(pointer, sides, width=output.width() - 2 * len(_INDENT)):
                yield [_INDENT, *([line] if isinstance(line, str) else line)]
        more = max(len(own[name]) - most, 0) + found.left_out.get(name, 0)
        if more and most:
            yield [(f"{_INDENT}… and {more} more", "dim")]
        cut = cut or more > 0
    if len(names) < len(own):
        yield [(f"… and {formatting.counted(len(own) - len(names), noun)} more", "dim")]
    if cut:
        everything = found.complete or not found.left_out
        yield [(f"-o json shows {'all of it' if everything else 'more of it'}", "dim")]


def _most_of_one(counts: Sequence[int]) -> int:
    """Return how many places of each service are shown, so that there are not too many lines; 0 for the names alone."""
    if len(counts) * _FEWEST_OF_ONE > 2 * _MAX_PLACES:
        return 0
    most = _FEWEST_OF_ONE
    while most < max(counts, default=0) and sum(min(count, most + 1) for count in counts) <= _MAX_PLACES:
        most += 1
    return most


def _shared(places: Mapping[str, Sequence[_Place]]) -> dict[_Place, int]:
    """Return the changes that are the same in most services, with the number of these services."""
    counted = Counter(place for listed in places.values() for place in listed)
    least = max(_FEWEST_SHARING, len(places) // 2 + 1)
    return {place: count for place, count in counted.items() if count >= least}


def _names_lines(names: Sequence[str], sign: tuple[str, str], what: str, noun: str) -> list[Line]:
    lines: list[Line] = [[sign, (name, "bold"), f"  {what}"] for name in names[:_MAX_NAMES]]
    if len(names) > _MAX_NAMES:
        lines.append([(f"… and {formatting.counted(len(names) - _MAX_NAMES, noun)} more", "dim")])
    return lines


def _sides(change: ValueChange) -> _Sides:
    return formatting.side(change.old), formatting.side(change.new)
