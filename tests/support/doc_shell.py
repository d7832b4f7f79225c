"""A shell in which the commands of the documentation run as they are typed.

``aliciacfg`` is a small program here that asks the interpreter of ``forking`` for a process: most commands would
otherwise take longer to import than to run. Mosquitto's clients get the port of the test's broker, and ``python3`` is
the tests' own. What one command exports, and where it goes, holds for the next.
"""

import ast
import contextlib
import os
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import forking
from machine import PATH

COLUMNS = 100
_SECONDS = 30
# Replaced by the daemon's own process: it gets signals, or runs another program in its place. There are hundreds of
# these processes, and to import socket and json would be most of what each does.
_SHIM = """#!{python} -IS
import os, _socket, sys
if sys.argv[1:2] and sys.argv[1] in ("serve", "exec", "watch"):
    os.execv({python!r}, [{python!r}, "-m", "aliciacfg", *sys.argv[1:]])
ours = _socket.socket(_socket.AF_UNIX)
ours.connect({path!r})
request = ascii({{"arguments": sys.argv[1:], "directory": os.getcwd(), "environ": dict(os.environ)}}).encode()
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
ours.sendmsg([len(request).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
ours.sendall(request)
sys.exit(int.from_bytes(ours.recv(4), "big", signed=True))
"""


@dataclass
class Ran:
    """What came of a command."""

    code: int
    output: str


@dataclass
class Shell:
    """Commands run one after the other in a directory of their own."""

    directory: Path
    environ: dict[str, str]
    # What is replaced in every command: addresses that a test cannot use.
    replaced: dict[str, str] = field(default_factory=dict)
    background: list[forking.ForkedProcess] = field(default_factory=list)
    _private: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _listener: socket.socket | None = None

    def __enter__(self) -> Self:
        programs = self._path / "bin"
        programs.mkdir()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path / "socket"))
        self._listener.listen(16)
        threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()
        shim = _SHIM.format(python=sys.executable, path=str(self._path / "socket"))
        _program(programs / "aliciacfg", shim)
        _program(programs / "python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for name in ("mosquitto_pub", "mosquitto_rr", "mosquitto_sub"):
            waits = "" if name == "mosquitto_pub" else f"-W {_SECONDS} "
            found = f"$(PATH={shlex.quote(PATH)} command -v {name})"
            _program(programs / name, f'#!/bin/sh\nexec "{found}" {waits}-p "$MQTT_PORT" "$@"\n')
        self.environ["PATH"] = os.pathsep.join([str(programs), PATH, os.environ.get("PATH", "")])
        self.environ |= {"XDG_CONFIG_HOME": str(self._path / "config"), "XDG_STATE_HOME": str(self._path / "state")}
        self.environ |= {
            "HOME": str(self._path),
            "COLUMNS": str(COLUMNS),
            "NO_COLOR": "1",
            "TERM": "xterm",
            "PAGER": "cat",
            "LOGNAME": "anna",
        }
        (self._path / "cwd").write_text(str(self.directory))
        (self._path / "exported").write_text("")
        return self

    def __exit__(self, *_: object) -> None:
        self.end_background()
        if self._listener is not None:
            self._listener.close()
        self._private.cleanup()

    @property
    def _path(self) -> Path:
        return Path(self._private.name)

    @property
    def working_directory(self) -> Path:
        """Where the next command runs."""
        return Path((self._path / "cwd").read_text().strip())

    def run(self, command: str, *, terminal: bool = False, typed: str = "") -> Ran:
        """Run a command or a script and wait for its end."""
        for shown, real in self.replaced.items():
            command = command.replace(shown, real)
        kept = f"{{ code=$?; pwd > {self._path}/cwd; export -p > {self._path}/exported; exit $code; }}"
        script = f"cd {shlex.quote(str(self.working_directory))}\n. {self._path}/exported\ntrap '{kept}' EXIT\nset -e\n"
        arguments = ["sh", "-c", script + command]
        return self._on_terminal(arguments, typed) if terminal else self._piped(arguments, typed)

    def _piped(self, arguments: list[str], typed: str) -> Ran:
        done = subprocess.run(
            arguments,
            env=self.environ,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    def _on_terminal(self, arguments: list[str], typed: str) -> Ran:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            arguments, env=self.environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        seen, end, lines = b"", time.monotonic() + _SECONDS, typed.splitlines(keepends=True)
        with contextlib.suppress(OSError):
            while select.select([ours], [], [], max(0.0, end - time.monotonic()))[0]:
                if not (data := os.read(ours, 65536)):
                    break
                seen += data
                # Only what asks is answered: a question for a secret drops what was typed before.
                if lines and seen.endswith(b": "):
                    os.write(ours, lines.pop(0).encode())
        os.close(ours)
        try:
            code = process.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        text = seen.decode(errors="replace").replace("\r\n", "\n")
        # A line about progress is gone in the end.
        text = re.sub(r"[^\n]*\x1b\[K", "", text)
        return Ran(code, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))

    def start(self, command: str) -> None:
        """Start a command in the background; a daemon has to be READY, and its address is used from then on."""
        words = shlex.split(command)
        assert words[0] == "aliciacfg", command
        with (self._path / "background.log").open("a") as log:
            process = forking.start(words[1:], directory=self.working_directory, environ=self.environ, stderr=log)
        self.background.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("READY"):
                found = re.search(r"https?://([^ ]+)", line)
                assert found is not None, line
                self.replaced |= {"127.0.0.1:8026": found[1], "localhost:8026": found[1]}
                return
        raise AssertionError(f"{command} ended: {(self._path / 'background.log').read_text()[-2000:]}")

    def end_background(self, *, but: int = 0) -> None:
        """End what runs in the background, as Ctrl-C does, but for the first few."""
        while len(self.background) > but:
            process = self.background.pop()
            process.send_signal(signal.SIGINT)
            process.wait(_SECONDS)
            if process.stdout is not None:
                process.stdout.close()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=[connection], daemon=True).start()


_one_at_a_time = threading.Lock()


def _answer(connection: socket.socket) -> None:
    """Start the command that the small program asks for, and tell it the exit code."""
    with connection:
        data, streams, _, _ = socket.recv_fds(connection, 4, 3)
        request = b""
        while len(request) < int.from_bytes(data, "big"):
            request += connection.recv(65536)
        fields: Mapping[str, object] = ast.literal_eval(request.decode())
        try:
            with _one_at_a_time:
                process = forking.started(fields, streams)
        finally:
            for stream in streams:
                os.close(stream)
        # The client may have been ended meanwhile.
        with contextlib.suppress(OSError):
            connection.sendall(process.wait().to_bytes(4, "big", signed=True))


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
