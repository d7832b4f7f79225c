"""How long a broker has been silent that should acknowledge something."""

import asyncio
import time
from typing import cast

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.broker_client import TIMEOUT_SECONDS, BrokerClient
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Publication
from aliciacfg.mqtt.packet_limit import PacketLimit
from aliciacfg.mqtt.silence import Silence
from inprocess import eventually


class Client:
    """As much of a connection as is asked here; ``unwritten`` is what the socket has not taken."""

    protocol = "5"
    max_packet_bytes = None
    receive_maximum = 10
    queued_bytes = written_bytes = 0

    def __init__(self) -> None:
        self.last_received = self.last_sent = 0.0
        self.unwritten = 0
        self.published = 0

    def unwritten_bytes(self) -> int:
        return self.unwritten

    def publish(self, _publication: Publication) -> int:
        self.published += 1
        return self.published


def test_a_broker_is_silent_while_it_owes_an_acknowledgement():
    """From when it got the first of the publications, or sent the last sign of life."""
    client, now = Client(), 100.0
    silence = Silence(cast("BrokerClient", client), clock=lambda: now)
    assert silence.seconds == 0
    silence.begin()
    now = 103.0
    silence.begin()
    assert silence.seconds == 3.0
    client.last_received = 102.0
    assert silence.seconds == 1.0
    silence.end()
    assert silence.seconds == 1.0
    silence.end()
    assert silence.seconds == 0
    now = 110.0
    silence.begin()
    assert silence.seconds == 0


def test_what_the_socket_takes_is_a_sign_of_life_while_the_message_waits_for_it():
    """A large message takes its time on a slow network; what is sent after it says nothing of the broker."""
    client, now = Client(), 100.0
    silence = Silence(cast("BrokerClient", client), clock=lambda: now)
    silence.begin()
    now, client.last_sent, client.unwritten = 109.0, 108.0, 1
    assert silence.seconds == 1.0
    now, client.last_sent, client.unwritten = 111.0, 110.0, 0
    assert silence.seconds == 1.0
    now = client.last_sent = 119.0
    assert silence.seconds == 9.0


def test_a_broker_that_acknowledges_one_message_has_time_for_the_large_one_behind_it():
    """It has not got that as long as the socket holds some of it."""
    client, now = Client(), 100.0
    silence = Silence(cast("BrokerClient", client), clock=lambda: now)
    silence.begin()
    assert silence.seconds == 0
    silence.begin()
    silence.end()
    now = 101.0
    client.last_received = client.last_sent = 100.5
    client.unwritten = 1
    assert silence.seconds == 0.5
    now, client.last_sent = 120.0, 119.0
    assert silence.seconds == 1.0
    now, client.last_sent, client.unwritten = 121.0, 120.5, 0
    assert silence.seconds == 0.5
    now = 131.0
    assert silence.seconds == 10.5


async def test_a_connection_knows_what_was_not_acknowledged():
    """Whether its publisher waits for it or not."""
    client = Client()
    connection = Connection(cast("BrokerClient", client), certain=True, limit=PacketLimit(2**20))
    client.last_received = time.monotonic()
    connection.begin_publish("a", b"", retain=True, done=lambda _error: None)
    publishing = asyncio.create_task(connection.publish("b", b""))
    await eventually(lambda: client.published == 2 and connection.silent_seconds > 0)
    cast("BrokerClient", client).on_acknowledged(1, 0)
    assert connection.silent_seconds > 0
    cast("BrokerClient", client).on_acknowledged(2, 0)
    await publishing
    assert connection.silent_seconds == 0


async def test_a_broker_that_hangs_is_given_up_by_what_is_published_later(monkeypatch: pytest.MonkeyPatch):
    """The time counts from the first message that it did not acknowledge, though nothing waited for that."""
    client = Client()
    connection = Connection(cast("BrokerClient", client), certain=True, limit=PacketLimit(2**20))
    # For the message itself, the broker is alive.
    client.last_received = time.monotonic() + 1000
    monkeypatch.setattr(Silence, "seconds", TIMEOUT_SECONDS + 1)
    with pytest.raises(BrokerUnavailable, match="did not acknowledge b"):
        await asyncio.wait_for(connection.publish("b", b""), 15)
