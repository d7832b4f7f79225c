"""When a supervisor restarts its command, what it reports, and how it ends. Commands are fakes here."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from aliciacfg.documents import Json
from aliciacfg.execution.commands import CannotStart
from aliciacfg.execution.environment import Environment
from aliciacfg.execution.preparation import Choices, Unusable
from aliciacfg.execution.supervisor import Configuration, Supervisor, Task
from aliciacfg.execution.timing import Timing
from inprocess import eventually

QUICK = Timing(debounce_seconds=0, settle_seconds=0, limit_seconds=0)
# Nothing settles before the test is over.
UNSETTLED = Timing(debounce_seconds=0, settle_seconds=3600, limit_seconds=0)


class FakeChild:
    def __init__(self) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.sent: list[int] = []

    def send(self, number: int) -> None:
        self.sent.append(number)

    def send_all(self, number: int) -> None:
        self.sent.append(-number)


@dataclass
class FakeProcesses:
    """Notes each start as the value of ``V``, and each stop as the signal."""

    happened: list[str] = field(default_factory=list[str])
    children: list[FakeChild] = field(default_factory=list[FakeChild])
    fails: OSError | None = None

    def start(self, command: Sequence[str], environment: Environment) -> FakeChild:
        if self.fails is not None:
            raise CannotStart(command[0], self.fails)
        self.happened.append(environment[b"V"].decode())
        self.children.append(FakeChild())
        return self.children[-1]

    async def stop(self, child: FakeChild, number: int, seconds: float) -> None:
        assert seconds == 10
        self.happened.append(signal.Signals(number).name)
        if not child.exited.done():
            child.exited.set_result(128 + number)


class FakeSource:
    def __init__(self, first: Configuration | Exception) -> None:
        self.first = first
        self.coming: asyncio.Queue[Configuration | None] = asyncio.Queue()
        self.reports: list[tuple[str, str, str | None]] = []

    async def current(self) -> Configuration:
        if isinstance(self.first, Exception):
            raise self.first
        return self.first

    async def changes(self) -> AsyncIterator[Configuration | None]:
        while True:
            yield await self.coming.get()

    async def report(self, configuration: Configuration, status: str, error: str | None = None) -> None:
        self.reports.append((configuration.label, status, error))


def configuration(number: int, value: Json) -> Configuration:
    return Configuration(label=f"revision {number}", config={"v": value, "other": number}, name_of={"/v": "V"}.get)


@dataclass
class Running:
    supervisor: Supervisor[FakeChild]
    source: FakeSource
    processes: FakeProcesses
    said: list[str]
    ended: asyncio.Task[int]
    # How long it waited for, and what ends such a wait.
    waits: list[float]
    awake: asyncio.Event

    async def change(self, number: int, value: Json) -> None:
        self.source.coming.put_nowait(configuration(number, value))
        await asyncio.sleep(0)

    @property
    def child(self) -> FakeChild:
        return self.processes.children[-1]

    async def until_started(self, *values: str) -> None:
        """Wait until these were started, one after the other."""
        await eventually(
            lambda: [entry for entry in self.processes.happened if not entry.startswith("SIG")] == [*values]
        )

    async def until_reported(self, *reports: tuple[int, str]) -> None:
        await eventually(lambda: len(self.source.reports) >= len(reports))
        assert [(label, status) for label, status, _ in self.source.reports] == [
            (f"revision {number}", status) for number, status in reports
        ]


@contextlib.asynccontextmanager
async def running(timing: Timing = QUICK, *, restarts: bool = False) -> AsyncGenerator[Running, None]:
    """A supervisor whose command was started with ``a``, revision 1."""
    source, processes, said = FakeSource(configuration(1, "a")), FakeProcesses(), list[str]()
    task = Task(command=["true"], inherited={}, timing=timing, restarts=restarts)
    waits, awake = list[float](), asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if seconds:
            await awake.wait()

    supervisor = Supervisor(task, source, processes, said.append, sleep=sleep)
    ended = asyncio.create_task(supervisor.run())
    made = Running(supervisor, source, processes, said, ended, waits, awake)
    await made.until_started("a")
    yield made
    ended.cancel()
    await asyncio.gather(ended, return_exceptions=True)


async def test_a_change_of_a_variable_restarts_the_command_once():
    """The old one is stopped before; both revisions are reported as applied."""
    async with running() as made:
        await made.until_reported((1, "applied"))
        await made.change(2, "b")
        await made.until_reported((1, "applied"), (2, "applied"))
        assert made.processes.happened == ["a", "SIGTERM", "b"]
        assert made.said == ["revision 2 changes V: restarting the command"]


async def test_a_change_that_changes_no_variable_restarts_nothing():
    """It is applied all the same."""
    async with running() as made:
        await made.until_reported((1, "applied"))
        await made.change(2, "a")
        await made.until_reported((1, "applied"), (2, "applied"))
        assert made.processes.happened == ["a"]


async def test_changes_in_quick_succession_are_one_restart():
    """With the last of them, and only when they have come to rest."""
    async with running(Timing(debounce_seconds=0.5, settle_seconds=0, limit_seconds=0)) as made:
        for number in range(2, 9):
            await made.change(number, f"v{number}")
        await made.until_started("a", "v8")
        assert made.processes.happened == ["a", "SIGTERM", "v8"]


async def test_changes_that_never_rest_do_not_put_a_restart_off_for_ever():
    """After a while the latest one is taken."""
    timing = Timing(debounce_seconds=3600, most_debounced_seconds=0.05, settle_seconds=0, limit_seconds=0)
    async with running(timing) as made:
        await made.change(2, "b")
        await made.until_started("a", "b")


async def test_restarts_wait_for_the_limit_and_then_take_the_latest():
    """A second change within the limit is said to wait."""
    async with running(Timing(debounce_seconds=0, settle_seconds=0, limit_seconds=3600)) as made:
        await made.change(2, "b")
        await made.until_started("a", "b")
        await made.change(3, "c")
        await eventually(lambda: [line for line in made.said if "it restarted only a moment ago" in line])
        assert 3000 < made.waits[-1] <= 3600
        await made.change(4, "d")
        assert made.processes.happened == ["a", "SIGTERM", "b"]
        made.awake.set()
        await made.until_started("a", "b", "d")


async def test_old_values_that_come_back_in_time_restart_nothing():
    """While a restart waits for its part of the spread."""
    async with running(Timing(debounce_seconds=0, settle_seconds=0, limit_seconds=0, spread_seconds=3600)) as made:
        await made.until_reported((1, "applied"))
        await made.change(2, "b")
        await eventually(lambda: made.waits)
        assert 0 < made.waits[0] <= 3600
        await made.change(3, "a")
        made.awake.set()
        await made.until_reported((1, "applied"), (2, "restart_pending"), (3, "applied"))
        assert made.processes.happened == ["a"]


async def test_a_configuration_that_cannot_be_used_keeps_the_command_running():
    """It is reported as rejected, with the reason and without the value."""
    async with running() as made:
        await made.until_reported((1, "applied"))
        for number, value in ((2, "hush\0"), (3, "***"), (4, "hush" * 100_000)):
            await made.change(number, value)
            await eventually(lambda number=number: len(made.source.reports) == number)
            label, status, error = made.source.reports[-1]
            assert (label, status) == (f"revision {number}", "rejected")
            assert error is not None
            assert "V" in error
        assert made.processes.happened == ["a"]
        assert "hush" not in repr([made.said, made.source.reports])
        await made.change(5, "b")
        await made.until_started("a", "b")


async def test_a_deleted_configuration_keeps_the_command_running():
    """And is said; a later one counts again."""
    async with running() as made:
        made.source.coming.put_nowait(None)
        await eventually(lambda: "the configuration was deleted; the command keeps what it has" in made.said)
        assert made.processes.happened == ["a"]
        await made.change(2, "b")
        await made.until_started("a", "b")


async def test_a_command_that_ends_by_itself_ends_the_supervisor():
    """With its exit code; one that fails at once rejects its configuration, unless somebody ended it."""
    for code, status in ((0, "applied"), (3, "rejected"), (137, "rejected"), (130, None), (143, None)):
        async with running(UNSETTLED) as made:
            made.child.exited.set_result(code)
            assert await made.ended == code
            assert [report[1] for report in made.source.reports] == ([] if status is None else [status])


async def test_new_values_that_make_it_fail_at_once_are_rejected():
    """The supervisor ends with the command's code, as the command would without it."""
    async with running(UNSETTLED) as made:
        await made.change(2, "b")
        await made.until_started("a", "b")
        made.child.exited.set_result(9)
        assert await made.ended == 9
        await made.until_reported((2, "rejected"))
        assert made.source.reports[0][2] is not None
        assert "ended with 9 after" in made.source.reports[0][2]


