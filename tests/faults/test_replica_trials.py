"""Faults of a home on three daemons under load: nothing is lost or done twice; `make soak` tries all of them."""

import asyncio
import contextlib
import functools
import itertools
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.cli.exits import EXIT_CANNOT_START
from broker_proxies import unsharing_broker
from brokers import Broker
from commands import aliciacfg
from cutting_socket import NAME, CuttingSocket, cutting_socket
from daemons import Daemon
from inprocess import eventually
from jumping_clock import JumpingClock
from machine import PATH, wait_until
from newer_program import BEFORE as NEWER
from newer_program import SETTLED_SECONDS
from postgres import USER, Postgres
from replica_trials import NAMES, RECOVERY_SECONDS, SERVICES, ReplicaTrial

MANY_ROUNDS = 10
FORMAT = "SELECT format FROM aliciacfg.home"
# Commits of which a newer version would have noted that it made them, and there is no such note.
UNNOTED = """
    SELECT commit FROM aliciacfg.revisions
    WHERE commit > (SELECT min(commit) FROM aliciacfg.notes) AND commit NOT IN (SELECT commit FROM aliciacfg.notes)
"""


def rounds(short: int, long: int) -> pytest.MarkDecorator:
    """A few rounds in every run of the tests, and many in a soak; a recovery alone may take ``RECOVERY_SECONDS``."""
    patient = pytest.param(short, marks=pytest.mark.timeout(5 * RECOVERY_SECONDS))
    return pytest.mark.parametrize("rounds", [patient, pytest.param(long, marks=pytest.mark.soak)])


@pytest.fixture
def trial(make_daemon: Callable[..., Daemon], broker: Broker, postgres: Postgres) -> ReplicaTrial:
    """Three daemons that do not run yet."""
    return ReplicaTrial(make_daemon, broker, postgres, postgres.create())


def spare(trial: ReplicaTrial, rounds: int) -> None:
    """Have a few rounds show that nothing is lost or done twice without the whole processor, which others want."""
    if rounds < MANY_ROUNDS:
        trial.pause_seconds = 0.04


@rounds(1, 30)
async def test_kill_9(trial: ReplicaTrial, rounds: int):
    """The leader first, then whichever."""
    spare(trial, rounds)
    await asyncio.to_thread(trial.start)
    dice = random.Random(rounds)
    async with trial.load():
        for number in range(rounds):
            killed = await asyncio.to_thread(trial.leader) if number % 2 == 0 else dice.choice(trial.daemons)
            killed.kill()
            await trial.keep_on(dice.uniform(0.5, 5.0) if rounds > 1 else 1.0)
            await asyncio.to_thread(killed.start)
    await trial.check("one of three daemons is killed (`kill -9`), the leader every other time")


@pytest.mark.soak
async def test_kill_9_with_many_services(trial: ReplicaTrial):
    """Of a thousand: no get waits for longer than three seconds, and none is wrong."""
    trial.enlarge(services=1000, requesters=6)
    await asyncio.to_thread(trial.start)
    dice = random.Random(1000)
    async with trial.load():
        for number in range(8):
            killed = await asyncio.to_thread(trial.leader) if number % 4 == 0 else dice.choice(trial.daemons)
            killed.kill()
            await trial.keep_on(dice.uniform(2.0, 6.0))
            await asyncio.to_thread(killed.start)
            await trial.keep_on(1.0)
    await trial.check("one of three daemons is killed, 1,000 services")
    trial.check_reads()


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


@rounds(6, 200)
async def test_answers_to_commit_get_lost(trial: ReplicaTrial, rounds: int):
    """Of each daemon, on the way to the server and on the way back."""
    spare(trial, rounds)
    dice = random.Random(rounds)
    places = itertools.cycle(itertools.product(("before", "after"), range(len(NAMES))))
    async with cutting(trial) as ways:
        async with trial.load():
            for when, number in itertools.islice(places, rounds):
                way = ways[number]
                cuts = way.cuts
                way.cut_commit(when)
                # Every daemon gets a write before long: a client without an answer passes one over for a while only.
                await eventually(lambda way=way, cuts=cuts: way.cuts > cuts, seconds=RECOVERY_SECONDS)
                await trial.keep_on(dice.uniform(0.0, 0.2))
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


