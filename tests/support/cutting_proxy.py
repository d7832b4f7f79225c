"""A way to a broker that is cut in the middle of a packet."""

import contextlib
import socket
import struct
import threading

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Passes TCP connections on to a port of this machine; ``cut_after`` resets them after some bytes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._left: int | None = None
        self._lock = threading.Lock()
        self._cut = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size: int) -> None:
        """Reset all connections when so many further bytes have passed, in either direction; wait for that."""
        with self._lock:
            self._left = size
            self._cut.clear()
        assert self._cut.wait(20)

    def close(self) -> None:
        self._listener.close()

    def shut(self) -> None:
        """Accept no further connections, and end those that there are."""
        # Closing alone does not wake the thread that waits in ``accept``, which would take one more.
        self._listener.shutdown(socket.SHUT_RDWR)
        self.close()
        with self._lock:
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._ends += [client, server]
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                part, cut = self._allowed(data)
                target.sendall(part)
                if cut:
                    for end in (source, target):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _allowed(self, data: bytes) -> tuple[bytes, bool]:
        """Return how much of the data may pass, and whether the connection is cut behind it."""
        with self._lock:
            if self._left is None or len(data) < self._left:
                if self._left is not None:
                    self._left -= len(data)
                return data, False
            part, self._left = data[: self._left], None
            self._cut.set()
            return part, True
