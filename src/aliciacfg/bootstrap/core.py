"""The parts of a daemon that know no transport, and how they start."""

from collections.abc import Awaitable
from dataclasses import dataclass

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.core.following import Following
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.order import Order
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.restore import Restored
from aliciacfg.core.retention import Retention
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.core.state import State
from aliciacfg.errors import Unavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.operations.service import ConfigService
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.membership import Membership
from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import Readiness
from aliciacfg.sources.source_files import SourceFiles
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that know no transport.

    Attributes:
        alerts: Raised by all parts.
        supervisor: Keeps the tasks of the daemon running.
        drift: The findings about what differs from the store.
        instances: What the copies of services run.
        restored: What the store said at the start, without configurations and messages.
        state: The configurations in memory.
        source_files: Reads the files on disk.
        served: What serves a home of several daemons; None where one daemon has the database for itself.
        files: The files in force.
        outbox: What the bus has to hold.
        announcements: Keeps the outbox in step with the state.
        order: Keeps changes for readers in order when the database goes back.
        cache: Encoded answers.
        configurations: The read side.
        commits: The only way to change a configuration.
        reloads: Loads the files.
        retention: Removes what is too old to be kept.
        scrubbing: Removes what was stored in plain text before.
        store: The database.
        condition: What is wrong with the store at present.
        queue: Writes to it.
        audit_log: Records refused access.
        drift_checks: Looks for drift.
        key_rotation: Changes keys.
        following: Follows the other daemons that share the database; None where one daemon has it for itself.
        service: The operations.
        leadership: Whether this daemon does what must happen once in its home.
        readiness: Whether it may take requests over the bus.
        presence: What it is among the daemons of its home.
        membership: Its part among several daemons; None where one daemon has the database for itself.
        session: The MQTT session id of the home; secret, because a client with the same id would end the daemon's
            connection and get its messages.
        home_key: Distinguishes messages between the daemons of the home from those of others; secret.
    """

    alerts: Alerts
    supervisor: Supervisor
    drift: Drift
    instances: Instances
    restored: Restored
    state: State
    source_files: SourceFiles
    served: ServedFiles | None
    files: LoadedFiles
    outbox: Outbox
    announcements: Announcements
    order: Order
    cache: AnswerCache
    configurations: Configurations
    commits: Commits
    reloads: Reloads
    retention: Retention
    scrubbing: Scrubbing
    store: Store
    condition: StoreCondition
    queue: WriteQueue
    audit_log: AuditLog
    drift_checks: DriftChecks
    key_rotation: KeyRotation
    following: Following | None
    service: ConfigService
    leadership: Leadership
    readiness: Readiness
    presence: Presence
    membership: Membership | None
    session: str
    home_key: bytes

    async def start(self, requested_environment: str, *, degraded: bool = True) -> bool:
        """Notice a database that went back, load the files, and announce what the bus does not hold yet.

        Arguments, result and errors as for ``Reloads.start``.
        """
        ordered = await self._stored(self.order.start(await self.store.witnessed()), degraded=degraded)
        complete = await self.reloads.start(self.restored, requested_environment, degraded=degraded)
        announced = await self._stored(self.announcements.reconcile(), degraded=degraded)
        # The run before may have sealed something and ended before it removed the plain copies.
        await self.scrubbing.scrub()
        return ordered and complete and announced

    async def take_over(self) -> None:
        """Begin to lead: have memory and outbox hold everything that another daemon of the home may have published.

        Raises:
            Unavailable: The store cannot be read or written.
        """
        if self.following is not None:
            await self.following.catch_up()
        await self.announcements.reconcile()

    async def _stored(self, step: Awaitable[None], *, degraded: bool) -> bool:
        """Carry out a step of the start; return False if the store cannot write, and ``degraded`` allows that."""
        try:
            await step
        except Unavailable:
            if not degraded:
                raise
            return False
        return True
