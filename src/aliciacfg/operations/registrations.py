"""Registrations of services on the bus, and their reports of the revision that they run."""

import msgspec

from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.outbox import Outbox, service_subject
from aliciacfg.core.state import State
from aliciacfg.errors import NotFound
from aliciacfg.model.records import Write
from aliciacfg.model.redaction import without_secrets
from aliciacfg.monitoring.instances import Instances
from aliciacfg.operations.health import Health
from aliciacfg.operations.writes import WriteOperations
from aliciacfg.storage.write_queue import WriteQueue


class Registrations:
    """Handles registrations and reports of services."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        state: State,
        outbox: Outbox,
        queue: WriteQueue,
        instances: Instances,
        health: Health,
        writes: WriteOperations,
    ) -> None:
        self._configurations = configurations
        self._state = state
        self._outbox = outbox
        self._queue = queue
        self._instances = instances
        self._health = health
        self._writes = writes

    async def register(self, service: str) -> None:
        """Create the configuration of a service that registers, or publish the existing one again.

        Raises:
            OperationError: The configuration cannot be created; see ``WriteOperations.register``.
        """
        if self._state.head(self._configurations.config_id(service, None)).live is not None:
            self._outbox.repeat(service_subject(service))
        else:
            await self._writes.register(service)
        self._health.services_online[service] = True

    async def unregister(self, service: str) -> None:
        """Record that a service has unregistered, and forget the reports of its instances.

        Raises:
            Unavailable: The store cannot write.
        """
        if service in self._health.services_online:
            self._health.services_online[service] = False
        await self._write(self._instances.forget(service))

    async def applied(self, service: str, report: AppliedReport) -> None:
        """Record the revision that an instance of a service runs.

        Raises:
            InvalidRequest: The name is not a valid service name.
            NotFound: The service has no configuration.
            Unavailable: The store cannot write.
        """
        record = self._state.committed(self._configurations.config_id(service, None)).live
        if record is None:
            raise NotFound(f"There is no configuration of {service}.")
        if report.error:
            # A service may quote the password with which it could not log in; reports are stored, listed and alerted.
            secrets = self._configurations.open_record(record).secrets.values()
            report = msgspec.structs.replace(report, error=without_secrets(report.error, secrets))
        await self._write(self._instances.report(service, report))
        self._instances.check_service(service)

    async def _write(self, write: Write | None) -> None:
        if write is not None:
            await self._queue.submit(write)
