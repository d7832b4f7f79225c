"""Runs work that has an event loop of its own in a thread, so that it hardly delays the caller's loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Self, TypeVar

T = TypeVar("T")


def run_alone(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine to its end in an event loop of its own; also where the calling thread has one that runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(make()))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in failed:
        raise error
    return done[0]


async def run_in_thread(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine in another thread's event loop; if the caller is cancelled, the coroutine is too, and ends."""
    ready: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    ended = threading.Event()

    async def work() -> T:
        task = asyncio.create_task(make())
        ready.append((asyncio.get_running_loop(), task))

        if ended.is_set():
            task.cancel()
        return await task

    try:
        return await asyncio.to_thread(lambda: asyncio.run(work()))
    except asyncio.CancelledError:
        ended.set()
        for loop, task in ready:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)
        raise


class LoopThread:
    """An event loop in a thread of its own, in which another thread has coroutines run; a context manager."""

    _loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started = threading.Event()
        self._ended = asyncio.Event()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._ended.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.call_soon(self._ended.set)
        self._thread.join()

    def call(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run a coroutine to its end, and return what it returns; not to be called in this loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def call_soon(self, work: Callable[[], object]) -> None:
        """Have a function called in the loop, after what was called before."""
        self._loop.call_soon_threadsafe(work)
