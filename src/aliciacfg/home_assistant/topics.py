"""The topics between the daemon and Home Assistant."""

from dataclasses import dataclass

from aliciacfg.bus.topic_names import HA_AVAILABILITY, HA_EVENT, HA_NODE, HA_SET, HA_STATE
from aliciacfg.home_assistant.identifiers import OWN, encode

__all__ = [
    "AVAILABILITY", "HOME", "OFFLINE", "ONLINE", "SET", "STATE", "Topics", "command", "event", "identifier_of",
    "parse_command", "state",
]  # fmt: skip

AVAILABILITY, SET, STATE = HA_AVAILABILITY, HA_SET, HA_STATE

ONLINE, OFFLINE = b"online", b"offline"
"""The payloads of the availability topic, and of the one on which Home Assistant announces itself."""

HOME = f"{HA_NODE}{OWN}home"
"""The device of the home itself; no service has this identifier."""

_CONFIG = "/config"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one home.

    Attributes:
        prefix: Where Home Assistant looks for devices, ``homeassistant`` unless that was changed there.
        status: Where it announces that it started or stops.
    """

    prefix: str
    status: str

    @property
    def devices(self) -> str:
        """What every topic of our device messages begins with."""
        return f"{self.prefix}/device/{HA_NODE}/"

    @property
    def all_devices(self) -> str:
        """The filter of our device messages."""
        return f"{self.devices}+{_CONFIG}"

    def device(self, identifier: str) -> str:
        """Return the topic of a device message."""
        return f"{self.devices}{identifier}{_CONFIG}"

    def is_device(self, topic: str) -> bool:
        """Return whether a topic is one of device messages."""
        return topic.startswith(self.devices) and topic.endswith(_CONFIG)

    def owns(self, topic: str) -> bool:
        """Return whether only the daemon publishes on a topic, and retains what it publishes there."""
        return topic.startswith(STATE) or topic == AVAILABILITY or self.is_device(topic)


def state(identifier: str) -> str:
    """Return the topic of a device's state."""
    return STATE + identifier


def event(identifier: str) -> str:
    """Return the topic of a device's events."""
    return HA_EVENT + identifier


def command(identifier: str, entity: str) -> str:
    """Return the topic of an entity's commands."""
    return f"{SET}{identifier}/{entity}"


def parse_command(topic: str) -> tuple[str, str] | None:
    """Return the identifiers of device and entity that a command is for; None for another topic."""
    levels = topic.removeprefix(SET).split("/")
    return (levels[0], levels[1]) if topic.startswith(SET) and len(levels) == len(("device", "entity")) else None


def identifier_of(service: str) -> str:
    """Return the identifier of a service's device."""
    return encode(service)
