"""The parts of the core, put together over one data directory: for the daemon, and for work while none runs."""

import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import FILE
from aliciacfg.core.activation import Activation
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.planner import PlannerFactory
from aliciacfg.core.reloads import Reloads, SourceFiles
from aliciacfg.core.restore import Restored, restore
from aliciacfg.core.state import State
from aliciacfg.core.views import Views
from aliciacfg.core.waiters import ChangeWaiters
from aliciacfg.documents import JsonObject
from aliciacfg.errors import KeyFileError, SettingsError, SourceError, SourceProblem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.metrics import Metrics
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.batch import BatchOperation
from aliciacfg.operations.environment_changes import EnvironmentOperations
from aliciacfg.operations.health import VERSION, Health
from aliciacfg.operations.reads import ReadOperations, ReadParts
from aliciacfg.operations.registrations import Registrations
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import BY_NAME, encode_answer
from aliciacfg.operations.write_answers import WriteAnswers
from aliciacfg.operations.write_planner import WritePlanner
from aliciacfg.operations.writes import WriteOperations
from aliciacfg.schemas.migrations import DIRECTORY
from aliciacfg.sealing.boxes import PublicKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.settings import Settings, variables
from aliciacfg.sources import layers, loader
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SESSION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that know no transport.

    Attributes:
        alerts: Raised by all parts.
        drift: What is not as the store has it.
        restored: The content of the store at the start.
        state: The configurations in memory.
        files: The files in force.
        outbox: What the bus has to hold.
        announcements: Keeps the outbox in step with the state.
        cache: Encoded answers.
        configurations: The read side.
        commits: The only way to change a configuration.
        reloads: Loads the files.
        store: The database.
        audit_log: Records refused access.
        drift_checks: Looks for drift.
        key_rotation: Changes keys.
        service: The operations.
        session: Names this data directory to the broker, and is told to no one else: a client that connects under
            the same id ends the daemon's connection, and gets what the broker holds for it.
    """

    alerts: Alerts
    drift: Drift
    restored: Restored
    state: State
    files: LoadedFiles
    outbox: Outbox
    announcements: Announcements
    cache: AnswerCache
    configurations: Configurations
    commits: Commits
    reloads: Reloads
    store: Store
    audit_log: AuditLog
    drift_checks: DriftChecks
    key_rotation: KeyRotation
    service: ConfigService
    session: str

    async def start(self, requested_environment: str, *, degraded: bool = True) -> None:
        """Load the files, and announce what the bus does not hold yet; arguments and errors as ``Reloads.start``."""
        await self.reloads.start(self.restored, requested_environment, degraded=degraded)
        await self.announcements.reconcile()


@asynccontextmanager
async def open_core(settings: Settings, data: DataDirectory) -> AsyncGenerator[Core, None]:
    """Put the core together over a data directory; at the end commit pending writes and close the store.

    The files are not loaded yet: see ``Core.start``. The block is cancelled, and ends with the error, if a commit
    fails in a way that leaves memory and database different.

    Raises:
        KeyFileError: The sealing keys cannot be used.
        StoreError: The database cannot be used.
        Unavailable: The database cannot be read.
    """
    alerts = Alerts(time.time)
    alerts.listen(_log_alert)
    keys = KeyFile.load_or_create(data.key_file, now=time.time())
    async with AsyncExitStack() as stack:
        chain = Chain(keys.keyring)
        database = database_in(data.path)
        store = await stack.enter_async_context(database.open(chain, trust_old_rows=not keys.chained))
        _mark_chained(keys)
        queue = await stack.enter_async_context(WriteQueue(store))
        audit_log = AuditLog(queue, time.time)
        stack.callback(audit_log.flush)
        yield await _core(settings, data, alerts, keys, chain, store, queue, audit_log)


async def _core(
    settings: Settings,
    data: DataDirectory,
    alerts: Alerts,
    keys: KeyFile,
    chain: Chain,
    store: Store,
    queue: WriteQueue,
    audit_log: AuditLog,
) -> Core:
    clock = time.time
    keyring = keys.keyring
    restored = await restore(store, keyring, requested_environment=settings.environment)
    state = State(restored.entries, active=restored.active, epoch=restored.epoch)
    outbox = Outbox(restored.announcements)
    files = LoadedFiles(restored.defined, restored.schemas)
    authorizer = Authorizer(await store.tokens(), alerts=alerts, clock=clock)
    views = Views(keyring, state, await _recipients(store))
    cache = AnswerCache(state, views, ttl_seconds=settings.cache_ttl_seconds)
    waiters = ChangeWaiters()
    commits = Commits(state=state, queue=queue, alerts=alerts)
    reloads = Reloads(
        source_files=SourceFiles(lambda: load_sources(settings), lambda: has_access_rules(settings)),
        planners=PlannerFactory(
            keyring=keyring,
            chain=chain,
            views=views,
            outbox=outbox,
            clock=clock,
            max_config_bytes=settings.max_config_bytes,
        ),
        files=files,
        state=state,
        commits=commits,
        store=store,
        chain=chain,
        alerts=alerts,
        authorizer=authorizer,
        rules=restored.rules,
    )
    # What renders comes after what it renders with; those that wait come after the answers that they read.
    commits.listen(
        lambda plan: authorizer.put(plan.tokens),
        files.on_commit,
        views.on_commit,
        cache.on_commit,
        waiters.on_commit,
        reloads.on_commit,
        lambda plan: outbox.add(plan.announcements),
    )
    announcements = Announcements(
        state=state, outbox=outbox, views=views, commits=commits, queue=queue, keyring=keyring, clock=clock
    )
    configurations = Configurations(
        state=state, files=files, store=store, keyring=keyring, chain=chain, max_services=settings.max_services
    )
    key_rotation = KeyRotation(
        state=state,
        files=files,
        commits=commits,
        views=views,
        announcements=announcements,
        reloads=reloads,
        store=store,
        keyring=keyring,
        clock=clock,
    )
    drift = Drift(alerts, clock)
    instances = Instances(
        await store.applied(),
        current=lambda service: state.committed(ConfigId(state.active, service)).live,
        drift=drift,
        grace_seconds=settings.apply_grace_seconds,
        clock=clock,
    )
    health = Health(
        state=state,
        commits=commits,
        reloads=reloads,
        cache=cache,
        outbox=outbox,
        queue=queue,
        alerts=alerts,
        drift=drift,
        metrics=Metrics(operations=BY_NAME, version=VERSION),
        instance=data.instance,
        clock=clock,
    )
    write_planner = WritePlanner(
        configurations=configurations,
        files=files,
        views=views,
        authorizer=authorizer,
        alerts=alerts,
        count_invalid=health.count_invalid,
    )
    answers = WriteAnswers(state, views)
    writes = WriteOperations(
        configurations=configurations,
        state=state,
        files=files,
        views=views,
        commits=commits,
        planner=write_planner,
        answers=answers,
        authorizer=authorizer,
    )
    service = ConfigService(
        authorizer=authorizer,
        audit_log=audit_log,
        reads=ReadOperations(
            ReadParts(
                configurations=configurations,
                state=state,
                files=files,
                views=views,
                cache=cache,
                waiters=waiters,
                authorizer=authorizer,
                audit_log=audit_log,
                instances=instances,
                drift=drift,
                count_read=health.metrics.accessed,
            )
        ),
        writes=writes,
        batches=BatchOperation(
            configurations=configurations,
            commits=commits,
            planner=write_planner,
            answers=answers,
            authorizer=authorizer,
            audit_log=audit_log,
        ),
        environments=EnvironmentOperations(
            state=state,
            activation=Activation(
                state=state,
                files=files,
                configurations=configurations,
                commits=commits,
                outbox=outbox,
                announcements=announcements,
                clock=clock,
            ),
            reloads=reloads,
        ),
        admin=AdminOperations(
            configurations=configurations,
            state=state,
            files=files,
            commits=commits,
            store=store,
            authorizer=authorizer,
            audit_log=audit_log,
            keys=keys,
            key_rotation=key_rotation,
            clock=clock,
        ),
        health=health,
        registrations=Registrations(
            configurations=configurations,
            state=state,
            outbox=outbox,
            queue=queue,
            instances=instances,
            health=health,
            writes=writes,
        ),
    )
    drift_checks = DriftChecks(
        files=files, reloads=reloads, store=store, alerts=alerts, drift=drift, instances=instances, label=_label
    )
    return Core(
        alerts=alerts,
        drift=drift,
        restored=restored,
        state=state,
        files=files,
        outbox=outbox,
        announcements=announcements,
        cache=cache,
        configurations=configurations,
        commits=commits,
        reloads=reloads,
        store=store,
        audit_log=audit_log,
        drift_checks=drift_checks,
        key_rotation=key_rotation,
        service=service,
        session=keyring.derive(f"aliciacfg session v1 {data.instance}".encode())[:_SESSION_BYTES].hex(),
    )


def _mark_chained(keys: KeyFile) -> None:
    """Note in the key file that the database is on the chain, so that an older one in its place is refused."""
    try:
        keys.mark_chained()
    except KeyFileError as error:
        _log.warning("key_file_not_marked", reason=str(error), remedy="none needed; it is tried at the next start")


async def _recipients(store: Store) -> dict[str, PublicKey]:
    return {item.service: PublicKey.parse(item.public_key) for item in await store.recipients() if item.public_key}


async def next_environment(settings: Settings) -> str:
    """The environment that the next start makes the active one, or leaves it.

    Raises:
        DataDirectoryInUse: A daemon runs.
        AliciacfgError: Keys or database cannot be used.
    """
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as core:
            moves = core.restored.moves_to(settings.environment)
            return settings.environment if moves else core.state.active
    finally:
        data.release()


async def run_offline(
    settings: Settings, operation: str, target: str, fields: JsonObject, *, user: str, starting: bool = False
) -> bytes:
    """Carry one operation out on the data directory while no daemon runs.

    Args:
        settings: Where everything is.
        operation: A name of the operations table.
        target: The service or environment it is about, if it is about one.
        fields: The request's fields.
        user: Who asks: whoever may write the data directory may do everything.
        starting: Take the files over first, as the daemon does at its start, all of them or none; else what is
            recorded counts.

    Returns:
        The encoded answer.

    Raises:
        DataDirectoryInUse: A daemon runs.
        OperationError: It was refused.
        SourceError: The files cannot be taken over.
        AliciacfgError: Keys or database cannot be used.
    """
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as core:
            if starting:
                await core.start(settings.environment, degraded=False)
            row = BY_NAME[operation]
            caller = Caller(user, "local", proven=True, role="admin", private=True)
            given = {name: value for name, value in fields.items() if value is not None or name in row.required}
            answer = await row.run(core.service, caller, target, given)
            return encode_answer(row, answer, None)
    finally:
        data.release()


def load_sources(settings: Settings) -> layers.Sources:
    """Read the files that the settings name, with ``.env`` and the process environment for their variables.

    Raises:
        SourceError: As ``layers.load``, or ``.env`` cannot be read.
    """
    dotenv = Path.cwd() / ".env"
    stamps = loader.stamp_files([dotenv])
    try:
        found = variables(dotenv.parent)
    except SettingsError as error:
        raise SourceError([SourceProblem(".env", None, str(error))]) from error
    sources = loader.load(
        environments_dir=Path(settings.environments_dir), schemas_dir=Path(settings.schemas_dir), variables=found
    )
    return replace(sources, stamps={**sources.stamps, **stamps})


def has_access_rules(settings: Settings) -> bool:
    """Return whether there is a file of access rules, whatever it is and whether or not it can be read."""
    return os.path.lexists(Path(settings.environments_dir) / Path(FILE).name)


def source_paths(settings: Settings) -> list[Path]:
    """The files that ``load_sources`` would look at now."""
    found = loader.source_paths(
        environments_dir=Path(settings.environments_dir), schemas_dir=Path(settings.schemas_dir)
    )
    return [*found, Path.cwd() / ".env"]


def _label(path: str) -> str:
    """A file as its operator names it: with its directory, or those of a migration."""
    found = Path(path)
    names = found.parts[-4:] if found.parent.name == DIRECTORY else found.parts[-2:]
    return found.name if found.name == ".env" else "/".join(names)


def _log_alert(alert: Alert) -> None:
    problems = [f"{problem.pointer}: {problem.message}" for problem in alert.problems]
    _log.warning("alert", kind=alert.kind, service=alert.service, message=alert.message, problems=problems)
