"""ConfigService: what a daemon answers and knows of itself, whatever the transport."""

import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version as package_version
from typing import Literal

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers import HealthAnswer
from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.api.encoding import Answer
from aliciacfg.api.fields import SOURCE
from aliciacfg.api.requests import Request
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.outbox import service_subject
from aliciacfg.errors import NotFound
from aliciacfg.model import names
from aliciacfg.model.records import Write
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.metrics import Metrics, Readings
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.writes import WriteOperations
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

VERSION = package_version("aliciacfg")


class ConfigService:
    """The operations, and how the daemon is.

    Attributes:
        authorizer: Who may do what.
        audit_log: Told of refused access.
        reads: The operations that read.
        writes: The operations that write.
        admin: The operations for administrators.
        keys: What may be known of the sealing keys.
        metrics: Kept by the adapters and the operations; health tells some of it.
        instance: Names this daemon's data directory on the bus.
        bus_connected: Kept by the bus adapter.
        devices: How many devices the device registry knows; None while it is absent.
    """

    def __init__(
        self,
        *,
        configurations: Configurations,
        store: Store,
        queue: WriteQueue,
        alerts: Alerts,
        drift: Drift,
        instances: Instances,
        authorizer: Authorizer,
        audit_log: AuditLog,
        keys: KeyFile,
        key_rotation: KeyRotation,
        metrics: Metrics,
        instance: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configurations = configurations
        self._queue = queue
        self._alerts = alerts
        self._drift = drift
        self._instances = instances
        self._clock = clock
        self._started = time.monotonic()
        self._online: dict[str, bool] = {}
        self.authorizer = authorizer
        self.audit_log = audit_log
        self.metrics = metrics
        self.reads = ReadOperations(
            configurations,
            authorizer=authorizer,
            audit_log=audit_log,
            instances=instances,
            drift=drift,
            on_read=metrics.accessed,
        )
        self.writes = WriteOperations(
            configurations,
            authorizer=authorizer,
            audit_log=audit_log,
            alerts=alerts,
            on_invalid=self._count_invalid,
        )
        self.keys = key_rotation
        self.admin = AdminOperations(
            configurations,
            store=store,
            queue=queue,
            authorizer=authorizer,
            audit_log=audit_log,
            keys=keys,
            key_rotation=key_rotation,
            clock=clock,
        )
        self.instance = instance
        self.bus_connected = False
        self.devices: int | None = None

    async def health(self, _caller: Caller, _request: Request) -> Answer:
        """How the daemon is."""
        return Answer.of(self.health_now())

    def health_now(self) -> HealthAnswer:
        """How the daemon is, as a value."""
        now = self._clock()
        configurations = self._configurations
        return HealthAnswer(
            service=SOURCE,
            service_name=SOURCE,
            status=self._status(),
            instance=self.instance,
            environment=configurations.active,
            version=VERSION,
            timestamp=now,
            uptime=time.monotonic() - self._started,
            configs_managed=configurations.state.count(configurations.active),
            last_update=configurations.last_update,
            cache_hit_rate=round(configurations.cache.hit_rate, 4),
            validation_errors=self.metrics.validation_errors,
            mqtt_connected=self.bus_connected,
            outbox_pending=configurations.outbox.pending,
            drift=len(self._drift.items),
            device_registry="absent" if self.devices is None else self.devices,
            services_online=sum(self._online.values()),
            messages_processed=self.metrics.messages_processed,
            errors=self.metrics.errors,
            alerts=self._alerts.standing,
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its content type.

        Args:
            accept: The media types that the scraper takes.
        """
        configurations = self._configurations
        readings = Readings(
            cache_hits=configurations.cache.hits,
            cache_misses=configurations.cache.misses,
            revisions=configurations.revisions,
            outbox_pending=configurations.outbox.pending,
            outbox_oldest_seconds=configurations.outbox.oldest_seconds,
            drift=self._drift.counts,
            alerts=Counter(alert.kind for alert in self._alerts.standing_alerts),
            broker_connected=self.bus_connected,
        )
        return self.metrics.exposition(accept, readings)

    @property
    def ready(self) -> bool:
        """Whether store and bus are usable."""
        return self._queue.healthy and self.bus_connected

    async def register(self, service: str) -> None:
        """A service announced itself: give it its configuration, or say again what it is.

        Raises:
            OperationError: It cannot have one: its name, the limit, or its default is not valid.
        """
        names.check_service(service)
        known = self._configurations.state.head((self._configurations.active, service)).live is not None
        if known:
            self._configurations.outbox.repeat(service_subject(service))
        else:
            await self.writes.register(service)
        self._online[service] = True

    async def unregister(self, service: str) -> None:
        """A service said goodbye.

        Raises:
            Unavailable: The store cannot write.
        """
        if service in self._online:
            self._online[service] = False
        await self._write(self._instances.forget(service))

    async def applied(self, service: str, report: AppliedReport) -> None:
        """A copy of a service says what it runs.

        Raises:
            InvalidRequest: No service can have this name.
            NotFound: The service has no configuration.
            Unavailable: The store cannot write.
        """
        names.check_service(service)
        if self._configurations.state.committed((self._configurations.active, service)).live is None:
            raise NotFound(f"There is no configuration of {service}.")
        await self._write(self._instances.report(service, report))
        self._instances.look()

    async def _write(self, write: Write | None) -> None:
        if write is not None:
            await self._queue.submit(write)

    def _count_invalid(self) -> None:
        self.metrics.validation_errors += 1

    def _status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        if not self._queue.healthy:
            return "unhealthy"
        if self._configurations.degraded is not None or not self.bus_connected:
            return "degraded"
        return "healthy"
