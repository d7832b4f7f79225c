"""Whether the broker enforces the access list."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt.access_probe import AccessProbe
from aliciacfg.mqtt.markers import Markers
from builders import environment_file
from fakebus import FakeConnection
from inprocess import core

OPEN: Mapping[str, object] = {"environments/dev.yaml": environment_file({"bell": {}})}
# MQTT 5 §3.2.2.2.
NOT_AUTHORIZED = b"\x20\x03\x00\x87\x00"
RULES: Mapping[str, object] = {**OPEN, "environments/access.yaml": {"admins": ["operator"]}}


@dataclass
class Trial:
    """A probe, and a broker that delivers what it does not deny."""

    probe: AccessProbe
    authorizer: Authorizer
    connection: FakeConnection


@asynccontextmanager
async def trial(directory: Path, files: Mapping[str, object]) -> AsyncGenerator[Trial, None]:
    """A probe of a broker that lets in no client without a password."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(NOT_AUTHORIZED)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    async with server, core(directory, files) as made:
        authorizer, markers, connection = made.parts.service.authorizer, Markers("1111"), FakeConnection()
        probe = AccessProbe(authorizer, address=address, instance="1111", markers=markers)

        def deliver(topic: str) -> None:
            if topic == probe.topic:
                probe.receive()
            else:
                markers.receive(topic)

        connection.deliver = deliver
        yield Trial(probe, authorizer, connection)


async def test_a_broker_that_denies_the_probe_proves_who_asks(tmp_path: Path):
    """The daemon itself cannot ask in the name of another program."""
    async with trial(tmp_path, RULES) as made:
        made.connection.denied = {made.probe.topic}
        await made.probe.run(made.connection)
        assert made.authorizer.bus_proves is True


async def test_a_broker_that_delivers_the_probe_proves_nothing(tmp_path: Path):
    """As one without the list does; loaded later, the list is noticed, and so is its end."""
    async with trial(tmp_path, RULES) as made:
        for denied, proves in (((), False), ((made.probe.topic,), True), ((), False)):
            made.connection.denied = denied
            await made.probe.run(made.connection)
            assert made.authorizer.bus_proves is proves


async def test_without_rules_nothing_is_tried(tmp_path: Path):
    """There is nothing to enforce."""
    async with trial(tmp_path, OPEN) as made:
        await made.probe.run(made.connection)
        assert made.authorizer.bus_proves is False
        assert made.connection.published == []


async def test_what_was_proven_is_forgotten_with_the_connection(tmp_path: Path):
    """The next broker may be another one."""
    async with trial(tmp_path, RULES) as made:
        made.connection.denied = {made.probe.topic}
        await made.probe.run(made.connection)
        made.probe.reset()
        assert made.authorizer.bus_proves is None
