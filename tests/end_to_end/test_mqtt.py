"""Requests over MQTT, with a real Mosquitto between the test and a real daemon."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from brokers import Broker
from callers import RULES
from daemons import Daemon
from machine import free_port
from mqtt_clients import client
from repository import SERVICES

HOME_SERVICES = ("config_service", "ha_bridge", "multi_language", "tts_service", "voice_router")
BASE_CONTRACT = {"service_name", "version", "environment", "mqtt_config", "api_config", "features", "limits"}


def envelope(payload: dict[str, Any], message_id: str = "m-1") -> dict[str, Any]:
    return {
        "message_id": message_id,
        "timestamp": 1.0,
        "source": "event_scheduler",
        "destination": "broadcast",
        "message_type": "event",
        "priority": "normal",
        "ttl": 300,
        "payload": payload,
        "routing": {"hops": 0, "max_hops": 10},
    }


async def test_every_service_gets_its_configuration_over_mqtt_5_3_1_1_and_http(shared: Daemon):
    """Each of the 22 services gets the same whole document over the three ways in."""
    assert len(SERVICES) == 22
    async with client(shared.broker_port) as five, client(shared.broker_port, protocol=3) as three:
        await three.subscribe("alicia/reply/get/+")
        for service in SERVICES:
            over_five = (await five.ask(f"alicia/config/get/{service}")).json
            await three.publish(f"alicia/config/get/{service}")
            over_three = (await three.until(f"alicia/reply/get/{service}")).json
            over_http = shared.config(service)
            assert over_five == over_three == over_http
            assert over_five["service"] == over_five["config"]["service_name"] == service
            assert set(over_five["config"]) >= BASE_CONTRACT | {"settings"}


@pytest.mark.parametrize("qos", [0, 1])
async def test_an_answer_has_the_requests_qos_and_the_promised_properties(shared: Daemon, qos: int):
    """Correlation data, content type and status come with the answer, which is never retained."""
    async with client(shared.broker_port) as mqtt:
        answer = await mqtt.ask("alicia/config/get/voice_router", qos=qos)
        assert answer.qos == qos
        assert not answer.retained
        assert answer.properties["CorrelationData"] == b"\x00\x01"
        assert answer.properties["ContentType"] == "application/json"
        assert answer.properties["UserProperty"] == [("status", "success")]
        refused = await mqtt.ask("alicia/config/get/nobody", qos=qos)
        assert refused.properties["UserProperty"] == [("status", "error")]


async def test_the_short_and_the_long_path_of_a_get_say_the_same(shared: Daemon):
    """What is answered from cached bytes equals what goes through the table, but for the request id."""
    async with client(shared.broker_port) as mqtt:
        short = (await mqtt.ask("alicia/config/get/stt_service")).json
        long = (await mqtt.ask("alicia/config/get/stt_service", {"request_id": "r-1"})).json
        assert long.pop("request_id") == "r-1"
        assert short.pop("request_id") is None
        assert short == long


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_request_is_answered_in_as_many_envelopes_as_it_came(shared: Daemon, depth: int):
    """Bare, wrapped once or twice: the answer is wrapped alike, and takes the envelope's id."""
    request: dict[str, Any] = {"event_id": "e", "scheduled_time": 1.0}
    for number in range(depth):
        request = envelope(request, f"m-{number}")
    async with client(shared.broker_port) as mqtt:
        answer = (await mqtt.ask("alicia/config/get/voice_router/event_scheduler", request)).json
    for _ in range(depth):
        assert answer["source"] == "config_service"
        assert answer["destination"] == "event_scheduler"
        answer = answer["payload"]
    assert answer["status"] == "success"
    assert answer["request_id"] == (f"m-{depth - 1}" if depth else None)


async def test_without_a_response_topic_the_payload_or_the_request_topic_says_where_to_answer(daemon: Daemon):
    """reply_to counts where there is no Response Topic; without either the default topic is used."""
    async with client(daemon.broker_port, protocol=3) as mqtt:
        await mqtt.subscribe("alicia/reply/#")
        await mqtt.publish("alicia/config/get/voice_router/tester", {"reply_to": "alicia/reply/tester/7"})
        assert (await mqtt.until("alicia/reply/tester/7")).json["service"] == "voice_router"
        await mqtt.publish("alicia/config/list/tester")
        assert len((await mqtt.until("alicia/reply/list/tester")).json["configs"]) == len(HOME_SERVICES)


