"""The topics of the bus besides those of requests, as the AsyncAPI document describes them."""

from dataclasses import dataclass

from aliciacfg.api.answers.health import HealthAnswer
from aliciacfg.api.bus_messages import AppliedReport, EnvironmentMessage, KeyMessage, UpdateMessage
from aliciacfg.bus import topic_names
from aliciacfg.documents import JsonObject
from aliciacfg.model import names
from aliciacfg.monitoring.alerts import Alert
from aliciacfg.mqtt import topics
from aliciacfg.operations import json_schemas

TEXT: JsonObject = {"type": "string"}
ENVELOPE: JsonObject = {
    "title": "Envelope",
    "description": "How the programs of the home wrap their messages; `payload` may hold a `payload` again.",
    "type": "object",
    "properties": {
        "message_id": {
            "type": "string",
            "description": "A UUID; the answer to a request without `request_id` has it as `request_id`.",
        },
        "timestamp": {"type": "number", "description": "Unix seconds."},
        "source": {"type": "string", "description": "The sender by its own account; never an identity."},
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


@dataclass(frozen=True, slots=True)
class BusTopic:
    """A topic besides those of requests.

    Attributes:
        name: The channel's name in the document.
        address: The topic, with its parameters in braces.
        summary: What is published there, and what it is for.
        payload: The schema of the messages, without envelope.
        sent: Whether the daemon publishes there.
        received: Whether the daemon subscribes there.
        retained: Whether messages are retained.
        wrapped: Whether messages are in the envelope.
        answer: The schema of the answer to the Response Topic; None where there is none.
        parameters: Names of ``PARAMETERS``.
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
        "The configuration of a service: retained, and published after every change. Apply it exactly if its `(epoch, "
        "sequence)` is higher than the one that you hold, whatever environment or revision it names. An empty payload "
        "means that there is no configuration any more: forget the one that you hold, and its numbers.",
        json_schemas.one_of([UpdateMessage]), sent=True, retained=True, parameters=("service",),
    ),
    BusTopic(
        "environment", topics.ENVIRONMENT, "The active environment",
        json_schemas.one_of([EnvironmentMessage]), sent=True, retained=True,
    ),
    BusTopic(
        "key", topics.KEY, "The key that secrets for the daemon are sealed with",
        json_schemas.one_of([KeyMessage]), sent=True, retained=True,
    ),
    BusTopic(
        "applied", topics.APPLIED + "{service}",
        "The report of a service that applied or rejected an update",
        json_schemas.one_of([AppliedReport]), received=True, parameters=("service",),
    ),
    BusTopic(
        "alert", topics.ALERT + "{kind}", "An event or a condition that an operator has to know",
        json_schemas.one_of([Alert]), sent=True, parameters=("kind",),
    ),
    BusTopic(
        "health", topics.HEALTH, "The health of the daemon; the last will sets it to `offline`",
        {"$ref": f"#/components/schemas/{HEALTH_MESSAGE}"}, sent=True, retained=True, wrapped=True,
    ),
    BusTopic(
        "health_check", topics.HEALTH_CHECK,
        "Asks the daemon to publish its health, and to answer on the Response Topic if there is one",
        {"description": "Any payload."}, received=True, answer=json_schemas.one_of([HealthAnswer]),
    ),
    BusTopic(
        "register", topics.REGISTER,
        "A service announces itself: its configuration is published again, or its first configuration is made. The "
        "daemon announces itself too, once per connection.",
        _DISCOVERY, sent=True, received=True, wrapped=True,
    ),
    BusTopic(
        "unregister", topics.UNREGISTER, "A service announces that it stops", _DISCOVERY,
        received=True, wrapped=True,
    ),
    BusTopic(
        "devices", topics.DEVICES,
        "Asks the home's device registry for its devices: once per connection, and when the registry announces itself",
        {"type": "object", "properties": {"requester": TEXT}, "required": ["requester"]}, sent=True, wrapped=True,
    ),
    BusTopic(
        "devices_answer", topics.DEVICES_ANSWER, "The device registry's answer",
        {"type": "object", "properties": {"devices": {"type": "array", "items": _DEVICE}}, "required": ["devices"]},
        received=True, wrapped=True,
    ),
    BusTopic(
        "device_registered", topics.DEVICE_REGISTERED, "A device was registered", _DEVICE,
        received=True, wrapped=True,
    ),
    BusTopic(
        "device_deregistered", topics.DEVICE_DEREGISTERED, "A device was deregistered", _DEVICE,
        received=True, wrapped=True,
    ),
    BusTopic(
        "home_assistant_device", f"{{prefix}}/device/{topic_names.HA_NODE}/{{device}}/config",
        "A device message of Home Assistant's MQTT discovery, if `ALICIACFG_HOME_ASSISTANT` is on; an empty payload "
        "removes the device",
        {"type": "object", "required": ["device", "origin", "components"]}, sent=True, retained=True,
        parameters=("prefix", "device"),
    ),
    BusTopic(
        "home_assistant_state", topic_names.HA_STATE + "{device}", "What the entities of a device show, by entity",
        {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}}, sent=True, retained=True,
        parameters=("device",),
    ),
    BusTopic(
        "home_assistant_availability", topic_names.HA_AVAILABILITY,
        "Whether commands are carried out; the last will sets it to `offline`",
        {"type": "string", "enum": ["online", "offline"]}, sent=True, retained=True,
    ),
    BusTopic(
        "home_assistant_event", topic_names.HA_EVENT + "{device}",
        "What happened: a new revision, one that was rejected, a command that was refused, another environment",
        {"type": "object", "required": ["event_type"], "properties": {
            "event_type": {"enum": ["revision", "rejected", "refused", "activated"]}}},
        sent=True, parameters=("device",),
    ),
    BusTopic(
        "home_assistant_command", topic_names.HA_SET + "{device}/{entity}",
        "A command of Home Assistant: sets one setting, or is refused and has the state published again",
        TEXT, received=True, parameters=("device", "entity"),
    ),
    BusTopic(
        "home_assistant_status", "{prefix}/status",
        "Home Assistant says that it started (`online`); everything is published again some seconds later",
        TEXT, received=True, parameters=("prefix",),
    ),
)  # fmt: skip
PARAMETERS: dict[str, JsonObject] = {
    "service": {"description": f"The name of a service: `{names.PATTERN}`, and no operation's name."},
    "environment": {"description": "The name of an environment."},
    "requester": {"description": "The service or user that asks, by its name at the broker."},
    "prefix": {"description": "The discovery prefix of Home Assistant: `homeassistant`."},
    "device": {"description": "A service, encoded as the reference of MQTT says; `aliciacfg-_home` for the home."},
    "entity": {"description": "A setting, encoded as the reference of MQTT says."},
    "kind": {"description": "`validation_failed`, `tamper`, `restored`, `undelivered`, `drift` …"},
}
