"""What a command does while it takes long: a line on standard error, on a terminal only, gone when it is done."""

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TextIO

_QUIET_SECONDS: Final = 2.0
_STEP_SECONDS: Final = 1.0
_BACK_AND_CLEAR: Final = "\r\x1b[K"


@contextmanager
def shown(doing: str | Callable[[], str]) -> Generator[None]:
    """Show what is done inside, and for how long, as soon as it takes more than two seconds.

    Args:
        doing: Such as ``verifying the store``; or returns that, where it changes.
    """
    # Not ``sys.stderr``: where the log takes its place, what is written there comes later than the result.
    terminal = sys.__stderr__
    if terminal is None or not terminal.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    done = threading.Event()
    line = threading.Thread(target=_show, args=(doing, done, terminal), daemon=True)
    line.start()
    try:
        yield
    finally:
        done.set()
        line.join()


def _show(doing: str | Callable[[], str], done: threading.Event, terminal: TextIO) -> None:
    start = time.monotonic()
    if done.wait(_QUIET_SECONDS):
        return
    try:
        while True:
            said = doing if isinstance(doing, str) else doing()
            terminal.write(f"{_BACK_AND_CLEAR}{said}: {time.monotonic() - start:.0f} s")
            terminal.flush()
            if done.wait(_STEP_SECONDS):
                return
    finally:
        terminal.write(_BACK_AND_CLEAR)
        terminal.flush()
