"""The ``file`` commands: one value of an environment file, without a daemon."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg.cli.exits import EXIT_FAILED, EXIT_USAGE, fail
from aliciacfg.cli.inputs import read_text, rewrite_text
from aliciacfg.errors import AliciacfgError
from aliciacfg.model.redaction import REDACTED

if TYPE_CHECKING:
    from aliciacfg.documents import Json


@click.group()
def file() -> None:
    """Change one value of an environment file.

    Comments, order and all other values stay.
    """


@file.command("set")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
@click.argument("value")
@click.option("--string", is_flag=True, help="Take VALUE as a string, whatever it looks like.")
def file_set(path: Path, pointer: str, value: str, *, string: bool) -> None:
    """Set the value at POINTER in the file PATH to VALUE.

    POINTER is, for example, /services/voice_router/limits/x. VALUE is JSON; anything else is taken as a string, unless
    it begins like a JSON object, array or string.
    """
    from aliciacfg.documents import walk_strings, yaml_editor

    parsed: Json = value if string else _json_or_text(value)
    if any(text.strip() == REDACTED for _, text in walk_strings(parsed)):
        fail(f"{REDACTED} stands for a secret in answers and is none itself; set the secret", EXIT_USAGE)
    _edit(path, lambda text: yaml_editor.replace(text, pointer, parsed, file=str(path)))


@file.command("unset")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
def file_unset(path: Path, pointer: str) -> None:
    """Remove the value at POINTER from the file PATH."""
    from aliciacfg.documents import yaml_editor

    _edit(path, lambda text: yaml_editor.remove(text, pointer, file=str(path)))


def _json_or_text(value: str) -> "Json":
    """Return the JSON value of a text, or the text; end the program if it is broken JSON."""
    from aliciacfg import documents
    from aliciacfg.errors import OperationError

    try:
        # Python hands over arguments that are not UTF-8 as surrogates.
        return documents.decode(value.encode(errors="surrogateescape"))
    except OperationError as error:
        if value.lstrip().startswith(("{", "[", '"')):
            problem = error.message.removeprefix("The body ")
            fail(f"VALUE {problem} To set it as the string that it is, add --string", EXIT_USAGE)
        return value


def _edit(path: Path, edit: Callable[[str], str]) -> None:
    try:
        rewrite_text(path, edit(read_text(path)))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
