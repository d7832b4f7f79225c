"""Commands as processes: on files and on a terminal."""

import contextlib
import os
import pty
import re
import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import forking
from daemons import Daemon

# No program writes it.
_END = b"\x00the end\x00"


@dataclass(frozen=True)
class Seen:
    """What a person sees of a command: with colours, and without."""

    raw: str
    returncode: int

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.raw).replace("\r\n", "\n")


def aliciacfg(
    daemon: Daemon,
    *arguments: str,
    stdin: str | bytes = "",
    http: bool = False,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What a script sees of a command in the daemon's directory."""
    done = forking.run(
        [*(["--http", daemon.url] if http else []), *arguments],
        directory=daemon.directory,
        environ={**daemon.environment(), **(environ or {})},
        stdin=stdin if isinstance(stdin, bytes) else stdin.encode(),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def on_terminal(daemon: Daemon, *arguments: str, columns: int = 120, without: Collection[str] = ()) -> Seen:
    """Run a command on a terminal of its own, without some of the daemon's variables."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in daemon.environment().items() if name not in without}
    process = forking.start_on_terminal(
        arguments,
        directory=daemon.directory,
        environ={**environ, "TERM": "xterm", "COLUMNS": str(columns)},
        terminal=theirs,
        reads=False,
    )
    return Seen(_without_progress(_read(ours, theirs, process).decode()), process.wait(20))


def typed(daemon: Daemon, *arguments: str, keys: str, environ: dict[str, str] | None = None) -> str:
    """What a person sees who types ``keys``, the echo included."""
    ours, theirs = pty.openpty()
    process = forking.start_on_terminal(
        arguments,
        directory=daemon.directory,
        environ={**daemon.environment(), "TERM": "xterm", "COLUMNS": "160", **(environ or {})},
        terminal=theirs,
        reads=True,
    )
    return _without_progress(_read(ours, theirs, process, keys.splitlines(keepends=True)).decode())


def _without_progress(text: str) -> str:
    """What is on a terminal in the end: a command that takes long shows for how long, and clears that line."""
    return re.sub(r"\r\x1b\[K(?:[^\r\n]*: \d+ s(?=\r\x1b\[K))?", "", text)


def _read(ours: int, theirs: int, process: forking.ForkedProcess, lines: Sequence[str] = ()) -> bytes:
    """Return all that a process wrote to its terminal until it ended; type a line whenever it asks for one.

    Linux may drop what was written last when nobody has the terminal open any more. So it stays open here, and a mark
    that is written behind the end of the process says that everything has been read.
    """

    def mark_the_end() -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        os.write(theirs, _END)

    threading.Thread(target=mark_the_end, daemon=True).start()
    seen, left = b"", list(lines)
    while not seen.endswith(_END):
        seen += os.read(ours, 65536)
        # Only what asks is answered: before, the terminal would still echo.
        if left and seen.endswith(b": "):
            os.write(ours, left.pop(0).encode())
    os.close(ours)
    os.close(theirs)
    return seen.removesuffix(_END)
