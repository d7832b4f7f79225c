"""The ``file`` commands: one value of an environment file, without a daemon."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg.cli.exits import EXIT_FAILED, fail
from aliciacfg.cli.inputs import read_text, rewrite_text
from aliciacfg.errors import AliciacfgError

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
def file_set(path: Path, pointer: str, value: str) -> None:
    """Set the value at POINTER in the file PATH to VALUE.

    POINTER is, for example, /services/voice_router/limits/x. VALUE is JSON; anything else is taken as a string.
    """
    from aliciacfg.documents import yaml_editor

    try:
        parsed: Json = json.loads(value)
    except ValueError:
        parsed = value
    _edit(path, lambda text: yaml_editor.replace(text, pointer, parsed, file=str(path)))


@file.command("unset")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
def file_unset(path: Path, pointer: str) -> None:
    """Remove the value at POINTER from the file PATH."""
    from aliciacfg.documents import yaml_editor

    _edit(path, lambda text: yaml_editor.remove(text, pointer, file=str(path)))


def _edit(path: Path, edit: Callable[[str], str]) -> None:
    try:
        rewrite_text(path, edit(read_text(path)))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
