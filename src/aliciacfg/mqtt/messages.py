"""The messages that pass between the daemon and the broker, apart from the library that carries them."""

from typing import Literal

import msgspec

Protocol = Literal["5", "3.1.1"]
"""The versions of MQTT that the daemon speaks."""


class Inbound(msgspec.Struct, frozen=True):
    """A message from the broker.

    Attributes:
        retained: The broker had kept it from before the subscription.
        response_topic: MQTT 5 §3.3.2.3.5, as the broker passed it on; not checked.
        correlation_data: MQTT 5 §3.3.2.3.6.
    """

    topic: str
    payload: bytes
    qos: int
    retained: bool
    response_topic: str | None = None
    correlation_data: bytes | None = None


class Will(msgspec.Struct, frozen=True):
    """The message that the broker publishes, retained, when a connection ends without a DISCONNECT."""

    topic: str
    payload: bytes


class Reply(msgspec.Struct, frozen=True):
    """An answer to publish.

    Attributes:
        topic: Where it goes; checked to be allowed.
        payload: JSON.
        success: Sent as the ``status`` user property: ``success`` or ``error``.
        qos: As the request's.
        correlation_data: As the request's.
    """

    topic: str
    payload: bytes
    success: bool
    qos: int
    correlation_data: bytes | None
