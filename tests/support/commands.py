"""Commands: in the test's own process, and as processes on a terminal."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from aliciacfg.cli import main
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
    """What a script sees of a command in the daemon's directory.

    Beside a running daemon it runs in the test's own process, one at a time: to start another one costs ten times as
    much as to send a request. Without a daemon a command may open the data directory and configure logging, so it has
    a process of its own.
    """
    given = [*(["--http", daemon.url] if http else []), *arguments]
    environ = {**daemon.environment(), **(environ or {})}
    if daemon.process is None:
        return _in_own_process(daemon.directory, environ, given, stdin)
    # The runner removes the variables whose value is None.
    runner = CliRunner(env={**dict.fromkeys(os.environ), **environ})
    # In a thread: the test itself may be running on an event loop.
    with contextlib.chdir(daemon.directory), ThreadPoolExecutor(1) as thread:
        done = thread.submit(runner.invoke, main, given, input=stdin).result()
    if done.exc_info is not None and not isinstance(done.exception, SystemExit | None):
        raise done.exc_info[1]
    return subprocess.CompletedProcess(given, done.exit_code, done.stdout, done.stderr)


def _in_own_process(
    directory: Path, environ: Mapping[str, str], arguments: Sequence[str], stdin: str | bytes
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=directory,
        env=environ,
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        timeout=40,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(arguments, done.returncode, out, err)


def on_terminal(daemon: Daemon, *arguments: str, columns: int = 120) -> Seen:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), "TERM": "xterm", "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
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
    process = subprocess.Popen(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), "TERM": "xterm", "COLUMNS": "160", **(environ or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
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
