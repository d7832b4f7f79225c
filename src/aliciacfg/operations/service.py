"""The operations of one daemon, for every transport."""

from dataclasses import dataclass, field

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core.following import Following
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.batch import BatchOperation
from aliciacfg.operations.environment_changes import EnvironmentOperations
from aliciacfg.operations.environment_reads import EnvironmentReads
from aliciacfg.operations.event_feed import EventFeed
from aliciacfg.operations.health import Health
from aliciacfg.operations.identity import Identity
from aliciacfg.operations.ledger import Ledger
from aliciacfg.operations.reads import ReadOperations
from aliciacfg.operations.registrations import Registrations
from aliciacfg.operations.workload import Workload
from aliciacfg.operations.writes import WriteOperations


@dataclass(frozen=True, slots=True)
class ConfigService:
    """The methods that the operations table calls, and other parts that the adapters need.

    Attributes:
        authorizer: Decides who may do what.
        audit_log: Records refused access.
        reads: The operations that read.
        writes: The operations that write one configuration.
        batches: Several writes in one transaction.
        environment_reads: The operations that show what files and run-time changes make of configurations.
        environments: The operations that change every configuration of an environment.
        admin: The operations for administrators.
        health: The health of the daemon.
        identity: Says who a caller is.
        registrations: Handles the registrations and reports of services.
        events: Has the streams of events.
        workload: Gives each caller its share of the processor.
        ledger: Keeps the answers to writes, where several daemons serve the home.
        following: Follows the other daemons; None where one serves the home alone.
    """

    authorizer: Authorizer
    audit_log: AuditLog
    reads: ReadOperations
    writes: WriteOperations
    batches: BatchOperation
    environment_reads: EnvironmentReads
    environments: EnvironmentOperations
    admin: AdminOperations
    health: Health
    identity: Identity
    registrations: Registrations
    events: EventFeed
    workload: Workload = field(default_factory=Workload)
    ledger: Ledger | None = None
    following: Following | None = None