@pytest.mark.soak
async def test_the_broker_forgets_everything(trial: ReplicaTrial):
    """It is killed and its files are deleted; once the leader is killed meanwhile."""
    await asyncio.to_thread(trial.start)
    async with trial.load():
        for number in range(5):
            leader = await asyncio.to_thread(trial.leader)
            trial.broker.kill()
            trial.broker.wipe()
            if number == 2:
                leader.kill()
            await trial.keep_on(1)
            await asyncio.to_thread(trial.broker.start)
            if number == 2:
                await asyncio.to_thread(leader.start)
            await asyncio.to_thread(trial.recover)
            await trial.keep_on(1)
    await trial.check("the broker is killed and its files are deleted")


@pytest.fixture
def server(trial: ReplicaTrial) -> Iterator[Postgres]:
    """A server of the trial's own."""
    made = Postgres().start()
    trial.server, trial.url = made, made.create()
    yield made
    made.remove()


@pytest.mark.soak
async def test_the_database_crashes(trial: ReplicaTrial, server: Postgres):
    """It is away for five seconds."""
    await asyncio.to_thread(trial.start)
    async with trial.load():
        for _ in range(3):
            server.stop()
            await trial.keep_on(5)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(trial.recover)
            await trial.keep_on(1)
    await trial.check("the database crashes and is away for 5 s")


@pytest.mark.soak
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
async def test_daemons_are_cut_off_from_the_database(trial: ReplicaTrial, several: bool):
    """One of three, or two of them and then the third one, too, for five seconds."""
    dice = random.Random(several)
    async with cutting(trial) as ways:
        async with trial.load():
            for _ in range(3):
                chosen = dice.sample(ways, 3 if several else 1)
                for way in chosen:
                    await way.shut()
                    await trial.keep_on(1)
                await trial.keep_on(4)
                for way in chosen:
                    way.reopen()
                    await trial.keep_on(0.5)
                await asyncio.to_thread(trial.recover)
        which = "all daemons, one after the other," if several else "one of three daemons"
        await trial.check(f"{which} cannot reach the database for 5 s")


@pytest.fixture
def standby(trial: ReplicaTrial, server: Postgres) -> Iterator[Postgres]:
    """A standby of the server; the daemons know both."""
    made = Postgres(standby_of=server).start()
    trial.url = trial.url.replace(str(server.directory), f"{server.directory},{made.directory}")
    yield made
    made.remove()


@pytest.mark.soak
async def test_failover_to_a_synchronous_standby(trial: ReplicaTrial, server: Postgres, standby: Postgres):
    """The standby that acknowledged every COMMIT takes over when the server dies."""
    await asyncio.to_thread(
        server.execute, "ALTER SYSTEM SET synchronous_standby_names = 'standby'", "SELECT pg_reload_conf()"
    )
    states = "SELECT sync_state FROM pg_stat_replication"
    await asyncio.to_thread(wait_until, lambda: server.execute(states) == [("sync",)], why="it waits for the standby")
    await asyncio.to_thread(trial.start)
    async with trial.load():
        await trial.keep_on(2)
        server.stop()
        await trial.keep_on(1)
        await asyncio.to_thread(standby.execute, "SELECT pg_promote()")
        trial.server = standby
        await trial.keep_on(2)
    await trial.check("failover to a synchronous standby")


