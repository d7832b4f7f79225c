"""Messages that the daemon publishes to itself."""

import asyncio

import pytest

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt.markers import Markers
from fakebus import FakeConnection


async def test_a_marker_is_waited_for_until_it_comes_back():
    """Its own topic counts, not another marker's."""
    markers, connection = Markers("1111"), FakeConnection()
    waiting = [asyncio.create_task(markers.wait(connection)) for _ in range(2)]
    await asyncio.sleep(0)
    first, second = (topic for topic, _, _ in connection.published)
    assert first != second
    assert first.startswith(markers.prefix)
    markers.receive(f"{markers.prefix}strange")
    markers.receive(second)
    await waiting[1]
    assert not waiting[0].done()
    markers.receive(first)
    await waiting[0]
    markers.receive(first)


async def test_a_marker_cannot_be_published_on_a_connection_that_is_gone():
    """And is not waited for then."""
    markers, connection = Markers("1111"), FakeConnection()
    connection.gone = True
    with pytest.raises(BrokerUnavailable):
        await markers.wait(connection)


class Everything(list[str]):
    """Topics that an access list forbids: all."""

    def __contains__(self, _: object) -> bool:
        return True


async def test_every_refused_marker_has_the_same_reason():
    """So that a broker whose access list forbids them is logged once, and not at each new connection."""
    markers, connection = Markers("1111"), FakeConnection(denied=Everything())
    reasons: list[str] = []
    for _ in range(2):
        with pytest.raises(BrokerUnavailable) as refused:
            await markers.wait(connection)
        reasons.append(str(refused.value))
    assert len(set(reasons)) == 1
    assert f"refuses {markers.prefix}#" in reasons[0]


def test_daemons_have_markers_of_their_own():
    """One daemon does not take another one's marker for its own."""
    assert Markers("1111").prefix != Markers("2222").prefix
