"""Programs that have the terminal while a command waits for them: editor and pager."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_left_to_it() -> Generator[None]:
    """Let Ctrl-C, which the terminal sends to both, mean in the program what it means there, and nothing here."""
    before = signal.signal(signal.SIGINT, _nothing)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    # A function, because a program that is started would inherit that a signal is ignored.
    return
