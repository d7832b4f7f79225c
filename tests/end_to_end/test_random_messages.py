"""No message on the bus, whatever its topic, payload and properties, harms the daemon or goes unanswered."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aliciacfg.operations.table import BY_NAME
from daemons import Daemon
from json_values import VALUES, nested
from mqtt_clients import Client, client

HOME_SERVICES = ("config_service", "stt_service", "voice_router")
ANSWERS = "alicia/reply/random"
MESSAGES = 50
HOME_ASSISTANT = {"ALICIACFG_HOME_ASSISTANT": "on"}

NAMES = st.sampled_from(
    ["voice_router", "stt_service", "nobody", "get", "config_service", "prod", "a b", "é", "-x", ""]
)
OPERATIONS = st.sampled_from([*BY_NAME, "frobnicate", "token_create", "keys_rotate"])
OTHER_TOPICS = st.sampled_from(
    [
        "alicia/config/update/voice_router",
        "alicia/config/update/nobody",
        "alicia/config/update/voice_router/more",
        "alicia/config/environment",
        "alicia/config/key",
        "alicia/config/applied/voice_router",
        "alicia/config/applied/nobody",
        "alicia/config/alert/drift",
        "alicia/config/global/scene",
        "alicia/config/",
        "alicia/system/health/check",
        "alicia/system/discovery/register",
        "alicia/system/discovery/unregister",
        "alicia/devices/discovery/config_service",
        "alicia/devices/registered",
        "alicia/devices/deregistered",
        "alicia/reply/anything",
        "alicia/ha/set/voice_router/settings--log_level",
        "alicia/ha/set/voice_router/features--metrics",
        "alicia/ha/set/aliciacfg-_home/home-_activate",
        "alicia/ha/set/x/y/z",
        "alicia/ha/state/voice_router",
        "alicia/ha/availability",
        "homeassistant/device/aliciacfg/voice_router/config",
        "homeassistant/device/aliciacfg/foreign/config",
        "homeassistant/status",
    ]
)

FIELDS = st.sampled_from(
    [
        "config", "patch", "pointer", "revision", "environment", "expected_revision", "dry_run", "comment",
        "request_id", "allow_breaking", "updates", "atomic", "env1", "rev1", "limit", "before", "after", "prefix",
        "include", "migrate", "public_key", "reply_to", "service", "if_checksum", "wait_seconds", "format",
        "message_id", "payload",
    ]
)  # fmt: skip
LIKELY = st.sampled_from(
    [
        "dev",
        "prod",
        "voice_router",
        "/settings",
        "",
        "***",
        "json",
        "config",
        "alicia/reply/x",
        0,
        1,
        -1,
        2**63,
        True,
        {},
    ]
)
REQUESTS = st.dictionaries(FIELDS, LIKELY | VALUES, max_size=5)
ODD_TEXTS = st.sampled_from(
    [
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'\xef\xbb\xbf{"pointer": ""}',
        b'{"request_id": "\\ud800"}',
        b'{"request_id": "\xff"}',
        b'{"patch": {"settings": {"x": ' + b"9" * 5000 + b"}}}",
        b'{"environment": "dev", "environment": "prod"}',
        b"[" * 5000,
        b'{"a":' * 5000,
        json.dumps({"patch": nested(40, 1)}).encode(),
        b'{"message_id": "1", "payload": {"payload": {"payload": {}}}}',
        b'{"message_id": null, "payload": []}',
        b"null",
        b'"text"',
        b"\x00",
    ]
)


def enveloped(request: Any, levels: int) -> Any:
    for _ in range(levels):
        request = {"message_id": "m", "payload": request}
    return request


PAYLOADS = (
    st.builds(enveloped, REQUESTS, st.integers(0, 3)).map(lambda value: json.dumps(value).encode())
    | VALUES.map(lambda value: json.dumps(value).encode())
    | ODD_TEXTS
    | st.binary(max_size=40)
)


@dataclass(frozen=True)
class Sent:
    """A message to publish; ``answer`` names where its answer goes, as MQTT properties or not at all."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[str, Any] = field(default_factory=dict)
    is_request: bool = False


