"""The topics of the bus besides those of requests, as the AsyncAPI document describes them."""

from dataclasses import dataclass

from aliciacfg.api.answers import HealthAnswer
from aliciacfg.api.bus_messages import AppliedReport, UpdateMessage
from aliciacfg.documents import JsonObject
from aliciacfg.model import names
from aliciacfg.monitoring.alerts import Alert
from aliciacfg.mqtt import topics
from aliciacfg.operations import json_schemas

TEXT: JsonObject = {"type": "string"}
ENVELOPE: JsonObject = {
    "title": "Envelope",
    "description": "In what the programs of the home wrap what they say; `payload` may be an envelope's payload again.",
    "type": "object",
    "properties": {
        "message_id": {"type": "string", "description": "A UUID; a request without `request_id` is known by it."},
        "timestamp": {"type": "number", "description": "Unix seconds."},
        "source": {"type": "string", "description": "Who says to have sent it; never an identity."},
        "destination": {"type": "string", "description": "`broadcast`, or the source of the request."},
        "message_type": {"type": "string", "description": "`event`, `request`, `response` …"},
        "priority": TEXT,
        "ttl": {"type": "number", "description": "Seconds."},
        "payload": {"type": "object"},
        "routing": {"type": "object", "properties": {"hops": {"type": "integer"}, "max_hops": {"type": "integer"}}},
    },
    "required": ["message_id", "payload"],
}
_DISCOVERY: JsonObject = {
    "type": "object",
    "properties": {
        "service_name": TEXT,
        "status": TEXT,
        "timestamp": {"type": "number"},
        "capabilities": {"type": "array", "items": TEXT},
        "version": TEXT,
    },
    "required": ["service_name"],
}
_DEVICE: JsonObject = {"type": "object", "properties": {"device_id": TEXT}, "required": ["device_id"]}
_ACTIVE: JsonObject = {
    "type": "object",
    "properties": {
        "environment": {"type": "string", "description": "The active one."},
        "epoch": {"type": "integer", "description": "Raised when a database is restored from a backup."},
    },
    "required": ["environment", "epoch"],
}
_KEY: JsonObject = {
    "type": "object",
    "properties": {
        "key_id": {"type": "string", "description": "The first 16 hex digits of the key's SHA-256."},
        "public_key": {"type": "string", "description": "X25519, standard base64; seal with it for the daemon."},
    },
    "required": ["key_id", "public_key"],
}


@dataclass(frozen=True, slots=True)
class BusTopic:
    """A topic beside the requests.

    Attributes:
        payload: Schema of what is said there.
        sent: The daemon publishes there.
        received: The daemon listens there.
        retained: The broker keeps the newest.
        wrapped: It comes in the envelope.
        answer: To the Response Topic, where there is one.
    """

    name: str
    address: str
    summary: str
    payload: JsonObject
    sent: bool = False
    received: bool = False
    retained: bool = False
    wrapped: bool = False
    answer: JsonObject | None = None
    parameters: tuple[str, ...] = ()


HEALTH_MESSAGE = "HealthMessage"
TOPICS = (
    BusTopic(
        "update", topics.UPDATE + "{service}",
        "What a service finds at its start, and receives after every change. Apply it if its `environment` or `epoch` "
        "differs from what you hold or its `revision` is higher. An empty payload: there is no configuration any more.",
        json_schemas.one_of([UpdateMessage]), sent=True, retained=True, parameters=("service",),
    ),
    BusTopic("environment", topics.ENVIRONMENT, "Which environment is active", _ACTIVE, sent=True, retained=True),
    BusTopic("key", topics.KEY, "What secrets for the daemon are sealed with", _KEY, sent=True, retained=True),
    BusTopic(
        "applied", topics.APPLIED + "{service}", "What a service says after it took, or refused, an update",
        json_schemas.one_of([AppliedReport]), received=True, parameters=("service",),
    ),
    BusTopic(
        "alert", topics.ALERT + "{kind}", "What an operator has to know", json_schemas.one_of([Alert]),
        sent=True, parameters=("kind",),
    ),
    BusTopic(
        "health", topics.HEALTH, "How the daemon is; the last will says `offline`",
        {"$ref": f"#/components/schemas/{HEALTH_MESSAGE}"}, sent=True, retained=True, wrapped=True,
    ),
    BusTopic(
        "health_check", topics.HEALTH_CHECK, "Makes the daemon publish its health, and answer a Response Topic",
        {"description": "Anything."}, received=True, answer=json_schemas.one_of([HealthAnswer]),
    ),
    BusTopic(
        "register", topics.REGISTER,
        "A service announces itself: it gets its update published again, or its first configuration. The daemon says "
        "it of itself, once per connection.",
        _DISCOVERY, sent=True, received=True, wrapped=True,
    ),
    BusTopic("unregister", topics.UNREGISTER, "A service says goodbye", _DISCOVERY, received=True, wrapped=True),
    BusTopic(
        "devices", topics.DEVICES, "Asks the home's device registry, once per connection",
        {"type": "object", "properties": {"requester": TEXT}, "required": ["requester"]}, sent=True, wrapped=True,
    ),
    BusTopic(
        "devices_answer", topics.DEVICES_ANSWER, "The device registry's answer",
        {"type": "object", "properties": {"devices": {"type": "array", "items": _DEVICE}}, "required": ["devices"]},
        received=True, wrapped=True,
    ),
    BusTopic("device_registered", topics.DEVICE_REGISTERED, "A new device", _DEVICE, received=True, wrapped=True),
    BusTopic("device_deregistered", topics.DEVICE_DEREGISTERED, "A device less", _DEVICE, received=True, wrapped=True),
)  # fmt: skip
PARAMETERS: dict[str, JsonObject] = {
    "service": {"description": f"The name of a service: `{names.PATTERN}`, and no operation's name."},
    "environment": {"description": "The name of an environment."},
    "requester": {"description": "Who asks: a service or a user, as the broker knows it."},
    "kind": {"description": "`validation_failed`, `tamper`, `undelivered`, `drift` …"},
}
