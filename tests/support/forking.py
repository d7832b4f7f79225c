"""Starts daemons and commands by forking an interpreter that has imported their modules already.

Importing is most of the processor time of a start, and the tests start thousands. Everything else is as for
``python -m aliciacfg``: a process of its own, with its arguments, environment, directory, standard streams and exit
code. What takes effect before the imports, as ``LD_PRELOAD``, needs a real start.

Run as a program, this module is that interpreter. For each request on its socket, it forks a process that waits for
the program and hands its exit code on, and that one forks the program.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# What commands import when they run, and daemons when it is needed.
_MODULES = (
    "aliciacfg.daemon", "aliciacfg.logs", "aliciacfg.bootstrap.offline", "uvloop", "aiomqtt", "rich",
    "aliciacfg.http.openapi", "aliciacfg.monitoring.exposition", "aliciacfg.mqtt.aiomqtt_client",
    "aliciacfg.mqtt.asyncapi",
)  # fmt: skip
_MAX_REQUEST_BYTES = 1024 * 1024
# Process ids and exit codes in a pipe.
_NUMBER = struct.Struct("i")


class ForkedProcess:
    """A process that was forked, with the members of ``subprocess.Popen`` that tests use."""

    def __init__(self, pid: int, status: int, stdout: IO[str] | None = None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code, as Popen has it; None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit code; raise ``TimeoutExpired``."""
        if self.returncode is not None:
            return self.returncode
        if not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("aliciacfg", timeout or 0)
        (code,) = _NUMBER.unpack(os.read(self._status, _NUMBER.size))
        os.close(self._status)
        self.returncode = code
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal; once the process has been waited for, do nothing."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The interpreter that is forked; it ends when its client does."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={**environ, "SSL_CERT_FILE": os.devnull},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End it; processes that were forked go on."""
        self._socket.close()
        self.process.wait()

    def start(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environ: Mapping[str, str],
        streams: Sequence[int],
        session: bool = False,
    ) -> ForkedProcess:
        """Start ``aliciacfg``, in a session of its own if asked for.

        ``streams`` are the descriptors of its standard input, output and error.
        """
        status, status_end = os.pipe()
        request = {
            "arguments": list(arguments),
            "directory": str(directory),
            "environ": dict(environ),
            "session": session,
        }
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], [*streams, status_end])
        finally:
            os.close(status_end)
        (pid,) = _NUMBER.unpack(os.read(status, _NUMBER.size))
        return ForkedProcess(pid, status)


_servers: list[ForkServer] = []


def _server() -> ForkServer:
    if not _servers:
        _servers.append(ForkServer())
        atexit.register(_servers[0].close)
    return _servers[0]


def start(arguments: Sequence[str], *, directory: Path, environ: Mapping[str, str], stderr: IO[Any]) -> ForkedProcess:
    """Start ``aliciacfg`` without input, with a pipe as its output."""
    output, output_end = os.pipe()
    with Path(os.devnull).open() as nothing:
        try:
            streams = [nothing.fileno(), output_end, stderr.fileno()]
            process = _server().start(arguments, directory=directory, environ=environ, streams=streams)
        finally:
            os.close(output_end)
    process.stdout = os.fdopen(output)
    return process


def start_on_terminal(
    arguments: Sequence[str], *, directory: Path, environ: Mapping[str, str], terminal: int, reads: bool
) -> ForkedProcess:
    """Start ``aliciacfg`` in a session of its own on a terminal, which it also reads from if it ``reads``."""
    with Path(os.devnull).open() as nothing:
        streams = [terminal if reads else nothing.fileno(), terminal, terminal]
        return _server().start(arguments, directory=directory, environ=environ, streams=streams, session=True)


def run(
    arguments: Sequence[str], *, directory: Path, environ: Mapping[str, str], stdin: bytes = b"", timeout: float = 40
) -> subprocess.CompletedProcess[str]:
    """Run ``aliciacfg`` to its end; streams are no terminals."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        given.write(stdin)
        given.seek(0)
        streams = [given.fileno(), output.fileno(), error.fileno()]
        process = _server().start(arguments, directory=directory, environ=environ, streams=streams)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        output.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read().decode(), error.read().decode())


def started(fields: Mapping[str, Any], streams: Sequence[int]) -> ForkedProcess:
    """Start ``aliciacfg`` with the arguments, directory and environment in ``fields``, and these standard streams."""
    return _server().start(
        fields["arguments"], directory=Path(fields["directory"]), environ=fields["environ"], streams=streams
    )


def _serve(ours: socket.socket) -> None:
    """Fork for each request; return in the forked process, with everything set up, and at the end of the client."""
    commands = Path(importlib.import_module("aliciacfg.cli").__file__ or "").parent.glob("[a-z]*.py")
    for name in [*_MODULES, *(f"aliciacfg.cli.{path.stem}" for path in sorted(commands))]:
        importlib.import_module(name)
    # What was made until here is not looked through, and so not copied, by the garbage collectors of the forked ones.
    gc.collect()
    gc.freeze()
    # The processes that wait are reaped by the system.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while request := _receive(ours):
        fields, descriptors = request
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            *streams, status = descriptors
            _fork_program(fields, streams, status)
            return
        for descriptor in descriptors:
            os.close(descriptor)
    os._exit(0)


def _receive(ours: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    data, descriptors, _, _ = socket.recv_fds(ours, _MAX_REQUEST_BYTES, 4)
    while data and not data.endswith(b"\n"):
        data += ours.recv(_MAX_REQUEST_BYTES)
    return (json.loads(data), descriptors) if data else None


def _fork_program(fields: dict[str, Any], streams: Sequence[int], status: int) -> None:
    """Fork the program, and return there; here, wait for it."""
    pid = os.fork()
    if pid:
        for descriptor in streams:
            os.close(descriptor)
        os.write(status, _NUMBER.pack(pid))
        _, waited = os.waitpid(pid, 0)
        os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(waited)))
        os._exit(0)
    os.close(status)
    if fields["session"]:
        os.setsid()
    for standard, descriptor in enumerate(streams):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # pyright: ignore[reportAttributeAccessIssue]
    os.chdir(fields["directory"])
    os.environ.clear()
    os.environ.update(fields["environ"])
    time.tzset()
    sys.argv[1:] = fields["arguments"]
    sys.path[0] = fields["directory"]


def _end(code: int) -> None:
    """End the process as the interpreter does, but leave what was imported as it is.

    To take the modules apart it would copy all of their memory: four fifths of the processor time of a short command.
    Tests that start the program without this module show that it can. Raises what the streams raise; then the
    interpreter has to say so.
    """
    # Waits for threads.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    # Tells of what was never awaited or closed.
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _ours:
        _serve(_ours)
    try:
        runpy.run_module("aliciacfg", run_name="__main__", alter_sys=True)
    except SystemExit as _done:
        if _done.code is None or isinstance(_done.code, int):
            with contextlib.suppress(OSError, ValueError):
                _end(_done.code or 0)
        raise
