"""Messages of services about themselves: that they start and stop."""

from aliciacfg import documents
from aliciacfg.api.fields import SOURCE
from aliciacfg.errors import OperationError
from aliciacfg.model import names
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.mqtt import devices, envelope, topics
from aliciacfg.mqtt.devices import DeviceRegistry
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.operations.health import Health
from aliciacfg.operations.registrations import Registrations

_MAX_MESSAGE_BYTES = 64 * 1024
_MAX_SHOWN_NAME = 80
_MAX_REFUSED = 1024

_CAPABILITIES = [
    "configuration_management",
    "dynamic_updates",
    "environment_handling",
    "validation",
    "service_discovery",
]


class Registration:
    """Registers services, and makes the daemon's own registration."""

    def __init__(
        self, registrations: Registrations, *, health: Health, alerts: Alerts, device_registry: DeviceRegistry
    ) -> None:
        """Make the registration of a daemon.

        Args:
            registrations: Registers and unregisters.
            health: Has the daemon's version and time.
            alerts: Raised once for each name that gets no configuration.
            device_registry: Learns that the home's device registry came or went.
        """
        self._registrations = registrations
        self._health = health
        self._alerts = alerts
        self._device_registry = device_registry
        # Names that were alerted; forgotten all at once when they are many.
        self._refused: set[str] = set()

    def announcement(self) -> bytes:
        """Return the daemon's own registration."""
        health = self._health.now()
        return envelope.wrap(
            documents.encode(
                {
                    "service_name": SOURCE,
                    "status": "online",
                    "timestamp": health.timestamp,
                    "capabilities": _CAPABILITIES,
                    "version": health.version,
                }
            )
        )

    async def on_discovery(self, inbound: Inbound) -> None:
        """Register or unregister the service that a discovery message is about; other messages are ignored."""
        name = _service_name(inbound.payload)
        if name is None or name == SOURCE:
            return
        registers = inbound.topic == topics.REGISTER
        if name == devices.REGISTRY:
            self._device_registry.on_discovery(present=registers)
        try:
            if registers:
                await self._registrations.register(name)
            else:
                await self._registrations.unregister(name)
        except OperationError as error:
            self._alert_once(name[:_MAX_SHOWN_NAME], error)

    def _alert_once(self, name: str, error: OperationError) -> None:
        if name in self._refused:
            return
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused.add(name)
        reason = (error.logged_message or error.code).rstrip(".")
        message = (
            f"A program announced itself under a name that no service can have: {names.SERVICE_FORM}."
            if names.service_problem(name)
            else f"{name!r} announced itself, but gets no configuration: {reason}. Define it in the environment files, "
            "or set it."
        )
        self._alerts.emit("validation_failed", message, problems=error.problems)


def _service_name(payload: bytes) -> str | None:
    """Return the service that a discovery message is about; None for devices and everything else on the bus."""
    if len(payload) > _MAX_MESSAGE_BYTES:
        return None
    try:
        name = envelope.open_payload(payload).content.get("service_name")
    except OperationError:
        return None
    return name if isinstance(name, str) else None
