"""Faults under load: nothing acknowledged is lost, and the daemon recovers alone; `make soak` repeats them."""

import fcntl
import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cutting_proxy import CuttingProxy
from failing_disk import FailingDisk, Fault
from jumping_clock import JumpingClock
from soak import rarely
from trials import Trial

# Each is a line of the log: together more than a pipe of one page holds.
PIPE_BYTES, REFUSED = 4096, 40


def rounds(short: int, long: int) -> pytest.MarkDecorator:
    """A few rounds in every run of the tests, and many in a soak."""
    return pytest.mark.parametrize("rounds", [short, pytest.param(long, marks=pytest.mark.soak)])


@rounds(2, 200)
def test_kill_9(trial: Trial, rounds: int):
    """At a random moment, also during a start."""
    dice = random.Random(rounds)
    for _ in trial.rounds("the daemon is killed (`kill -9`)", rounds):
        trial.keep_writing(dice.uniform(0, 0.2))
        trial.daemon.kill()
        if dice.random() < 0.3:
            trial.daemon.spawn()
            trial.keep_writing(dice.uniform(0, 0.5))
            trial.daemon.kill()
        trial.restart()


@rounds(1, 20)
def test_the_broker_is_killed(trial: Trial, rounds: int):
    """Its memory goes with it."""
    for _ in trial.rounds("the broker is killed", rounds):
        trial.broker.kill()
        trial.keep_writing()
        trial.broker.start()


@rounds(1, 20)
def test_the_broker_forgets_everything(trial: Trial, rounds: int):
    """Its retained messages and sessions are deleted while it is away."""
    for _ in trial.rounds("the broker is killed and its files are deleted", rounds):
        trial.broker.kill()
        trial.broker.wipe()
        trial.keep_writing()
        trial.broker.start()


@rounds(1, 10)
def test_the_broker_hangs(trial: Trial, rounds: int):
    """It is stopped in the middle of its work and goes on later."""
    for _ in trial.rounds("the broker hangs (SIGSTOP)", rounds):
        assert trial.broker.process is not None
        trial.broker.process.send_signal(signal.SIGSTOP)
        trial.keep_writing(1.5 if rounds == 1 else 8)
        trial.broker.process.send_signal(signal.SIGCONT)


@pytest.fixture
def proxy(trial: Trial) -> Iterator[CuttingProxy]:
    made = CuttingProxy(trial.broker.port)
    trial.daemon.broker_port = made.port
    yield made
    made.close()


@rounds(2, 50)
def test_the_connection_is_cut_within_a_packet(trial: Trial, proxy: CuttingProxy, rounds: int):
    """After a random number of bytes, in either direction."""
    dice = random.Random(rounds)
    for _ in trial.rounds("the connection to the broker is cut within a packet", rounds):
        proxy.cut_after(dice.randrange(1, 5000))


@pytest.fixture
def disk(trial: Trial, tmp_path: Path) -> FailingDisk:
    made = FailingDisk(tmp_path / "disk", "/home/data/aliciacfg.db")
    trial.daemon.environ.update(made.environ)
    return made


# One form of a fault at a time: each that `make soak` tries is a line of docs/reliability.md.
@pytest.mark.parametrize(
    ("fault", "name", "rounds"),
    [
        ("full", "the disk is full", 1),
        rarely("full", "the disk is full", 20),
        rarely("write_fails", "writes to the disk fail", 20),
        rarely("sync_fails", "the disk does not keep what was written (fsync fails)", 20),
        ("sync_hangs", "the disk hangs", 1),
        rarely("sync_hangs", "the disk hangs", 20),
        ("read_fails", "the disk cannot be read", 1),
        rarely("read_fails", "the disk cannot be read", 20),
        rarely("read_only", "the disk is mounted read-only", 20),
    ],
)
def test_the_disk_fails(trial: Trial, disk: FailingDisk, fault: Fault, name: str, rounds: int):
    """For a moment, under load."""
    for _ in trial.rounds(name, rounds):
        with disk.failing(fault):
            trial.keep_writing(0.5)


@rounds(1, 20)
def test_a_disk_that_fails_and_a_kill(trial: Trial, disk: FailingDisk, rounds: int):
    """What was answered before is there; what was answered as unknown is there or not."""
    for _ in trial.rounds("fsync fails, then the daemon is killed", rounds):
        disk.set("sync_fails")
        trial.keep_writing(0.3)
        trial.daemon.kill()
        disk.set()
        trial.restart()


@rounds(1, 20)
def test_the_database_is_locked(trial: Trial, rounds: int):
    """By another program, for longer than a write waits."""
    for _ in trial.rounds("another program locks the database", rounds):
        with closing(sqlite3.connect(trial.daemon.data / "aliciacfg.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            trial.keep_writing(2)
            other.execute("ROLLBACK")


@pytest.fixture
def unread(trial: Trial) -> Iterator[None]:
    """The log is a pipe that nobody reads."""
    log = trial.daemon.log
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    assert fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES) == PIPE_BYTES
    yield
    trial.daemon.stop()
    os.close(reader)
    log.unlink()


@pytest.mark.usefixtures("unread")
@rounds(1, 20)
def test_output_that_nobody_reads(trial: Trial, rounds: int):
    """The daemon logs more than the pipe holds."""
    for _ in trial.rounds("the log is a full pipe without a reader", rounds):
        for _ in range(REFUSED):
            trial.daemon.http("GET", "/config/nobody")


@rounds(1, 20)
def test_the_clock_jumps(trial: Trial, tmp_path: Path, rounds: int):
    """A day ahead, and back to the year before."""
    clock = JumpingClock(tmp_path / "clock")
    trial.daemon.environ.update(clock.environ)
    for _ in trial.rounds("the clock jumps by a day and a year", rounds):
        for seconds in (86_400, -31_536_000, 0):
            clock.set(seconds)
            trial.keep_writing(0.2)


@rounds(1, 20)
def test_files_in_unlucky_states(trial: Trial, rounds: int):
    """Gone, half-written, empty, a directory, no text; then as before."""
    file = trial.daemon.environments / "base.yaml"
    whole = file.read_bytes()
    for _ in trial.rounds("environment files vanish, are half-written or replaced", rounds):
        for state in (None, whole[: len(whole) // 2], b"", b"\xff\xfe\x00", "directory"):
            file.unlink()
            if state == "directory":
                file.mkdir()
            elif isinstance(state, bytes):
                file.write_bytes(state)
            trial.keep_writing(0.6)
            if state == "directory":
                file.rmdir()
            file.write_bytes(whole)
