"""Which version of MQTT is agreed on, and how long that takes, with brokers that answer, refuse, hang and vanish."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

import pytest

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.connecting import (
    Session,
    accepts_without_proof,
    answers_five,
    connect,
    connect_client,
)
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Will
from aliciacfg.mqtt.packet_limit import PacketLimit

Behaviour = Literal["accept", "refuse", "deny", "forget", "silent", "end"]
SESSION = Session("config_service_1", Will("alicia/system/health/config_service", b"offline"), 50_000)
# Within which a silent broker is given up, in tests where it is; any other one answers within the second.
SOON_SECONDS, ENOUGH_SECONDS = 0.5, 15.0
# CONNACKs by protocol level: MQTT 5 §3.2, MQTT 3.1.1 §3.2. The first announces a Maximum Packet Size of 20,000.
ACCEPTED = {5: b"\x20\x08\x00\x00\x05\x27\x00\x00\x4e\x20", 4: b"\x20\x02\x00\x00"}
UNSUPPORTED = {5: b"\x20\x03\x00\x84\x00", 4: b"\x20\x02\x00\x01"}
# Retain Available is 0: MQTT 5 §3.2.2.3.5.
FORGETFUL = {5: b"\x20\x05\x00\x00\x02\x25\x00"}
NOT_AUTHORIZED = {5: b"\x20\x03\x00\x87\x00", 4: b"\x20\x02\x00\x05"}


class FakeBroker:
    """A broker that behaves as it is told.

    Attributes:
        five: What it does with the next CONNECTs of MQTT 5; the last one stays.
        older: The same for MQTT 3.1.1.
        connects: The protocol levels of the CONNECTs that it got, and whether they had a will.
    """

    def __init__(self, five: list[Behaviour], older: list[Behaviour]) -> None:
        self.five, self.older = five, older
        self.connects: list[tuple[int, bool]] = []
        self.address = BrokerAddress("127.0.0.1", 1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            packet = await reader.readexactly(2)
            packet = await reader.readexactly(packet[1])
            # "MQTT" with its length, level, flags.
            level, flags = packet[6], packet[7]
            self.connects.append((level, bool(flags & 0x04)))
            behaviours = self.five if level == 5 else self.older
            behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
            answers = {"accept": ACCEPTED, "refuse": UNSUPPORTED, "deny": NOT_AUTHORIZED, "forget": FORGETFUL}
            if behaviour in answers:
                writer.write(answers[behaviour][level])
            if behaviour in {"accept", "silent"}:
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def broker(*, five: list[Behaviour], older: list[Behaviour]) -> AsyncGenerator[FakeBroker, None]:
    made = FakeBroker(five, older)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()


@contextlib.asynccontextmanager
async def connected(made: FakeBroker, *, speaks_five: bool = False) -> AsyncGenerator[Connection, None]:
    limit = PacketLimit(SESSION.max_packet_bytes)
    seconds = SOON_SECONDS if "silent" in (*made.five, *made.older) else ENOUGH_SECONDS
    async with connect(
        made.address, SESSION, limit=limit, speaks_five=speaks_five, timeout_seconds=seconds
    ) as connection:
        yield connection


PLAIN_5, PLAIN_3, OURS_5, OURS_3 = (5, False), (4, False), (5, True), (4, True)


@pytest.mark.parametrize(
    ("five", "older", "protocol", "certain", "connects"),
    [
        (["accept"], ["accept"], "5", True, [PLAIN_5, OURS_5]),
        (["refuse"], ["accept"], "3.1.1", True, [PLAIN_5, OURS_3]),
        # It hung for a moment.
        (["silent", "accept"], ["accept"], "5", True, [PLAIN_5, PLAIN_3, PLAIN_5, OURS_5]),
        (["end", "accept"], ["accept"], "5", True, [PLAIN_5, PLAIN_3, PLAIN_5, OURS_5]),
        (["end", "refuse"], ["accept"], "3.1.1", True, [PLAIN_5, PLAIN_3, PLAIN_5, OURS_3]),
        # It is silent at MQTT 5 and at nothing else.
        (["silent"], ["accept"], "3.1.1", False, [PLAIN_5, PLAIN_3, PLAIN_5, PLAIN_3, OURS_3]),
        (["end"], ["accept"], "3.1.1", False, [PLAIN_5, PLAIN_3, PLAIN_5, PLAIN_3, OURS_3]),
    ],
)
async def test_only_a_brokers_own_answer_decides_the_version(
    five: list[Behaviour],
    older: list[Behaviour],
    protocol: str,
    certain: bool,
    connects: list[tuple[int, bool]],
):
    """A silence may be a fault of the moment: MQTT 5 is asked for again once the broker is known to answer."""
    async with broker(five=five, older=older) as made, connected(made) as connection:
        assert (connection.protocol, connection.certain) == (protocol, certain)
        assert made.connects == connects


@pytest.mark.parametrize(
    ("five", "older", "connects"),
    [
        (["silent"], ["silent"], [PLAIN_5, PLAIN_3]),
        (["end"], ["end"], [PLAIN_5, PLAIN_3]),
        (["end"], ["silent"], [PLAIN_5, PLAIN_3]),
        (["deny"], ["accept"], [PLAIN_5]),
        (["refuse"], ["deny"], [PLAIN_5, OURS_3]),
        (["refuse"], ["silent"], [PLAIN_5, OURS_3]),
    ],
)
async def test_a_broker_that_answers_neither_version_decides_nothing(
    five: list[Behaviour], older: list[Behaviour], connects: list[tuple[int, bool]]
):
    """There is no connection; the next one begins anew, and gets the better one of the two."""
    async with broker(five=five, older=older) as made:
        with pytest.raises(BrokerUnavailable):
            async with connected(made):
                pass
        assert made.connects == connects
        made.five[:] = ["accept"]
        async with connected(made) as connection:
            assert connection.protocol == "5"


async def test_a_broker_that_spoke_mqtt_5_is_not_asked_first():
    """One connection for one; if it is another broker by now, nothing of the old one is believed."""
    async with broker(five=["accept"], older=["accept"]) as made:
        async with connected(made, speaks_five=True):
            assert made.connects == [OURS_5]
        made.five[:] = ["silent"]
        with pytest.raises(BrokerUnavailable):
            async with connected(made, speaks_five=True):
                pass
        made.five[:] = ["refuse"]
        async with connected(made) as connection:
            assert connection.protocol == "3.1.1"


async def test_the_brokers_limit_is_respected():
    """The smaller one of what it announces and the daemon's own, also for a client of the command line."""
    async with broker(five=["accept"], older=["accept"]) as made:
        async with connected(made) as connection:
            assert connection.limit.bytes == 20_000
        made.five[:] = ["refuse"]
        async with connected(made) as connection:
            assert connection.limit.bytes == 50_000