@pytest.mark.soak
async def test_failover_to_a_standby_that_is_behind(trial: ReplicaTrial, server: Postgres, standby: Postgres):
    """What it lacks is lost, and that is told: each daemon ends, and its next start raises the epoch and an alert."""
    await asyncio.to_thread(trial.start)
    async with trial.load():
        await trial.keep_on(1)
        await asyncio.to_thread(standby.execute, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        await trial.keep_on(2)
        trial.forgiven = True
        server.stop()
        await asyncio.to_thread(standby.execute, "SELECT pg_promote()")
        trial.server = standby
        for daemon in trial.daemons:
            assert await asyncio.to_thread(daemon.wait_exit) == 1
            assert daemon.logged("database_went_back")
        for daemon in trial.daemons:
            await asyncio.to_thread(daemon.start)
        await trial.keep_on(1)
    found = await trial.check("failover to an asynchronous standby that is 2 s behind", may_lose=True)
    assert found.lost
    alerts = [entry["kind"] for daemon in trial.daemons for entry in daemon.logged("alert")]
    assert "restored" in alerts
    assert trial.daemons[0].config(SERVICES[0])["epoch"] > 1


@pytest.fixture
def pooler(trial: ReplicaTrial) -> Iterator[Path]:
    """A directory with the socket of a pgbouncer that gives each transaction to any connection of its own."""
    program = shutil.which("pgbouncer", path=PATH)
    if program is None:
        pytest.skip("pgbouncer is not installed")
    directory = Path(tempfile.mkdtemp(prefix="pool-", dir="/tmp"))
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={trial.server.directory} user={USER}\n[pgbouncer]\nlisten_addr =\nlisten_port = 5432\n"
        f"unix_socket_dir = {directory}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\n"
        f"logfile = {directory}/log\nmax_client_conn = 100\n"
    )
    user = trial.server.as_user(directory)
    process = subprocess.Popen([program, "-q", str(directory / "pgbouncer.ini")], cwd=directory, **user)
    wait_until((directory / NAME).exists, why="pgbouncer listens")
    yield directory
    process.terminate()
    process.wait()
    shutil.rmtree(directory)


@pytest.mark.soak
async def test_a_pooler_of_transactions(trial: ReplicaTrial, pooler: Path):
    """Between daemons and database; the leader is killed meanwhile."""
    through = trial.url.replace(str(trial.server.directory), str(pooler))
    environ = {name: {"ALICIACFG_DATABASE_URL": through} for name in NAMES}
    await asyncio.to_thread(trial.start, environ)
    async with trial.load():
        leader = await asyncio.to_thread(trial.leader)
        leader.kill()
        await trial.keep_on(5)
        await asyncio.to_thread(leader.start)
        await trial.keep_on(2)
    await trial.check("pgbouncer in transaction mode stands between; the leader is killed")


@pytest.mark.soak
async def test_a_broker_that_does_not_share(trial: ReplicaTrial):
    """Only the leader takes requests over MQTT; it is killed."""
    async with unsharing_broker(trial.broker.port, "refuses") as unsharing:
        trial.daemons_port = unsharing.port
        await asyncio.to_thread(trial.start)
        async with trial.load():
            for _ in range(3):
                leader = await asyncio.to_thread(trial.leader)
                leader.kill()
                await trial.keep_on(6)
                await asyncio.to_thread(leader.start)
        await trial.check("the broker has no shared subscriptions; the leader is killed")
        for daemon in trial.daemons:
            await asyncio.to_thread(daemon.stop)


@pytest.mark.soak
async def test_a_clock_that_is_off(trial: ReplicaTrial, tmp_path: Path):
    """By an hour, on one of them, which leads at times and not at others."""
    (tmp_path / "clock").mkdir()
    clock = JumpingClock(tmp_path / "clock")
    await asyncio.to_thread(trial.start, {"a": clock.environ})
    async with trial.load():
        for shift in (3600, -3600):
            clock.set(shift)
            await trial.keep_on(2)
            leader = await asyncio.to_thread(trial.leader)
            leader.kill()
            await trial.keep_on(5)
            await asyncio.to_thread(leader.start)
    await trial.check("the clock of one daemon is an hour off; the leader is killed")


