"""The ``explain`` command: where each value of a configuration comes from."""

from dataclasses import dataclass, field
from typing import TypeAlias

import click
import msgspec

from aliciacfg.api.answers.explain import ExplainAnswer, Explained, Overridden, Removed
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.answers import parse
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, fail
from aliciacfg.cli.output import Branch, Line
from aliciacfg.documents import equal, parse_pointer, walk_strings
from aliciacfg.errors import InvalidRequest
from aliciacfg.model.redaction import REDACTED

# Columns of a line that the value cannot use: guides, name, arrow and origin.
_BESIDE_WIDTH = 76
_MIN_VALUE_WIDTH, _MAX_VALUE_WIDTH = 16, 48
_MAX_NAME_WIDTH = 28
# Of the tree, for each level.
_GUIDE = 4
_CONTINUED = "      "

_Piece: TypeAlias = list[tuple[str, str]]
"""A part of a line that stays together: texts with their styles."""


@dataclass
class _Node:
    """A place of the document: what is explained there, and the places below it by name."""

    explained: Explained | Removed | None = None
    below: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])


@click.command()
@click.argument("service")
@click.argument("pointer", default="")
@options.environment
@click.pass_obj
def explain(target: Target, service: str, pointer: str, environment: str | None) -> None:
    """Show where each value of SERVICE comes from.

    File and line, or the revision that changed the value at run time, and the values that it overrides. With POINTER
    (/limits/x), only the values there and below.

    Examples:
        aliciacfg explain voice_router
        aliciacfg explain voice_router /settings/max_sessions
        aliciacfg explain voice_router -o name | grep timeout
    """
    try:
        parse_pointer(pointer)
    except InvalidRequest as error:
        fail(error.message, EXIT_USAGE)
    found = ask(target, "explain", service, {"environment": environment})
    answer = parse(found, ExplainAnswer)
    values = {place: explained for place, explained in answer.values.items() if _matches(place, pointer)}
    removed = {place: explained for place, explained in answer.removed.items() if _matches(place, pointer)}
    if pointer and not values and not removed:
        from aliciacfg.cli import lookups

        fail(
            f"There is nothing at {pointer} of {service} in {answer.environment}.",
            EXIT_CODES["not_found"],
            hint=lookups.meant_pointer(pointer, [*answer.values, *answer.removed]),
        )
    part = {**found, "values": msgspec.to_builtins(values), "removed": msgspec.to_builtins(removed)}
    output.print_result(
        part, lambda: [_tree(_heading(answer), {**values, **removed}), *_problem_lines(answer)], names=lambda: values
    )


def _heading(answer: ExplainAnswer) -> str:
    what = f"{answer.service} in {answer.environment}"
    if not answer.problems:
        return f"{what}, revision {answer.revision}"
    served = f"; revision {answer.revision} is the last valid one" if answer.revision else ""
    return f"{what}, as its files say: not valid yet{served}"


def _problem_lines(answer: ExplainAnswer) -> list[Line]:
    hidden: list[Line] = [[("hidden: ", "yellow"), problem.message] for problem in answer.hidden]
    return [*([("! ", "red"), problem.message] for problem in answer.problems), *hidden]


def _matches(place: str, pointer: str) -> bool:
    """Return whether a place is at a pointer, below it, or an array or value that the pointer leads into."""
    return f"{place}/".startswith(f"{pointer}/") or f"{pointer}/".startswith(f"{place}/")


def _tree(heading: str, places: dict[str, Explained | Removed]) -> Branch:
    root = _Node()
    for place, explained in places.items():
        _insert(root, place, explained)
    value_width = max(_MIN_VALUE_WIDTH, min(_MAX_VALUE_WIDTH, output.width() - _BESIDE_WIDTH))
    return Branch([(heading, "bold")], branches=_branches(root, value_width))


def _insert(root: _Node, pointer: str, explained: Explained | Removed) -> None:
    node = root
    for token in parse_pointer(pointer):
        node = node.below.setdefault(token, _Node())
    node.explained = explained


def _branches(node: _Node, value_width: int, depth: int = 1) -> list[Branch]:
    """Return the branches below a node, with values and arrows aligned among neighbours.

    What is too wide for the terminal goes on below, from the arrow on.
    """
    room = output.width() - depth * _GUIDE
    leaves = {
        name: _value(below.explained, value_width) for name, below in node.below.items() if below.explained is not None
    }
    longest_name = min(max(map(len, leaves), default=0), _MAX_NAME_WIDTH)
    longest_value = max(map(len, leaves.values()), default=0)
    branches: list[Branch] = []
    for name, below in node.below.items():
        further = _branches(below, value_width, depth + 1)
        if below.explained is None:
            branches.append(Branch([(name, "bold")], branches=further))
        else:
            line = _line(name, leaves[name].ljust(longest_value), below.explained, name_width=longest_name)
            lines = [_overridden_line(below.explained, other, value_width) for other in below.explained.overridden]
            first, *notes = [shown for pieces in [line, *lines] for shown in _fitted(pieces, room)]
            branches.append(Branch(first, notes, further))
    return branches


def _fitted(pieces: list[_Piece], room: int) -> list[Line]:
    """Return pieces of a line as one line, or as several if that is too wide."""
    lines: list[_Piece] = [[]]
    for piece in pieces:
        if lines[-1] and _width([*lines[-1], *piece]) > room:
            (text, style), *others = piece
            lines.append([(_CONTINUED, ""), (text.lstrip(", "), style), *others])
        else:
            lines[-1] += piece
    return [list(line) for line in lines]


def _width(piece: _Piece) -> int:
    return sum(len(text) for text, _ in piece)


def _value(explained: Explained | Removed, width: int) -> str:
    return formatting.short(explained.value, width) if isinstance(explained, Explained) else "removed"


def _line(name: str, value: str, explained: Explained | Removed, *, name_width: int) -> list[_Piece]:
    origin = formatting.origin(explained.layer, explained.line, explained.revision)
    blank = " " * (name_width - len(name) + 2)
    if isinstance(explained, Removed):
        return [[(name, "strike dim"), (f"{blank}{value}", "dim")], [(f"  ← {origin}", "dim")]]
    # Run-time changes stand out, because the files do not have them.
    style = "yellow" if explained.layer == "overlay" else ""
    return [[(f"{name}{blank}", ""), (value, "cyan")], [("  ← ", "dim"), (origin, style)]]


def _overridden_line(explained: Explained | Removed, other: Overridden, value_width: int) -> list[_Piece]:
    # Two secrets only look the same, because neither is shown.
    hidden = any(text == REDACTED for _, text in walk_strings(other.value))
    same = isinstance(explained, Explained) and equal(explained.value, other.value) and not hidden
    value = "the same" if same else f"instead of {formatting.short(other.value, value_width)}"
    pieces: list[_Piece] = [
        [(f"  {value}", "dim")],
        [(f"  ← {formatting.origin(other.layer, other.line, None)}", "dim")],
    ]
    if explained.layer == "overlay" and explained.revision is not None and other.line is not None:
        # An edit of that line would not show.
        pieces.append([(f", shadowed by overlay, revision {explained.revision}", "dim")])
    return pieces
