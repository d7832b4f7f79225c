"""The configuration of one service, for the program of that service."""

import asyncio
import contextlib
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, cast

from aliciacfg.client.current import Change, Current, SettingsT, Trust
from aliciacfg.client.errors import Closed, ConfigError, Rejected, Unavailable
from aliciacfg.client.files import update_from_file
from aliciacfg.client.hub import Hub, Watch
from aliciacfg.client.intake import Intake, refused
from aliciacfg.client.keys import KeyFile
from aliciacfg.client.link import Link
from aliciacfg.client.messages import InvalidMessage, Refusal, Update, read_schema
from aliciacfg.client.options import Broker, resolve
from aliciacfg.client.reports import Reports
from aliciacfg.client.snapshot import Snapshot
from aliciacfg.client.start import Start, default_record
from aliciacfg.client.tasks import is_cancelled, uninterrupted
from aliciacfg.client.values import Reader, differences
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import AppliedStatus

_log = logging.getLogger(__name__)

_FileT = TypeVar("_FileT")

Callback = Callable[[Change[SettingsT]], Awaitable[object] | object]
"""Called with a change: a coroutine function on the event loop, any other function in a thread."""

# Takes every object.
_ANYTHING = cast("Any", dict)
# How long the last report may take when the client is closed.
_FLUSH_SECONDS = 1.0


