"""The client for programs on threads: it runs in a thread of its own."""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aliciacfg.client.config_client import ConfigClient
from aliciacfg.client.current import Change, Current, SettingsT
from aliciacfg.client.errors import Closed, Rejected
from aliciacfg.model.records import AppliedStatus

if TYPE_CHECKING:
    from aliciacfg.client.hub import Watch

_ResultT = TypeVar("_ResultT")


class BlockingConfigClient(Generic[SettingsT]):
    """A ``ConfigClient`` whose methods block, usable from any thread of the process that opened it.

    with BlockingConfigClient(ConfigClient("voice_router", VoiceRouter)) as config:
        print(config.current.settings.max_sessions)
        while (change := config.wait_for_change()) is not None:
            print(change.revision, change.changed)
    """

    def __init__(self, client: ConfigClient[SettingsT]) -> None:
        """Take a client that was not entered.

        Args:
            client: Made with the arguments that it is to have; ``ConfigClient.from_file`` too.
        """
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._watch: Watch[SettingsT] | None = None
        self._watching: concurrent.futures.Future[Change[SettingsT] | None] | None = None
        self._closing = False
        self._lock = threading.Lock()
        # Threads do not follow into a process that is forked.
        self._process = os.getpid()
        self._in_callback = threading.local()

    @property
    def current(self) -> Current[SettingsT]:
        """The configuration that counts."""
        return self._client.current

    @property
    def deleted(self) -> bool:
        """Whether the daemon no longer has a configuration of this service."""
        return self._client.deleted

    @property
    def rejection(self) -> Rejected | None:
        """Why the newest configuration of the daemon does not count; None if it does."""
        return self._client.rejection

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._client.connected

    def wait_for_change(self, timeout_seconds: float | None = None) -> Change[SettingsT] | None:
        """Wait for the next change, to the latest state; None when the time is over, or the client is closed.

        The call after it says that the change is applied. Call it from one thread; others use ``on_change``.

        Args:
            timeout_seconds: How long to wait; None for ever.

        Raises:
            Closed: The client was closed before.
        """
        self._check_process()
        if self._watching is None:
            self._watching = self._submit(self._next_change())
        try:
            # A change that comes behind the time is there at the next call.
            change = self._watching.result(timeout_seconds)
        except TimeoutError:
            return None
        except concurrent.futures.CancelledError:
            change = None
        self._watching = None
        return change

    async def _next_change(self) -> Change[SettingsT] | None:
        if self._watch is None:
            self._watch = self._client.changes()
        return await anext(self._watch, None)

    def on_change(self, callback: Callable[[Change[SettingsT]], object]) -> Callable[[], None]:
        """Call a function with each change, in a thread; return a function that ends this.

        An exception is logged and reported as ``rejected``; so is ``SystemExit``, which ends a program in its main
        thread only.
        """

        def call(change: Change[SettingsT]) -> object:
            self._in_callback.value = True
            try:
                return callback(change)
            except SystemExit as error:
                raise RuntimeError("a callback has a thread of its own, and cannot end the program there") from error
            finally:
                self._in_callback.value = False

        async def begin() -> Callable[[], None]:
            return self._client.on_change(call)

        stop = self._run(begin())

        async def end() -> None:
            stop()

        def end_from_any_thread() -> None:
            # A client that is closed has ended it already.
            with contextlib.suppress(Closed):
                self._run(end())

        return end_from_any_thread

    def refresh(self) -> Current[SettingsT]:
        """Ask the daemon; as ``ConfigClient.refresh``."""
        return self._run(self._client.refresh())

    def report(self, status: AppliedStatus, error: str | None = None, *, of: Current[SettingsT] | None = None) -> None:
        """Report what became of the present configuration; as ``ConfigClient.report``."""
        self._run(self._client.report(status, error, of=of))

    def open(self) -> "BlockingConfigClient[SettingsT]":
        """Wait for the first configuration; raises as ``ConfigClient.__aenter__``."""
        if self._thread is not None:
            raise Closed("a client is opened once: make another one")
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run_loop, args=(self._loop,), name=f"configuration of {self._client.service}", daemon=True
        )
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._closing = True
            self._stop(self._loop)
            raise
        return self

    def close(self, error: BaseException | None = None) -> None:
        """Send the last report, and end the thread; a waiting ``wait_for_change`` returns None.

        In a process that was forked it does nothing: the client is the parent's.

        Args:
            error: With which the program ends.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._loop is None or self._closing:
                return
            self._closing = True
        kind = None if error is None else type(error)
        try:
            asyncio.run_coroutine_threadsafe(self._client.__aexit__(kind, error, None), self._loop).result()
        finally:
            self._stop(self._loop)

    def __enter__(self) -> "BlockingConfigClient[SettingsT]":
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    def _submit(self, coroutine: Coroutine[Any, Any, _ResultT]) -> "concurrent.futures.Future[_ResultT]":
        """Start a coroutine on the client's thread.

        Raises:
            Closed: There is no such thread, or it ends.
        """
        try:
            self._check_process()
        except Closed:
            coroutine.close()
            raise
        with self._lock:
            if self._loop is not None and not self._closing:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise Closed("the client is not open: use it in `with`")

    def _run(self, coroutine: Coroutine[Any, Any, _ResultT]) -> _ResultT:
        try:
            return self._submit(coroutine).result()
        except concurrent.futures.CancelledError:
            raise Closed("the client was closed") from None

    @staticmethod
    def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(loop.stop)
        # The thread waits for callbacks, so a callback cannot wait for the thread.
        if self._thread is not None and not getattr(self._in_callback, "value", False):
            self._thread.join()

    def _check_process(self) -> None:
        """Check that the client was opened in this process.

        Raises:
            Closed: It was not.
        """
        if os.getpid() != self._process:
            raise Closed("the client was opened before this process was forked from another one: open one in this one")
