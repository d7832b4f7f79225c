"""What a command does with an answer: a refusal ends the program, anything else is printed."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.api.fields import Difference
from aliciacfg.cli import changed_services, output
from aliciacfg.cli.changed_services import ChangedServices
from aliciacfg.cli.command_words import in_command_words
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail, fail_with
from aliciacfg.cli.output import Block
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem

T = TypeVar("T")
# Begins what a daemon says behind its message about a service that does not exist.
_MEANT = " Did you mean "


class _Refusal(msgspec.Struct):
    code: str
    message: str
    problems: list[Problem] = []
    remedies: list[str] = []
    difference: Difference = {}
    changes: dict[str, dict[str, ValueChange]] = {}
    changes_left_out: dict[str, int] = {}
    added: list[str] = []
    removed: list[str] = []

    def __post_init__(self) -> None:
        self.message = in_command_words(self.message)


def exit_if_refused(answer: JsonObject, *, hint: Callable[[str], str | None] | None = None) -> JsonObject:
    """Return an answer; a refusal is printed on standard error instead and ends the program with its exit code.

    Args:
        answer: The answer.
        hint: Returns what to do about a refusal with a code; called only for a refusal.
    """
    if answer.get("status") != "error":
        return answer
    refusal = parse(answer, _Refusal)
    refusal.message, _, meant = refusal.message.partition(_MEANT)
    advice = f"did you mean {meant}" if meant else None
    if advice is None and hint is not None:
        advice = hint(refusal.code)
    if refusal.remedies:
        advice = f"correct it with {'; '.join(refusal.remedies[:3])}"
    try:
        fail_with(
            {**answer, "message": refusal.message}, refusal_code(refusal.code), hint=advice, problems=refusal.problems
        )
    finally:
        if refusal.difference and output.for_people():
            # Of a dry run that was refused.
            found = ChangedServices(refusal.changes, refusal.changes_left_out, refusal.added, refusal.removed)
            output.print_blocks(["Apart from that, it would change:", *changed_services.lines(found)])


def refusal_code(code: str | None) -> int:
    """Return the exit code for an error code; ``EXIT_FAILED`` for an unknown one."""
    return EXIT_CODES.get(code or "", EXIT_FAILED)


def parse(value: object, kind: type[T]) -> T:
    """Return an answer, or a part of one, as a type; end the program if it is of another form."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        fail(f"The answer has another form than expected; does the daemon have this version? {error}", EXIT_FAILED)


def print_answer(
    answer: JsonObject,
    kind: type[T],
    render: Callable[[T], Iterable[Block]],
    *,
    names: Callable[[T], Iterable[str]] | None = None,
) -> T:
    """Print an answer in the format that is in force: as it is for programs, rendered for people.

    Args:
        answer: The answer, as decoded from JSON.
        kind: Its type.
        render: Makes of it what people read.
        names: Makes of it what ``-o name`` prints; default: see ``output.print_result``.

    Returns:
        The answer as ``kind``.
    """
    parsed = parse(answer, kind)
    output.print_result(answer, lambda: render(parsed), names=None if names is None else lambda: names(parsed))
    return parsed
