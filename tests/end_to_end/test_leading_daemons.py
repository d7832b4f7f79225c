"""Several daemons of one home on one PostgreSQL database: what one stores the one that leads publishes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from aliciacfg.errors import Incompatible, NotFound
from aliciacfg.storage.data_directory import read_instance
from brokers import Broker
from builders import environment_file, valid_config
from inprocess import eventually
from mqtt_clients import Client, client
from postgres import Postgres
from replicas import Replica, sharing_replicas, take_over
from soak import rarely

SERVICES = [f"bell{number}" for number in range(6)]
FILES = {"environments/dev.yaml": environment_file({service: {} for service in SERVICES})}
UPDATE = "alicia/config/update/"


@contextlib.asynccontextmanager
async def home(tmp_path: Path, broker: Broker, postgres: Postgres, count: int = 3) -> AsyncGenerator[list[Replica]]:
    url = await asyncio.to_thread(postgres.create)
    async with sharing_replicas(tmp_path, FILES, broker.port, url, count) as made:
        yield made


async def published(mqtt: Client) -> dict[str, int]:
    """The revision of each service at the broker."""
    found = await mqtt.retained(f"{UPDATE}#")
    return {topic.removeprefix(UPDATE): message.json["revision"] for topic, message in found.items()}


async def catch_up(made: list[Replica]) -> None:
    for replica in made:
        assert replica.core.parts.following is not None
        await replica.core.parts.following.catch_up()


def alerted(made: list[Replica]) -> list[str]:
    return [alert.kind for replica in made for alert in replica.core.heard]


async def test_what_any_daemon_stores_is_published_by_the_one_that_leads(
    tmp_path: Path, broker: Broker, postgres: Postgres
):
    """Over MQTT, whichever daemon gets the request; every daemon then answers it, and none has anything pending."""
    async with home(tmp_path, broker, postgres) as made, client(broker.port) as mqtt:
        for volume in range(9):
            request = {"patch": {"settings": {"volume": volume}}, "request_id": str(volume)}
            answer = (await mqtt.ask("alicia/config/patch/bell1", request)).json
            assert (answer["status"], answer["revision"]) == ("success", volume + 2)
        await catch_up(made)
        await eventually(lambda: not made[0].core.parts.outbox.pending)
        assert (await published(mqtt))["bell1"] == 10
        for replica in made:
            await eventually(lambda replica=replica: not replica.core.parts.outbox.pending)
            assert (await replica.core.ask("get", "bell1"))["revision"] == 10
            assert replica.answered
        assert not alerted(made)
        # What a command in the directory of any of them takes for its home.
        named = {read_instance(tmp_path / f"data{number}") for number in range(3)}
        assert named == {made[0].core.parts.service.health.instance}


@pytest.mark.parametrize("leaders", [(1, 2, 0), rarely((1, 2, 0, 2, 1, 0) * 3)])
async def test_the_lead_changes_again_and_again_while_all_of_them_write(
    tmp_path: Path, broker: Broker, postgres: Postgres, leaders: tuple[int, ...]
):
    """The broker ends with the last revision of each service; a message of an earlier leader alerts nothing."""
    async with home(tmp_path, broker, postgres) as made, client(broker.port) as mqtt:
        pick = random.Random(3)
        done = asyncio.Event()

        async def write(replica: Replica) -> None:
            while not done.is_set():
                service, volume = pick.choice(SERVICES), pick.randrange(10**6)
                # What others wrote in between may have it refused.
                with contextlib.suppress(NotFound, Incompatible):
                    if pick.random() < 0.2:
                        name = f"guest{pick.randrange(2)}"
                        await replica.core.ask("delete", name)
                        await replica.core.ask("set", name, config=valid_config(limits={"calls": volume}))
                    await replica.core.ask("patch", service, patch={"settings": {"volume": volume}})

        for name in ("guest0", "guest1"):
            await made[0].core.ask("set", name, config=valid_config())
        writing = [asyncio.create_task(write(replica)) for replica in made]
        for number in leaders:
            await take_over(made, number)
            before = made[number].core.parts.commits.revisions.total()
            await eventually(
                lambda number=number, before=before: made[number].core.parts.commits.revisions.total() > before + 3
            )
        done.set()
        await asyncio.gather(*writing)
        await catch_up(made)
        await eventually(lambda: not made[0].core.parts.outbox.pending)
        stored = {item["service"]: item["revision"] for item in (await made[1].core.ask("list"))["configs"]}
        assert await published(mqtt) == stored
        assert not alerted(made)


async def test_a_request_that_two_daemons_get_is_carried_out_once(tmp_path: Path, broker: Broker, postgres: Postgres):
    """The broker gives the repetition to another daemon; its answer is the same."""
    async with home(tmp_path, broker, postgres, 2) as made, client(broker.port) as mqtt:
        request = {"patch": {"settings": {"volume": 1}}, "request_id": "7"}
        answers = [await mqtt.ask("alicia/config/patch/bell1", request) for _ in range(6)]
        assert len({answer.payload for answer in answers}) == 1
        assert answers[0].json["revision"] == 2
        assert all(replica.answered for replica in made)
