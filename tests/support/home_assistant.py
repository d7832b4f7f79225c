"""A program that behaves as Home Assistant's MQTT integration does, and refuses what that would refuse.

The fields of each platform are those of Home Assistant 2026.11 (homeassistant/components/mqtt: schemas, config and the
module of each platform). A message with any other field would be accepted there and the field ignored, but it would be
one that does nothing; at the level of the device the whole message would be refused.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from machine import SECONDS
from mqtt_clients import Client, Message, client

TOPIC = re.compile(r"homeassistant/device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
_DEVICE_LEVEL = {
    "availability", "availability_mode", "availability_template", "availability_topic", "payload_available",
    "payload_not_available", "device", "components", "child_devices", "origin", "state_topic", "command_topic",
    "message_expiry_interval", "qos", "encoding",
}  # fmt: skip
_DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "model_id", "name", "hw_version", "serial_number",
    "sw_version", "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
_ORIGIN = {"name", "sw_version", "support_url"}
_COMMON = {
    "platform", "qos", "encoding", "group", "entity_picture", "enabled_by_default", "entity_category", "icon",
    "json_attributes_topic", "json_attributes_template", "default_entity_id", "message_expiry_interval", "unique_id",
    "visible_by_default", "name", "availability_topic",
}  # fmt: skip
_SHOWN = {"state_topic", "value_template"}
_COMMANDED = {"command_topic", "command_template", "retain"}
ALLOWED: dict[str, set[str]] = {
    "switch": _COMMON | _SHOWN | _COMMANDED
    | {"optimistic", "payload_on", "payload_off", "state_on", "state_off", "device_class"},
    "number": _COMMON | _SHOWN | _COMMANDED
    | {"optimistic", "min", "max", "step", "mode", "payload_reset", "unit_of_measurement", "device_class"},
    "select": _COMMON | _SHOWN | _COMMANDED | {"optimistic", "options"},
    "button": _COMMON | _COMMANDED | {"payload_press", "device_class"},
    "sensor": _COMMON | _SHOWN
    | {"device_class", "expire_after", "force_update", "last_reset_value_template", "options", "state_class",
       "suggested_display_precision", "unit_of_measurement"},
    "binary_sensor": _COMMON | _SHOWN
    | {"device_class", "expire_after", "force_update", "off_delay", "payload_on", "payload_off"},
    "event": _COMMON | _SHOWN | {"device_class", "event_types"},
}  # fmt: skip
REQUIRED: dict[str, set[str]] = {
    "switch": {"command_topic"},
    "number": {"command_topic"},
    "select": {"command_topic", "options"},
    "button": {"command_topic"},
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
}
_SHARED = {
    "availability_topic", "payload_available", "payload_not_available", "command_topic", "encoding",
    "message_expiry_interval", "state_topic", "qos",
}  # fmt: skip
_ENTITY_ID = re.compile(r"([a-z_]+)\.[a-z0-9_]+")
_TEMPLATE = re.compile(r"\{\{ value_json\.get\('([A-Za-z0-9_-]+)'\) \}\}")


def check(topic: str, message: Any) -> None:
    """Fail for a device message that Home Assistant would refuse, or of which it would ignore something."""
    assert TOPIC.fullmatch(topic), topic
    assert set(message) <= _DEVICE_LEVEL
    assert set(message["device"]) <= _DEVICE
    assert message["device"]["identifiers"]
    assert set(message["origin"]) <= _ORIGIN
    assert message["origin"]["name"]
    if (url := message["device"].get("configuration_url")) is not None:
        assert re.fullmatch(r"https?://[^\s]+", url)
    assert message["components"]
    for name, component in message["components"].items():
        _check_component(name, component, message)


def _check_component(name: str, component: dict[str, Any], message: dict[str, Any]) -> None:
    platform = component["platform"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", name), name
    assert platform in ALLOWED
    if len(component) == 1:
        return
    assert set(component) <= ALLOWED[platform], (name, set(component) - ALLOWED[platform])
    assert component["unique_id"]
    inherited = {key: message[key] for key in _SHARED if key in message}
    whole = {**inherited, **component}
    assert set(whole) >= REQUIRED[platform]
    found = _ENTITY_ID.fullmatch(component["default_entity_id"])
    assert found is not None, component["default_entity_id"]
    assert found[1] == platform
    # A sensor that is a setting is refused.
    allowed = {"diagnostic"} if platform in {"sensor", "binary_sensor"} else {"config", "diagnostic"}
    assert component["entity_category"] in allowed
    if "icon" in component:
        assert ":" in component["icon"]
    if "value_template" in component:
        assert _TEMPLATE.fullmatch(component["value_template"])
    for key in ("state_topic", "command_topic", "availability_topic"):
        assert not set("+#") & set(whole.get(key, ""))
    if platform == "number":
        assert -(2**53) <= component["min"] < component["max"] <= 2**53
        assert component["step"] >= 0.001
        assert component["mode"] in {"auto", "box", "slider"}
    if platform in {"select", "event"}:
        listed = component["options" if platform == "select" else "event_types"]
        assert listed
        assert len(set(listed)) == len(listed)
        assert all(isinstance(item, str) and item.strip() for item in listed)
    assert not component.get("retain", False)


@dataclass
class Entity:
    """An entity as Home Assistant has it.

    Attributes:
        component: Its identifier in the device.
        config: Its fields, those of the device included.
        state: What it shows; None for unknown.
        events: What an ``event`` told.
    """

    component: str
    config: dict[str, Any]
    state: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def platform(self) -> str:
        return self.config["platform"]

    def show(self, message: Message) -> None:
        """Take a state as the integration does; fail where it would log an error."""
        if self.platform == "button":
            return
        if self.platform == "event":
            if not message.retained:
                told = message.json
                assert told.pop("event_type") in self.config["event_types"]
                self.events.append({**message.json, **told})
            return
        found = _TEMPLATE.fullmatch(self.config["value_template"])
        assert found is not None
        rendered = str(message.json.get(found[1]))
        if rendered == "None":
            self.state = None
            return
        match self.platform:
            case "switch" | "binary_sensor":
                assert rendered in {"ON", "OFF"}
            case "number":
                assert self.config["min"] <= float(rendered) <= self.config["max"]
            case "select":
                assert rendered in self.config["options"]
            case _:
                assert len(rendered) <= 255
        self.state = rendered


@dataclass
class HomeAssistant:
    """Home Assistant on a bus.

    Attributes:
        devices: The components of each device by the topic of its message.
        received: Every device message that came live, in order.
        available: The availability by its topic.
    """

    bus: Client
    devices: dict[str, dict[str, Entity]] = field(default_factory=dict)
    received: list[tuple[str, bytes]] = field(default_factory=list)
    available: dict[str, str] = field(default_factory=dict)
    _last: dict[str, Message] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wrong: BaseException | None = None

    async def run(self) -> None:
        """Follow the bus; what Home Assistant would refuse fails the test that waits."""
        try:
            while True:
                message = await self.bus.next(3600)
                self._take(message)
                self._changed.set()
        except BaseException as error:
            self._wrong = error
            self._changed.set()
            raise

    def _take(self, message: Message) -> None:
        topic = message.topic
        if topic.startswith("homeassistant/"):
            if not message.retained:
                self.received.append((topic, message.payload))
            self._discover(topic, message)
            return
        self._last[topic] = message
        if topic == "alicia/ha/availability":
            self.available[topic] = message.payload.decode()
        elif message.payload:
            for entity in self.entities():
                if entity.config.get("state_topic") == topic:
                    entity.show(message)

    def _discover(self, topic: str, message: Message) -> None:
        if not message.payload:
            self.devices.pop(topic, None)
            return
        found = message.json
        check(topic, found)
        inherited = {key: found[key] for key in _SHARED if key in found}
        known = self.devices.setdefault(topic, {})
        for name, component in found["components"].items():
            if len(component) == 1:
                gone = known.get(name)
                if gone is not None and gone.platform == component["platform"]:
                    del known[name]
                continue
            entity = known.get(name)
            assert entity is None or entity.platform == component["platform"], "its platform cannot change"
            config = {**inherited, **component}
            if entity is None:
                entity = known[name] = Entity(name, config)
            entity.config = config
            if (state := self._last.get(config.get("state_topic", ""))) is not None and state.payload:
                entity.show(Message(state.topic, state.payload, True))

    def entities(self, service: str = "") -> list[Entity]:
        """The entities of a service, or all."""
        topics = [topic for topic in self.devices if not service or topic.endswith(f"/{service}/config")]
        return [entity for topic in topics for entity in self.devices[topic].values()]

    def entity(self, service: str, component: str) -> Entity:
        """An entity; LookupError if there is none."""
        return {entity.component: entity for entity in self.entities(service)}[component]

    def events(self, service: str) -> list[dict[str, Any]]:
        """What the event entity of a service told."""
        return next((entity.events for entity in self.entities(service) if entity.platform == "event"), [])

    async def until(self, holds: Callable[[], Any], *, seconds: float = SECONDS, why: str = "") -> None:
        """Wait until something holds; it may raise LookupError until then."""

        def is_so() -> bool:
            with contextlib.suppress(LookupError):
                return bool(holds())
            return False

        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    if self._wrong is not None:
                        raise self._wrong
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {why}") from None

    async def command(self, entity: Entity, payload: str, **more: Any) -> None:
        """Publish a command as the integration does."""
        config = entity.config
        expiry = {} if self.bus.protocol != 5 else {"MessageExpiryInterval": config["message_expiry_interval"]}
        await self.bus.publish(config["command_topic"], payload, qos=config["qos"], **expiry, **more)

    async def change(self, service: str, component: str, payload: str) -> float:
        """Give a command and wait until the entity shows it; return the seconds that it took."""
        entity = self.entity(service, component)
        began = time.perf_counter()
        await self.command(entity, payload)
        await self.until(lambda: entity.state == payload, why=f"{service} {component} is {payload}")
        return time.perf_counter() - began

    async def start(self) -> None:
        """Announce that it started, as it does when it has subscribed to everything."""
        await self.bus.publish("homeassistant/status", "online")


@contextlib.asynccontextmanager
async def home_assistant(port: int, *, protocol: int = 5, **options: Any) -> AsyncGenerator[HomeAssistant, None]:
    """Home Assistant on the bus of a port, until the context ends."""
    async with client(port, protocol=protocol, **options) as bus:
        made = HomeAssistant(bus)
        await bus.subscribe("alicia/ha/availability", "alicia/ha/state/+", "alicia/ha/event/+")
        await bus.subscribe("homeassistant/device/+/config", "homeassistant/device/+/+/config")
        following = asyncio.create_task(made.run())
        try:
            yield made
            if following.done():
                following.result()
        finally:
            following.cancel()
            await asyncio.wait({following})


async def left_behind(port: int, *, protocol: int) -> list[str]:
    """The retained messages that a broker holds for Home Assistant."""
    async with client(port, protocol=protocol) as bus:
        return [*await bus.retained("homeassistant/#"), *await bus.retained("alicia/ha/#")]