async def test_a_broker_that_hangs_proves_nothing_about_its_access_list():
    """Silence is no refusal; whoever is refused has not proven who it is."""
    async with broker(five=["deny"], older=["deny"]) as made:
        assert await accepts_without_proof(made.address) is False
        made.five[:] = made.older[:] = ["accept"]
        assert await accepts_without_proof(made.address) is True


@pytest.mark.parametrize(
    ("five", "older", "accepts"),
    [
        # A broker may refuse a password without a word (MQTT 5 §3.1.4), and lets in who proves it.
        (["end", "accept"], ["end"], False),
        # It lets in nobody, as one with too many connections does.
        (["end"], ["end"], True),
    ],
)
async def test_a_broker_that_lets_in_nobody_proves_nothing_about_its_access_list(
    five: list[Behaviour], older: list[Behaviour], accepts: bool
):
    """Who can fill its connections would else be taken for whomever it names, where passwords are not checked."""
    async with broker(five=five, older=older) as made:
        assert await accepts_without_proof(made.address) is accepts
    assert await accepts_without_proof(made.address) is True


@pytest.mark.parametrize(("five", "answers"), [("accept", True), ("refuse", False), ("end", False), ("deny", False)])
async def test_a_broker_can_be_asked_whether_it_speaks_mqtt_5(five: Behaviour, answers: bool):
    """While a connection of 3.1.1 stands."""
    async with broker(five=[five], older=["accept"]) as made:
        assert await answers_five(made.address) is answers


@pytest.mark.parametrize("five", ["refuse", "silent", "end"])
async def test_a_client_of_the_command_line_takes_what_works(five: Behaviour):
    """It does not stay long enough for a second question."""
    async with (
        broker(five=[five], older=["accept"]) as made,
        connect_client(made.address, timeout_seconds=SOON_SECONDS) as connection,
    ):
        assert connection.protocol == "3.1.1"


async def test_a_socket_of_a_connection_that_was_given_up_is_closed():
    """A broker that comes back would else take it for a living client with our name."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await reader.read()
            gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = BrokerAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(BrokerUnavailable):
        async with connect_client(address, timeout_seconds=SOON_SECONDS):
            pass
    async with asyncio.timeout(40):
        await gone.wait()
    server.close()


async def test_a_broker_that_retains_nothing_is_told_what_to_allow():
    """Nor is another version of MQTT tried."""
    async with broker(five=["forget"], older=["accept"]) as made:
        with pytest.raises(BrokerUnavailable, match=r"Retain not supported; .*retain_available"):
            async with connected(made):
                pass
        assert [level for level, _ in made.connects] == [5]
