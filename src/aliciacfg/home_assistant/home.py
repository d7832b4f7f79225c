"""The home as Home Assistant sees it: which devices there are now, with which entities, and their states."""

import asyncio
from dataclasses import dataclass

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import HOME_ASSISTANT, Caller
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.home_assistant import discovery, topics
from aliciacfg.home_assistant.discovery import OWN_ENTITIES, MessageOptions
from aliciacfg.home_assistant.entities import Entity, Features, entities_of
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances

_ALERT = "home_assistant"
_MAX_PER_SERVICE = 100
_MAX_NAMED = 10
# Services that are looked at before anything else goes on: a millisecond or two.
_SLICE = 10
_NO_RIGHTS = (
    "Access rules or tokens are in force, and they let Home Assistant see nothing. Name home_assistant in "
    "environments/access.yaml: under users, and in allowed_services of the services that it may read or write; or "
    "under admins, for all services and the choice of the environment."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the home appears in Home Assistant.

    Attributes:
        features: Which feature flags.
        environments: In which environments settings appear; empty for all that are not protected.
        max_entities: How many entities at most.
    """

    features: Features = "marked"
    environments: frozenset[str] = frozenset()
    max_entities: int = 1000


@dataclass(slots=True)
class Device:
    """A service in Home Assistant.

    Attributes:
        service: Its name.
        entities: Those of its settings, by identifier.
        left_out: How many more settings would appear, were there room.
        message: The device message.
        state: The state that its entities show.
    """

    service: str
    entities: dict[str, Entity]
    left_out: int = 0
    message: bytes = b""
    state: bytes = b""


@dataclass(slots=True)
class _Troubles:
    """Services of which something needs attention."""

    drift: frozenset[str] = frozenset()
    restart: frozenset[str] = frozenset()


class Home:
    """The devices of a home.

    Attributes:
        devices: By identifier; the home's own is not among them.
        staged: The environment that was chosen to be activated next; None for none.
        has_room: Whether there is room for something that was left out before, so that ``renew`` has to be called.
        message_options: How messages are made.
    """

    def __init__(
        self,
        *,
        state: State,
        files: LoadedFiles,
        authorizer: Authorizer,
        drift: Drift,
        instances: Instances,
        alerts: Alerts,
        choice: Choice,
        message_options: MessageOptions,
    ) -> None:
        """Begin without devices.

        Args:
            state: The configurations.
            files: The files in force, which say which environments are protected.
            authorizer: Decides what Home Assistant may see and change.
            drift: What differs from the store.
            instances: What the copies of services run.
            alerts: Raised while something is left out.
            choice: What appears.
            message_options: How messages are made.
        """
        self._state = state
        self._files = files
        self._authorizer = authorizer
        self._drift = drift
        self._instances = instances
        self._alerts = alerts
        self._choice = choice
        self._troubles = _Troubles()
        # Services whose device was made anew while ``renew`` was at others.
        self._overtaken: set[str] = set()
        self.message_options = message_options
        self.devices: dict[str, Device] = {}
        self.staged: str | None = None
        self.has_room = False

    @property
    def basis(self) -> tuple[object, ...]:
        """What all devices depend on; when it is another one, ``renew`` has to be called."""
        return self._state.active, self._files.current_planner, self._authorizer.access, self.message_options

    @property
    def caller(self) -> Caller:
        """Home Assistant, once the broker proves that commands are its own."""
        return Caller(HOME_ASSISTANT, "mqtt", proven=True)

    @property
    def environment(self) -> str:
        """The active environment."""
        return self._state.active

    @property
    def stages(self) -> list[str] | None:
        """The environments that Home Assistant may choose from; None where it may activate none."""
        if not self.shows_settings or not self._authorizer.access.allows(self.caller, "admin"):
            return None
        sources = self._files.sources
        known = () if sources is None else sources.environments
        return sorted(
            name
            for name in {*known, self._state.active}
            if name == self._state.active or (self._is_shown(name) and not self._files.problems(name))
        )

    def sees(self, service: str) -> bool:
        """Return whether Home Assistant may know of a service."""
        return self._authorizer.access.allows(self.caller, "read", service)

    @property
    def shows_settings(self) -> bool:
        """Whether settings of the active environment appear."""
        return self._is_shown(self._state.active)

    def home_message(self) -> bytes:
        """Return the device message of the home itself."""
        return documents.encode(discovery.home_device(self.stages, self.message_options))

    def home_state(self) -> bytes:
        """Return the state of the home's own device."""
        active = self._state.active
        staged = None if self.stages is None else self.staged or active
        return documents.encode({discovery.ENVIRONMENT: active, discovery.STAGED: staged})

    async def renew(self) -> list[str]:
        """Make all devices anew; return the identifiers of those that differ or are gone."""
        self._troubles = self._look_for_troubles()
        made: dict[str, Device] = {}
        active, room = self._state.active, self._choice.max_entities
        self._overtaken.clear()
        for number, (service, _) in enumerate(list(self._state.live(active))):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            device = self._make(service, room)
            if device is not None:
                made[topics.identifier_of(service)] = device
                room -= _size(device)
        for identifier in map(topics.identifier_of, self._overtaken):
            # It may be newer than what was made here before.
            made.pop(identifier, None)
            if identifier in self.devices:
                made[identifier] = self.devices[identifier]
        before, self.devices = self.devices, made
        self.has_room = False
        self._report_left_out()
        gone = [name for name, device in before.items() if device.message and name not in made]
        return gone + [name for name in made if not _equal(before.get(name), made[name])]

    def refresh(self, service: str) -> bool:
        """Make the device of one service anew; return whether it differs, or is gone."""
        identifier = topics.identifier_of(service)
        self._overtaken.add(service)
        before = self.devices.get(identifier)
        others = sum(_size(device) for name, device in self.devices.items() if name != identifier)
        device = self._make(service, self._choice.max_entities - others)
        if device is not None:
            self.devices[identifier] = device
        elif before is not None:
            del self.devices[identifier]
        if before is not None and _size(before) > (0 if device is None else _size(device)):
            self.has_room = any(other.left_out for other in self.devices.values())
        self._report_left_out()
        return not _equal(before, device)

    def look_for_troubles(self) -> list[str]:
        """Look for drift and copies that wait for a restart; return the services whose state differs by it."""
        before, self._troubles = self._troubles, self._look_for_troubles()
        now = self._troubles
        changed = (before.drift ^ now.drift) | (before.restart ^ now.restart)
        return sorted(service for service in changed if self.refresh(service))

    def _look_for_troubles(self) -> _Troubles:
        return _Troubles(
            frozenset(item.service for item in self._drift.items if item.service is not None),
            frozenset(item.service for item in self._instances.unsettled("restart_pending")),
        )

    def _is_shown(self, environment: str) -> bool:
        """Return whether settings of an environment appear."""
        sources = self._files.sources
        found = None if sources is None else sources.environments.get(environment)
        if found is None or found.protected:
            return False
        return not self._choice.environments or environment in self._choice.environments

    def _make(self, service: str, room: int) -> Device | None:
        """Return the device of a service with as many entities as there is room for; None if it does not appear."""
        entry = self._state.committed(ConfigId(self._state.active, service))
        access = self._authorizer.access
        if entry.live is None or not self.sees(service):
            return None
        found: list[Entity] = []
        document = {} if entry.effective is None else entry.effective.document
        if entry.effective is not None and self.shows_settings:
            found = entities_of(
                entry.effective.schema.tree,
                document,
                secrets=entry.effective.secrets,
                features=self._choice.features,
                writable=access.allows(self.caller, "write", service),
            )
        kept = found[: max(0, min(_MAX_PER_SERVICE, room - OWN_ENTITIES))]
        device = Device(service, {entity.id: entity for entity in kept}, left_out=len(found) - len(kept))
        if room < OWN_ENTITIES:
            device.left_out += OWN_ENTITIES
            return device
        device.message = documents.encode(discovery.service_device(service, kept, self.message_options))
        state = discovery.service_state(
            document, kept, drift=service in self._troubles.drift, restart=service in self._troubles.restart
        )
        device.state = documents.encode(state)
        return device

    def _report_left_out(self) -> None:
        """Raise an alert while something that should appear does not."""
        left_out = {device.service: device.left_out for device in self.devices.values() if device.left_out}
        if left_out:
            named = ", ".join(f"{service} ({count})" for service, count in list(left_out.items())[:_MAX_NAMED])
            more = f" and {len(left_out) - _MAX_NAMED} more" if len(left_out) > _MAX_NAMED else ""
            self._alerts.raise_(
                _ALERT,
                f"Settings are left out of Home Assistant, of {named}{more}: "
                f"there are at most {self._choice.max_entities} entities, and {_MAX_PER_SERVICE} of the settings of "
                "one service. Mark fewer settings, or raise ALICIACFG_HOME_ASSISTANT_MAX_ENTITIES.",
                of="entities",
            )
        else:
            self._alerts.clear(_ALERT, of="entities")
        if not self.devices and self._authorizer.access.enforced and self._state.count(self._state.active):
            self._alerts.raise_(_ALERT, _NO_RIGHTS, of="access")
        else:
            self._alerts.clear(_ALERT, of="access")


def _size(device: Device) -> int:
    """Count the entities of a device."""
    return OWN_ENTITIES + len(device.entities) if device.message else 0


def _equal(one: Device | None, other: Device | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.message == other.message and one.state == other.state and one.entities == other.entities
