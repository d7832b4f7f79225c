"""The socket of a service manager, as systemd has one, and what was sent to it."""

import select
import socket
import time

from machine import SECONDS


class ManagerSocket:
    """Receives what a process sends to ``NOTIFY_SOCKET``.

    Attributes:
        address: The value of that variable: a path, or ``@`` and a name.
        messages: Everything that was received.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))

    def receive(self, seconds: float = 0.0) -> bool:
        """Receive one message; return False if none came in time."""
        if not select.select([self._socket], [], [], max(0.0, seconds))[0]:
            return False
        self.messages.append(self._socket.recv(4096).decode())
        return True

    def received(self) -> list[str]:
        """Return the messages that have come since the last call."""
        self.messages.clear()
        while self.receive():
            pass
        return list(self.messages)

    def wait_for(self, message: str, *, known: bool = False, seconds: float = SECONDS) -> None:
        """Receive until a message begins with a text; with ``known``, one that came before counts, too."""
        begun = 0 if known else len(self.messages)
        deadline = time.monotonic() + seconds
        while not any(found.startswith(message) for found in self.messages[begun:]):
            assert self.receive(deadline - time.monotonic()), f"no {message} in {self.messages}"

    def close(self) -> None:
        self._socket.close()
