"""Questions at a terminal; a wrong answer is reported in the style of all errors, and the question is repeated."""

from collections.abc import Callable
from typing import TypeVar

import click

from aliciacfg.cli import notices

T = TypeVar("T")


def ask(question: str, value_proc: Callable[[str], T], *, default: str = "", show_default: bool = False) -> T:
    """Ask on standard error until the answer can be used.

    Args:
        question: The question.
        value_proc: Makes a value of an answer, or raises click.UsageError.
        default: The answer of the return key.
        show_default: Whether the question shows it.
    """
    while True:
        answer = click.prompt(question, default=default, show_default=show_default, value_proc=str, err=True)
        try:
            return value_proc(answer)
        except click.UsageError as error:
            notices.print_error(error.message)


def choose(question: str, default: str, *choices: str) -> str:
    """Ask for one of some letters or words."""

    def chosen(answer: str) -> str:
        if answer.strip().lower() in choices:
            return answer.strip().lower()
        raise click.UsageError(f"found {answer!r}; expected one of {', '.join(choices)}")

    return ask(question, chosen, default=default, show_default=True)
