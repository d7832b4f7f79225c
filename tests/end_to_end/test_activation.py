"""Activation seen from outside: every service moves on the bus, or none does, over kill -9 too."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from brokers import Broker
from daemons import Daemon
from machine import wait_until
from mqtt_clients import Client, client
from repository import SERVICES

UPDATES = "alicia/config/update/#"
ENVIRONMENT = "alicia/config/environment"


async def retained(mqtt: Client) -> dict[str, Any]:
    """Return the retained update of every service."""
    updates = await mqtt.retained(UPDATES)
    return {topic.rpartition("/")[2]: message.json for topic, message in updates.items()}


def wait_held(daemon: Daemon) -> None:
    wait_until(lambda: daemon.http("GET", "/health").json["outbox_pending"] == 0)


@pytest.fixture
def two(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon whose staging can be activated like its dev."""
    daemon = make_daemon()
    dev = (daemon.environments / "dev.yaml").read_text()
    (daemon.environments / "staging.yaml").write_text(dev.replace("\ndefaults:\n", "\ndefaults:\n  note: moved\n"))
    return daemon.start()


async def test_22_services_move_on_the_bus_or_none(two: Daemon):
    """One of them invalid: nothing is published; then all move, waiting readers are woken, and health says so."""
    daemon = two
    (daemon.environments / "prod.yaml").write_text("services: {ai_service: {api_config: {port: 0}}}\n")
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe(ENVIRONMENT, UPDATES)
        for _ in range(len(SERVICES) + 1):
            assert (await mqtt.next()).retained
        await asyncio.to_thread(wait_until, lambda: daemon.logged("files_loaded"))
        refused = daemon.http("POST", "/environments/prod/activate")
        assert refused.status == 422
        assert any(problem["pointer"].endswith("ai_service/api_config/port") for problem in refused.json["problems"])
        assert await mqtt.silence(0.2) == []
        etag = daemon.http("GET", "/config/tts_service").headers["ETag"]
        waiting = asyncio.create_task(
            asyncio.to_thread(daemon.http, "GET", "/config/tts_service?wait_seconds=30", None, {"If-None-Match": etag})
        )
        answer = (await mqtt_ask(daemon, "alicia/config/activate/staging")).json
        assert (answer["status"], answer["environment"], answer["previous"]) == ("success", "staging", "dev")
        told = {(message := await mqtt.next()).topic: message.json for _ in range(len(SERVICES) + 1)}
        assert told.pop(ENVIRONMENT)["environment"] == "staging"
        assert sorted(topic.rpartition("/")[2] for topic in told) == SERVICES == sorted(answer["changed"])
        assert {update["environment"] for update in told.values()} == {"staging"}
        assert (await waiting).json["environment"] == "staging"
    assert daemon.http("GET", "/health").json["environment"] == "staging"
    assert daemon.http("GET", "/environments").json["active"] == "staging"


async def mqtt_ask(daemon: Daemon, topic: str) -> Any:
    async with client(daemon.broker_port) as mqtt:
        return await mqtt.ask(topic, b"{}")


async def test_old_and_new_values_are_in_the_answers_of_both_transports_without_secrets(
    make_daemon: Callable[..., Daemon],
):
    """Of a trial and of the activation: by service, with ``***`` for the secrets of either environment."""
    daemon = make_daemon().keep_services("voice_router", "tts_service")
    old, new = "planted-old-5e0d", "planted-new-81fa"
    dev = (daemon.environments / "dev.yaml").read_text().replace("alicia-dev-only", old)
    (daemon.environments / "dev.yaml").write_text(dev)
    staging = dev.replace(old, new).replace("requests_per_minute: 6000", "requests_per_minute: 60")
    (daemon.environments / "staging.yaml").write_text(staging)
    await asyncio.to_thread(daemon.start)
    expected = {
        "/environment": {"old": "dev", "new": "staging"},
        "/mqtt_config/password": {"old": "***", "new": "***"},
        "/limits/requests_per_minute": {"old": 6000, "new": 60},
    }
    async with client(daemon.broker_port) as mqtt:
        texts: list[str] = []
        for dry_run in (True, False):
            if not dry_run:
                daemon.http("POST", "/environments/dev/activate", {})
            over_http = daemon.http("POST", "/environments/staging/activate", {"dry_run": dry_run})
            if not dry_run:
                daemon.http("POST", "/environments/dev/activate", {})
            over_mqtt = await mqtt.ask("alicia/config/activate/staging", json.dumps({"dry_run": dry_run}).encode())
            for answer in (over_http.json, over_mqtt.json):
                assert answer["changes"] == {"tts_service": expected, "voice_router": expected}
                assert ("difference" in answer) == dry_run
                texts.append(json.dumps(answer))
    assert not [text for text in texts if old in text or new in text]


async def test_kill_9_in_the_middle_of_activations_leaves_one_environment(two: Daemon, broker: Broker):
    """The old one or the new one for every service, on the bus and in answers."""
    daemon = two
    for rounds in (3, 4, 5):
        moved: list[int] = []
        thread = threading.Thread(target=move_to_and_fro, args=(daemon, moved))
        thread.start()
        await asyncio.to_thread(wait_until, lambda moved=moved, rounds=rounds: len(moved) >= rounds)
        daemon.kill()
        await asyncio.to_thread(thread.join)
        await asyncio.to_thread(daemon.start)
        await asyncio.to_thread(wait_held, daemon)
        active = daemon.http("GET", "/environments").json["active"]
        async with client(broker.port) as mqtt:
            kept = await retained(mqtt)
            said = (await mqtt.retained(ENVIRONMENT))[ENVIRONMENT].json["environment"]
        listed = daemon.http("GET", "/configs?include=config").json["configs"]
        assert said == active
        assert {name: (item["environment"], item["config"]) for name, item in kept.items()} == {
            item["service"]: (active, item["config"]) for item in listed
        }
        assert len(kept) == len(SERVICES)


def move_to_and_fro(daemon: Daemon, moved: list[int]) -> None:
    """Activate two environments in turn until the daemon is killed; record each success."""
    for number in range(1000):
        try:
            if daemon.http("POST", f"/environments/{['staging', 'dev'][number % 2]}/activate").status == 200:
                moved.append(number)
        except Exception:  # noqa: BLE001 - http.client raises many kinds when its peer is killed
            return


async def test_an_invalid_environment_is_not_moved_to(daemon: Daemon):
    """ENVIRONMENT names an environment with invalid services: the start fails, and the retained messages stay."""
    (daemon.environments / "other.yaml").write_text(
        "defaults: {mqtt_config: {password: x}}\nservices: {voice_router: {api_config: 5}}\n"
    )
    await asyncio.to_thread(daemon.stop)
    daemon.environ["ENVIRONMENT"] = "other"
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    async with client(daemon.broker_port) as mqtt:
        found = await mqtt.retained("alicia/config/update/#")
    assert len(found) == 22
    assert {message.json["environment"] for message in found.values()} == {"dev"}
