"""Starts daemons and commands by forking an interpreter that has imported their modules already.

Importing is most of the processor time of a start, and the tests start thousands. Everything else is as for
``python -m aliciacfg``: a process of its own, with its arguments, environment, directory, standard streams and exit
code. What takes effect before the imports needs a real start, but for ``LD_PRELOAD``: each library of these has an
interpreter of its own, which has loaded it.

Run as a program, this module is that interpreter. For each request on its socket, it forks the program, whose exit
code it hands on.
"""

import atexit
import contextlib
import ctypes
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
_PRELOAD = "LD_PRELOAD"
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

    def __init__(self, library: str | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
        if library is not None:
            environ[_PRELOAD] = library
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


# By the library that they have loaded before all others.
_servers: dict[str | None, ForkServer] = {}


def _server(library: str | None = None) -> ForkServer:
    if library not in _servers:
        _servers[library] = ForkServer(library)
        atexit.register(_servers[library].close)
    return _servers[library]


def start(arguments: Sequence[str], *, directory: Path, environ: Mapping[str, str], stderr: IO[Any]) -> ForkedProcess:
    """Start ``aliciacfg`` without input, with a pipe as its output."""
    output, output_end = os.pipe()
    with Path(os.devnull).open() as nothing:
        try:
            streams = [nothing.fileno(), output_end, stderr.fileno()]
            server = _server(environ.get(_PRELOAD))
            process = server.start(arguments, directory=directory, environ=environ, streams=streams)
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
        process = _server(environ.get(_PRELOAD)).start(arguments, directory=directory, environ=environ, streams=streams)
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
    _keep_repository_schemas()
    # What was made until here is not looked through, and so not copied, by the garbage collectors of the forked ones.
    gc.collect()
    gc.freeze()
    # Readable when a program has ended.
    ended, ended_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ended_end, warn_on_full_buffer=False)
    # Where the exit code of each program goes.
    statuses: dict[int, int] = {}
    while True:
        readable, _, _ = select.select([ours, ended], [], [])
        if ended in readable:
            os.read(ended, _MAX_REQUEST_BYTES)
            _hand_on_codes(statuses)
            continue
        request = _receive(ours)
        if request is None:
            os._exit(0)
        fields, (*streams, status) = request
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ours.close()
            for descriptor in (ended, ended_end, status, *statuses.values()):
                os.close(descriptor)
            _become_program(fields, streams)
            return
        statuses[pid] = status
        for descriptor in streams:
            os.close(descriptor)
        os.write(status, _NUMBER.pack(pid))


def _hand_on_codes(statuses: dict[int, int]) -> None:
    """Write the exit codes of programs that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, waited = ended
            status = statuses.pop(pid)
            # The client that started it may have ended meanwhile.
            with contextlib.suppress(BrokenPipeError):
                os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(waited)))
            os.close(status)


# Schemas that forked processes find parsed.
_kept: list[Any] = []


def _keep_repository_schemas() -> None:
    """Load the files of the repository, which most homes of tests have: a process parses again what differs."""
    loader = importlib.import_module("aliciacfg.sources.loader")
    home = Path(__file__).resolve().parents[2]
    sources = loader.load(environments_dir=home / "environments", schemas_dir=home / "schemas", variables={})
    _kept.extend(sources.schemas.values())
    # What a schema says of a place is found out when a document has that place.
    for environment in sources.environments.values():
        for service, schema in sources.schemas.items():
            for layer in environment.layers(service):
                schema.secrets(layer.patch)


def _receive(ours: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    data, descriptors, _, _ = socket.recv_fds(ours, _MAX_REQUEST_BYTES, 4)
    while data and not data.endswith(b"\n"):
        data += ours.recv(_MAX_REQUEST_BYTES)
    return (json.loads(data), descriptors) if data else None


def _become_program(fields: dict[str, Any], streams: Sequence[int]) -> None:
    """Set up everything that a process gets from the one that starts it."""
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
    if _PRELOAD in os.environ:
        # It is loaded already, and now reads its variables.
        ctypes.CDLL(os.environ[_PRELOAD]).begin()
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
