"""Many writers at once: one wins each revision, the others receive the current one."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from daemons import Daemon
from mqtt_clients import Client, client

WRITERS = 200
ATTEMPTS = 5
HOME_SERVICES = ("ai_service", "voice_router")
SERVICE = "racing_bell"

Try = Callable[[int, dict[str, Any]], Awaitable[dict[str, Any]]]
"""A merge patch on an expected revision; the answer, with ``http`` where it has a status of its own."""


@dataclass(frozen=True)
class Attempt:
    writer: int
    number: int
    expected: int
    answer: dict[str, Any]

    @property
    def won(self) -> bool:
        return self.answer["status"] == "success"


class Answers:
    """Answers that come over one connection, by topic."""

    def __init__(self, mqtt: Client) -> None:
        self._mqtt = mqtt
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def receive(self) -> None:
        """Give out answers; if none comes any more, whoever waits for one fails with the same error."""
        try:
            while True:
                message = await self._mqtt.next(50)
                self._waiting.pop(message.topic).set_result(message.json)
        except Exception as error:
            for future in self._waiting.values():
                future.set_exception(error)
            raise

    async def ask(self, topic: str, answer: str, fields: dict[str, Any]) -> dict[str, Any]:
        future = self._waiting[answer] = asyncio.get_running_loop().create_future()
        if self._mqtt.protocol == 5:
            await self._mqtt.publish(topic, fields, ResponseTopic=answer)
        else:
            await self._mqtt.publish(topic, {**fields, "reply_to": answer})
        return await future


@asynccontextmanager
async def bus_writers(daemon: Daemon, protocol: int) -> AsyncGenerator[Try, None]:
    async with client(daemon.broker_port, protocol=protocol) as mqtt:
        prefix = f"alicia/reply/race/{protocol}"
        await mqtt.subscribe(f"{prefix}/#")
        answers = Answers(mqtt)
        receiving = asyncio.create_task(answers.receive())
        counter = iter(range(10**6))

        async def patch(expected: int, body: dict[str, Any]) -> dict[str, Any]:
            fields = {"patch": body, "expected_revision": expected}
            return await answers.ask(f"alicia/config/patch/{SERVICE}/writer", f"{prefix}/{next(counter)}", fields)

        try:
            yield patch
        finally:
            receiving.cancel()


def http_writers(daemon: Daemon, session: aiohttp.ClientSession, *, header: bool) -> Try:
    async def patch(expected: int, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{daemon.url}/config/{SERVICE}"
        condition = {"If-Match": f'"{expected}"'} if header else {}
        query = {} if header else {"expected_revision": str(expected)}
        async with session.patch(url, json=body, params=query, headers=condition) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            won, lost = (200, 412 if header else 409)
            assert response.status == (won if answer["status"] == "success" else lost)
            return answer

    return patch


async def write(patch: Try, writer: int, together: asyncio.Barrier) -> list[Attempt]:
    """Write on what is believed to be there, at first all at once; a lost race tells what to try next."""
    made: list[Attempt] = []
    expected = 1
    for number in range(ATTEMPTS):
        if not number:
            await together.wait()
        answer = await patch(expected, {"settings": {"by": f"{writer}/{number}"}})
        made.append(Attempt(writer, number, expected, answer))
        assert answer["status"] == "success" or answer["code"] == "conflict", answer
        expected = answer["revision"]
    return made


async def test_two_hundred_conditional_writers_of_one_service_win_each_revision_once(shared: Daemon):
    """HTTP with both kinds of condition, MQTT 5 and 3.1.1 mixed: answers, history and every revision agree."""
    config = {**shared.config("voice_router")["config"], "service_name": SERVICE}
    config["mqtt_config"]["password"] = "p"
    assert shared.http("PUT", f"/config/{SERVICE}", config).json["revision"] == 1
    connector = aiohttp.TCPConnector(limit=0)
    together = asyncio.Barrier(WRITERS)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        bus_writers(shared, 5) as mqtt_5,
        bus_writers(shared, 4) as mqtt_311,
    ):
        ways = [http_writers(shared, session, header=True), http_writers(shared, session, header=False)]
        ways += [mqtt_5, mqtt_311]
        writers = [write(ways[number % 4], number, together) for number in range(WRITERS)]
        attempts = [attempt for made in await asyncio.gather(*writers) for attempt in made]
    assert len(attempts) == WRITERS * ATTEMPTS
    won = {attempt.answer["revision"]: attempt for attempt in attempts if attempt.won}
    lost = [attempt for attempt in attempts if not attempt.won]
    check_winners(won, attempts)
    history = whole_history(shared)
    assert list(history) == list(range(1, len(won) + 2))
    for revision, attempt in won.items():
        assert history[revision]["checksum"] == attempt.answer["checksum"]
        assert attempt.answer["config"]["settings"]["by"] == f"{attempt.writer}/{attempt.number}"
        assert history[revision]["changed"] == ["/settings/by"]
    for attempt in lost:
        # What a loser is told was there: another revision than it expected, with its checksum.
        assert attempt.answer["revision"] > attempt.expected
        assert attempt.answer["checksum"] == history[attempt.answer["revision"]]["checksum"]
    for revision in (2, 3, len(won), len(won) + 1):
        stored = shared.config(SERVICE, f"?revision={revision}")
        assert stored["config"] == won[revision].answer["config"]
    assert shared.config(SERVICE)["revision"] == len(won) + 1


def check_winners(won: dict[int, Attempt], attempts: list[Attempt]) -> None:
    """No revision is lost or doubled, and each was won on the one before by one of those that tried."""
    assert sorted(won) == list(range(2, len(won) + 2))
    assert len(won) == sum(attempt.won for attempt in attempts)
    for revision, attempt in won.items():
        assert attempt.expected == revision - 1
    tries = Counter(attempt.expected for attempt in attempts)
    assert tries[1] == WRITERS, "all of them raced for the first revision"
    assert set(tries) >= set(range(1, len(won) + 1))


def whole_history(daemon: Daemon) -> dict[int, dict[str, Any]]:
    """Every revision by number, oldest first, read in pages."""
    found: dict[int, dict[str, Any]] = {}
    query = "?limit=50"
    while True:
        page = daemon.http("GET", f"/config/{SERVICE}/history{query}").json
        for item in page["revisions"]:
            assert item["revision"] not in found
            found[item["revision"]] = item
        if page["next"] is None:
            return dict(sorted(found.items()))
        query = f"?limit=50&before={page['next']}"


async def test_writers_of_the_same_content_make_one_revision(shared: Daemon):
    """Unconditional and idempotent: one write is the change, the others report that nothing changed."""
    service = "agreeing_bell"
    config = {**shared.config("voice_router")["config"], "service_name": service}
    config["mqtt_config"]["password"] = "p"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def put() -> dict[str, Any]:
            async with session.put(f"{shared.url}/config/{service}", json=config) as response:
                return {"http": response.status, **json.loads(await response.read())}

        answers = await asyncio.gather(*(put() for _ in range(50)))
    assert Counter(answer["http"] for answer in answers) == {201: 1, 200: 49}
    assert {answer["revision"] for answer in answers} == {1}
    assert sum(not answer.get("unchanged", False) for answer in answers) == 1


def test_concurrent_conditional_writers_win_one_revision_each(daemon: Daemon):
    """Of forty writers that expect the same revision one wins, and the others receive the current one."""
    results: list[int] = []
    lock = threading.Lock()

    def write(number: int) -> None:
        answer = daemon.http("PATCH", "/config/ai_service?expected_revision=1", {"limits": {"winner": number}})
        with lock:
            results.append(answer.status)
        if answer.status == 409:
            assert answer.json["revision"] == 2

    threads = [threading.Thread(target=write, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [200] + [409] * 39
    assert daemon.config("ai_service")["revision"] == 2


def test_a_write_that_changes_nothing_in_the_middle_of_others_does_not_turn_back_time(daemon: Daemon):
    """A, A again and B at the same time on one service: revisions go on, and nothing is refused."""
    for number in range(1, 9):
        answers: list[int] = []

        def write(value: int, seen: list[int] = answers) -> None:
            seen.append(daemon.http("PATCH", "/config/voice_router", {"limits": {"n": value}}).status)

        threads = [threading.Thread(target=write, args=(value,)) for value in (number, number, number + 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200, 200, 200]
        listed = daemon.http("GET", "/configs?prefix=voice_router").json["configs"][0]
        assert listed["revision"] == daemon.config("voice_router")["revision"]
    assert daemon.http("GET", "/health").json["status"] == "healthy"
