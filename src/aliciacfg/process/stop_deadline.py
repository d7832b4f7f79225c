"""Ends a process that was asked to stop and has not ended in time, for any reason."""

import os
import queue
import threading
import time
from collections.abc import Callable

_LAST_WORDS_SECONDS = 1.0


class StopDeadline:
    """A time by which the process has ended, counted from ``begin``.

    A thread of its own waits for it, so that neither a blocked event loop nor a thread that hangs in the kernel nor
    the interpreter's own end can hold it up.
    """

    def __init__(self, seconds: float, *, exit_code: int) -> None:
        """Start the thread.

        Args:
            seconds: The longest time from ``begin`` to the end of the process.
            exit_code: The code of a process that is ended.
        """
        self._seconds = seconds
        self._exit_code = exit_code
        self._last_words: list[Callable[[], object]] = []
        # Its ``put`` may interrupt another one, as a signal handler does.
        self._begun: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._wait, name="stop-deadline", daemon=True).start()

    def begin(self) -> None:
        """Let the time run, unless it does already. May be called in a signal handler."""
        self._begun.put(None)

    def before_end(self, function: Callable[[], object]) -> None:
        """Have a function called, in another thread, before the process is ended: the last one first.

        Together they have a second.
        """
        self._last_words.append(function)

    def _wait(self) -> None:
        self._begun.get()
        time.sleep(max(0.0, self._seconds - _LAST_WORDS_SECONDS))
        # What hangs may be what the functions need, such as a lock.
        speaking = threading.Thread(target=self._speak, name="last-words", daemon=True)
        speaking.start()
        speaking.join(_LAST_WORDS_SECONDS)
        os._exit(self._exit_code)

    def _speak(self) -> None:
        for function in reversed(self._last_words):
            function()
