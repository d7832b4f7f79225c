"""Standard output and standard error that nobody reads, that are closed, or that cannot be written."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forking
from daemons import Daemon
from machine import free_port, wait_until
from soak import rarely

HOME_SERVICES = ("voice_router",)
# Each is a line of the log, for a pipe that is full before.
REFUSED = 40


@contextlib.contextmanager
def running(daemon: Daemon, **streams: int) -> Iterator[Daemon]:
    """A daemon with streams of the test's own, ``stdout`` and ``stderr``; the others lead nowhere."""
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        made = [streams.get(name, nothing.fileno()) for name in ("stdin", "stdout", "stderr")]
        daemon.process = forking.started(
            {"arguments": ["serve"], "directory": str(daemon.directory), "environ": environment(daemon)}, made
        )
    try:
        yield daemon
    finally:
        daemon.kill()


@contextlib.contextmanager
def interpreted(
    daemon: Daemon, redirect: str = "", *, stdout: int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL
) -> Iterator[Daemon]:
    """The same with an interpreter that finds the streams as a shell leaves them."""
    daemon.process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" -m aliciacfg serve {redirect}', sys.executable],
        cwd=daemon.directory,
        env=environment(daemon),
        stdout=stdout,
        stderr=stderr,
        text=True,
    )
    try:
        yield daemon
    finally:
        daemon.kill()


def environment(daemon: Daemon) -> dict[str, str]:
    """The variables of a daemon whose READY line is not read: it has a port of its own."""
    port = free_port()
    daemon.url = f"http://127.0.0.1:{port}"
    return {**daemon.environment(), "ALICIACFG_HTTP_PORT": str(port)}


def is_ready(daemon: Daemon) -> bool:
    with contextlib.suppress(OSError):
        return daemon.http("GET", "/ready").status == 200
    return False


def full_pipe() -> tuple[int, int]:
    """A pipe that holds as much as it can, for its reader and its writers."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    return reader, writer


def check_serves(daemon: Daemon) -> None:
    """It becomes ready, stores, and ends in order at SIGTERM."""
    wait_until(lambda: is_ready(daemon))
    assert daemon.http("PATCH", "/config/voice_router", {"limits": {"n": 1}}).status == 200
    assert (daemon.data / "aliciacfg.db").read_bytes().startswith(b"SQLite format 3")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(20) == 0


@pytest.mark.parametrize(
    ("stream", "debug"), [("stdout", ""), rarely("stdout", "1"), rarely("stderr", ""), ("stderr", "1")]
)
def test_a_stream_that_nobody_reads_holds_up_nothing(make_daemon: Callable[..., Daemon], stream: str, debug: str):
    """A full pipe: the daemon becomes ready, answers, logs more than fits, and ends at SIGTERM."""
    reader, writer = full_pipe()
    with running(make_daemon(environ={"PYTHONASYNCIODEBUG": debug}), **{stream: writer}) as daemon:
        wait_until(lambda: is_ready(daemon))
        for _ in range(REFUSED if stream == "stderr" else 1):
            assert daemon.http("GET", "/config/nobody").status == 404
        check_serves(daemon)
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("redirect", [rarely(">&-"), rarely("2>&-"), "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_before_the_start_ends_nothing(make_daemon: Callable[..., Daemon], redirect: str):
    """The daemon serves, stores, and ends in order."""
    with interpreted(make_daemon(), redirect) as daemon:
        check_serves(daemon)


@pytest.mark.parametrize("stream", ["stdout", rarely("stderr")])
def test_a_stream_on_a_full_disk_ends_nothing(make_daemon: Callable[..., Daemon], stream: str):
    """The daemon serves, stores, and ends in order."""
    with Path("/dev/full").open("wb", buffering=0) as full, running(make_daemon(), **{stream: full.fileno()}) as daemon:
        check_serves(daemon)


def test_a_reader_that_goes_away_ends_nothing(make_daemon: Callable[..., Daemon]):
    """As when the program behind a pipe ends before READY: both streams have no reader any more."""
    (first, out), (second, error) = os.pipe(), os.pipe()
    with running(make_daemon(), stdout=out, stderr=error) as daemon:
        for end in (first, second, out, error):
            os.close(end)
        check_serves(daemon)


def test_a_start_that_fails_ends_though_nobody_reads_why(make_daemon: Callable[..., Daemon]):
    """The exit code tells it all the same."""
    reader, writer = full_pipe()
    daemon = make_daemon(environ={"ENVIRONMENT": "nowhere"})
    with interpreted(daemon, stdout=writer, stderr=writer):
        assert daemon.process is not None
        assert daemon.process.wait(20) == 8
    os.close(writer)
    os.close(reader)
