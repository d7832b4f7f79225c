"""Commands as processes: on files and on a terminal."""

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import forking
from daemons import Daemon


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


def on_terminal(daemon: Daemon, *arguments: str, columns: int = 120) -> Seen:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = forking.start_on_terminal(
        arguments,
        directory=daemon.directory,
        environ={**daemon.environment(), "TERM": "xterm", "COLUMNS": str(columns)},
        terminal=theirs,
        reads=False,
    )
    os.close(theirs)
    seen = b""
    # Linux ends the reading side of a terminal with an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    return Seen(seen.decode(), process.wait(20))


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
    os.close(theirs)
    seen, lines = b"", keys.splitlines(keepends=True)
    # Linux ends the reading side of a terminal with an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            seen += part
            # Only what asks is answered: before, the terminal would still echo.
            if lines and seen.endswith(b": "):
                os.write(ours, lines.pop(0).encode())
    os.close(ours)
    process.wait(20)
    return seen.decode()
