"""``explain``: where each value of a configuration comes from."""

from dataclasses import dataclass, field

import click
import msgspec

from aliciacfg.api.answers import ExplainAnswer, Explained, Overridden, Removed
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.client import Target, ask, typed
from aliciacfg.cli.exits import EXIT_CODES, EXIT_USAGE, fail
from aliciacfg.cli.output import Branch, Line
from aliciacfg.documents import equal, parse_pointer
from aliciacfg.errors import InvalidRequest

# What a line needs beside the value: guides, a name, an arrow, and where the value comes from.
_BESIDE_WIDTH = 76
_LEAST_VALUE_WIDTH, _MOST_VALUE_WIDTH = 16, 48
_MOST_NAME_WIDTH = 28


@dataclass
class _Place:
    """A place of the document: what is said about it, and the places below."""

    said: Explained | Removed | None = None
    below: dict[str, "_Place"] = field(default_factory=dict[str, "_Place"])


@click.command()
@click.argument("service")
@click.argument("pointer", default="")
@options.environment
@click.pass_obj
def explain(target: Target, service: str, pointer: str, environment: str | None) -> None:
    """Show where the values of SERVICE come from.

    File and line, or the revision that changed it at run time, and what it took the place of. With POINTER (/limits/x)
    only what is there and below.
    """
    try:
        parse_pointer(pointer)
    except InvalidRequest as error:
        fail(error.message, EXIT_USAGE)
    found = ask(target, "explain", service, {"environment": environment})
    answer = typed(found, ExplainAnswer)
    values = {place: said for place, said in answer.values.items() if _concerns(place, pointer)}
    removed = {place: said for place, said in answer.removed.items() if _concerns(place, pointer)}
    if pointer and not values and not removed:
        fail(f"There is nothing at {pointer} of {service} in {answer.environment}.", EXIT_CODES["not_found"])
    if not output.for_people():
        output.print_json({**found, "values": msgspec.to_builtins(values), "removed": msgspec.to_builtins(removed)})
        return
    root = _Place()
    for place, said in [*values.items(), *removed.items()]:
        _put(root, place, said)
    value_width = max(_LEAST_VALUE_WIDTH, min(_MOST_VALUE_WIDTH, output.width() - _BESIDE_WIDTH))
    heading = f"{answer.service} in {answer.environment}, revision {answer.revision}"
    output.tree(Branch([(heading, "bold")], branches=_branches(root, value_width)))


def _concerns(place: str, pointer: str) -> bool:
    """Whether a place is at a pointer, below it, or a value that it leads into."""
    return f"{place}/".startswith(f"{pointer}/") or f"{pointer}/".startswith(f"{place}/")


def _put(root: _Place, pointer: str, said: Explained | Removed) -> None:
    here = root
    for token in parse_pointer(pointer):
        here = here.below.setdefault(token, _Place())
    here.said = said


def _branches(place: _Place, value_width: int) -> list[Branch]:
    """The places below one, the values of neighbours and their arrows in line."""
    leaves = {name: _value(below.said, value_width) for name, below in place.below.items() if below.said is not None}
    longest_name = min(max(map(len, leaves), default=0), _MOST_NAME_WIDTH)
    longest_value = max(map(len, leaves.values()), default=0)
    found: list[Branch] = []
    for name, below in place.below.items():
        branches = _branches(below, value_width)
        if below.said is None:
            found.append(Branch([(name, "bold")], branches=branches))
        else:
            line = _line(name, leaves[name].ljust(longest_value), below.said, name_width=longest_name)
            notes = [_instead(below.said, other, value_width) for other in below.said.overridden]
            found.append(Branch(line, notes, branches))
    return found


def _value(said: Explained | Removed, width: int) -> str:
    return formatting.short(said.value, width) if isinstance(said, Explained) else "removed"


def _line(name: str, value: str, said: Explained | Removed, *, name_width: int) -> Line:
    origin = formatting.origin(said.layer, said.line, said.revision)
    blank = " " * (name_width - len(name) + 2)
    if isinstance(said, Removed):
        return [(name, "strike dim"), (f"{blank}{value}  ← {origin}", "dim")]
    # What was changed at run time is what nobody finds in the files.
    style = "yellow" if said.layer == "overlay" else ""
    return [f"{name}{blank}", (value, "cyan"), ("  ← ", "dim"), (origin, style)]


def _instead(said: Explained | Removed, other: Overridden, value_width: int) -> Line:
    same = isinstance(said, Explained) and equal(said.value, other.value)
    value = "the same" if same else f"instead of {formatting.short(other.value, value_width)}"
    return [(f"  {value}  ← {formatting.origin(other.layer, other.line, None)}", "dim")]
