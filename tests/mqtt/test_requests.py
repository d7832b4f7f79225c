"""Requests and their answers, without a broker."""

import gc
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aliciacfg.errors import Busy
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.messages import Inbound, Reply
from aliciacfg.mqtt.requests import BusRequest, Requests
from builders import environment_file
from cases import case
from inprocess import Core, core

BUSY = Busy("Later.")
OPEN: Mapping[str, object] = {"environments/dev.yaml": environment_file({"bell": {}, "door": {}})}
RULES: Mapping[str, object] = {
    **OPEN,
    "environments/access.yaml": {"services": {"bell": {"read": {"allowed_services": ["door"]}}}},
}


@dataclass
class Bus:
    """Requests to a daemon whose core is real."""

    core: Core
    requests: Requests

    def request(self, topic: str, payload: object = b"", response_topic: str | None = None) -> BusRequest:
        request = self.requests.parse(message(topic, payload, response_topic))
        assert request is not None
        return request

    async def ask(self, topic: str, payload: object = b"", response_topic: str | None = None) -> Reply | None:
        return await self.requests.answer(self.request(topic, payload, response_topic))


def message(topic: str, payload: object = b"", response_topic: str | None = None) -> Inbound:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Inbound(f"alicia/config/{topic}", data, 1, False, response_topic, b"c")


@asynccontextmanager
async def bus(directory: Path, files: Mapping[str, object] = OPEN) -> AsyncGenerator[Bus, None]:
    async with core(directory, files) as made:
        yield Bus(made, Requests(made.parts.service, reply_prefixes=("alicia/other/",), max_config_bytes=1000))


async def test_a_topic_names_target_and_requester(tmp_path: Path):
    """Without a requester, an operation on a service is that service's own; any other is anonymous."""
    async with bus(tmp_path) as made:
        for topic, target, requester in [
            ("get/bell", "bell", "bell"),
            ("get/bell/door", "bell", "door"),
            ("list", "", None),
            ("list/door", "", "door"),
            ("activate/dev", "dev", None),
            ("activate/dev/door", "dev", "door"),
        ]:
            with case(topic, target, requester):
                request = made.request(topic)
                assert (request.target, request.requester, request.problem) == (target, requester, None)


async def test_a_topic_that_names_them_badly_has_a_problem_and_no_requester(tmp_path: Path):
    """It is answered with the problem, under no name."""
    async with bus(tmp_path) as made:
        for topic in ["get", "get/", "get/bell/a b", "get/bell/list", "get/list", "get/a/b/c", "list/a/b"]:
            with case(topic):
                request = made.request(topic)
                assert request.problem is not None
                assert request.requester is None
                reply = await made.requests.answer(request)
                assert reply is not None
                assert json.loads(reply.payload)["code"] == "invalid_request"


