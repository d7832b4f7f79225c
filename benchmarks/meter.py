"""What a load generator measures: latencies, the rate, and how busy it was itself."""

import asyncio
import math
import time

DRAIN_SECONDS = 5.0
clock = time.perf_counter


class UnexpectedAnswerError(Exception):
    """The other side did not answer as it should."""


class Meter:
    """Latencies of what is answered between the end of the warm-up and the end of the run."""

    def __init__(self, warm_seconds: float, seconds: float) -> None:
        self.running = True
        self.outstanding = 0
        self._latencies: list[float] = []
        # Of the warm-up too: the processor time of the other side is measured from outside, over all of them.
        self._warm_answers = 0
        self._warm_seconds = warm_seconds
        self._seconds = seconds
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = 0.0
        self._cpu = 0.0
        self._result: dict[str, float] = {}

    def start(self) -> None:
        """Begin the warm-up."""
        loop = asyncio.get_running_loop()
        loop.call_later(self._warm_seconds, self._begin)
        loop.call_later(self._warm_seconds + self._seconds, self._end)

    def answered(self, seconds: float) -> None:
        """Count an answer that took so long."""
        self._latencies.append(seconds)

    def failed(self, reason: str) -> None:
        """End the run with an error."""
        if not self._done.done():
            self._done.set_exception(UnexpectedAnswerError(reason))

    def settled(self) -> None:
        """Say that an answer came after the end, when no more requests are sent."""
        if self.outstanding <= 0 and not self._done.done():
            self._done.set_result(None)

    async def result(self) -> dict[str, float]:
        """Wait for the end of the run, and for the answers that were still under way then."""
        async with asyncio.timeout(self._warm_seconds + self._seconds + DRAIN_SECONDS):
            await self._done
        return {**self._result, "total": self._warm_answers + len(self._latencies)}

    def _begin(self) -> None:
        self._warm_answers = len(self._latencies)
        self._latencies.clear()
        self._begun, self._cpu = clock(), time.process_time()

    def _end(self) -> None:
        elapsed, cpu = clock() - self._begun, time.process_time() - self._cpu
        answered = len(self._latencies)
        self._result = {
            "per_second": answered / elapsed,
            **percentiles(self._latencies),
            "answered": answered,
            "generator_busy": cpu / elapsed,
        }
        self.running = False
        self.settled()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The median and the 99th of a hundred, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {"p50_ms": math.nan, "p99_ms": math.nan}
    return {f"p{share}_ms": ordered[len(ordered) * share // 100] * 1000 for share in (50, 99)}