class ConfigClient(Generic[SettingsT]):
    """Reads the configuration of a service, and every change of it.

    An asynchronous context manager: once it is entered, ``current`` is there, and stays there.

        async with ConfigClient("voice_router", VoiceRouter) as config:
            print(config.current.settings.max_sessions)
            async for change in config.changes():
                print(change.revision, change.changed)
    """

    def __init__(
        self,
        service: str,
        settings_type: type[SettingsT] = _ANYTHING,
        *,
        default: SettingsT | None = None,
        broker: Broker | None = None,
        key_file: str | Path | None = None,
        snapshot_dir: str | Path | None = None,
        snapshots: bool = True,
        instance: str | None = None,
        report: Literal["auto", "manual"] = "auto",
        require_secrets: bool = False,
        spread_seconds: float = 0.0,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Say what is read, and how; nothing happens before the client is entered.

        Args:
            service: The service.
            settings_type: What ``settings`` of the configuration has to be: a ``msgspec.Struct``, a dataclass, or
                another type that msgspec converts to; ``dict`` takes everything.
            default: The value to start with when there is neither an answer nor a snapshot.
            broker: Where the broker is; what it leaves out comes from the variables ``MQTT_…``.
            key_file: File of the service's private key; default: ``ALICIACFG_KEY_FILE``. It may be made later.
            snapshot_dir: Directory of the snapshot; default: ``ALICIACFG_SNAPSHOT_DIR``, else ``STATE_DIRECTORY`` (of
                systemd), else ``XDG_STATE_HOME/aliciacfg``, else ``~/.local/state/aliciacfg``.
            snapshots: False writes and reads none.
            instance: The name of this copy in its reports; default: the name of the machine.
            report: ``auto`` reports ``applied`` when every callback and every loop over ``changes`` is done with a
                configuration. ``manual`` leaves it to ``report``, and repeats what was said where an equal
                configuration comes later, or the same one again.
            require_secrets: Whether a configuration with a secret that is not readable here is rejected.
            spread_seconds: A change takes effect after a random part of this time, so that not all services of a home
                restart at once. The first configuration does at once.
            timeout_seconds: How long to wait for the first configuration.

        Raises:
            SettingsError: An argument or a variable is not usable.
        """
        self.service = service
        self._options = resolve(
            service, broker or Broker(), key_file=key_file, snapshot_dir=snapshot_dir, instance=instance
        )
        self._manual = report == "manual"
        self._trust = Trust()
        self._keys = KeyFile(self._options.key_file)
        self._reader = Reader(settings_type, self._keys, self._trust, require_secrets=require_secrets)
        self._snapshot = Snapshot(self._options.snapshot_dir if snapshots else None, service)
        self._reports = Reports(service, self._options.instance)
        by_hand = self._reports.renew if self._manual else None
        self._hub: Hub[SettingsT] = Hub(self._trust, self._settled, by_hand=by_hand)
        self._intake = Intake(service, self._reader, self._hub, self._snapshot, spread_seconds=spread_seconds)
        self._link = Link(
            self._options.address,
            service,
            requester=self._options.requester,
            intake=self._intake,
            reports=self._reports,
        )
        self._start = Start(
            service,
            self._options.address,
            reader=self._reader,
            snapshot=self._snapshot,
            intake=self._intake,
            hub=self._hub,
            default=default_record(default, self._trust),
            timeout_seconds=timeout_seconds,
        )
        self._file: Path | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = False

    @property
    def current(self) -> Current[SettingsT]:
        """The configuration that counts.

        Raises:
            Closed: The client was never entered.
        """
        return self._hub.state.record

    @property
    def deleted(self) -> bool:
        """Whether the daemon no longer has a configuration of this service; ``current`` is then the last one."""
        return self._hub.state.deleted

    @property
    def rejection(self) -> Rejected | None:
        """Why the newest configuration of the daemon does not count; None if it does."""
        return self._hub.rejection

    @property
    def problem(self) -> ConfigError | None:
        """Why the client started without the daemon, and still has nothing from it; None if it has."""
        return self._intake.failure

    @property
    def connected(self) -> bool:
        """Whether there is a connection to the broker."""
        return self._link.connected

    def changes(self, *, since: Current[SettingsT] | None = None) -> Watch[SettingsT]:
        """Return an asynchronous iterator over changes: always to the latest state, never every step on the way.

        It ends when the client is closed. Each call makes an iterator of its own, with its own pace.

        Args:
            since: What the program has taken already. Default: at the first call the configuration at the start, so
                that what changed between is not missed; later the present one.
        """
        return self._hub.watch(since)

    def on_change(self, callback: Callback[SettingsT]) -> Callable[[], None]:
        """Call a function with each change; return a function that ends this.

        A coroutine function runs on the event loop, any other function in a thread, so that one that blocks delays
        no other. An exception is logged and reported as ``rejected``; the next change is delivered all the same.
        Call it where the client is entered.
        """
        task = self._start_task(self._call(callback, self.changes()), name=f"callback of {self.service}")

        def stop() -> None:
            task.cancel()

        return stop

    @staticmethod
    def from_file(
        path: str | Path, settings_type: type[_FileT] = _ANYTHING, *, service: str | None = None
    ) -> "ConfigClient[_FileT]":
        """Return a client of a JSON file, for tests of programs: neither broker nor daemon takes part.

        ``refresh`` reads the file again; ``changes`` and callbacks get what differs then.

        Args:
            path: A configuration as ``aliciacfg get SERVICE`` prints it, or the ``settings`` alone.
            settings_type: As for the class.
            service: The service; default: the name of the file without its suffix.
        """
        path = Path(path)
        client = ConfigClient(service or path.stem, settings_type, snapshots=False)
        client._file = path
        return client

    async def refresh(self) -> Current[SettingsT]:
        """Ask the daemon, and return the configuration that counts then, at once even if changes are spread.

        Raises:
            NotFound: The daemon has no configuration of this service.
            Unavailable: Broker or daemon does not answer.
            Rejected: The daemon's configuration does not fit; ``current`` stays.
            Closed: The client is not entered.
        """
        self._check_open()
        if self._file is not None:
            self._read_file(self._file)
            return self.current
        self._intake.order.doubt()
        payload, cause = await self._link.ask()
        self._intake.answer(payload, cause, at_once=True)
        return self.current

    async def schema(self) -> JsonObject:
        """Ask the daemon for the JSON Schema of the service, base contract included, and return it.

        Raises:
            NotFound: The daemon knows no such service.
            Unavailable: Broker or daemon does not answer.
            Closed: The client is not entered.
        """
        self._check_open()
        payload, _ = await self._link.ask("schema")
        try:
            found = read_schema(payload)
        except InvalidMessage as error:
            raise Unavailable(f"the answer is not a daemon's: {error}") from error
        if isinstance(found, Refusal):
            raise refused(found, self.service)
        return found

    async def report(
        self, status: AppliedStatus, error: str | None = None, *, of: Current[SettingsT] | None = None
    ) -> None:
        """Report what became of the present configuration.

        With ``report="auto"``, ``report("restart_pending", of=change)`` in a callback or a loop says that it takes a
        restart.

        Args:
            status: ``applied``, ``rejected`` or ``restart_pending``.
            error: Why it was rejected. Every client of the bus can read it; secrets of the configuration become
                ``***``.
            of: What it is about; if a different configuration has come meanwhile, nothing is reported.
        """
        state = self._hub.state
        if state.update is None or (of is not None and differences(of.config, state.record.config)):
            return
        if self._manual:
            self._settled(state.update, status, None if error is None else state.redacted(error))
        elif status == "rejected":
            self._hub.fail(state, error or "the program could not apply it")
        else:
            self._hub.mark(status)
        self._hub.settle()

    async def __aenter__(self) -> "ConfigClient[SettingsT]":
        """Wait for the first configuration: the daemon's, else the snapshot, else the default.

        Raises:
            NotFound: The daemon has none, and there is no default.
            Unavailable: No answer came in time, and there is neither a snapshot nor a default.
            Rejected: The daemon's configuration does not fit, and there is neither a snapshot nor a default.
            SettingsError: The key file, or a file of the TLS settings, is not usable.
            Closed: The client was entered before.
        """
        if self._opened:
            raise Closed("a client is entered once: make another one")
        self._opened = True
        try:
            self._keys.load()
            if self._file is None:
                # Reads files of the TLS settings: a wrong one is no reason to try again and again.
                await asyncio.to_thread(self._options.address.tls_context)
                self._start_task(self._link.run(), name=f"connection of {self.service}")
                await self._start.wait()
            else:
                self._read_file(self._file)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the last report, and end everything."""
        if kind is not None and issubclass(kind, Exception):
            self._hub.end(f"the program ended while it applied it: {kind.__name__}")
        await self._close()

    def _read_file(self, path: Path) -> None:
        """Make the file's configuration the present state.

        Raises:
            Unavailable: The file cannot be read, or holds no JSON object.
            Rejected: It does not fit.
        """
        update = update_from_file(path, self.service, place=self._hub.state.place + 1 if self._hub.has_state else 1)
        try:
            record = self._reader.read(update, source="live")
        except Rejected as error:
            self._hub.reject(update, error)
            raise
        self._hub.put(record, update)

    async def _call(self, callback: Callback[SettingsT], watch: Watch[SettingsT]) -> None:
        async for change in watch:
            try:
                await _called(callback, change)
            except (Exception, asyncio.CancelledError) as error:
                # With any exception, the next change is delivered; even if what it waited for was cancelled.
                if is_cancelled():
                    raise
                # Not as ``exc_info``: it may quote a secret.
                trace = watch.redacted("".join(traceback.format_exception(error)))
                _log.error("a callback of %s failed at revision %d\n%s", self.service, change.revision, trace)
                watch.fail(f"{type(error).__name__}: {error}")

    def _settled(self, update: Update, status: AppliedStatus, error: str | None) -> None:
        self._reports.note(update, status, error)
        # Saving what came from the snapshot would make it look newer than it is.
        if status != "rejected" and self._hub.state.record.source == "live":
            self._snapshot.save(update)

    def _check_open(self) -> None:
        if not self._opened or self._hub.closed:
            raise Closed("the client is not open: enter it with `async with`")

    def _start_task(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _close(self) -> None:
        """End everything, even if that is cancelled; the last report is sent if the broker takes it at once."""
        self._hub.close()
        await uninterrupted(self._end())

    async def _end(self) -> None:
        try:
            if self._link.connected:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FLUSH_SECONDS):
                        await self._reports.flush()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._intake.close()
            await self._snapshot.finish()


async def _called(callback: Callback[SettingsT], change: Change[SettingsT]) -> None:
    """Call a function with a change, and wait until it is done."""
    if inspect.iscoroutinefunction(callback):
        await callback(change)
        return
    result = await asyncio.to_thread(callback, change)
    if inspect.isawaitable(result):
        await result
