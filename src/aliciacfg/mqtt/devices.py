"""The home's device registry as the daemon sees it: how many devices it knows, or that it is absent.

A soft dependency: nothing waits for it, and nothing fails without it. It is asked once per connection, and again when
it announces itself, so it does not matter which of the two starts first; between, its announcements are followed.
"""

from itertools import islice

import structlog

from aliciacfg.api.fields import SOURCE
from aliciacfg.documents import JsonObject, decode, encode, type_name
from aliciacfg.errors import OperationError
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.messages import Inbound

_log = structlog.get_logger(__name__)

REGISTRY = "device_registry"
"""The name under which the registry announces itself."""

# Far beyond any home: the registry itself takes 1,000 devices unless it is told otherwise.
_MAX_DEVICES = 10_000
_MAX_MESSAGE_BYTES = 1024 * 1024
_MAX_ID_CHARACTERS = 256


class _Unusable(Exception):
    """A message that says nothing the daemon can use."""


def question() -> bytes:
    """What to publish to be told all devices."""
    return envelope.wrap(encode({"requester": SOURCE}), kind="request", destination=REGISTRY)


class DeviceRegistry:
    """Follows the registry's messages, whatever is in them."""

    def __init__(self) -> None:
        self._known: set[str] | None = None
        self._complained = False

    @property
    def count(self) -> int | None:
        """How many devices the registry knows; None while it has not answered."""
        return None if self._known is None else len(self._known)

    def forget(self) -> None:
        """It is absent until it answers: nobody knows what happened meanwhile."""
        self._known = None
        self._complained = False

    def receive(self, inbound: Inbound) -> None:
        """Take an answer or an announcement; what makes no sense changes nothing, and is logged once."""
        if inbound.retained:
            # The registry retains nothing: what somebody kept is of another time.
            return
        try:
            self._take(inbound.topic, _content(inbound.payload))
        except (OperationError, _Unusable) as error:
            if not self._complained:
                _log.warning("device_registry_not_understood", topic=inbound.topic, reason=str(error)[:200])
            self._complained = True

    def _take(self, topic: str, content: JsonObject) -> None:
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
            # It will be in the answer.
            return
        if topic == topics.DEVICE_DEREGISTERED:
            self._known.discard(name)
        elif len(self._known) < _MAX_DEVICES:
            self._known.add(name)


def _content(payload: bytes) -> JsonObject:
    """What a message says, out of its envelopes.

    Raises:
        OperationError: It is not JSON.
        _Unusable: It is too large, or no object.
    """
    if len(payload) > _MAX_MESSAGE_BYTES:
        raise _Unusable(f"{len(payload)} bytes are more than {_MAX_MESSAGE_BYTES}")
    message = decode(payload)
    if not isinstance(message, dict):
        raise _Unusable(f"the message is {type_name(message)}; expected an object")
    return envelope.open_message(message).content


def _identifier(device: JsonObject) -> str | None:
    name = device.get("device_id")
    return name if isinstance(name, str) and 0 < len(name) <= _MAX_ID_CHARACTERS else None
