"""The messages that pass between the daemon and the broker, apart from the library that carries them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message from the broker.

    Attributes:
        response_topic: MQTT 5 §3.3.2.3.5, as the broker passed it on; not checked.
        correlation_data: MQTT 5 §3.3.2.3.6.
        retained: The broker had kept it from before the subscription.
    """

    topic: str
    payload: bytes
    qos: int
    retained: bool
    response_topic: str | None = None
    correlation_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this connection dies."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way.

    Attributes:
        topic: Where it goes; found allowed.
        payload: JSON.
        success: Told in the ``status`` user property.
    """

    topic: str
    payload: bytes
    success: bool
    qos: int
    correlation_data: bytes | None
