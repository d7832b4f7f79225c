"""More gets a second than a daemon may be able to answer, and whether it counts as ready meanwhile."""

import argparse
import asyncio
import statistics
from collections.abc import Callable
from itertools import count

import wire
from clients import HttpClient, MqttClient, http_request
from meter import DRAIN_SECONDS, UnexpectedAnswerError, clock, percentiles

_READY_PATH = "/ready"
_READY_SECONDS = 0.1
# As long as those wait who probe daemons.
_READY_MOST_SECONDS = 1.0
# Requests that are sent at once: the generator shares the processors with what it measures.
_BATCH_SECONDS = 0.002


class _Flood:
    """Gets over MQTT at a fixed rate, whatever the answers do."""

    def __init__(self, options: argparse.Namespace, reply_topic: str, lost: Callable[[str], None]) -> None:
        self._rate = options.rate
        self._seconds = options.seconds
        self._sent = 0
        self._busy = 0
        self._begun = self._end = 0.0
        self._request = wire.Request(options.topic, reply_topic, 0)
        self._numbers = count()
        self._waiting: dict[int, float] = {}
        self._latencies: list[float] = []
        self.done = asyncio.Event()
        self.client = MqttClient(reply_topic, on_ready=self._start, on_message=self._answered, on_lost=lost)

    def figures(self) -> dict[str, float]:
        answered = len(self._latencies)
        return {
            "share": answered / self._sent,
            "busy_share": self._busy / self._sent,
            "per_second": self._sent / self._seconds,
            **percentiles(self._latencies),
        }

    def _start(self, _client: MqttClient) -> None:
        self._begun = clock()
        self._end = self._begun + self._seconds
        self._send()

    def _send(self) -> None:
        now = clock()
        due = int((min(now, self._end) - self._begun) * self._rate) - self._sent
        for _ in range(due):
            number = next(self._numbers)
            self._waiting[number] = now
            self.client.output.append(self._request.encode(number))
        self._sent += due
        self.client.flush()
        if now < self._end:
            asyncio.get_running_loop().call_later(_BATCH_SECONDS, self._send)
        elif not self._waiting:
            self.done.set()

    def _answered(self, correlation: bytes, payload: bytes) -> None:
        begun = self._waiting.pop(int.from_bytes(correlation, "big"), None)
        if begun is None:
            return
        self._latencies.append(clock() - begun)
        self._busy += b'"busy"' in payload
        if not self._waiting and clock() >= self._end:
            self.done.set()


async def measure(options: argparse.Namespace, reply_topic: str) -> dict[str, float]:
    """Return the share of gets that were answered, ``busy`` included, and of ``/ready`` with 200."""
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()

    def lost(reason: str) -> None:
        if not failed.done():
            failed.set_exception(UnexpectedAnswerError(reason))

    flood, probe = _Flood(options, reply_topic, lost), _Probe(options.http_port)
    probing = asyncio.create_task(probe.run())
    await loop.create_connection(lambda: flood.client, "127.0.0.1", options.port)
    done = asyncio.create_task(flood.done.wait())
    # What has not come then does not come.
    await asyncio.wait({done, failed}, timeout=options.seconds + DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    done.cancel()
    probing.cancel()
    if failed.done():
        failed.result()
    return {**flood.figures(), "ready_share": statistics.fmean(probe.ready)}


class _Probe:
    """Asks for readiness ten times a second, each time on a connection of its own.

    Attributes:
        ready: Whether each answer was 200, and came in time.
    """

    def __init__(self, port: int) -> None:
        self.ready: list[bool] = []
        self._port = port
        self._request = http_request("GET", _READY_PATH, port)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_READY_MOST_SECONDS):
                    self.ready.append(await self._ask())
            except (TimeoutError, OSError):
                self.ready.append(False)
            await asyncio.sleep(_READY_SECONDS)

    async def _ask(self) -> bool:
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(*, ready: bool) -> None:
            if not answered.done():
                answered.set_result(ready)

        client = HttpClient(lambda _client, _body: settle(ready=True), lambda _reason: settle(ready=False))
        await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", self._port)
        try:
            client.send(self._request)
            return await answered
        finally:
            client.transport.close()
