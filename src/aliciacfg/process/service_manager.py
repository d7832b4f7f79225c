"""Reports the state of the process to the service manager that started it, such as systemd: sd_notify(3).

Each message is a datagram of ``NAME=value`` lines to the Unix socket that ``NOTIFY_SOCKET`` names. Without that
variable nothing is sent. The protocol is a page long; the packages for it need systemd's headers or are no longer
maintained, so this module speaks it itself.
"""

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, MutableMapping
from typing import Self

_LOOK_SECONDS = 1.0
# How much longer a start may take, said anew every second. The event loop may be busy with a large home meanwhile.
_MORE_SECONDS = 60
# A start that only lacks the broker counts as made after this time: HTTP serves, and others may wait for this unit.
_PATIENCE_SECONDS = 30.0
_MAX_UNSENT = 16


class ServiceManager:
    """Sends messages to the service manager; none if there is none.

    Messages that its socket has no room for are sent later, in order. A process that stops sending ``WATCHDOG=1`` is
    restarted, so these come from the event loop: one that hangs sends none.
    """

    def __init__(
        self, address: str | None, *, watchdog_seconds: float | None = None, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        """Send to the manager at an address.

        Args:
            address: The path of its Unix socket; beginning with ``@``, a name in the abstract namespace. None for no
                service manager.
            watchdog_seconds: The longest time between two signs of life; None if it expects none.
            patience_seconds: How long a daemon that serves may lack the broker before its start counts as made.
        """
        self._watchdog_seconds = watchdog_seconds
        self._patience_seconds = patience_seconds
        self._ready = False
        self._unsent: deque[str] = deque(maxlen=_MAX_UNSENT)
        self._socket: socket.socket | None = None
        # Others are possible, such as vsock for virtual machines; systemd uses them only for itself.
        if address is not None and address[:1] in {"/", "@"} and len(address) > 1:
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], *, pid: int) -> Self:
        """Return the service manager that the variables name, and remove them, so that no child speaks in our name.

        Args:
            environ: The environment of the process.
            pid: The process; a ``WATCHDOG_PID`` of another one means that no sign of life is expected of this one.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds, expected = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", str(pid))
        watched = microseconds.isdecimal() and int(microseconds) > 0 and expected == str(pid)
        return cls(address, watchdog_seconds=int(microseconds) / 1_000_000 if watched else None)

    @property
    def present(self) -> bool:
        """Whether there is a service manager."""
        return self._socket is not None

    def ready(self) -> None:
        """Report that the start is made."""
        self._ready = True
        self._report("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Generator[None]:
        """Report that the files are read again while the block runs; during the start that is part of the start."""
        if not self._ready:
            yield
            return
        self._report(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    def stopping(self) -> None:
        """Report that the process stops."""
        self._report("STOPPING=1")

    def close(self) -> None:
        """Send nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncGenerator[None, None]:
        """Extend the time for the start while the block runs: the first load of a large home may take long."""
        extending = asyncio.create_task(self._extend_forever(), name="time for the start")
        try:
            yield
        finally:
            extending.cancel()

    async def report_forever(self, status: Callable[[], str], alive: Callable[[], Awaitable[bool]]) -> None:
        """Report status and signs of life until cancelled; return at once without a service manager.

        Args:
            status: Returns the status for people, in one line.
            alive: Returns whether the process works as far as it knows; if not, no sign of life is sent.
        """
        clock = asyncio.get_running_loop().time
        began, reported, next_sign = clock(), "", 0.0
        # As sd_watchdog_enabled(3) recommends.
        pause = self._watchdog_seconds / 2 if self._watchdog_seconds else None
        while self.present:
            if (text := status()) != reported:
                reported = text
                self._report(f"STATUS={' '.join(text.split())}")
            if not self._ready:
                self._extend()
                if clock() - began >= self._patience_seconds:
                    self.ready()
            if pause is not None and clock() >= next_sign and await alive():
                next_sign = clock() + pause
                self._send("WATCHDOG=1")
            self._send_unsent()
            await asyncio.sleep(min(_LOOK_SECONDS, pause or _LOOK_SECONDS))

    async def _extend_forever(self) -> None:
        while self.present:
            self._extend()
            await asyncio.sleep(_LOOK_SECONDS)

    def _extend(self) -> None:
        self._send(f"EXTEND_TIMEOUT_USEC={_MORE_SECONDS * 1_000_000}")

    def _report(self, message: str) -> None:
        """Send a message that must arrive, now or later."""
        if self.present:
            self._unsent.append(message)
            self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()

    def _send(self, message: str) -> bool:
        """Send a message; return False if there was no room, or no receiver."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            return False
        return True
