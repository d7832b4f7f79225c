"""Faults of a home on three daemons under load: nothing is lost or done twice; `make soak` tries all of them."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncGenerator, Callable

import pytest

from brokers import Broker
from cutting_socket import CuttingSocket, cutting_socket
from daemons import Daemon
from postgres import Postgres
from replica_trials import NAMES, ReplicaTrial


def rounds(short: int, long: int) -> pytest.MarkDecorator:
    """A few rounds in every run of the tests, and many in a soak."""
    return pytest.mark.parametrize("rounds", [short, pytest.param(long, marks=pytest.mark.soak)])


@pytest.fixture
def trial(make_daemon: Callable[..., Daemon], broker: Broker, postgres: Postgres) -> ReplicaTrial:
    """Three daemons that do not run yet."""
    return ReplicaTrial(make_daemon, broker, postgres, postgres.create())


@rounds(1, 30)
async def test_kill_9(trial: ReplicaTrial, rounds: int):
    """The leader first, then whichever."""
    await asyncio.to_thread(trial.start)
    dice = random.Random(rounds)
    async with trial.load():
        for number in range(rounds):
            killed = await asyncio.to_thread(trial.leader) if number % 2 == 0 else dice.choice(trial.daemons)
            killed.kill()
            await trial.keep_on(dice.uniform(0.5, 5.0) if rounds > 1 else 1.0)
            await asyncio.to_thread(killed.start)
    await trial.check("one of three daemons is killed (`kill -9`), the leader every other time")


@contextlib.asynccontextmanager
async def cutting(trial: ReplicaTrial) -> AsyncGenerator[list[CuttingSocket]]:
    """A way to the server for each daemon, and the settings that have them take it."""
    async with contextlib.AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(cutting_socket(trial.server.directory)) for _ in NAMES]
        environ = {
            name: {"ALICIACFG_DATABASE_URL": trial.url.replace(str(trial.server.directory), str(way.directory))}
            for name, way in zip(NAMES, ways, strict=True)
        }
        await asyncio.to_thread(trial.start, environ)
        yield ways


@rounds(8, 200)
async def test_answers_to_commit_get_lost(trial: ReplicaTrial, rounds: int):
    """Of each daemon, on the way to the server or on the way back."""
    dice = random.Random(rounds)
    async with cutting(trial) as ways:
        async with trial.load():
            for _ in range(rounds):
                way = dice.choice(ways)
                way.cut_commit(dice.choice(["before", "after"]))
                await trial.keep_on(dice.uniform(0.05, 0.3))
        assert sum(way.cuts for way in ways) > rounds / 4
        await trial.check("the connection to the database is cut around COMMIT")


@pytest.mark.soak
async def test_the_leader_hangs(trial: ReplicaTrial):
    """For six seconds, and then goes on."""
    await asyncio.to_thread(trial.start)
    async with trial.load():
        for _ in range(3):
            leader = await asyncio.to_thread(trial.leader)
            assert leader.process is not None
            leader.process.send_signal(signal.SIGSTOP)
            await trial.keep_on(6)
            leader.process.send_signal(signal.SIGCONT)
            await trial.keep_on(1)
    await trial.check("the leader of three daemons hangs for 6 s (SIGSTOP)")
