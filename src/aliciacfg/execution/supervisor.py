"""Runs a command with the variables of a configuration, and anew when a change of the configuration changes them.

A restart replaces: the old processes are gone before the new one starts, and everything that can be checked is checked
while the old one still runs. What the command does by itself is its own affair: when it ends, so does the supervisor,
with its exit code.
"""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from aliciacfg.errors import AliciacfgError
from aliciacfg.execution.commands import CannotStart
from aliciacfg.execution.environment import Environment
from aliciacfg.execution.preparation import Choices, Prepared, Unusable, Values, prepare, startable
from aliciacfg.execution.timing import RestartLimit, Timing
from aliciacfg.model.records import AppliedStatus

_T = TypeVar("_T")

_SIGNALLED = 128
_REPORT_SECONDS = 2.0
_MAX_NAMED = 6
# A terminal sends these to the whole group; whether they end it, the command decides.
_TO_GROUP = (signal.SIGINT, signal.SIGQUIT)
_TO_COMMAND = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

_ASKED_TO_END = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

RECEIVED = (signal.SIGTERM, *_TO_GROUP, *_TO_COMMAND)
"""The signals that a supervisor takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration(Values):
    """A configuration of the service.

    Attributes:
        label: How messages call it, as ``revision 7``.
        handle: What its source knows it by.
    """

    label: str
    handle: object = None


class Source(Protocol):
    """Where configurations come from."""

    async def current(self) -> Configuration:
        """Return the configuration to start with."""
        ...

    def changes(self) -> AsyncIterator[Configuration | None]:
        """Yield every later configuration; None when it was deleted."""
        ...

    async def report(self, configuration: Configuration, status: AppliedStatus, error: str | None = None) -> None:
        """Report what became of a configuration."""
        ...


class Child(Protocol):
    """A running command."""

    @property
    def exited(self) -> "asyncio.Future[int]":
        """Gets its exit code."""
        ...

    def send(self, number: int) -> None:
        """Send the command a signal."""
        ...

    def send_all(self, number: int) -> None:
        """Send its whole group a signal."""
        ...


ChildT = TypeVar("ChildT", bound=Child)


class Processes(Protocol[ChildT]):
    """Starts and stops commands."""

    def start(self, command: Sequence[str], environment: Environment) -> ChildT:
        """Start a command; raise CannotStart."""
        ...

    async def stop(self, child: ChildT, number: int, seconds: float) -> None:
        """End a command with everything that it started."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a supervisor runs.

    Attributes:
        command: The program and its arguments.
        inherited: The environment that the variables are added to.
        choices: Which variables are wanted.
        timing: How long it waits.
        restarts: Whether it starts the command again when that fails.
    """

    command: Sequence[str]
    inherited: Environment
    choices: Choices = field(default_factory=Choices)
    timing: Timing = field(default_factory=Timing)
    restarts: bool = False


@dataclass(slots=True)
class _Run:
    """What the command was started with.

    Attributes:
        configuration: The latest one that gives the same variables.
        prepared: What it was started with.
        settled: Whether it stayed up for long enough, or did its work.
    """

    configuration: Configuration
    prepared: Prepared
    settled: bool = False


class Supervisor(Generic[ChildT]):
    """Runs one command until it ends."""

    def __init__(
        self,
        task: Task,
        source: Source,
        processes: Processes[ChildT],
        say: Callable[[str], None],
        *,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        """Prepare to run.

        Args:
            task: What to run.
            source: Where configurations come from.
            processes: Starts and stops the command.
            say: Prints one line for a person.
            sleep: Waits before a restart.
        """
        self._task = task
        self._timing = task.timing
        self._source = source
        self._processes = processes
        self._say = say
        self._sleep = sleep
        self._limit = RestartLimit(task.timing)
        self._child: ChildT | None = None
        # Whether the command is being stopped for another start.
        self._replacing = False
        self._run: _Run | None = None
        self._latest: Configuration | None = None
        self._changed = asyncio.Event()
        # The signal that asks the supervisor itself to end.
        self._ending: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> int:
        """Run the command until it ends, and return its exit code.

        Raises:
            AliciacfgError: There is no configuration to start with, it cannot be used (``Unusable``), or the command
                cannot be started (``CannotStart``).
        """
        first = await self._unless_ending(self._source.current())
        if first is None:
            return _SIGNALLED + self._ending.result()
        try:
            prepared = self._prepare(first)
        except Unusable as error:
            await self._report(first, "rejected", str(error))
            raise
        following = asyncio.create_task(self._follow(), name="changes")
        try:
            return await self._supervise(first, prepared)
        except BaseException:
            # Nothing would stop it any more, and the next start would be a second one.
            if self._child is not None and not self._child.exited.done():
                await self._processes.stop(self._child, signal.SIGTERM, self._timing.stop_seconds)
            raise
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def receive(self, number: int) -> None:
        """Take a signal that was sent to this process."""
        if number in _TO_COMMAND:
            if self._child is not None:
                self._child.send(number)
        elif number in _TO_GROUP and self._child is not None and not self._replacing:
            self._child.send_all(number)
        elif not self._ending.done():
            self._ending.set_result(number)

    async def _supervise(self, configuration: Configuration, prepared: Prepared) -> int:
        while True:
            run = self._run = self._next_run(configuration, prepared)
            child = await self._start(run)
            following = await self._until_end_or_change(child, run)
            if following is None and (self._ending.done() or not self._restarts(child)):
                return child.exited.result()
            await self._replace(child)
            following = following or await self._after_failure(run)
            if following is None or self._ending.done():
                return _SIGNALLED + self._ending.result()
            configuration, prepared = following

    async def _until_end_or_change(self, child: ChildT, run: _Run) -> tuple[Configuration, Prepared] | None:
        """Wait until the command has ended, was stopped because of a signal, or has to restart because of a change.

        Returns:
            What to start next; None if that is not because of a change.
        """
        settled = asyncio.create_task(self._report_start(child, run), name="settled")
        due = asyncio.create_task(self._restart_due(), name="restart")
        try:
            await asyncio.wait({child.exited, due, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not child.exited.done():
                settled.cancel()
            due.cancel()
            await asyncio.gather(due, settled, return_exceptions=True)
        if child.exited.done():
            return None
        if self._ending.done():
            await self._processes.stop(child, self._ending.result(), self._timing.stop_seconds)
            return None
        following = due.result()
        names = _changed(run.prepared.environment, following[1].environment)
        self._say(f"{following[0].label} changes {names}: restarting the command")
        return following

    async def _replace(self, child: ChildT) -> None:
        """End a command, or what one that failed left running, before it starts anew."""
        # An interrupt ends the supervisor now: the old command ends anyway, and would not pass that on to the new one.
        self._replacing = True
        try:
            await self._processes.stop(child, signal.SIGTERM, self._timing.stop_seconds)
        finally:
            self._replacing = False
        self._child = None
        self._limit.count(self._now())

    def _restarts(self, child: ChildT) -> bool:
        return self._task.restarts and child.exited.result() != 0

    async def _after_failure(self, run: _Run) -> tuple[Configuration, Prepared] | None:
        """Wait until a command that failed may start again, and return what to start; None if this has to end."""
        run.settled = False
        delay = self._limit.delay(self._now())
        self._say(f"the command failed; it restarts in {delay:.0f} s")
        await self._unless_ending(self._sleep(delay))
        if self._ending.done():
            return None
        return await self._different() or (run.configuration, run.prepared)

    def _next_run(self, configuration: Configuration, prepared: Prepared) -> _Run:
        """Return what to start, and say what is new about variables that are not set."""
        if self._run is None or prepared.notes != self._run.prepared.notes:
            for note in prepared.notes:
                self._say(note)
        return _Run(configuration, prepared)

    async def _start(self, run: _Run) -> ChildT:
        try:
            self._child = self._processes.start(self._task.command, run.prepared.environment)
        except CannotStart as error:
            await self._report(run.configuration, "rejected", str(error))
            raise
        return self._child

    async def _report_start(self, child: ChildT, run: _Run) -> None:
        """Report what became of a start: applied if the command stays up, or did its work within that time."""
        started = self._now()
        await asyncio.wait({child.exited}, timeout=self._timing.settle_seconds)
        error = None
        if child.exited.done() and (code := child.exited.result()):
            if code - _SIGNALLED in _ASKED_TO_END:
                # A person ended it, perhaps with Ctrl-C; that says nothing about its configuration.
                return
            error = f"the command ended with {code} after {self._now() - started:.1f} s"
            self._say(f"{run.configuration.label}: {error}")
        run.settled = error is None
        await self._report(run.configuration, "applied" if error is None else "rejected", error)

    async def _report(self, configuration: Configuration, status: AppliedStatus, error: str | None = None) -> None:
        """Report what became of a configuration; give up if that takes long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_SECONDS):
                await self._source.report(configuration, status, error)

    async def _follow(self) -> None:
        try:
            async for configuration in self._source.changes():
                if configuration is None:
                    self._say("the configuration was deleted; the command keeps what it has")
                else:
                    self._latest = configuration
                    self._changed.set()
        except AliciacfgError as error:
            self._say(f"changes are no longer followed: {error}")
        except Exception as error:  # noqa: BLE001 - the command goes on, and the message of any error may hold values
            self._say(f"changes are no longer followed, because of a fault of this program: {type(error).__name__}")

    async def _restart_due(self) -> tuple[Configuration, Prepared]:
        """Wait for a configuration that sets other variables than those that the command has."""
        while True:
            await self._quiet()
            if (found := await self._different()) is None:
                continue
            await self._wait_for_turn(found[0])
            self._changed.clear()
            # Others may have come meanwhile, or the old values back.
            if (found := await self._different()) is not None:
                return found

    async def _wait_for_turn(self, configuration: Configuration) -> None:
        """Wait for this command's part of the spread, and until the last restart is long enough ago."""
        spread = random.uniform(0, self._timing.spread_seconds)  # noqa: S311
        if spread or self._limit.delay(self._now()):
            await self._report(configuration, "restart_pending")
        if spread:
            self._say(f"{configuration.label}: the command restarts in {spread:.0f} s (--spread-seconds)")
            await self._sleep(spread)
        if delay := self._limit.delay(self._now()):
            self._say(f"{configuration.label}: the command restarts in {delay:.0f} s; it restarted only a moment ago")
            await self._sleep(delay)

    async def _quiet(self) -> None:
        """Wait for a change, and until no further one comes for a while."""
        await self._changed.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.most_debounced_seconds):
                while self._changed.is_set():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._timing.debounce_seconds):
                            await self._changed.wait()
        self._changed.clear()

    async def _different(self) -> tuple[Configuration, Prepared] | None:
        """Return the latest configuration if the command has to restart for it; else report what became of it."""
        configuration, run = self._latest, self._run
        if configuration is None or run is None:
            return None
        try:
            prepared = self._prepare(configuration)
            startable(self._task.command)
        except Unusable as error:
            self._say(f"{configuration.label} is not used, the command keeps what it has: {error}")
            await self._report(configuration, "rejected", str(error))
            return None
        if prepared.environment == run.prepared.environment:
            run.configuration = configuration
            # Else it is reported with the start.
            if run.settled:
                await self._report(configuration, "applied")
            return None
        return configuration, prepared

    def _prepare(self, configuration: Configuration) -> Prepared:
        task = self._task
        return prepare(task.command, configuration, inherited=task.inherited, choices=task.choices)

    async def _unless_ending(self, awaited: Coroutine[Any, Any, _T]) -> _T | None:
        """Return a result; None if a signal asks this process to end before."""
        task = asyncio.create_task(awaited)
        try:
            await asyncio.wait({task, self._ending}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._ending.done() else task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _changed(before: Environment, after: Environment) -> str:
    """Return the names of the variables that differ."""
    names = sorted(os.fsdecode(name) for name, _ in before.items() ^ after.items())
    distinct = list(dict.fromkeys(names))
    rest = f" and {len(distinct) - _MAX_NAMED} more" if len(distinct) > _MAX_NAMED else ""
    return f"{', '.join(distinct[:_MAX_NAMED])}{rest}"
