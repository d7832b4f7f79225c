"""``diff``: what differs between two environments, or between two revisions."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from aliciacfg.api.answers import CompareAnswer
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.client import Target, ask, typed
from aliciacfg.cli.exits import EXIT_FAILED
from aliciacfg.cli.output import Line
from aliciacfg.documents import Json, escape

_SIDES = 2
_LINE_WIDTH = 72


@click.command()
@click.argument("service")
@click.argument("environments", nargs=-1, metavar="[ENVIRONMENT ENVIRONMENT]")
@click.option(
    "--rev",
    "revisions",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="REVISION",
    help="An old one; once: compared to the current one, twice: to each other.",
)
@options.environment
@click.option("--exit-code", is_flag=True, help="Exit code 1 if they differ.")
@click.pass_obj
def diff(
    target: Target,
    service: str,
    environments: tuple[str, ...],
    revisions: tuple[int, ...],
    environment: str | None,
    *,
    exit_code: bool,
) -> None:
    """Compare environments or revisions of SERVICE.

    Two environments: `diff voice_router dev prod`; an old revision and the current one: `diff voice_router --rev 3`;
    two revisions: `diff voice_router --rev 3 --rev 5 -e prod`.
    """
    fields = _sides(environments, revisions, environment)
    found = ask(target, "compare", service, fields)
    answer = typed(found, CompareAnswer)
    if output.for_people():
        output.lines(_lines(answer))
    else:
        output.print_json(found)
    if exit_code and not answer.equal:
        sys.exit(EXIT_FAILED)


def _sides(environments: tuple[str, ...], revisions: tuple[int, ...], environment: str | None) -> dict[str, Any]:
    """The request's fields."""
    if len(environments) not in {0, _SIDES} or len(revisions) > _SIDES:
        raise click.UsageError("diff takes two environments, or --rev once or twice")
    if environments and environment is not None:
        raise click.UsageError("two environments are named already; leave -e out")
    if not environments and not revisions:
        raise click.UsageError("diff of what? Name two environments, or an old revision with --rev")
    if environments and len(revisions) == 1:
        raise click.UsageError("--rev of which environment? Give it twice, once for each, or not at all")
    first, second = environments or (environment, None)
    fields = {"env1": first, "env2": second}
    return fields | dict(zip(("rev1", "rev2"), revisions, strict=False))


@dataclass(frozen=True, slots=True)
class _Difference:
    """One leaf; what a side does not have is None."""

    pointer: str
    first: str | None
    second: str | None


def _lines(answer: CompareAnswer) -> list[Line]:
    first, second = f"{answer.env1}, revision {answer.rev1}", f"{answer.env2}, revision {answer.rev2}"
    found: list[Line]
    if answer.equal:
        found = [f"{answer.service} is equal in {first} and {second}."]
    else:
        found = [
            [(f"--- {answer.service} in {first}", "bold")],
            [(f"+++ {answer.service} in {second}", "bold")],
        ]
        for difference in sorted(_differences(answer), key=lambda difference: difference.pointer):
            found += _difference_lines(difference)
    if answer.secrets:
        found.append([(f"Secrets were not compared: {formatting.pointers(answer.secrets, most=8)}", "dim")])
    return found


def _differences(answer: CompareAnswer) -> Iterator[_Difference]:
    for pointer, sides in answer.changed.items():
        yield _Difference(pointer, formatting.short(sides.env1), formatting.short(sides.env2))
    for pointer, value in answer.only_in_env1.items():
        yield from (_Difference(place, formatting.short(leaf), None) for place, leaf in _leaves(pointer, value))
    for pointer, value in answer.only_in_env2.items():
        yield from (_Difference(place, None, formatting.short(leaf)) for place, leaf in _leaves(pointer, value))


def _leaves(pointer: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves(f"{pointer}/{escape(name)}", member)
    else:
        yield pointer, value


def _difference_lines(difference: _Difference) -> list[Line]:
    pointer, first, second = difference.pointer or "(document)", difference.first, difference.second
    mark = ("~", formatting.CHANGED)
    if first is None:
        return [[(f"+ {pointer}  {second}", formatting.ADDED)]]
    if second is None:
        return [[(f"- {pointer}  {first}", formatting.REMOVED)]]
    if len(pointer) + len(first) + len(second) <= _LINE_WIDTH:
        return [[mark, f" {pointer}  ", (first, formatting.REMOVED), " → ", (second, formatting.ADDED)]]
    return [[mark, f" {pointer}"], [(f"  - {first}", formatting.REMOVED)], [(f"  + {second}", formatting.ADDED)]]
