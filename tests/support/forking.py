"""Starts daemons and commands by forking an interpreter that has imported their modules already.

Importing is most of the processor time of a start, and the tests start thousands. Everything else is as for
``python -m aliciacfg``: a process of its own, with its arguments, environment, directory, standard streams and exit
code. What takes effect before the imports needs a real start, but for ``LD_PRELOAD``: each value of it has an
interpreter of its own, which has loaded those libraries.

Run as a program, this module is that interpreter. For each request on a socket, it forks the program, whose exit code
it hands on. The processes of a run of the tests share it: it ends when none of them is left.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import hashlib
import importlib
import json
import os
import pkgutil
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# What commands and daemons import when it is needed: parts of libraries, and all of the program's own modules.
_LATER = ("uvloop", "aiomqtt", "rich", "asyncpg", "click._textwrap", "encodings.idna", "encodings.utf_8_sig")
_PRELOAD = "LD_PRELOAD"
_MAX_REQUEST_BYTES = 1024 * 1024
# The variable with the directory that the processes of a run of the tests share; no daemon gets it.
SHARED_VARIABLE = "ALICIACFG_TESTS_SHARED"
SHARED = Path(os.environ[SHARED_VARIABLE]) if SHARED_VARIABLE in os.environ else None
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


@contextlib.contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Wait until no other process is in such a block of this directory."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class ForkServer:
    """The interpreter that is forked; it ends when its last client does.

    Attributes:
        process: The interpreter, if it was started here and not by another process of the tests.
    """

    def __init__(self, library: str | None = None) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        if SHARED is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                self.process = self._interpreter(library, theirs)
            return
        place = SHARED / f"{hashlib.sha256((library or '').encode()).hexdigest()[:8]}.socket"
        self._socket = socket.socket(socket.AF_UNIX)
        with one_at_a_time(SHARED):
            try:
                self._socket.connect(str(place))
            except OSError:
                with socket.socket(socket.AF_UNIX) as listener:
                    place.unlink(missing_ok=True)
                    listener.bind(str(place))
                    listener.listen()
                    self.process = self._interpreter(library, listener, str(SHARED))
                    self._socket.connect(str(place))

    @staticmethod
    def _interpreter(library: str | None, theirs: socket.socket, *arguments: str) -> "subprocess.Popen[bytes]":
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONASYNCIODEBUG"}
        if library is not None:
            environ[_PRELOAD] = library
        return subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), *arguments],
            env={**environ, "SSL_CERT_FILE": os.devnull},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """Need it no more; forked processes go on. The process that started it waits until no other one needs it."""
        self._socket.close()
        if self.process is not None:
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


# By the libraries that they have loaded before all others.
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


class _Clients:
    """The sockets of those who have programs started."""

    def __init__(self, ours: socket.socket, shared: Path | None) -> None:
        """Take the one client that ``ours`` leads to, or with a directory all who connect to it."""
        self._listener = None if shared is None else ours
        self._shared = shared
        self.sockets = [ours]

    def requests(self, readable: Sequence[Any]) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """Yield what those clients ask for that have something to read; the last one that leaves ends the process."""
        for client in [found for found in self.sockets if found in readable]:
            if client is self._listener:
                self.sockets.append(client.accept()[0])
            elif (request := _receive(client)) is not None:
                yield request
            else:
                client.close()
                self.sockets.remove(client)
                self._end_if_last()

    def _end_if_last(self) -> None:
        if self._shared is None:
            os._exit(0)
        if self.sockets == [self._listener]:
            # Clients connect while they have the lock: none does between the look and the end.
            with one_at_a_time(self._shared):
                if not select.select(self.sockets, [], [], 0)[0]:
                    os._exit(0)

    def close(self) -> None:
        """Close all in a process that was forked."""
        for client in self.sockets:
            client.close()


def _serve(clients: _Clients) -> None:
    """Fork for each request; return in the forked process, with everything set up."""
    for name in [*_LATER, *_own_modules()]:
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
        readable, _, _ = select.select([*clients.sockets, ended], [], [])
        if ended in readable:
            os.read(ended, _MAX_REQUEST_BYTES)
            _hand_on_codes(statuses)
        for fields, (*streams, status) in clients.requests(readable):
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                clients.close()
                for descriptor in (ended, ended_end, status, *statuses.values()):
                    os.close(descriptor)
                _become_program(fields, streams)
                return
            statuses[pid] = status
            for descriptor in streams:
                os.close(descriptor)
            # The client may have been killed meanwhile.
            with contextlib.suppress(BrokenPipeError):
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


def _own_modules() -> Iterator[str]:
    """The names of the program's modules."""
    for found in pkgutil.walk_packages(importlib.import_module("aliciacfg").__path__, "aliciacfg."):
        if found.name != "aliciacfg.__main__":
            yield found.name


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
        # They are loaded already, and now read their variables.
        for library in os.environ[_PRELOAD].split(":"):
            ctypes.CDLL(library).begin()
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
    _serve(_Clients(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]) if sys.argv[2:] else None))
    try:
        runpy.run_module("aliciacfg", run_name="__main__", alter_sys=True)
    except SystemExit as _done:
        if _done.code is None or isinstance(_done.code, int):
            with contextlib.suppress(OSError, ValueError):
                _end(_done.code or 0)
        raise
