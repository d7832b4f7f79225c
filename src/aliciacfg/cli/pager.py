"""The pager: output that is longer than the terminal is shown a page at a time, as git does.

``ALICIACFG_PAGER`` names the program, else ``PAGER``, else it is ``less``; an empty name or ``cat`` means none, and so
does ``--no-pager``. ``less`` gets ``LESS=FRX`` unless ``LESS`` is set: it keeps colours and the screen.
"""

import os
import shlex
import shutil
import subprocess
import sys
from typing import Any, Final

import click

from aliciacfg.cli.foreground import interrupts_left_to_it

_KEY: Final = "aliciacfg.no_pager"
_FLAG: Final = "--no-pager"
_PLAIN: Final = {"", "cat"}


def is_wanted() -> bool:
    """Return whether long output goes through a pager: it goes to a terminal, and the pager is not switched off."""
    context = click.get_current_context(silent=True)
    if context is None or context.meta.get(_KEY) or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdin.isatty() and sys.stdout.isatty() and bool(_command())


def show(text: str) -> None:
    """Print text, through the pager if it has more lines than the terminal."""
    columns, rows = shutil.get_terminal_size()
    lines = sum(1 + max(0, len(click.unstyle(line)) - 1) // columns for line in text.splitlines())
    if lines < rows or not _page(text):
        sys.stdout.write(text)
        sys.stdout.flush()


def _page(text: str) -> bool:
    """Run the pager to its end; return False if it cannot be started."""
    environ = {"LESS": "FRX", "LESSCHARSET": "utf-8", **os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own pager
            _command(), stdin=subprocess.PIPE, env=environ, encoding="utf-8", errors="replace"
        )
    except OSError:
        return False
    with interrupts_left_to_it():
        process.communicate(text)
    return True


def _command() -> list[str]:
    named = os.environ.get("ALICIACFG_PAGER", os.environ.get("PAGER"))
    if named is None:
        return ["less"] if shutil.which("less") else []
    return [] if named.strip() in _PLAIN else shlex.split(named)


def _remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    # A context shares this mapping with those of its subcommands.
    context.meta[_KEY] = value or bool(context.meta.get(_KEY))


def add_to(command: click.Command) -> None:
    """Add the option to a command, hidden, which it can stand after as well as before."""
    if all(_FLAG not in parameter.opts for parameter in command.params):
        command.params.append(click.Option([_FLAG], hidden=True, **_ATTRIBUTES))


_ATTRIBUTES: Final[dict[str, Any]] = {"is_flag": True, "expose_value": False, "callback": _remember}

option = click.option(_FLAG, help="Print long output at once.", **_ATTRIBUTES)
