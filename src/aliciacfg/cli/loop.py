"""Running a coroutine from a command. The only module that imports uvloop."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Coroutine
from types import FrameType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

# Two Ctrl-C within a second count as one.
_AT_ONCE_SECONDS: Final = 1.0


def run(coroutine: Coroutine[Any, Any, T], *, own_loop: bool = False) -> T:
    """Run a coroutine on a new event loop and return its result.

    Args:
        coroutine: Cancelled by Ctrl-C.
        own_loop: Use the loop of asyncio, and not uvloop's.

    Raises:
        KeyboardInterrupt: By Ctrl-C, when the coroutine has ended; at once by a later one.
    """
    interrupts = _Interrupts()
    factory = None if own_loop else _loop_factory()
    with interrupts, asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(interrupts.cancelling(coroutine))
        except asyncio.CancelledError:
            if interrupts.came:
                raise KeyboardInterrupt from None
            raise


class _Interrupts:
    """What Ctrl-C does while a loop runs and is closed.

    asyncio's own handler raises KeyboardInterrupt wherever a second one comes, also where the loop is closed; that ends
    with tracebacks of what is left half done.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._cancel: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._before: Any = None

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return self._first is not None

    def __enter__(self) -> Self:
        # Another thread must not touch handlers; another handler is a program's that runs commands in its process.
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    async def cancelling(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine, which the first one cancels."""
        task = asyncio.current_task()
        if task is not None:
            self._cancel = asyncio.get_running_loop(), task
        return await coroutine

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None and self._cancel is not None:
            self._first = now
            loop, task = self._cancel
            loop.call_soon_threadsafe(task.cancel)
        elif self._first is None or now - self._first > _AT_ONCE_SECONDS:
            signal.default_int_handler(number, frame)


def _loop_factory() -> Any:
    """Return uvloop's factory; None, for asyncio's own loop, if uvloop is missing or asyncio's debug mode is on."""
    if os.environ.get("PYTHONASYNCIODEBUG"):
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
