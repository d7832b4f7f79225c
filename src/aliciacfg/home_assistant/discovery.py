"""Device messages of Home Assistant's MQTT discovery, and the states that their entities read.

The fields are those of its device-based discovery. Those that only a newer Home Assistant knows are in the components,
where an older one ignores what it does not know; at the level of the device it would refuse the message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import OperationError
from aliciacfg.home_assistant import identifiers, topics, values
from aliciacfg.home_assistant.entities import Entity
from aliciacfg.home_assistant.identifiers import OWN

ORIGIN = "aliciacfg"
"""The ``origin.name`` of all our device messages: by it what was published is found again."""

DRIFT = f"status{OWN}drift"
RESTART = f"status{OWN}restart"
EVENTS = f"status{OWN}event"
ENVIRONMENT = f"home{OWN}environment"
STAGED = f"home{OWN}staged"
ACTIVATE = f"home{OWN}activate"

OWN_ENTITIES = 3
"""How many entities every service has besides those of its settings."""

REVISION, REFUSED, REJECTED, ACTIVATED = "revision", "refused", "rejected", "activated"
_SERVICE_EVENTS: list[Json] = [REVISION, REFUSED, REJECTED]
_HOME_EVENTS: list[Json] = [ACTIVATED, REFUSED]


@dataclass(frozen=True, slots=True)
class MessageOptions:
    """How messages are made.

    Attributes:
        version: The daemon's.
        console_url: The address of the console as browsers reach it; None if it is not known.
        expiry_seconds: How long a command may wait at the broker; None where the broker cannot let one expire.
    """

    version: str
    console_url: str | None = None
    expiry_seconds: int | None = None


def service_device(service: str, entities: Sequence[Entity], message_options: MessageOptions) -> JsonObject:
    """Return the device message of a service."""
    of = _Device(topics.identifier_of(service), identifiers.slug(service), message_options)
    problem: JsonObject = {"device_class": "problem"}
    components: JsonObject = {
        DRIFT: of.component(DRIFT, "binary_sensor", "Drift", of.shown(DRIFT, problem)),
        RESTART: of.component(RESTART, "binary_sensor", "Restart pending", of.shown(RESTART, problem)),
        EVENTS: of.events(_SERVICE_EVENTS),
    }
    components.update((entity.id, _setting(of, entity)) for entity in entities)
    device: JsonObject = {"name": identifiers.title(service), "model": "Service"}
    return of.message(device, f"services/{quote(service, safe='')}", components)


def home_device(staged: Sequence[str] | None, message_options: MessageOptions) -> JsonObject:
    """Return the device message of the home.

    Args:
        staged: The environments to choose from; None where Home Assistant may not activate any.
        message_options: How messages are made.
    """
    of = _Device(topics.HOME, ORIGIN, message_options)
    components: JsonObject = {
        ENVIRONMENT: of.component(ENVIRONMENT, "sensor", "Environment", of.shown(ENVIRONMENT, {"icon": "mdi:layers"})),
        EVENTS: of.events(_HOME_EVENTS),
    }
    if staged is not None:
        stage: JsonObject = {"icon": "mdi:layers-edit", "enabled_by_default": False, "options": list(staged)}
        press: JsonObject = {"icon": "mdi:play", "enabled_by_default": False, "payload_press": values.PRESS}
        components[STAGED] = of.component(
            STAGED, "select", "Next environment", of.shown(STAGED, of.commands(STAGED, stage)), category="config"
        )
        components[ACTIVATE] = of.component(
            ACTIVATE, "button", "Activate the next environment", of.commands(ACTIVATE, press), category="config"
        )
    return of.message({"name": "aliciacfg", "model": "Config service"}, "environments", components)


def service_state(document: JsonObject, entities: Iterable[Entity], *, drift: bool, restart: bool) -> JsonObject:
    """Return the state of a service's device."""
    state: JsonObject = {DRIFT: values.on_or_off(drift), RESTART: values.on_or_off(restart)}
    for entity in entities:
        value = documents.find(document, entity.pointer)
        state[entity.id] = None if isinstance(value, UnsetType) else values.to_state(entity, value)
    return state