@pytest.mark.soak
async def test_other_files_on_one_of_them(trial: ReplicaTrial):
    """An edit reaches one daemon only, then another one; whoever leads is killed meanwhile; then all have it.

    Each goes on to compose from what serves, whatever it has itself.
    """
    await asyncio.to_thread(trial.start)
    async with trial.load():
        for number, daemon in enumerate([trial.daemons[2], trial.daemons[0], trial.daemons[1]]):
            file = daemon.environments / "dev.yaml"
            edited = file.with_suffix(".new")
            edited.write_text(file.read_text().replace("requests_per_minute: 6000", "requests_per_minute: 7000"))
            edited.rename(file)
            await trial.keep_on(2)
            if number < 2:
                leader = await asyncio.to_thread(trial.leader)
                leader.kill()
                await trial.keep_on(5)
                await asyncio.to_thread(leader.start)
        await trial.keep_on(2)
    await trial.check("the files of one daemon are others; the leader is killed")
    for daemon in trial.daemons:
        assert daemon.config(SERVICES[0])["config"]["limits"]["requests_per_minute"] == 7000


@pytest.mark.soak
async def test_activations_and_new_keys(trial: ReplicaTrial):
    """Another environment and back, and a rotation of the keys, at one daemon after the other."""
    await asyncio.to_thread(trial.start)
    async with trial.load():
        for number in range(6):
            daemon = trial.daemons[number % len(trial.daemons)]
            for environment in ("staging", "dev"):
                answer = await asyncio.to_thread(daemon.http, "POST", f"/environments/{environment}/activate")
                assert answer.status == 200, answer.body
                await trial.keep_on(0.3)
            rotated = await asyncio.to_thread(aliciacfg, daemon, "keys", "rotate")
            assert rotated.returncode == 0, rotated.stderr
            await trial.keep_on(0.5)
    await trial.check("activations and rotations of the keys")


async def replaced(daemon: Daemon, *before: str) -> None:
    """Stop a daemon in order, unless it has ended, and start another version of it."""
    await asyncio.to_thread(daemon.stop)
    daemon.before = list(before)
    await asyncio.to_thread(daemon.start)


async def rows(trial: ReplicaTrial, query: str) -> list[tuple[Any, ...]]:
    """What the database has."""
    return [tuple(row) for row in await asyncio.to_thread(trial.execute, query)]


@pytest.mark.soak
@pytest.mark.timeout(180)
async def test_an_old_version_beside_a_new_one(trial: ReplicaTrial):
    """The format rises when the last old one is away: it hangs, goes on afterwards, and writes nothing more.

    Before that, a new one can be replaced by an old one.
    """
    await asyncio.to_thread(trial.start)
    old, *others = trial.daemons
    async with trial.load():
        for version in ([*NEWER], [], [*NEWER]):
            await replaced(others[1], *version)
            await trial.keep_on(0.5)
        await replaced(others[0], *NEWER)
        await trial.keep_on(SETTLED_SECONDS + 1)
        listed = (await asyncio.to_thread(old.http, "GET", "/replicas")).json
        assert listed["format"] == 1
        assert {item["name"]: item["format"] for item in listed["replicas"]} == {"a": 1, "b": 2, "c": 2}
        assert "when these run a version that works with it, or have ended: a (" in listed["format_waits"]
        assert old.process is not None
        old.process.send_signal(signal.SIGSTOP)
        rose = functools.partial(wait_until, lambda: trial.execute(FORMAT)[0][0] == 2, why="the format rises")
        await asyncio.to_thread(rose, seconds=30)
        await trial.keep_on(1)
        old.process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(old.wait_exit) == EXIT_CANNOT_START
        assert "format 2, which needs aliciacfg 9.1.0 or later" in old.log.read_text()
        old.spawn()
        assert await asyncio.to_thread(old.wait_exit) == EXIT_CANNOT_START
        await replaced(old, *NEWER)
    await trial.check("three daemons are upgraded one by one; the last old one hangs while the format rises")
    # What was written since then, a new one wrote.
    assert await rows(trial, UNNOTED) == []
