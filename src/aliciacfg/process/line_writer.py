"""Writes to standard output and standard error without ever waiting for their readers."""

import contextlib
import errno
import io
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_MAX_WAITING_BYTES = 1024 * 1024
_GATHER_SECONDS = 0.002
# After so many lines that came within that time, the next ones are gathered for longer.
_MANY_LINES = 4
_GATHER_MANY_SECONDS = 0.01


class LineWriter:
    """Writes texts to a file descriptor, in a thread of its own.

    A pipe that is not read, a stopped terminal or a slow disk hold up that thread only. What comes while a mebibyte
    waits is dropped and counted, and so is what cannot be written because the reader is gone or the disk is full; the
    next text that can be written is followed by a line that says how many were dropped.
    """

    def __init__(self, descriptor: int | None, *, on_dropped: Callable[[int], str] = lambda _: "") -> None:
        """Start the thread.

        Args:
            descriptor: Where to write; None drops everything.
            on_dropped: Returns the line about a number of dropped texts; "" for none.
        """
        self._descriptor = descriptor
        self._on_dropped = on_dropped
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._writing = False
        self._gather_seconds = _GATHER_SECONDS
        # Its lock is one that a thread may take again: a finalizer that logs may run while it is held.
        self._changed = threading.Condition(threading.RLock())
        if descriptor is not None:
            threading.Thread(target=self._run, args=(descriptor,), name=f"writer-{descriptor}", daemon=True).start()

    @classmethod
    def of(cls, stream: TextIO | None, *, on_dropped: Callable[[int], str] = lambda _: "") -> "LineWriter":
        """Return a writer to a standard stream, which is None if its descriptor was closed before the start."""
        descriptor = None
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                descriptor = stream.fileno()
        return cls(descriptor, on_dropped=on_dropped)

    def fileno(self) -> int:
        """Return the descriptor that is written to.

        Raises:
            OSError: There is none.
        """
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the stream was closed before the start")
        return self._descriptor

    def stream(self, *, terminal: bool, prefix: bytes = b"") -> TextIO:
        """Return a text stream that writes here, to take the place of ``sys.stderr``.

        What the interpreter, warnings and libraries print then goes the way of the log, and holds up nothing either.

        Args:
            terminal: What its ``isatty`` returns.
            prefix: Written before each line.
        """
        return io.TextIOWrapper(
            _LineFile(self, terminal=terminal, prefix=prefix),  # pyright: ignore[reportArgumentType] - a raw file will do without a buffer
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )

    def write(self, data: bytes) -> None:
        """Have a text written soon; neither waits nor raises."""
        if self._descriptor is None or not data:
            return
        with self._changed:
            if self._waiting_bytes + len(data) > _MAX_WAITING_BYTES:
                self._dropped += 1
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is written, at most ``seconds``; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._writing, seconds)

    def _run(self, descriptor: int) -> None:
        while True:
            texts, dropped = self._take()
            lost = dropped
            if not _write_all(descriptor, b"".join(texts)):
                lost += len(texts)
            elif dropped and _write_all(descriptor, self._on_dropped(dropped).encode()):
                lost = 0
            with self._changed:
                self._dropped += lost
                self._writing = False
                self._changed.notify_all()

    def _take(self) -> tuple[list[bytes], int]:
        """Wait for texts, and return them with the number of those that were dropped before."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            self._writing = True
        # To wake this thread takes the one that logs longer than all else about a line; so it sleeps on for a moment,
        # and writes the lines of many requests at once. With 2,500 refused writes a second, 10 ms instead of 2 take a
        # tenth less of the processor for each.
        time.sleep(self._gather_seconds)
        with self._changed:
            texts = list(self._waiting)
            self._gather_seconds = _GATHER_MANY_SECONDS if len(texts) >= _MANY_LINES else _GATHER_SECONDS
            self._waiting.clear()
            self._waiting_bytes = 0
            dropped, self._dropped = self._dropped, 0
        return texts, dropped


class _LineFile(io.RawIOBase):
    """A writer as a file, for ``LineWriter.stream``."""

    def __init__(self, writer: LineWriter, *, terminal: bool, prefix: bytes) -> None:
        super().__init__()
        self._writer = writer
        self._terminal = terminal
        self._prefix = prefix
        self._line_begins = True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        """Return the descriptor, so that a second writer can take over from this one."""
        return self._writer.fileno()

    def write(  # pyright: ignore[reportIncompatibleMethodOverride] - the type of all buffers has a name only in typeshed
        self, data: bytes | bytearray | memoryview, /
    ) -> int:
        taken = bytes(data)
        self._writer.write(self._prefixed(taken) if self._prefix else taken)
        return len(taken)

    def _prefixed(self, data: bytes) -> bytes:
        """Put the prefix before each line that begins in ``data``; ``print`` writes a line in pieces."""
        pieces = data.splitlines(keepends=True)
        begun = [self._line_begins, *(piece.endswith(b"\n") for piece in pieces)]
        self._line_begins = begun[-1]
        return b"".join(self._prefix + piece if begins else piece for begins, piece in zip(begun, pieces, strict=False))


def open_missing_streams() -> None:
    """Open the null device as each standard descriptor that was closed before the start.

    Otherwise the next file or socket would get its number, and what is written to standard output would get into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _write_all(descriptor: int, data: bytes) -> bool:
    """Write everything; return False if the reader is gone or the device refuses."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            # A process that shares the pipe may have made it non-blocking.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return False
    return True
