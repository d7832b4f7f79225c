"""The daemon's health on the bus."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.health import HealthPublisher
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.mqtt.outgoing import Outgoing
from builders import environment_file
from cases import case
from fakebus import FakeConnection
from inprocess import Core, core, eventually

TOPIC = "alicia/system/health/config_service"
CHECK = "alicia/system/health/check"
FILES = {"environments/dev.yaml": environment_file({"bell": {}})}


@dataclass
class Bus:
    """The health of a daemon whose core is real."""

    core: Core
    health: HealthPublisher
    connection: FakeConnection

    @property
    def statuses(self) -> list[str]:
        """The status of each health message."""
        assert all((topic, retain) == (TOPIC, True) for topic, _, retain in self.connection.published)
        return [opened(payload)["status"] for _, payload, _ in self.connection.published]


def opened(payload: bytes) -> dict[str, Any]:
    message = json.loads(payload)
    assert message["source"] == "config_service"
    return message["payload"]


@asynccontextmanager
async def bus(directory: Path) -> AsyncGenerator[Bus, None]:
    async with core(directory, FILES) as made:
        service, outgoing, connection = made.parts.service, Outgoing(made.parts.alerts), FakeConnection()
        service.health.bus_connected = True
        outgoing.attach(connection)
        health = HealthPublisher(
            service.health,
            alerts=made.parts.alerts,
            outgoing=outgoing,
            may_answer_on=lambda topic: topic.startswith("alicia/reply/"),
        )
        yield Bus(made, health, connection)


async def test_health_is_published_at_the_start_and_when_it_changes(tmp_path: Path):
    """An alert changes it; and nothing is published after the daemon said that it stops."""
    async with bus(tmp_path) as made:
        task = asyncio.create_task(made.health.publish_forever(made.connection))
        await eventually(lambda: made.statuses == ["healthy"])
        made.core.parts.alerts.emit("tamper", "something happened")
        await eventually(lambda: made.statuses == ["healthy", "healthy"])
        await made.health.stop(made.connection)
        made.health.publish_soon()
        await task
        assert made.statuses == ["healthy", "healthy", "offline"]
        assert opened(made.connection.published[-1][1])["mqtt_connected"] is False


async def test_the_last_will_says_offline(tmp_path: Path):
    """On the topic where health is retained."""
    async with bus(tmp_path) as made:
        will = made.health.will
        assert (will.topic, opened(will.payload)["status"]) == (TOPIC, "offline")


async def test_a_daemon_without_a_connection_stops_too(tmp_path: Path):
    """The broker has published the last will; on the next connection nothing is published any more."""
    async with bus(tmp_path) as made:
        await made.health.stop(None)
        await made.health.publish_forever(made.connection)
        assert made.connection.published == []
        made.connection.gone = True
        with pytest.raises(BrokerUnavailable):
            await made.health.stop(made.connection)


async def test_a_health_check_is_answered_where_that_is_allowed(tmp_path: Path):
    """Bare on its Response Topic, if it is not retained; the health message comes in any case."""
    async with bus(tmp_path) as made:
        checks = (("alicia/reply/me/1", False), ("alicia/reply/me/2", True), ("alicia/devices/x", False), (None, False))
        for response_topic, retained in checks:
            made.health.answer_check(Inbound(CHECK, b"{}", 1, retained, response_topic, b"c"))
        (answer,) = made.connection.answers
        assert (answer.topic, answer.qos, answer.correlation_data) == ("alicia/reply/me/1", 1, b"c")
        assert json.loads(answer.payload)["status"] == "healthy"
        task = asyncio.create_task(made.health.publish_forever(made.connection))
        await eventually(lambda: made.statuses == ["healthy"])
        made.health.answer_check(Inbound(CHECK, b"", 1, retained=False))
        await eventually(lambda: made.statuses == ["healthy", "healthy"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert made.core.parts.service.health.metrics.meter("health", "mqtt").outcomes == {"success": 5}


async def test_on_mqtt_3_1_1_a_health_check_names_its_answer_topic_in_the_payload(tmp_path: Path):
    """As every request does; whatever else other programs send is no error."""
    async with bus(tmp_path) as made:
        for payload, answered in [
            (b'{"reply_to": "alicia/reply/me/1"}', ["alicia/reply/me/1"]),
            (b'{"message_id": "1", "payload": {"reply_to": "alicia/reply/me/1"}}', ["alicia/reply/me/1"]),
            (b'{"reply_to": "alicia/devices/x"}', []),
            (b'{"reply_to": 1}', []),
            (b"[]", []),
            (b"\xff", []),
        ]:
            with case(payload, answered):
                made.connection.answers.clear()
                made.health.answer_check(Inbound(CHECK, payload, 0, retained=False))
                assert [answer.topic for answer in made.connection.answers] == answered


async def test_what_others_publish_as_health_is_overwritten_at_once(tmp_path: Path):
    """Whatever it is, and an old one of its own; its own newest ones that come back change nothing."""
    async with bus(tmp_path) as made:

        def bring(payload: bytes) -> None:
            made.health.receive(Inbound(TOPIC, payload, 1, False))

        async with asyncio.timeout(40):
            task = asyncio.create_task(made.health.publish_forever(made.connection))
            await eventually(lambda: len(made.connection.published) == 1)
            first = made.connection.published[0][1]
            bring(first)
            for count, foreign in enumerate((made.health.will.payload, b"", b"\xff{", b"[" * 2000, first), start=2):
                bring(foreign)
                await eventually(lambda count=count: len(made.connection.published) == count)
                bring(made.connection.published[-1][1])
            assert made.statuses == ["healthy"] * 6
            await made.health.stop(made.connection)
            made.health.publish_soon()
            await task
