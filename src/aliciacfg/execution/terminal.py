"""The terminal, and which process group may read from it.

A command that runs in a process group of its own cannot read the terminal until its group is the foreground one. Then
the terminal also sends it what the keys for interrupt, quit and suspend mean, and to no other process.
"""

import contextlib
import os
import signal
import termios
from collections.abc import Generator
from typing import Any


class Terminal:
    """The controlling terminal of this process, if it has one."""

    def __init__(self) -> None:
        self._modes: list[Any] | None = None
        try:
            self._descriptor: int | None = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = None

    @property
    def present(self) -> bool:
        """Whether there is one."""
        return self._descriptor is not None

    @property
    def is_interactive(self) -> bool:
        """Whether standard input and output are a terminal, so that the command owns both ends of a conversation."""
        return self.present and os.isatty(0) and os.isatty(1)

    def foreground(self) -> int | None:
        """Return the process group in the foreground."""
        if self._descriptor is None:
            return None
        try:
            return os.tcgetpgrp(self._descriptor)
        except OSError:
            return None

    def is_ours(self) -> bool:
        """Return whether the process group of this process is in the foreground."""
        return self.foreground() == os.getpgrp()

    def give(self, group: int) -> None:
        """Put a process group into the foreground, if this process's own is there."""
        if self._descriptor is None or not self.is_ours():
            return
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(self._descriptor)
        self._set(self._descriptor, group)

    def take_back(self, group: int, *, restore_modes: bool = False) -> None:
        """Put this process's own group into the foreground, if ``group`` is there, or one that is gone.

        Args:
            group: The group that it was given to; another one, such as a shell's, keeps it.
            restore_modes: Also set the modes of before, which a program that was killed may have left changed.
        """
        foreground = self.foreground()
        if self._descriptor is None or foreground is None or (foreground != group and _exists(foreground)):
            return
        self._set(self._descriptor, os.getpgrp())
        if restore_modes and self._modes is not None:
            with contextlib.suppress(termios.error), _without_stop():
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._modes)

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @staticmethod
    def _set(descriptor: int, group: int) -> None:
        # The group may be gone already, and so may the terminal.
        with contextlib.suppress(OSError), _without_stop():
            os.tcsetpgrp(descriptor, group)


def _exists(group: int) -> bool:
    """Return whether a process group has processes; a job that the terminal was given on to may be gone."""
    if group == 0:
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _without_stop() -> Generator[None]:
    """Keep the terminal from stopping this process, as it does with one in the background that changes it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
