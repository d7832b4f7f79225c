"""Processes that a supervisor runs: a command with everything that it starts, and their ends."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aliciacfg.execution.commands import spawn
from aliciacfg.execution.environment import Environment
from aliciacfg.execution.terminal import Terminal

_SIGNALLED = 128
_PR_SET_CHILD_SUBREAPER = 36
# The end of a process that is no child of this one is not announced.
_POLL_SECONDS = 0.05
_ASKS_AGAIN_SECONDS = 10.0
_JOB_CONTROL = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})


class Child:
    """A running command, in a process group of its own.

    Attributes:
        pid: Its process id, which is also the id of the group.
        exited: Gets its exit code, as a shell has it: 128 and the signal's number if a signal ended it.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def send(self, number: int) -> None:
        """Send the command a signal, without those that it started."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def send_all(self, number: int) -> None:
        """Send the whole group a signal."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def group_exists(self) -> bool:
        """Whether any process of the group is there, the command or another one."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class Processes:
    """Starts commands and waits for all children of this process, adopted ones too, as init does.

    On Linux this process adopts what the command leaves behind. So a daemon that left the command's group is found, and
    no zombie stays.
    """

    def __init__(self, terminal: Terminal, warn: Callable[[str], None]) -> None:
        self._terminal = terminal
        self._warn = warn
        self._child: Child | None = None
        self._changed = asyncio.Event()
        # The program that ran this one in its own place may have left children to it.
        self._foreign: frozenset[int] = frozenset()

    def open(self) -> None:
        """Begin to wait for children; call it in the event loop's thread."""
        self._foreign = frozenset(_children())
        _adopt_orphans()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def close(self) -> None:
        """Wait for no children any more, and take the terminal back."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._child is not None:
            self._terminal.take_back(self._child.pid)

    def start(self, command: Sequence[str], environment: Environment) -> Child:
        """Start a command.

        Raises:
            CannotStart: It cannot be started.
        """
        child = self._child = Child(spawn(command, environment))
        if self._terminal.is_interactive:
            self._terminal.give(child.pid)
            # It may have been stopped because it read before it was in the foreground.
            child.send_all(signal.SIGCONT)
        # It may have ended before its id was known here.
        self._reap()
        return child

    async def stop(self, child: Child, number: int, seconds: float) -> None:
        """End a command with everything that it started; return when all of it is gone.

        Args:
            child: The command.
            number: The signal that asks it to end.
            seconds: After how long SIGKILL follows.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._end(child, number)
        except TimeoutError:
            self._warn(f"still running {seconds:g} s after {signal.Signals(number).name}; sending SIGKILL")
            await self._kill(child)
        finally:
            self._terminal.take_back(child.pid, restore_modes=True)

    async def _kill(self, child: Child) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASKS_AGAIN_SECONDS):
                    await self._end(child, signal.SIGKILL)
                    return
            self._warn("the old processes are still there after SIGKILL; the command is not started before they end")

    async def _end(self, child: Child, number: int) -> None:
        """Send a signal to the command, its group and what they left behind, and wait until all of it is gone."""
        child.send_all(number)
        # A stopped process does not see the signal.
        child.send_all(signal.SIGCONT)
        signalled: set[int] = set()
        while True:
            # More come when those that started them end.
            left_behind = self._left_behind()
            for pid in left_behind - signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
            signalled |= left_behind
            if child.exited.done() and not child.group_exists and not left_behind:
                return
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._changed.wait()

    def _left_behind(self) -> set[int]:
        """Return the processes that came to this one because those that started them are gone."""
        command = set[int]() if self._child is None else {self._child.pid}
        return set(_children()) - self._foreign - command

    def _reap(self) -> None:
        """Take note of every child that ended or was stopped."""
        child = self._child
        while (found := _next_event()) is not None:
            pid, status = found
            if os.WIFSTOPPED(status):
                if child is not None and pid == child.pid:
                    self._resume(child, os.WSTOPSIG(status))
                continue
            if child is not None and pid == child.pid and not child.exited.done():
                code = os.waitstatus_to_exitcode(status)
                child.exited.set_result(code if code >= 0 else _SIGNALLED - code)
            self._changed.set()

    def _resume(self, child: Child, number: int) -> None:
        """Do for a stopped command what a shell does for its jobs; stops this process too if it was suspended."""
        if number not in _JOB_CONTROL or not self._terminal.present:
            return
        foreground = self._terminal.foreground()
        if number != signal.SIGTSTP and foreground in {os.getpgrp(), child.pid}:
            # It wants the terminal, and no other process has it.
            self._terminal.give(child.pid)
        else:
            self._terminal.take_back(child.pid)
            os.kill(os.getpid(), number)
            # The shell has resumed this process; in the foreground if it was asked to.
            if foreground == child.pid:
                self._terminal.give(child.pid)
        child.send_all(signal.SIGCONT)


def _next_event() -> tuple[int, int] | None:
    """Return the process id and the status of a child that ended or was stopped; None without one."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _children() -> list[int]:
    """Return the children of this process, zombies included; none where the system has no list of them."""
    found: list[int] = []
    for file in Path("/proc/self/task").glob("*/children"):
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def _adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, where the system has that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
