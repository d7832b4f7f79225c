"""The ``init`` command: lays out a new home."""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aliciacfg.cli import notices, output
from aliciacfg.cli.exits import EXIT_CODES, EXIT_FAILED, fail
from aliciacfg.file_errors import unwritable

if TYPE_CHECKING:
    from aliciacfg.cli.output import Line
    from aliciacfg.sources.new_home import Example, NewHome

_SERVICES: "dict[Example, str]" = {"door_bell": "door_bell", "alicia": "voice_router"}


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option(
    "--example",
    type=click.Choice(list(_SERVICES)),
    default="door_bell",
    show_default=True,
    help="door_bell: one service to learn from. alicia: the 22 services of a home with voice control.",
)
def init(directory: Path, example: "Example") -> None:
    """Lay out a new home in DIRECTORY, by default the current one.

    The home is valid at once, and its comments explain it. Nothing is overwritten: if files of a home are there
    already, the command names them and writes nothing.

    Examples:
      aliciacfg init my-home
      aliciacfg init --example alicia
    """
    from aliciacfg.sources.new_home import FilesExist, lay_out

    try:
        made = lay_out(directory, example)
    except FilesExist as error:
        listed = "\n".join(f"  {path}" for path in error.paths)
        fail(
            f"nothing was written, because there is a home already:\n{listed}\nUse another directory, or move these "
            "files away",
            EXIT_CODES["conflict"],
        )
    except OSError as error:
        fail(unwritable(Path(error.filename or directory), error), EXIT_FAILED)
    if made.unprotected:
        named = ", ".join(made.unprotected)
        notices.print_note(f".gitignore was there and stays as it is; add these lines to it: {named}")
    steps = list(_steps(directory, _SERVICES[example]))
    output.print_result(
        {"directory": str(directory), "created": made.created, "next": [step for step, _ in steps]},
        lambda: _lines(directory, made, steps),
        names=lambda: made.created,
    )


def _program() -> str:
    """Return how this program was called, so that the next commands can be typed as they are shown."""
    return "aliciacfg" if Path(sys.argv[0]).stem != "__main__" else "python -m aliciacfg"


def _steps(directory: Path, service: str) -> "Iterable[tuple[str, str]]":
    program = _program()
    if directory.resolve() != Path.cwd():
        yield f"cd {shlex.quote(str(directory))}", ""
    yield f"{program} serve --dev", "run it, in a terminal of its own"
    yield f"{program} get {service}", "the configuration that this service receives"
    yield f"{program} service add NAME", "a service of your own"


def _lines(directory: Path, made: "NewHome", steps: list[tuple[str, str]]) -> "Iterable[Line]":
    yield [("created ", "green"), f"{len(made.created)} files in {directory.resolve()}:"]
    schemas = [name for name in made.created if name.startswith("schemas/")]
    yield from (f"  {name}" for name in made.created if name not in schemas)
    yield f"  {schemas[0]}" if len(schemas) == 1 else f"  schemas/ of {len(schemas)} services"
    yield "next:"
    width = max(len(step) for step, _ in steps)
    yield from ([f"  {step.ljust(width)}", (f"  {what}", "dim")] if what else f"  {step}" for step, what in steps)
