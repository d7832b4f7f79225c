"""Fair shares: how much of one caller's work is under way at a time."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access.caller import Caller
from aliciacfg.errors import Busy
from aliciacfg.operations.workload import Shares, Workload
from builders import environment_file, valid_config
from inprocess import core, eventually

FLOODER, NEIGHBOUR = Caller("flooder", "mqtt"), Caller(None, "http", address="192.0.2.7")
# A request takes 20 ms in these tests, of which at most 50 ms are under way at a time, and 100 ms wait.
COST = 0.02
SHARES = Shares(running=0.05, waiting=0.1)


class Home:
    """Requests that use the processor, and then wait until they are released."""

    def __init__(self, shares: Shares = SHARES) -> None:
        # What the requests used of the processor.
        self.used = 0.0
        self.workload = Workload(shares, clock=lambda: self.used)
        self.begun: list[str] = []
        self.release = asyncio.Event()

    async def _work(self, name: str, cost: float) -> str:
        self.begun.append(name)
        self.used += cost
        await self.release.wait()
        return name

    def ask(
        self, name: str, caller: Caller = FLOODER, cost: float = COST, *, writes: bool = False
    ) -> asyncio.Task[str]:
        return asyncio.create_task(self.workload.run(caller, "set", lambda: self._work(name, cost), writes=writes))

    async def learn(self, cost: float = COST, caller: Caller = FLOODER) -> None:
        """Let the workload see what a request costs."""
        self.release.set()
        for _ in range(30):
            await self.ask("learn", caller, cost)
        self.release.clear()
        self.begun.clear()


async def settled(home: Home, count: int) -> list[str]:
    """What has begun, after everything that can begin has."""
    await eventually(lambda: len(home.begun) >= count)
    for _ in range(10):
        await asyncio.sleep(0)
    return home.begun


async def test_of_long_requests_a_few_are_under_way_and_the_others_take_turns():
    """First come, first served; each answer lets the next one begin."""
    home = Home(Shares(running=0.05, waiting=1.0))
    await home.learn()
    tasks = [home.ask(str(number)) for number in range(6)]
    assert await settled(home, 2) == ["0", "1"]
    home.release.set()
    assert await asyncio.gather(*tasks) == [str(number) for number in range(6)]
    assert home.begun == [str(number) for number in range(6)]


async def test_the_work_of_one_caller_takes_no_turn_of_another_one():
    """A neighbour's request begins at once, though the flooder's wait."""
    home = Home(Shares(running=0.05, waiting=10.0))
    await home.learn()
    flood = [home.ask(f"flood {number}") for number in range(20)]
    await settled(home, 2)
    neighbour = home.ask("neighbour", NEIGHBOUR)
    assert "neighbour" in await settled(home, 3)
    home.release.set()
    await asyncio.gather(neighbour, *flood)


async def test_too_much_waiting_work_is_refused_as_busy():
    """What is refused was not begun; afterwards there is room again."""
    home = Home()
    await home.learn()
    tasks = [home.ask(str(number)) for number in range(20)]
    await settled(home, 2)
    home.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Busy)]
    assert len(refused) >= 10
    assert len(home.begun) == 20 - len(refused)
    assert await home.ask("later") == "later"


async def test_many_changes_of_a_caller_who_is_not_known_yet_are_done():
    """As after a start: nothing is refused for what was only assumed of it."""
    home = Home(Shares())
    home.release.set()
    changes = [home.ask(str(number), cost=0.002, writes=True) for number in range(900)]
    assert await asyncio.gather(*changes) == [str(number) for number in range(900)]
    assert home.begun == [str(number) for number in range(900)]


async def test_what_takes_longer_than_was_assumed_is_refused_as_soon_as_that_is_known():
    """The last ones; those before them are done in their order, and no more waits than may."""
    home = Home(Shares(running=0.1, waiting=1.0))
    home.release.set()
    results = await asyncio.gather(*(home.ask(str(number), cost=0.1) for number in range(150)), return_exceptions=True)
    done = [result for result in results if not isinstance(result, Busy)]
    assert done == [str(number) for number in range(len(done))]
    assert len(done) < 50


async def test_short_requests_never_wait():
    """Thousands may be under way: they hold up no one."""
    home = Home()
    await home.learn(cost=0.0)
    tasks = [home.ask(str(number), cost=0.0) for number in range(3000)]
    assert len(await settled(home, 3000)) == 3000
    home.release.set()
    await asyncio.gather(*tasks)


async def test_a_request_that_takes_longer_than_the_share_has_its_turn_alone():
    """Each is admitted when nothing else is under way."""
    home = Home(Shares(running=0.01, waiting=1.0))
    await home.learn()
    tasks = [home.ask(str(number)) for number in range(3)]
    assert await settled(home, 1) == ["0"]
    home.release.set()
    assert await asyncio.gather(*tasks) == ["0", "1", "2"]


async def test_a_caller_whose_requests_are_not_known_yet_begins_with_a_few():
    """A flood of the first moment is bounded as well."""
    home = Home(Shares(running=0.1, waiting=100.0))
    tasks = [home.ask(str(number)) for number in range(50)]
    assert len(await settled(home, 5)) == 5
    home.release.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("has_turn", [False, True])
async def test_a_request_that_is_cancelled_while_it_waits_leaves_its_turn(has_turn: bool):
    """Also when it is cancelled at the moment at which it would begin."""
    home = Home(Shares(running=0.01, waiting=1.0))
    await home.learn()
    loop, end = asyncio.get_running_loop(), asyncio.Event()

    async def last() -> None:
        await end.wait()
        if has_turn:
            # Runs after this request gives its turn away, before the next one goes on with it.
            loop.call_soon(waiting.cancel)

    running = asyncio.create_task(home.workload.run(FLOODER, "set", last))
    await asyncio.sleep(0)
    waiting, after = home.ask("cancelled"), home.ask("after")
    await asyncio.sleep(0)
    if not has_turn:
        waiting.cancel()
    end.set()
    await running
    home.release.set()
    assert await after == "after"
    assert home.begun == ["after"]
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_ends_the_work_ends_the_request():
    """Errors and cancellations pass through, and free the place."""
    home = Home(Shares(running=0.01, waiting=1.0))

    async def fail() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            await home.workload.run(FLOODER, "patch", fail)
    task = home.ask("cancelled")
    await settled(home, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    home.release.set()
    assert await home.ask("next") == "next"


async def test_callers_are_forgotten_in_turn():
    """Names that callers invent do not fill the memory, also while a request of the first one hangs."""
    home = Home(Shares(callers=10))
    end = asyncio.Event()
    hanging = asyncio.create_task(home.workload.run(FLOODER, "set", end.wait))
    await asyncio.sleep(0)
    home.release.set()
    for number in range(100):
        await home.ask("one", Caller(f"caller_{number}", "mqtt"), 0.0)
    end.set()
    assert await hanging
    assert len(home.workload._accounts) <= 11


async def test_who_only_claims_a_name_takes_nothing_of_its_share():
    """On a bus without an access list anyone can name anyone, for example the bearer of a token or a local user."""
    home = Home(Shares(running=0.01, waiting=0.0))
    claims = Caller("admin", "mqtt")
    proves = [Caller("admin", transport, proven=True) for transport in ("http", "local", "mqtt")]
    flood = [home.ask("flood", claims) for _ in range(3)]
    others = [home.ask(caller.transport, caller) for caller in proves]
    assert sorted(await settled(home, 4)) == ["flood", "http", "local", "mqtt"]
    home.release.set()
    assert await asyncio.gather(*others) == ["http", "local", "mqtt"]
    assert sum(isinstance(result, Busy) for result in await asyncio.gather(*flood, return_exceptions=True)) == 2


@pytest.mark.parametrize("operation", ["set", "validate", "compare", "explain"])
async def test_operations_count_for_their_callers(tmp_path: Path, operation: str):
    """Whatever the transport, an operation beyond a caller's share is refused as busy, and only that caller's."""
    fields: dict[str, Any] = {"rev1": 1, "rev2": 1} if operation == "compare" else {}
    if operation in {"set", "validate"}:
        fields |= {"config": valid_config(), "allow_breaking": True}
    async with core(tmp_path, {"environments/dev.yaml": environment_file({"bell": {}})}) as made:
        made.parts.service.workload._shares = Shares(running=0.0, waiting=0.0)
        callers = [FLOODER, FLOODER, Caller("neighbour", "mqtt")]
        requests = [made.ask_as(caller, operation, "bell", **fields) for caller in callers]
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [isinstance(result, Busy) for result in results] == [False, True, False], results


async def test_a_short_change_does_not_overtake_the_changes_before_it():
    """Those that came first wait with the forecast of a longer one; the last one has to win. A read may go first."""
    home = Home()
    home.release.set()
    changes = [home.ask(f"change {number}", cost=0.001, writes=True) for number in range(5)]
    await changes[0]
    home.release.clear()
    assert "change 4" not in home.begun
    late = [home.ask("read", cost=0.001), home.ask("change 5", cost=0.001, writes=True)]
    await eventually(lambda: "read" in home.begun)
    home.release.set()
    await asyncio.gather(*changes, *late)
    assert [name for name in home.begun if name != "read"] == [f"change {number}" for number in range(6)]
    assert home.begun.index("read") < home.begun.index("change 5")


async def test_requests_that_arrive_together_begin_over_several_turns_of_the_loop():
    """In each of them as many as have room, in the order in which they came, whoever sent them."""
    home = Home(Shares(loop=0.01))
    cost = 0.004
    await home.learn(cost)
    await home.learn(cost, NEIGHBOUR)
    asked = [home.ask(str(number), (FLOODER, NEIGHBOUR)[number % 2], cost) for number in range(9)]
    seen: list[int] = []
    while len(home.begun) < len(asked):
        await asyncio.sleep(0)
        seen.append(len(home.begun))
    assert home.begun == [str(number) for number in range(9)]
    assert all(later - earlier <= 3 for earlier, later in pairwise([0, *seen]))
    home.release.set()
    await asyncio.gather(*asked)
    assert await home.ask("later") == "later"


async def test_a_request_that_is_cancelled_before_its_turn_of_the_loop_is_not_begun():
    """Those behind it begin; also where all that wait are cancelled."""
    home = Home(Shares(loop=0.001))
    await home.learn(0.004)
    asked = [home.ask(str(number), cost=0.004) for number in range(4)]
    await asyncio.sleep(0)
    for number in (1, 2):
        asked[number].cancel()
    assert await settled(home, 2) == ["0", "3"]
    more = [home.ask(f"more {number}", cost=0.004) for number in range(3)]
    await asyncio.sleep(0)
    for task in more:
        task.cancel()
    home.release.set()
    await asyncio.gather(*asked, *more, return_exceptions=True)
    assert await home.ask("later") == "later"


async def test_a_long_change_that_is_cancelled_before_its_turn_of_the_loop_gives_its_share_back():
    """Otherwise the caller's next ones would wait for ever."""
    home = Home(Shares(running=0.05, waiting=1.0, loop=0.001))
    await home.learn()
    asked = [home.ask(str(number)) for number in range(2)]
    # The tasks begin, let others go first, and the second one waits.
    for _ in range(2):
        await asyncio.sleep(0)
    assert home.workload._pace._waiting
    asked[1].cancel()
    await settled(home, 1)
    home.release.set()
    await asyncio.gather(*asked, return_exceptions=True)
    assert await home.ask("later") == "later"
    assert all(account.idle for account in home.workload._accounts.values())


async def test_a_change_that_waited_for_the_loop_begins_before_one_that_comes_when_it_is_let_go():
    """Both of one caller: the later one arrives in the turn of the event loop that lets the earlier one begin."""
    home = Home(Shares(loop=0.001))
    await home.learn(cost=0.0006)

    def change(name: str) -> asyncio.Task[str]:
        return home.ask(name, cost=0.0006, writes=True)

    loop, changes = asyncio.get_running_loop(), [change("1"), change("2"), change("3")]
    loop.call_soon(lambda: changes.append(change("4")))
    await settled(home, 4)
    assert home.begun == ["1", "2", "3", "4"]
    home.release.set()
    await asyncio.gather(*changes)


async def test_who_asks_again_while_others_are_let_go_has_its_turn():
    """Of three that are let go together, the second asks again before the third is on its way."""
    home = Home()
    await home.learn(cost=0.0008)
    home.release.set()

    async def ask(times: int) -> None:
        for _ in range(times):
            await home.workload.run(FLOODER, "set", lambda: home._work("x", 0.0008))

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        # The first three fill a turn of the loop; the others are let go in the next one.
        for times in (1, 1, 1, 1, 2, 1):
            group.create_task(ask(times))
    assert len(home.begun) == 7
