"""The home's device registry as the daemon sees it: how many devices it knows, or that it is absent.

A soft dependency: nothing waits for it, and nothing fails without it. It is asked once per connection, and again when
it announces itself, so it does not matter which of the two starts first; between, its announcements are followed.
"""

from collections.abc import Callable
from itertools import islice

import structlog

from aliciacfg.api.fields import SOURCE
from aliciacfg.documents import JsonObject, encode, type_name
from aliciacfg.errors import BrokerUnavailable, OperationError
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Inbound

_log = structlog.get_logger(__name__)

REGISTRY = "device_registry"
"""The name under which the registry announces itself."""

# Far beyond any home: the registry itself accepts 1,000 devices by default.
_MAX_DEVICES = 10_000
_MAX_MESSAGE_BYTES = 1024 * 1024
_MAX_ID_CHARACTERS = 256


class _Unusable(Exception):
    """A message that the daemon cannot use."""


class DeviceRegistry:
    """Asks the registry for its devices and follows its announcements; a message of any content is survived."""

    def __init__(self, *, send: Callable[[str, bytes], None], on_count: Callable[[int | None], None]) -> None:
        """Begin with an absent registry.

        Args:
            send: Publishes a payload on a topic.
            on_count: Called with how many devices the registry knows; None while it is absent.
        """
        self._send = send
        self._on_count = on_count
        # The ids of the devices; None while the registry has not answered.
        self._known: set[str] | None = None
        self._complained = False

    @property
    def count(self) -> int | None:
        """How many devices the registry knows; None while it has not answered."""
        return None if self._known is None else len(self._known)

    async def follow(self, connection: Connection) -> None:
        """Subscribe to the registry's messages and ask it; where the broker refuses that, the home does without."""
        try:
            await connection.subscribe(topics.DEVICE_REGISTRY)
        except BrokerUnavailable as error:
            _log.warning("device_registry_not_followed", reason=str(error))
            return
        # What a session held from before the connection is older than the answer to come.
        self.forget()
        self._ask()

    def on_discovery(self, *, present: bool) -> None:
        """Ask a registry that announced itself; forget one that unregistered."""
        if present:
            self._ask()
        else:
            self.forget()

    def forget(self) -> None:
        """Count the registry as absent until it answers: what happened meanwhile is unknown."""
        self._known = None
        self._complained = False
        self._on_count(None)

    def receive(self, inbound: Inbound) -> None:
        """Apply an answer or an announcement; what cannot be used changes nothing, and is logged once."""
        if inbound.retained:
            # The registry retains nothing: a retained message is of another time.
            return
        try:
            self._apply(inbound.topic, _content(inbound.payload))
        except (OperationError, _Unusable) as error:
            if not self._complained:
                _log.warning("device_registry_not_understood", topic=inbound.topic, reason=str(error)[:200])
            self._complained = True
        else:
            self._on_count(self.count)

    def _ask(self) -> None:
        self._send(topics.DEVICES, envelope.wrap(encode({"requester": SOURCE}), kind="request", destination=REGISTRY))

    def _apply(self, topic: str, content: JsonObject) -> None:
        if topic == topics.DEVICES_ANSWER:
            devices = content.get("devices")
            if not isinstance(devices, list):
                raise _Unusable(f"devices is {type_name(devices)}; expected a list")
            found = (name for device in devices if isinstance(device, dict) and (name := _identifier(device)))
            self._known = set(islice(found, _MAX_DEVICES))
            return
        name = _identifier(content)
        if name is None:
            raise _Unusable("there is no usable device_id")
        if self._known is None:
            # The answer to come will contain it.
            return
        if topic == topics.DEVICE_DEREGISTERED:
            self._known.discard(name)
        elif len(self._known) < _MAX_DEVICES:
            self._known.add(name)


def _content(payload: bytes) -> JsonObject:
    """Return a message out of its envelopes.

    Raises:
        OperationError: It is not a JSON object.
        _Unusable: It is too large.
    """
    if len(payload) > _MAX_MESSAGE_BYTES:
        raise _Unusable(f"{len(payload)} bytes are more than {_MAX_MESSAGE_BYTES}")
    return envelope.open_payload(payload).content


def _identifier(device: JsonObject) -> str | None:
    name = device.get("device_id")
    return name if isinstance(name, str) and 0 < len(name) <= _MAX_ID_CHARACTERS else None
