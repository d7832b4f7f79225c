"""Fair shares of the processor: how much of one caller's work is under way at a time.

Everything runs in one event loop, and each request holds it for as long as its steps take. A caller whose requests take
long would hold up all others, and the write lock most of all. So only a tenth of a second of its work is under way at
a time, as far as its earlier requests allow a forecast; the rest waits, and beyond a few seconds is refused. Of all
callers together, some milliseconds of work begin in one turn of the loop, so that reads that arrive are not held up.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from time import thread_time
from typing import Generic, TypeVar

from aliciacfg.access.caller import Account, Caller
from aliciacfg.errors import Busy
from aliciacfg.model.names import HttpOperationName, LocalOperationName, OperationName

Result = TypeVar("Result")
_Name = OperationName | HttpOperationName | LocalOperationName

# What is forecast of an operation that a caller has not asked for before.
_FIRST_FORECAST_SECONDS = 0.02
# What is assumed of it when it is one of many that wait: the first forecast, which bounds what begins before anything
# is known, had 645 of 900 changes refused after a start, of 2 ms each.
_FIRST_AVERAGE_SECONDS = 0.005
# A shorter request never waits: it holds up no one, and a client may share its address with one that floods.
_SHORT_SECONDS = 0.005
# How fast a forecast follows shorter requests, and an average all; a longer one counts for a forecast at once.
_FADING = 0.2
_BUSY = "Requests of this caller that take long wait already; try again when they are answered."
# How many of the oldest accounts are looked at for each request, until enough of them are forgotten.
_LOOKED_AT = 8


@dataclass(frozen=True, slots=True)
class Shares:
    """How much work of one caller there may be, in seconds of the processor.

    Attributes:
        running: Under way at a time; a single request may take longer.
        waiting: Waiting for its turn.
        callers: How many callers are remembered.
        loop: Beginning in one turn of the event loop, of all callers together.
    """

    running: float = 0.1
    waiting: float = 5.0
    callers: int = 1000
    loop: float = 0.001


_Turn = tuple[float, "asyncio.Future[None]"]
_AccountTurn = tuple[_Name, "asyncio.Future[float]"]


@dataclass(slots=True)
class _Account:
    """The requests of one caller; short ones do not count.

    Attributes:
        under_way: How many are under way.
        running: The forecast of what is under way.
        turns: What waits, first come first served: its operation, and the future that gives the turn and names the
            forecast with which it counts.
        waiting: How many of these there are, by operation.
        forecasts: What a request took lately at most, by operation; ``averages`` in the mean.
        changes: How many changes have not had their turn.
    """

    under_way: int = 0
    running: float = 0.0
    turns: "deque[_AccountTurn]" = field(default_factory=deque[_AccountTurn])
    waiting: Counter[_Name] = field(default_factory=Counter[_Name])
    forecasts: dict[_Name, float] = field(default_factory=dict[_Name, float])
    averages: dict[_Name, float] = field(default_factory=dict[_Name, float])
    changes: int = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of the caller is under way or waits."""
        return not self.under_way and not self.turns

    def forecast(self, operation: _Name) -> float:
        """Return what a request is expected to take."""
        return self.forecasts.get(operation, _FIRST_FORECAST_SECONDS)

    def average(self, operation: _Name) -> float:
        """Return what each of many requests is expected to take."""
        return self.averages.get(operation, _FIRST_AVERAGE_SECONDS)

    @property
    def waiting_seconds(self) -> float:
        """What everything that waits is expected to take, as far as is known now."""
        return sum(count * self.average(operation) for operation, count in self.waiting.items())

    def learn(self, operation: _Name, used: float) -> bool:
        """Note what a request took; return whether more is expected of others than before."""
        known, average = self.forecasts.get(operation, 0.0), self.average(operation)
        self.forecasts[operation] = used if used > known else known + (used - known) * _FADING
        self.averages[operation] = average + (used - average) * _FADING
        return used > average

    def begin(self, forecast: float) -> None:
        """Count a request that is under way from now on."""
        self.under_way += 1
        self.running += forecast

    def end(self, forecast: float) -> None:
        """Count a request no longer."""
        self.under_way -= 1
        # Not what rounding leaves of many sums.
        self.running = self.running - forecast if self.under_way else 0.0