async def test_a_topic_is_parsed_once_for_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whether it is answered or refused as busy."""
    parsed: list[str] = []
    parse = topics.parse_request

    def counted(topic: str) -> topics.RequestTopic | None:
        parsed.append(topic)
        return parse(topic)

    monkeypatch.setattr(topics, "parse_request", counted)
    async with bus(tmp_path) as made:
        await made.ask("get/bell/door", {"request_id": "r"})
        assert made.requests.refuse(made.request("get/bell/door"), BUSY) is not None
    assert parsed == ["alicia/config/get/bell/door"] * 2


async def test_our_own_messages_are_no_requests(tmp_path: Path):
    """What the daemon publishes comes back to it."""
    async with bus(tmp_path) as made:
        for topic in ["update/bell", "alert/x", "applied/bell", "environment", "key"]:
            with case(topic):
                assert made.requests.parse(message(topic)) is None


@pytest.mark.parametrize("files", [OPEN, RULES], ids=["open", "rules"])
async def test_a_plain_get_is_answered_at_once(tmp_path: Path, files: Mapping[str, object]):
    """From the cache, with the same bytes as the other way; where it cannot be, it is left to the other way."""
    async with bus(tmp_path, files) as made:
        plain = message("get/bell", response_topic="alicia/reply/bell/1")
        answered = await made.ask("get/bell", response_topic="alicia/reply/bell/1")
        assert made.requests.answer_at_once(plain) == answered
        assert made.requests.answer_at_once(message("get/bell", {}, "alicia/reply/bell/1")) == answered
        for other in (
            message("get/bell", {"request_id": "1"}),
            message("get/nobody"),
            message("get/bell/door"),
            message("list"),
            message("get/bell", response_topic="alicia/devices/lamp"),
            message("get/bell", response_topic="alicia/reply/#"),
        ):
            assert made.requests.answer_at_once(other) is None


async def test_under_rules_an_answer_goes_below_the_requesters_own_name(tmp_path: Path):
    """At once or not; anything else is refused on the default topic, before it is carried out."""
    async with bus(tmp_path, RULES) as made:
        assert made.requests.answer_at_once(message("get/bell", response_topic="alicia/reply/door/1")) is None
        for response_topic in ("alicia/reply/bell/1", "alicia/other/door/1"):
            reply = await made.ask("get/bell/door", {"request_id": "r"}, response_topic)
            assert reply is not None
            assert (reply.topic, reply.success) == ("alicia/reply/get/bell/door", False)
            assert json.loads(reply.payload)["code"] == "forbidden"
        reply = await made.ask("get/bell/door", {"request_id": "r"}, "alicia/reply/door/1")
        assert reply is not None
        assert (reply.topic, reply.success) == ("alicia/reply/door/1", True)


@pytest.mark.parametrize(
    ("topic", "response_topic", "expected"),
    [
        ("get/bell", None, "alicia/reply/get/bell"),
        ("get/bell", "alicia/reply/x", "alicia/reply/x"),
        ("get/bell", "alicia/other/x", "alicia/other/x"),
        ("get/bell", "alicia/devices/lamp", "alicia/reply/get/bell"),
        ("frobnicate", "alicia/reply/x", "alicia/reply/x"),
    ],
)
async def test_a_request_too_many_is_refused_where_its_answer_would_go(
    tmp_path: Path, topic: str, response_topic: str | None, expected: str
):
    """And it is counted."""
    async with bus(tmp_path) as made:
        reply = made.requests.refuse(made.request(topic, {"reply_to": "alicia/reply/unread"}, response_topic), BUSY)
        assert reply is not None
        assert (reply.topic, reply.success, reply.correlation_data) == (expected, False, b"c")
        assert json.loads(reply.payload)["code"] == "busy"
        assert made.core.parts.service.health.metrics.meter(topic.split("/", maxsplit=1)[0], "mqtt").outcomes == {
            "busy": 1
        }


@pytest.mark.parametrize(
    ("files", "response_topic"),
    [(OPEN, None), (RULES, None), (RULES, "alicia/reply/x")],
    ids=["open", "rules", "named"],
)
async def test_other_programs_messages_are_not_answered(
    tmp_path: Path, files: Mapping[str, object], response_topic: str | None
):
    """Neither under load; with rules not even where they name an answer topic, which nothing proves to be theirs."""
    async with bus(tmp_path, files) as made:
        for topic in ("request", "stt_service/updated"):
            request = made.request(topic, {"reply_to": response_topic}, response_topic)
            assert await made.requests.answer(request) is None
            assert made.requests.refuse(request, BUSY) is None


async def test_a_request_that_is_refused_is_forgotten_at_once(tmp_path: Path):
    """Refusals refer to themselves if they are raised as errors are; 32 MB of refused messages stayed for minutes."""
    async with bus(tmp_path) as made:
        refused = [b"x" * 500_000, b"[]", b"{", {"config": 1}]
        requests = [made.request("set/bell", payload) for payload in refused]
        held = [sys.getrefcount(request) for request in requests]
        gc.disable()
        try:
            replies = [await made.requests.answer(request) for request in requests]
            assert [reply is not None and reply.success for reply in replies] == [False] * len(requests)
            assert [sys.getrefcount(request) for request in requests] == held
        finally:
            gc.enable()
