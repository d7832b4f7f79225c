"""Two hundred conditional writers on one service, over both transports at once."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support import Client, Daemon, client

ROUNDS = 5
OVER_MQTT = 160
OVER_HTTP = 40


async def over_mqtt(bus: Client, expected: int, answer_topic: str) -> list[dict[str, Any]]:
    """Requests that are on their way before the first is answered."""
    for number in range(OVER_MQTT):
        body = {"patch": {"limits": {"winner": 10_000 * expected + number}}, "expected_revision": expected}
        await bus.publish(f"alicia/config/patch/tts_service/w{number}", json.dumps(body), ResponseTopic=answer_topic)
    return [(await bus.until(answer_topic, seconds=30)).json for _ in range(OVER_MQTT)]


def over_http(daemon: Daemon, expected: int, number: int) -> dict[str, Any]:
    body = {"limits": {"winner": 10_000 * expected + 1_000 + number}}
    return daemon.http("PATCH", "/config/tts_service", body, {"If-Match": f'"{expected}"'}).json


async def test_one_of_two_hundred_conditional_writers_wins_each_revision(daemon: Daemon):
    """The others are told what there is by then; no revision is lost or doubled, and the history says who won."""
    answer_topic = f"alicia/reply/test/{os.urandom(6).hex()}"
    loop = asyncio.get_running_loop()
    winners: list[dict[str, Any]] = []
    async with client(daemon.broker_port) as bus:
        await bus.subscribe(answer_topic)
        with ThreadPoolExecutor(OVER_HTTP) as threads:
            for expected in range(1, ROUNDS + 1):
                racing = [loop.run_in_executor(threads, over_http, daemon, expected, n) for n in range(OVER_HTTP)]
                answers = [*await over_mqtt(bus, expected, answer_topic), *await asyncio.gather(*racing)]
                assert len(answers) == OVER_MQTT + OVER_HTTP
                won = [answer for answer in answers if answer["status"] == "success"]
                assert len(won) == 1
                winners += won
                lost = [answer for answer in answers if answer["status"] == "error"]
                assert {answer["code"] for answer in lost} == {"conflict"}
                assert {(answer["revision"], answer["checksum"]) for answer in lost} == {
                    (won[0]["revision"], won[0]["checksum"])
                }
    assert [answer["revision"] for answer in winners] == list(range(2, ROUNDS + 2))
    history = daemon.http("GET", "/config/tts_service/history").json["revisions"]
    assert [(item["revision"], item["checksum"]) for item in reversed(history)][1:] == [
        (answer["revision"], answer["checksum"]) for answer in winners
    ]
    assert daemon.config("tts_service")["config"]["limits"]["winner"] == winners[-1]["config"]["limits"]["winner"]
