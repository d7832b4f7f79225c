"""Subscriptions of a connection of MQTT 5, and what waits for their acknowledgements."""

import asyncio
from collections.abc import Callable, Sequence

from aliciacfg.errors import BrokerUnavailable
from aliciacfg.mqtt import mqtt5_packets
from aliciacfg.mqtt.broker_client import PATIENCE_SECONDS, SubscriptionRefused, is_failure, while_alive
from aliciacfg.mqtt.identifiers import Identifiers
from aliciacfg.mqtt.mqtt5_output import Output


class Subscriptions:
    """Subscribes and unsubscribes."""

    def __init__(self, output: Output, identifiers: Identifiers, *, last_received: Callable[[], float]) -> None:
        """Subscribe to nothing yet.

        Args:
            output: Where packets go.
            identifiers: Of the connection.
            last_received: When anything was received, on the monotonic clock.
        """
        self._output = output
        self._identifiers = identifiers
        self._last_received = last_received
        # By packet identifier, what waits for the reason codes.
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        # Why the connection has ended.
        self._ended = ""

    async def subscribe(self, filters: Sequence[str], *, retain_as_published: bool) -> None:
        """Subscribe to topic filters at QoS 1; returns when the broker has acknowledged.

        Args:
            filters: What to subscribe to.
            retain_as_published: Whether messages keep the retain flag that they were published with.

        Raises:
            BrokerUnavailable: The broker did not acknowledge, or refused a filter.
        """
        identifier = self._identifiers.take()
        packet = mqtt5_packets.subscribe(identifier, filters, retain_as_published=retain_as_published)
        codes = await self._ask(identifier, packet)
        refused = [name for name, code in zip(filters, codes, strict=False) if is_failure(code)]
        if len(codes) != len(filters):
            refused = list(filters)
        if refused:
            raise SubscriptionRefused(refused)

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Unsubscribe from topic filters; returns when the broker has acknowledged.

        Raises:
            BrokerUnavailable: The broker did not acknowledge.
        """
        identifier = self._identifiers.take()
        await self._ask(identifier, mqtt5_packets.unsubscribe(identifier, filters))

    def acknowledge(self, identifier: int, codes: bytes) -> None:
        """Note an acknowledgement with its reason codes, one for each filter."""
        answer = self._asked.get(identifier)
        if answer is not None and not answer.done():
            answer.set_result(codes)

    def end(self, reason: str) -> None:
        """Note why the connection has ended; what waits fails."""
        self._ended = f"the broker is gone: {reason}"
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(BrokerUnavailable(self._ended))

    async def _ask(self, identifier: int, packet: bytes) -> bytes:
        """Send a packet, and return the reason codes of its acknowledgement.

        Raises:
            BrokerUnavailable: The broker does not acknowledge, or is gone.
        """
        if self._ended:
            raise BrokerUnavailable(self._ended)
        answer = self._asked[identifier] = asyncio.get_running_loop().create_future()
        self._output.send(packet)
        try:
            return await while_alive(_within(answer, PATIENCE_SECONDS), self._last_received)
        except TimeoutError as error:
            raise BrokerUnavailable("the broker does not acknowledge a subscription") from error
        finally:
            self._asked.pop(identifier, None)
            self._identifiers.used.discard(identifier)


async def _within(answer: "asyncio.Future[bytes]", seconds: float) -> bytes:
    """Wait for an answer.

    Raises:
        TimeoutError: It does not come in time.
    """
    async with asyncio.timeout(seconds):
        return await answer
