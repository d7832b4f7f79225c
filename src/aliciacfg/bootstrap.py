"""The parts of the core, put together over one data directory: for the daemon, and for work while none runs."""

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.configurations import Configurations, asks_to_move
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.views import Views
from aliciacfg.documents import JsonObject
from aliciacfg.errors import KeyFileError, SettingsError, SourceError, SourceProblem
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.metrics import Metrics
from aliciacfg.operations.service import VERSION, ConfigService
from aliciacfg.operations.table import BY_NAME, encode_answer
from aliciacfg.schemas.migrations import DIRECTORY
from aliciacfg.sealing.boxes import PublicKey
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.settings import Settings, variables
from aliciacfg.sources import layers, loader
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.store import SqliteStore
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SESSION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that know no transport.

    Attributes:
        session: Names this data directory to the broker, and to nobody else: whoever connects under the same client id
            ends the daemon's connection, and takes what the broker holds for it.
    """

    alerts: Alerts
    drift: Drift
    store: Store
    configurations: Configurations
    audit_log: AuditLog
    drift_checks: DriftChecks
    service: ConfigService
    session: str


@asynccontextmanager
async def open_core(settings: Settings, data: DataDirectory) -> AsyncGenerator[Core, None]:
    """Put the core together; at the end commit what waits, and close the store.

    ``configurations`` are not started. The block is cancelled, and ends with the error, if committing fails in a way
    that leaves memory and database different.

    Raises:
        KeyFileError: The sealing keys cannot be used.
        StoreError: The database cannot be used.
    """
    alerts = Alerts(time.time)
    alerts.listen(_log_alert)
    keys = KeyFile.load_or_create(data.key_file, now=time.time())
    keyring = keys.keyring
    chain = Chain(keyring)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteStore.open(data.database, chain, adopt=not keys.chained))
        try:
            keys.mark_chained()
        except KeyFileError as error:
            # Only a guard against an older database in this one's place; it is tried again at the next start.
            _log.warning("key_file_not_marked", reason=str(error))
        queue = await stack.enter_async_context(WriteQueue(store))
        audit_log = AuditLog(queue, time.time)
        stack.callback(audit_log.flush)
        authorizer = Authorizer(await store.tokens(), alerts=alerts, clock=time.time)
        recipients = {
            item.service: PublicKey.parse(item.public_key) for item in await store.recipients() if item.public_key
        }
        configurations = Configurations(
            store=store,
            queue=queue,
            keyring=keyring,
            chain=chain,
            cache=AnswerCache(ttl_seconds=settings.cache_ttl_seconds),
            alerts=alerts,
            authorizer=authorizer,
            views=Views(keyring, recipients),
            load_sources=lambda: load_sources(settings),
            max_config_bytes=settings.max_config_bytes,
            max_services=settings.max_services,
        )
        drift = Drift(alerts, time.time)
        instances = Instances(
            await store.applied(),
            current=lambda service: configurations.state.committed((configurations.active, service)).live,
            drift=drift,
            grace_seconds=settings.apply_grace_seconds,
            clock=time.time,
        )
        service = ConfigService(
            configurations=configurations,
            store=store,
            queue=queue,
            alerts=alerts,
            drift=drift,
            instances=instances,
            authorizer=authorizer,
            audit_log=audit_log,
            keys=keys,
            key_rotation=KeyRotation(configurations, store=store, queue=queue, keyring=keyring, clock=time.time),
            metrics=Metrics(operations=BY_NAME, version=VERSION),
            instance=data.instance,
        )
        drift_checks = DriftChecks(
            configurations=configurations, store=store, alerts=alerts, drift=drift, instances=instances, label=_label
        )
        session = keyring.derive(f"aliciacfg session v1 {data.instance}".encode())[:_SESSION_BYTES].hex()
        yield Core(alerts, drift, store, configurations, audit_log, drift_checks, service, session)


async def next_environment(settings: Settings) -> str:
    """The environment that the next start makes the active one, or leaves it.

    Raises:
        DataDirectoryInUse: A daemon runs.
        AliciacfgError: Keys or database cannot be used.
    """
    data = DataDirectory(Path(settings.data_dir))
    try:
        async with open_core(settings, data) as core:
            stored = await core.configurations.load(settings.environment)
            moves = asks_to_move(settings.environment, stored)
            return settings.environment if moves else core.configurations.active
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
                await core.configurations.start(settings.environment, degraded=False)
            else:
                await core.configurations.load(settings.environment)
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