@pytest.mark.parametrize(
    "topic",
    [
        "alicia/config/update/tts_service",
        "alicia/config/set/tts_service",
        "alicia/devices/lamp/command",
        "$SYS/broker/uptime",
        "alicia/reply/+/x",
        "alicia/reply/#",
        "",
        "alicia/reply/" + "x/" * 60,
    ],
)
async def test_a_set_that_names_a_forbidden_answer_topic_is_not_carried_out(shared: Daemon, topic: str):
    """The daemon is no publish proxy: nothing is changed and nothing is published there."""
    before = shared.config("multi_language")
    request = {"patch": {"settings": {"cache_ttl_seconds": 77}}}
    async with client(shared.broker_port) as mqtt, client(shared.broker_port) as other:
        default = "alicia/reply/patch/multi_language/mallory"
        await mqtt.subscribe(default)
        await other.subscribe("alicia/devices/#", "alicia/config/update/tts_service", "alicia/config/set/#")
        await mqtt.publish(
            "alicia/config/patch/multi_language/mallory", request, ResponseTopic=topic, CorrelationData=b"c"
        )
        answer = await mqtt.until(default)
        assert answer.json["code"] == "forbidden"
        assert answer.properties["CorrelationData"] == b"c"
        got = [message for message in await other.silence(0.2) if not message.retained]
        assert got == []
    assert shared.config("multi_language")["revision"] == before["revision"]


@pytest.mark.parametrize("topic", ["alicia/reply/a\u0001b", "alicia/reply/\ufffe", "alicia/reply/a\ud800"])
async def test_a_reply_to_that_would_make_the_broker_drop_us_is_refused(shared: Daemon, topic: str):
    """Control characters and lone surrogates out of a payload do not cost the daemon its connection."""
    payload = json.dumps({"reply_to": topic})
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/list/mallory")
        await mqtt.publish("alicia/config/list/mallory", payload)
        answer = await mqtt.until("alicia/reply/list/mallory")
        assert answer.json["code"] in {"forbidden", "invalid_request"}
    assert len(shared.logged("broker_lost")) == 0


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"not json", "invalid_request"),
        (b"\xff\xfe", "invalid_request"),
        (b"[1, 2]", "invalid_request"),
        (b'"text"', "invalid_request"),
        (b'{"config": NaN}', "invalid_request"),
        (b'{"config": 1e999}', "invalid_request"),
        (b"{", "invalid_request"),
        (b"[" * 5000, "too_large"),
        (b'{"config": ' + b'{"a":' * 200 + b"1" + b"}" * 201, "too_large"),
        (b'{"config": "text"}', "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"config": {}, "expected_revision": -1}', "invalid_request"),
        (b'{"config": {}, "expected_revision": "one"}', "invalid_request"),
        (b'{"config": {}, "request_id": "' + b"x" * 65 + b'"}', "invalid_request"),
        (b'{"config": {}, "request_id": 7}', "invalid_request"),
        (b'{"config": {}, "environment": "no such"}', "invalid_request"),
        (b'{"config": {}, "environment": "nowhere"}', "not_found"),
        (b'{"config": {"a": "' + b"x" * 300_000 + b'"}}', "too_large"),
        (b'{"config": {}}', "validation_failed"),
        (b'{"config": {"settings": null}}', "validation_failed"),
        (b'{"config": {"settings": {"n": 123456789012345678901234567890}}}', "validation_failed"),
    ],
)
async def test_a_malformed_request_is_answered_and_changes_nothing(shared: Daemon, payload: bytes, code: str):
    """Each malformed request is answered with its problem, and the daemon keeps running."""
    before = shared.config("sonos_service")
    async with client(shared.broker_port) as mqtt:
        answer = (await mqtt.ask("alicia/config/set/sonos_service", payload)).json
        assert answer["status"] == "error"
        assert answer["code"] == code
        assert answer["message"]
    assert shared.config("sonos_service") == before


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("alicia/config/get", "invalid_request"),
        ("alicia/config/get/", "invalid_request"),
        ("alicia/config/get/a b", "invalid_request"),
        ("alicia/config/get/list", "invalid_request"),
        ("alicia/config/get/../etc", "invalid_request"),
        ("alicia/config/get/voice_router/me/too", "invalid_request"),
        ("alicia/config/get/" + "x" * 65, "invalid_request"),
        ("alicia/config/get/nobody", "not_found"),
        ("alicia/config/list/me/too", "invalid_request"),
        pytest.param(
            "alicia/config/frobnicate/voice_router",
            "not_found",
            marks=pytest.mark.sqlite("shared subscriptions are one for each operation: others are not heard"),
        ),
    ],
)
async def test_a_wrong_topic_is_answered(shared: Daemon, topic: str, code: str):
    """Names are checked before anything else; an unknown operation is answered to who names a topic."""
    async with client(shared.broker_port) as mqtt:
        assert (await mqtt.ask(topic)).json["code"] == code