class Workload:
    """Carries out requests, each caller within its share."""

    def __init__(self, shares: Shares | None = None, *, clock: Callable[[], float] = thread_time) -> None:
        """Start with no caller.

        Args:
            shares: How much work of one caller there may be.
            clock: Returns the seconds that this thread has used of the processor.
        """
        self._shares = shares or Shares()
        self._clock = clock
        self._pace = _Pace(self._shares.loop)
        # The least recently used one is the first.
        self._accounts: dict[Account, _Account] = {}

    async def run(
        self, caller: Caller, operation: _Name, work: Callable[[], Awaitable[Result]], *, writes: bool = False
    ) -> Result:
        """Do the work of a request when it is the caller's turn.

        Args:
            caller: Whose share it counts for.
            operation: What the forecast is made by.
            work: Makes the awaitable that does it.
            writes: Whether it is a change: those of a caller begin in the order in which they came.

        Raises:
            Busy: Too much work of this caller waits already; the work was not begun.
        """
        account = self._account(caller)
        forecast = account.forecast(operation)
        waits = forecast > _SHORT_SECONDS or (writes and account.changes > 0)
        if waits:
            account.changes += writes
            try:
                forecast = await self._turn(account, operation)
            finally:
                account.changes -= writes
        try:
            if not self._pace.admits(forecast):
                await self._pace.turn(forecast)
            return await self._carry_out(account, operation, work)
        finally:
            if waits:
                self._end(account, forecast)

    async def _carry_out(self, account: _Account, operation: _Name, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the work of a request, and note what it took."""
        metered = _Metered(work(), self._clock)
        try:
            return await metered
        finally:
            if account.learn(operation, metered.seconds) and account.turns:
                self._refuse_excess(account)

    def _account(self, caller: Caller) -> _Account:
        key = caller.account
        account = self._accounts[key] = self._accounts.pop(key, None) or _Account()
        if len(self._accounts) > self._shares.callers:
            self._forget_oldest()
        return account

    def _forget_oldest(self) -> None:
        """Forget the accounts that were not used for longest and are too many, unless they have requests under way."""
        for _ in range(_LOOKED_AT):
            if len(self._accounts) <= self._shares.callers:
                return
            oldest = next(iter(self._accounts))
            account = self._accounts.pop(oldest)
            if not account.idle:
                self._accounts[oldest] = account

    async def _turn(self, account: _Account, operation: _Name) -> float:
        """Wait until there is room for a request; return the forecast with which it counts as under way.

        Raises:
            Busy: Too much waits already.
        """
        forecast = account.forecast(operation)
        if not account.turns and self._has_room(account, forecast):
            account.begin(forecast)
            await self._let_others_go_first(account, forecast)
            return forecast
        if account.waiting_seconds + account.average(operation) > self._shares.waiting:
            raise Busy(_BUSY)
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        account.turns.append((operation, turn))
        account.waiting[operation] += 1
        try:
            return await turn
        except asyncio.CancelledError:
            # A cancelled turn is skipped; one that was given at the same moment is given back.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end(account, turn.result())
            raise

    def _refuse_excess(self, account: _Account) -> None:
        """Refuse the last of those that wait, as far as they take longer than was assumed when they came."""
        while account.turns and account.waiting_seconds > self._shares.waiting:
            operation, turn = account.turns.pop()
            account.waiting[operation] -= 1
            if not turn.done():
                turn.set_exception(Busy(_BUSY))

    async def _let_others_go_first(self, account: _Account, forecast: float) -> None:
        """Wait for a turn of the event loop, in which all else that is ready goes on.

        Many requests that arrive together would otherwise each be carried out at once, before any other caller.
        """
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._end(account, forecast)
            raise

    def _has_room(self, account: _Account, forecast: float) -> bool:
        return not account.under_way or account.running + forecast <= self._shares.running

    def _end(self, account: _Account, forecast: float) -> None:
        """Take a request off the account, and let begin what waits and has room now."""
        account.end(forecast)
        while account.turns and self._has_room(account, forecast := account.forecast(account.turns[0][0])):
            operation, turn = account.turns.popleft()
            account.waiting[operation] -= 1
            if not turn.done():
                account.begin(forecast)
                turn.set_result(forecast)


class _Pace:
    """How much work begins in one turn of the event loop, before what has arrived meanwhile is looked at.

    Requests of 64 writers that arrive together would otherwise all begin in the same turn, and a get that arrives after
    them would wait for them: nine of ten turns took up to 16 ms of the processor, and take 5 with this.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds
        self._begun = False
        # First come, first served, with the forecast of each.
        self._waiting: deque[_Turn] = deque()
        # Released, and not running yet: requests that came later begin after them.
        self._let_go = 0

    def admits(self, forecast: float) -> bool:
        """Return whether a request may begin now; if so, count it."""
        if self._waiting or self._let_go or self._left <= 0:
            return False
        self._count(forecast)
        return True

    async def turn(self, forecast: float) -> None:
        """Wait for a turn of the event loop in which there is room."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((forecast, turn))
        # Those that were let go may be on their way behind the beginning of this turn, and then no other is to come.
        self._begin_another()
        try:
            await turn
        finally:
            if turn.done() and not turn.cancelled():
                self._let_go -= 1

    def _count(self, forecast: float) -> None:
        self._left -= forecast
        self._begin_another()

    def _begin_another(self) -> None:
        """Have another turn begin."""
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin a turn: let those begin that have room in it."""
        self._begun = False
        self._left = self._seconds
        while self._waiting and self._left > 0:
            forecast, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._let_go += 1
                self._count(forecast)


class _Metered(Generic[Result]):
    """An awaitable that measures the steps of another one.

    Attributes:
        seconds: What its steps took of the processor so far; what it waited does not count.
    """

    def __init__(self, work: Awaitable[Result], clock: Callable[[], float]) -> None:
        self._work = work
        self._clock = clock
        self.seconds = 0.0

    def __await__(self) -> Generator[object, None, Result]:
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            begun = self._clock()
            try:
                # PEP 380: what the event loop sends or throws is for the work.
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                self.seconds += self._clock() - begun
            error = None
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - a cancellation as well: the work has to end
                error = thrown