def removals(before: Mapping[str, str], message: JsonObject) -> JsonObject | None:
    """Return what has to be published first so that components disappear; None if none does.

    Home Assistant removes a component whose platform stands alone. One that is merely left out it keeps.

    Args:
        before: The platform by component of the message that is retained now.
        message: The message that is to take its place.
    """
    components = message["components"]
    if not isinstance(components, dict):
        return None
    gone: JsonObject = {
        name: {"platform": platform} for name, platform in before.items() if platform != _platform(components.get(name))
    }
    return {**message, "components": {**components, **gone}} if gone else None


def read_back(payload: bytes) -> dict[str, str] | None:
    """Return the platform by component of a retained device message; None if we have not published it."""
    try:
        message = documents.decode(payload)
    except OperationError:
        return None
    origin = message.get("origin") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(origin, dict) or origin.get("name") != ORIGIN:
        return None
    components = message.get("components")
    found = components.items() if isinstance(components, dict) else ()
    return {name: platform for name, component in found if (platform := _platform(component)) is not None}


def _platform(component: Json) -> str | None:
    platform = component.get("platform") if isinstance(component, dict) else None
    return platform if isinstance(platform, str) else None


def _setting(of: "_Device", entity: Entity) -> JsonObject:
    """Return the component of a setting."""
    fields: JsonObject = {} if entity.icon is None else {"icon": entity.icon}
    if entity.unit is not None:
        fields["unit_of_measurement"] = entity.unit
    if entity.platform == "number":
        fields |= {"min": entity.minimum, "max": entity.maximum, "step": entity.step, "mode": "box"}
    if entity.platform == "select":
        fields["options"] = [shown for shown, _ in entity.options]
    if entity.writable:
        fields = of.commands(entity.id, fields)
    category = "config" if entity.writable else "diagnostic"
    return of.component(
        entity.id, entity.platform, entity.name, of.shown(entity.id, fields), category=category, slug=entity.slug
    )


@dataclass(frozen=True, slots=True)
class _Device:
    """What the components of a device have in common.

    Attributes:
        identifier: Of the device.
        slug: What the default entity ids begin with.
        message_options: How messages are made.
    """

    identifier: str
    slug: str
    message_options: MessageOptions

    def component(
        self,
        component: str,
        platform: str,
        name: str,
        fields: JsonObject,
        *,
        category: str = "diagnostic",
        slug: str | None = None,
    ) -> JsonObject:
        """Return a component; ``slug`` ends its default entity id, or else the name does."""
        return {
            "platform": platform,
            "unique_id": f"{ORIGIN}_{self.identifier}_{component}",
            "default_entity_id": f"{platform}.{self.slug}_{slug or identifiers.slug(name)}",
            "name": name,
            "entity_category": category,
            **fields,
        }

    def shown(self, component: str, fields: JsonObject) -> JsonObject:
        """Return the fields of an entity that has a state."""
        # An entity that the state does not have yet shows nothing so, and logs no error.
        return {"value_template": f"{{{{ value_json.get('{component}') }}}}", **fields}

    def commands(self, component: str, fields: JsonObject) -> JsonObject:
        """Return the fields of an entity that takes commands."""
        made: JsonObject = {"command_topic": topics.command(self.identifier, component), "retain": False, **fields}
        if self.message_options.expiry_seconds is not None:
            made["message_expiry_interval"] = self.message_options.expiry_seconds
        return made

    def events(self, kinds: list[Json]) -> JsonObject:
        """Return the component of what happens."""
        fields: JsonObject = {
            "state_topic": topics.event(self.identifier),
            "event_types": kinds,
            "icon": "mdi:history",
        }
        return self.component(EVENTS, "event", "Changes", fields)

    def message(self, device: JsonObject, page: str, components: JsonObject) -> JsonObject:
        """Return the device message; ``page`` is its page of the console."""
        device = {"identifiers": [f"{ORIGIN}_{self.identifier}"], **device, "manufacturer": ORIGIN}
        if self.message_options.console_url is not None:
            device["configuration_url"] = f"{self.message_options.console_url.rstrip('/')}/#/{page}"
        return {
            "device": device,
            "origin": {"name": ORIGIN, "sw_version": self.message_options.version},
            "availability_topic": topics.AVAILABILITY,
            "state_topic": topics.state(self.identifier),
            "qos": 1,
            "components": components,
        }
