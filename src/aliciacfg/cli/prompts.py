"""Questions at a terminal; a wrong answer is reported in the style of all errors, and the question is repeated."""

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from aliciacfg.cli import notices

T = TypeVar("T")

_YES_OR_NO: Final = {"y": True, "yes": True, "n": False, "no": False}


def can_ask() -> bool:
    """Return whether there is a terminal that shows a question and takes the answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, value_proc: Callable[[str], T], *, default: str | None = "", show_default: bool = False) -> T:
    """Ask on standard error until the answer can be used.

    Args:
        question: The question.
        value_proc: Makes a value of an answer, or raises click.UsageError.
        default: The answer of the return key; None repeats the question.
        show_default: Whether the question shows it.
    """
    while True:
        answer = _prompt(question, default=default, show_default=show_default)
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


def confirm(question: str, *, default: bool) -> bool:
    """Ask a question that is answered with yes or no."""

    def agreed(answer: str) -> bool:
        said = _YES_OR_NO.get(answer.strip().lower()) if answer.strip() else default
        if said is None:
            raise click.UsageError(f"found {answer!r}; expected y or n")
        return said

    return ask(f"{question} [{'Y/n' if default else 'y/N'}]", agreed)


def ask_secret(label: str, *, twice: bool) -> str:
    """Ask for a secret without showing it.

    Args:
        label: What to ask for.
        twice: Whether it has to be typed a second time, because nothing shows a mistyped one.
    """
    while True:
        secret = _prompt(label, hide_input=True)
        if not twice or _prompt(f"{label}, once more", hide_input=True) == secret:
            return secret
        notices.print_error("the two are not the same; type it twice again")


def _prompt(question: str, **how: Any) -> str:
    """Ask once; when the user gives up, what is printed next begins on a line of its own."""
    try:
        return click.prompt(question, value_proc=str, err=True, **how)
    except click.Abort:
        if not how.get("hide_input"):
            click.echo(err=True)
        raise
