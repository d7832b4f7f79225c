"""Wrong usage: what click finds wrong with a command line, said in the style of all errors, with what was meant."""

import re
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from aliciacfg.cli import notices, output_format
from aliciacfg.cli.exits import error_code
from aliciacfg.cli.suggestions import close_to, did_you_mean

if TYPE_CHECKING:
    from aliciacfg.documents import JsonObject


# What click calls the types of values, with the words of this program.
_TYPES = {"integer range": "a whole number", "integer": "a whole number", "float": "a number"}
# What click says of a word that is not one of some.
_NOT_ONE_OF = re.compile(r"'(?P<word>.*)' is not one of ")
# A range of numbers, as click writes it: 1<=x<=1000, x>=1, x>0.
_RANGE = re.compile(
    r"is not in the range (?:(?P<least>[\d.]+)<=x<=(?P<most>[\d.]+)|x>(?P<or_equal>=?)(?P<bound>[\d.]+))"
)


def end_with(error: click.ClickException) -> NoReturn:
    """Print an error of click and end the program with its exit code."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = _message(error)
    hint = _hint(error, context)
    if context is not None and output_format.in_context(context) in {"json", "yaml"}:
        answer: JsonObject = {"status": "error", "code": error_code(error.exit_code), "message": message}
        with context:
            notices.print_object({**answer, "problems": []} | ({} if hint is None else {"hint": hint}))
    else:
        usage = None if context is None else context.get_usage().removeprefix("Usage: ")
        notices.print_error(message, usage=usage, hint=hint)
    sys.exit(error.exit_code)


def _message(error: click.ClickException) -> str:
    """Return what is wrong, without what click suggests, which has its own line here."""
    if isinstance(error, click.NoSuchOption):
        return f"there is no option {error.option_name}"
    message = error.message if _unknown_command(error) else error.format_message()
    message = " ".join(message.split()).removesuffix(".")
    for name, words in _TYPES.items():
        message = message.replace(f"is not a valid {name}", f"is not {words}")
    message = _RANGE.sub(_range_in_words, message)
    return f"{message[:1].lower()}{message[1:]}" if message[1:2].islower() else message


def _range_in_words(found: re.Match[str]) -> str:
    if found["least"] is not None:
        return f"is not between {found['least']} and {found['most']}"
    return f"is less than {found['bound']}" if found["or_equal"] else f"is not more than {found['bound']}"


def _hint(error: click.ClickException, context: click.Context | None) -> str | None:
    if context is None:
        return None
    if isinstance(error, click.NoSuchOption):
        known = [flag for parameter in context.command.get_params(context) for flag in parameter.opts]
        meant = close_to(error.option_name, [flag for flag in known if flag.startswith("--")])
    elif (name := _unknown_command(error)) is not None and isinstance(context.command, click.Group):
        meant = close_to(name, context.command.list_commands(context))
    elif (
        isinstance(error, click.BadParameter) and error.param is not None and isinstance(error.param.type, click.Choice)
    ):
        typed = _NOT_ONE_OF.match(error.message)
        meant = [] if typed is None else close_to(typed["word"], map(str, error.param.type.choices))
    else:
        meant = []
    return did_you_mean(meant) or f"{context.command_path} --help"


def _unknown_command(error: click.ClickException) -> str | None:
    return getattr(error, "command_name", None)