@st.composite
def messages(draw: st.DrawFn) -> Sent:
    is_request = draw(st.integers(0, 3)) > 0
    if is_request:
        levels = ["alicia/config", draw(OPERATIONS), *draw(st.lists(NAMES, max_size=3))]
        topic = "/".join(levels)
    else:
        topic = draw(OTHER_TOPICS)
    properties: dict[str, Any] = {}
    if draw(st.booleans()):
        properties["CorrelationData"] = draw(st.binary(max_size=8))
    if draw(st.integers(0, 9)) == 0:
        properties["ResponseTopic"] = draw(st.sampled_from(["a/#", "$SYS/x", "", "x" * 2000, "alicia/reply/\ufeff"]))
    if draw(st.integers(0, 4)) == 0:
        properties["ContentType"] = draw(st.text(max_size=5).filter(str.isprintable))
    return Sent(topic, draw(PAYLOADS), draw(st.integers(0, 1)), draw(st.integers(0, 9)) == 0, properties, is_request)


def opened(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer out of its envelopes."""
    while "status" not in answer:
        answer = answer["payload"]
    return answer


async def publish(mqtt: Client, batch: list[Sent]) -> dict[str, Sent]:
    """Publish a batch; return the messages to which exactly one answer has to come, by their answer topic."""
    expected: dict[str, Sent] = {}
    for number, sent in enumerate(batch):
        properties = dict(sent.properties)
        if "ResponseTopic" not in properties:
            properties["ResponseTopic"] = f"{ANSWERS}/{number}"
            if sent.is_request and not sent.retain:
                expected[properties["ResponseTopic"]] = sent
        await mqtt.publish(sent.topic, sent.payload, qos=sent.qos, retain=sent.retain, **properties)
    return expected


async def check(daemon: Daemon, batch: list[Sent]) -> None:
    """Publish a batch, and compare what comes back with what has to."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe(f"{ANSWERS}/#")
        expected = await publish(mqtt, batch)
        counts: Counter[str] = Counter()
        while missing := expected.keys() - counts.keys():
            try:
                answer = await mqtt.next()
            except TimeoutError:
                raise AssertionError(f"unanswered: {[expected[topic] for topic in missing]}") from None
            counts[answer.topic] += 1
            content = opened(answer.json)
            assert dict(answer.properties["UserProperty"])["status"] == ("error" if "code" in content else "success")
            assert content.get("code") != "internal", (content, expected.get(answer.topic))
        # The answer to this request comes after every other answer that is on its way at QoS 1.
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
        assert {topic: count for topic, count in counts.items() if count != 1} == {}
    assert not daemon.logged("message_failed")
    assert len(daemon.logged("broker_connected")) == len(daemon.logged("home_assistant_connected")) == 1


def check_all(daemon: Daemon, *, batches: int) -> None:
    # Without shrinking: what an earlier batch left, such as a retained message, may matter.
    @settings(
        max_examples=batches,
        deadline=None,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        # A batch is large for Hypothesis, which now and then drops most of those that it begins to draw.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    @given(st.lists(messages(), min_size=MESSAGES, max_size=MESSAGES))
    def check_batch(batch: list[Sent]) -> None:
        asyncio.run(check(daemon, batch))

    check_batch()
    assert daemon.http("GET", "/ready").status == 200


@pytest.mark.sqlite("shared subscriptions are one for each operation: other topics are not heard")
@pytest.mark.timeout(120)
def test_random_messages(make_daemon: Callable[..., Daemon]):
    """A hundred messages on every topic: each request gets one answer, none is an internal error, nothing is cut."""
    check_all(make_daemon(asyncio_debug=False, environ=dict(HOME_ASSISTANT)).start(), batches=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_random_messages_for_long(make_daemon: Callable[..., Daemon]):
    """The same with a hundred thousand messages, in parts: hypothesis remembers all that it made in one."""
    daemon = make_daemon(asyncio_debug=False, environ=dict(HOME_ASSISTANT)).start()
    for _ in range(20):
        check_all(daemon, batches=100)
