"""The messages that pass between the daemon and the broker, apart from the library that carries them.

``gc=False``: they hold strings and bytes, so no circle can go through them, and Python need not look for one.
"""

from typing import Literal

import msgspec

Protocol = Literal["5", "3.1.1"]
"""The versions of MQTT that the daemon speaks."""


class Inbound(msgspec.Struct, frozen=True, gc=False):
    """A message from the broker.

    Attributes:
        payload: Only the beginning of it if the message is ``oversized``.
        retained: The retain flag: the broker had kept the message from before the subscription; under a subscription
            with Retain As Published (MQTT 5 §3.8.3.1) also that it was published so.
        response_topic: MQTT 5 §3.3.2.3.5, as the broker passed it on; not checked.
        correlation_data: MQTT 5 §3.3.2.3.6.
        identifier: The packet identifier to acknowledge it by; 0 at QoS 0.
        oversized: The size of its packet in bytes, if that is more than the daemon reads; else 0.
    """

    topic: str
    payload: bytes
    qos: int
    retained: bool
    response_topic: str | None = None
    correlation_data: bytes | None = None
    identifier: int = 0
    oversized: int = 0


class Will(msgspec.Struct, frozen=True):
    """The message that the broker publishes, retained, when a connection ends without a DISCONNECT.

    Attributes:
        topic: Where it goes.
        payload: What goes there.
        delay_seconds: For how long the broker waits with it, and drops it if the session is continued meanwhile (MQTT 5
            §3.1.3.2.2); MQTT 3.1.1 knows no delay.
    """

    topic: str
    payload: bytes
    delay_seconds: int = 0


class Publication(msgspec.Struct, frozen=True, gc=False):
    """A message to publish.

    Attributes:
        topic: Where it goes.
        payload: What goes there.
        qos: 0 or 1.
        retain: Whether the broker keeps it.
        properties: MQTT 5 §3.3.2.3, encoded by ``aliciacfg.mqtt.packets``; MQTT 3.1.1 leaves them out.
    """

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: bytes = b""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An answer to publish.

    Attributes:
        topic: Where it goes; checked to be allowed.
        payload: JSON.
        success: Sent as the ``status`` user property: ``success`` or ``error``.
        qos: As the request's.
        correlation_data: As the request's.
        request_id: Of the request, which every answer to it repeats.
        destination: To whom the envelope of the answer is addressed.
        depth: In how many envelopes the request came.
    """

    topic: str
    payload: bytes
    success: bool
    qos: int
    correlation_data: bytes | None
    request_id: str | None = None
    destination: str = "broadcast"
    depth: int = 0