async def test_a_command_that_fails_later_rejects_nothing():
    """What was applied stays applied."""
    async with running() as made:
        await made.until_reported((1, "applied"))
        made.child.exited.set_result(1)
        assert await made.ended == 1
        assert len(made.source.reports) == 1


async def test_a_command_that_fails_can_be_restarted():
    """With the latest configuration; one that ends in order is not restarted."""
    async with running(restarts=True) as made:
        made.child.exited.set_result(1)
        await made.until_started("a", "a")
        await made.change(2, "b")
        await made.until_started("a", "a", "b")
        made.child.exited.set_result(0)
        assert await made.ended == 0


async def test_a_command_that_fails_again_and_again_never_counts_as_applied():
    """What it left running is ended before it starts anew."""
    async with running(UNSETTLED, restarts=True) as made:
        await made.change(2, "b")
        await made.until_started("a", "b")
        made.child.exited.set_result(1)
        await made.until_started("a", "b", "b")
        await made.until_reported((2, "rejected"))
        assert made.processes.happened == ["a", "SIGTERM", "b", "SIGTERM", "b"]


async def test_a_change_that_changes_no_variable_is_applied_only_if_the_command_stays_up():
    """It comes before the command has stayed up for long enough."""
    async with running(UNSETTLED) as made:
        await made.change(2, "a")
        await eventually(
            lambda: made.supervisor._run is not None and made.supervisor._run.configuration.label[-1] == "2"
        )
        made.child.exited.set_result(1)
        assert await made.ended == 1
        await made.until_reported((2, "rejected"))


