"""The ``diff`` command: what differs between two environments, or between two revisions."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from aliciacfg import documents
from aliciacfg.api.answers.compare import CompareAnswer
from aliciacfg.cli import formatting, options, output
from aliciacfg.cli.answers import print_answer
from aliciacfg.cli.client import Target, ask
from aliciacfg.cli.exits import EXIT_FAILED
from aliciacfg.cli.output import Line
from aliciacfg.documents import Json, escape
from aliciacfg.errors import Problem
from aliciacfg.model.redaction import REDACTED

_SIDES = 2


@click.command()
@click.argument("service")
@click.argument("environments", nargs=-1, metavar="[ENVIRONMENT ENVIRONMENT]")
@click.option(
    "--rev",
    "revisions",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="REVISION",
    help="Once: compare with the current revision; twice: compare these two.",
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

    Two environments: `diff voice_router dev prod`. An old revision and the current one: `diff voice_router --rev 3`.
    Two revisions: `diff voice_router --rev 3 --rev 5 -e prod`.

    Examples:
        aliciacfg diff voice_router dev prod
        aliciacfg diff voice_router --rev 3
        aliciacfg diff voice_router --rev 3 --rev 5 -e prod
    """
    found = ask(target, "compare", service, _sides(environments, revisions, environment))
    answer = print_answer(found, CompareAnswer, _lines, names=_places)
    if exit_code and not answer.equal:
        sys.exit(EXIT_FAILED)


def _sides(environments: tuple[str, ...], revisions: tuple[int, ...], environment: str | None) -> dict[str, Any]:
    """Return the fields of the request."""
    if environments and all(name.isdecimal() for name in environments) and not revisions:
        named = " ".join(f"--rev {number}" for number in environments[:_SIDES])
        raise click.UsageError(f"revisions are named with --rev: {named}")
    if len(environments) not in {0, _SIDES} or len(revisions) > _SIDES:
        raise click.UsageError("name two environments, or give --rev once or twice")
    if environments and environment is not None:
        raise click.UsageError("leave -e out: the two environments are named already")
    if not environments and not revisions:
        raise click.UsageError("name two environments, or an old revision with --rev")
    if environments and len(revisions) == 1:
        raise click.UsageError("with two environments give --rev twice, once for each, or not at all")
    first, second = environments or (environment, None)
    fields = {"env1": first, "env2": second}
    return fields | dict(zip(("rev1", "rev2"), revisions, strict=False))


@dataclass(frozen=True, slots=True)
class _Difference:
    """One place with the value of each side, as text; None where a side has none."""

    pointer: str
    first: str | None
    second: str | None


def _lines(answer: CompareAnswer) -> list[Line]:
    first, second = _side(answer.env1, answer.rev1), _side(answer.env2, answer.rev2)
    lines: list[Line]
    if answer.equal:
        lines = [f"{answer.service} is equal in {first} and {second}."]
    else:
        lines = [
            [(f"--- {answer.service} in {first}", "bold")],
            [(f"+++ {answer.service} in {second}", "bold")],
        ]
        for difference in sorted(_differences(answer), key=lambda difference: difference.pointer):
            lines += formatting.change_lines(
                difference.pointer, (difference.first, difference.second), width=output.width()
            )
    for environment, problems in answer.problems.items():
        lines += _problem_lines(environment, answer.missing.get(environment, []), problems)
    lines += formatting.remedy_lines(answer.remedies)
    # The remedies are for what is missing; a password among it can be made.
    named = answer.missing.get(answer.env2, []) if answer.remedies else []
    others = [pointer for pointer in answer.lacking_secrets if pointer not in named]
    lines += formatting.lacking_lines(answer.env2, {answer.service: others}, than=answer.env1)
    if answer.secrets:
        hidden = "Only administrators see whether these secrets differ: "
        lines.append([(hidden + formatting.fitting(answer.secrets, output.width() - len(hidden)), "dim")])
    return lines


def _side(environment: str, revision: int) -> str:
    return f"{environment}, revision {revision}" if revision else f"{environment}, as its files say (not valid yet)"


def _problem_lines(environment: str, missing: list[str], problems: list[Problem]) -> list[Line]:
    """Return what an environment needs before its configuration of the service is valid."""
    lines: list[Line] = [[(f"! {pointer}  missing in {environment}", "red")] for pointer in missing]
    # Those of missing members say nothing more than where their object begins.
    others = [problem for problem in problems if not any(problem.pointer.endswith(pointer) for pointer in missing)]
    return lines + [[("! ", "red"), problem.message] for problem in others]


def _places(answer: CompareAnswer) -> list[str]:
    return sorted({*answer.changed, *answer.only_in_env1, *answer.only_in_env2})


def _differences(answer: CompareAnswer) -> Iterator[_Difference]:
    def text(place: str, value: Json) -> str:
        inside = [pointer for pointer in answer.hidden if f"{pointer}/".startswith(f"{place}/")]
        masked = documents.replace_strings(value, {pointer.removeprefix(place): REDACTED for pointer in inside})
        return json.dumps(masked, ensure_ascii=False)

    for pointer, sides in answer.changed.items():
        yield _Difference(pointer, text(pointer, sides.env1), text(pointer, sides.env2))
    for pointer, value in answer.only_in_env1.items():
        yield from (_Difference(place, text(place, leaf), None) for place, leaf in _leaves(pointer, value))
    for pointer, value in answer.only_in_env2.items():
        yield from (_Difference(place, None, text(place, leaf)) for place, leaf in _leaves(pointer, value))


def _leaves(pointer: str, value: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _leaves(f"{pointer}/{escape(name)}", member)
    else:
        yield pointer, value