async def test_other_programs_messages_under_our_tree_are_left_alone(shared: Daemon):
    """An unknown operation without an answer topic is another program's message: no answer, no error."""
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/#", "alicia/config/alert/#")
        for payload in (b"", b"garbage", json.dumps(envelope({"service": "x"})).encode()):
            await mqtt.publish("alicia/config/request", payload)
            await mqtt.publish("alicia/config/stt_service/updated", payload)
        assert await mqtt.silence(0.3) == []


@pytest.mark.sqlite("shared subscriptions get no retained messages (MQTT 5, 4.8.2)")
async def test_a_retained_request_is_not_carried_out_at_every_connect(make_daemon: Callable[..., Daemon]):
    """A set that was retained by mistake before the daemon starts is ignored and logged."""
    daemon = make_daemon()
    async with client(daemon.broker_port) as mqtt:
        request = {"patch": {"settings": {"cache_ttl_seconds": 11}}}
        await mqtt.publish("alicia/config/patch/multi_language/x", request, retain=True)
        await asyncio.to_thread(daemon.start)
        assert daemon.config("multi_language")["revision"] == 1
        await asyncio.to_thread(daemon.first_logged, "retained_request_ignored")


@pytest.mark.sqlite("a member of a shared subscription has a clean session: requesters repeat")
async def test_requests_published_while_the_daemon_restarts_are_answered_after_it(
    make_daemon: Callable[..., Daemon],
):
    """The persistent session holds requests, with their answer topic, until the daemon is back."""
    daemon = make_daemon().start()
    assert await asyncio.to_thread(daemon.stop) == 0
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/me/1")
        await mqtt.publish("alicia/config/get/ha_bridge", ResponseTopic="alicia/reply/me/1", CorrelationData=b"z")
        await asyncio.to_thread(daemon.start)
        answer = await mqtt.until("alicia/reply/me/1")
        assert answer.json["service"] == "ha_bridge"
        assert answer.properties["CorrelationData"] == b"z"


async def test_two_hundred_requests_at_once_are_all_answered_rightly(shared: Daemon):
    """Answers are not mixed up under load, on either path."""
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/load/#")
        for number in range(200):
            service = SERVICES[number % len(SERVICES)]
            await mqtt.publish(
                f"alicia/config/get/{service}",
                {"request_id": str(number)} if number % 2 else b"",
                ResponseTopic=f"alicia/reply/load/{number}",
                CorrelationData=str(number).encode(),
            )
        seen: dict[int, Any] = {}
        while len(seen) < 200:
            message = await mqtt.next()
            number = int(message.topic.rpartition("/")[2])
            assert message.properties["CorrelationData"] == str(number).encode()
            seen[number] = message.json
        for number, answer in seen.items():
            assert answer["service"] == SERVICES[number % len(SERVICES)]
            assert answer["request_id"] == (str(number) if number % 2 else None)


async def test_reads_are_answered_while_many_writes_wait(shared: Daemon):
    """A get is not held up by the writes before it."""
    places: list[int] = []
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/w/#", "alicia/reply/r/1")
        # On a busy machine the writes may be over before the get is sent.
        while not places or (min(places) == 150 and len(places) < 5):
            for number in range(150):
                await mqtt.publish(
                    "alicia/config/patch/personality_system",
                    {"patch": {"settings": {"max_personalities": number + 1}}},
                    qos=0,
                    ResponseTopic=f"alicia/reply/w/{number}",
                )
            await mqtt.publish("alicia/config/get/voice_router", qos=0, ResponseTopic="alicia/reply/r/1")
            order = [(await mqtt.next()).topic for _ in range(151)]
            places.append(order.index("alicia/reply/r/1"))
    assert min(places) < 150
    assert shared.config("personality_system")["config"]["settings"]["max_personalities"] == 150