async def test_an_interrupt_during_a_restart_is_the_end():
    """The old command ends anyway, and the new one would not know of it."""
    async with running() as made:
        go, stop = asyncio.Event(), made.processes.stop

        async def stop_later(child: FakeChild, number: int, seconds: float) -> None:
            await go.wait()
            await stop(child, number, seconds)

        made.processes.stop = stop_later
        await made.change(2, "b")
        await eventually(lambda: "revision 2 changes V: restarting the command" in made.said)
        made.supervisor.receive(signal.SIGINT)
        go.set()
        assert await made.ended == 128 + signal.SIGINT
        assert made.processes.happened == ["a", "SIGTERM"]


async def test_sigterm_stops_the_command_and_is_its_end():
    """The exit code is the command's."""
    async with running(UNSETTLED) as made:
        made.supervisor.receive(signal.SIGTERM)
        assert await made.ended == 128 + signal.SIGTERM
        assert made.processes.happened == ["a", "SIGTERM"]
        assert made.source.reports == []


async def test_other_signals_are_handed_on():
    """Interrupt and quit to the whole group, as a terminal does; the rest to the command; none of them ends it."""
    async with running() as made:
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            made.supervisor.receive(number)
        expected = [-signal.SIGINT, -signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH]
        assert made.child.sent == expected
        assert not made.ended.done()


async def test_a_signal_before_the_first_configuration_ends_it():
    """While the broker is away, for example."""

    class Waiting(FakeSource):
        async def current(self) -> Configuration:
            await asyncio.Event().wait()
            raise AssertionError

    source = Waiting(configuration(1, "a"))
    supervisor = Supervisor(Task(command=["true"], inherited={}, timing=QUICK), source, FakeProcesses(), print)
    ended = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0)
    supervisor.receive(signal.SIGINT)
    assert await ended == 128 + signal.SIGINT


async def test_a_fault_of_the_source_leaves_the_command_running():
    """It is said without the text of the error, which may hold values; the end of the supervisor stops the command."""

    class Broken(FakeSource):
        async def changes(self) -> AsyncIterator[Configuration | None]:
            yield configuration(2, "a")
            raise ValueError("hush")

    source, processes, said = Broken(configuration(1, "a")), FakeProcesses(), list[str]()
    task = Task(command=["true"], inherited={}, timing=QUICK)
    ended = asyncio.create_task(Supervisor(task, source, processes, said.append).run())
    await eventually(lambda: said)
    assert said == ["changes are no longer followed, because of a fault of this program: ValueError"]
    assert processes.happened == ["a"]
    ended.cancel()
    await asyncio.gather(ended, return_exceptions=True)
    assert processes.happened == ["a", "SIGTERM"]


async def test_what_cannot_start_is_reported_and_raised():
    """The first configuration without its secret, and a program that is gone."""
    source = FakeSource(configuration(1, "***"))
    task = Task(command=["true"], inherited={}, choices=Choices(), timing=QUICK)
    with pytest.raises(Unusable, match="V"):
        await Supervisor(task, source, FakeProcesses(), print).run()
    assert [status for _, status, _ in source.reports] == ["rejected"]
    source = FakeSource(configuration(1, "a"))
    processes = FakeProcesses(fails=FileNotFoundError(2, "No such file or directory"))
    with pytest.raises(CannotStart):
        await Supervisor(task, source, processes, print).run()
    assert [status for _, status, _ in source.reports] == ["rejected"]
