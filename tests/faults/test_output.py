"""Standard output and standard error that nobody reads, that are closed, or that cannot be written."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daemons import Daemon
from machine import free_port, wait_until
from soak import rarely

HOME_SERVICES = ("voice_router",)
# Each is a line of the log: together more than a pipe holds.
REFUSED = 400


@contextlib.contextmanager
def running(daemon: Daemon, *, redirect: str = "", **streams: Any) -> Iterator[Daemon]:
    """A daemon with streams of the test's own; ``redirect`` is what a shell does with them before."""
    daemon.prepare()
    port = free_port()
    daemon.url = f"http://127.0.0.1:{port}"
    daemon.process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" -m aliciacfg serve {redirect}', sys.executable],
        cwd=daemon.directory,
        env={**daemon.environment(), "ALICIACFG_HTTP_PORT": str(port)},
        text=True,
        **streams,
    )
    try:
        yield daemon
    finally:
        daemon.kill()


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
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: writer}
    with running(make_daemon(environ={"PYTHONASYNCIODEBUG": debug}), **streams) as daemon:
        wait_until(lambda: is_ready(daemon))
        for _ in range(REFUSED if stream == "stderr" else 1):
            assert daemon.http("GET", "/config/nobody").status == 404
        check_serves(daemon)
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize(
    "redirect", [rarely(">&-"), rarely("2>&-"), "<&- >&- 2>&-", ">/dev/full", rarely("2>/dev/full")]
)
def test_a_stream_that_cannot_be_written_ends_nothing(make_daemon: Callable[..., Daemon], redirect: str):
    """Closed before the start, or on a full disk: the daemon serves, stores, and ends in order."""
    with running(make_daemon(), redirect=redirect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
        check_serves(daemon)


def test_a_reader_that_goes_away_ends_nothing(make_daemon: Callable[..., Daemon]):
    """As when the program behind a pipe ends before READY: both streams have no reader any more."""
    with running(make_daemon(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as daemon:
        assert isinstance(daemon.process, subprocess.Popen)
        assert daemon.process.stdout is not None
        assert daemon.process.stderr is not None
        daemon.process.stdout.close()
        daemon.process.stderr.close()
        check_serves(daemon)


def test_a_start_that_fails_ends_though_nobody_reads_why(make_daemon: Callable[..., Daemon]):
    """The exit code tells it all the same."""
    reader, writer = full_pipe()
    daemon = make_daemon(environ={"ENVIRONMENT": "nowhere"})
    with running(daemon, stdout=writer, stderr=writer):
        assert daemon.process is not None
        assert daemon.process.wait(20) == 8
    os.close(writer)
    os.close(reader)