async def test_list_pages_filters_and_shows_configurations(make_daemon: Callable[..., Daemon]):
    """Pages follow each other without gap or overlap; include=config shows redacted documents."""
    daemon = make_daemon(services=None)
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt:
        names: list[str] = []
        after = ""
        while after is not None:
            page = (await mqtt.ask("alicia/config/list/t", {"limit": 5, "after": after})).json
            names += [item["service"] for item in page["configs"]]
            after = page["next"]
        assert names == SERVICES
        page = (await mqtt.ask("alicia/config/list/t", {"prefix": "device_", "include": "config"})).json
        assert [item["service"] for item in page["configs"]] == ["device_control", "device_manager", "device_registry"]
        assert {item["config"]["mqtt_config"]["password"] for item in page["configs"]} == {"***"}


async def test_health_is_published_on_request_and_wrapped(daemon: Daemon):
    """A health check makes the daemon publish its health like every program of the home."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/system/health/config_service")
        first = await mqtt.until("alicia/system/health/config_service")
        assert first.retained
        await mqtt.publish("alicia/system/health/check", b'{"any": "json"}')
        message = (await mqtt.until("alicia/system/health/config_service")).json
        health = message["payload"]
        assert message["source"] == "config_service"
        assert health["status"] == "healthy"
        assert health["configs_managed"] == len(HOME_SERVICES)
        assert health["mqtt_connected"] is True
        assert health["instance"] == daemon.name_file.read_text()
        over_http = daemon.http("GET", "/health").json
        assert over_http.keys() == health.keys()


async def test_the_daemon_registers_once_per_connection(make_daemon: Callable[..., Daemon], broker: Broker):
    """One registration in the bus envelope when it connects, no second one later."""
    async with client(broker.port) as mqtt:
        await mqtt.subscribe("alicia/system/discovery/register")
        daemon = make_daemon()
        await asyncio.to_thread(daemon.start)
        message = (await mqtt.next()).json
        assert message["payload"]["service_name"] == "config_service"
        assert message["payload"]["status"] == "online"
        assert await mqtt.silence(0.5) == []


async def test_everything_works_on_a_broker_of_3_1_1_only(make_daemon: Callable[..., Daemon]):
    """With the embedded amqtt, which speaks 3.1.1 only, the daemon serves requests and retained messages."""
    port = free_port()
    daemon = make_daemon(broker_port=port)
    async with amqtt(port), client(port, protocol=3, username="t") as mqtt:
        await asyncio.to_thread(daemon.start)
        assert (await asyncio.to_thread(daemon.first_logged, "broker_connected"))["protocol"] == "MQTT 3.1.1"
        await mqtt.subscribe("alicia/reply/#")
        await mqtt.publish("alicia/config/get/voice_router")
        assert (await mqtt.until("alicia/reply/get/voice_router")).json["service"] == "voice_router"
        await mqtt.publish("alicia/config/patch/voice_router", {"patch": {"settings": {"max_sessions": 12}}})
        assert (await mqtt.until("alicia/reply/patch/voice_router")).json["revision"] == 2
        await mqtt.subscribe("alicia/config/update/voice_router")
        while (await mqtt.until("alicia/config/update/voice_router")).json["revision"] != 2:
            pass


@contextlib.asynccontextmanager
async def amqtt(port: int) -> AsyncGenerator[None, None]:
    """The broker that `serve --dev` embeds runs in its own process, since it leaves sockets open at its end."""
    script = (
        "import asyncio\n"
        "from aliciacfg.mqtt.broker import dev_broker\n"
        "async def main():\n"
        f"    async with dev_broker._embedded({port}):\n"
        "        print('READY', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"READY\n"
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_property_with_a_byte_order_mark_does_not_end_the_connection(shared: Daemon):
    """U+FEFF is legal in MQTT 5 strings; such a request is answered, and the connection stays."""
    lost = len(shared.logged("broker_lost"))
    async with client(shared.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/\ufeff")
        await mqtt.publish("alicia/config/get/voice_router", ResponseTopic="alicia/reply/\ufeff", ContentType="\ufeff")
        await mqtt.publish("alicia/config/get/voice_router", UserProperty=("\ufeff", "\ufeff"))
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
    assert len(shared.logged("broker_lost")) == lost


async def test_words_of_other_programs_bring_nobody_an_answer(make_daemon: Callable[..., Daemon]):
    """With rules, a topic that is no operation is answered only on a topic of the requester's own."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [service]\n")
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/#")
        await mqtt.publish("alicia/config/service/1", {"reply_to": "alicia/devices/lamp/command"})
        await mqtt.publish("alicia/config/get/tts_service/tts_service")
        assert (await mqtt.next()).topic == "alicia/reply/get/tts_service/tts_service"
