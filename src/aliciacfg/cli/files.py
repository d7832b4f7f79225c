"""The ``file`` commands: one value of an environment file, without a daemon."""

import json
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

    Comments, order and everything else stay.
    """


@file.command("set")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
@click.argument("value")
def file_set(path: Path, pointer: str, value: str) -> None:
    """Set POINTER (/services/voice_router/limits/x) of the file PATH to VALUE: JSON, or else a string."""
    from aliciacfg.documents import yaml_editor  # noqa: PLC0415 - keeps the other commands quick

    try:
        parsed: Json = json.loads(value)
    except ValueError:
        parsed = value
    try:
        rewrite_text(path, yaml_editor.replace(read_text(path), pointer, parsed, file=str(path)))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)


@file.command("unset")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("pointer")
def file_unset(path: Path, pointer: str) -> None:
    """Remove POINTER from the file PATH."""
    from aliciacfg.documents import yaml_editor  # noqa: PLC0415 - keeps the other commands quick

    try:
        rewrite_text(path, yaml_editor.remove(read_text(path), pointer, file=str(path)))
    except AliciacfgError as error:
        fail(str(error), EXIT_FAILED)
