"""The composition root: makes the parts that know no transport, over one data directory."""

import asyncio
import platform
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from aliciacfg import __version__
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core.activation import Activation
from aliciacfg.core.adoption import adopt_rows, tell_adoption
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.drafts import Drafts
from aliciacfg.core.drift_checks import DriftChecks
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.following import Following, OthersChanges
from aliciacfg.core.key_reloads import KeyReloads
from aliciacfg.core.key_rotation import KeyRotation
from aliciacfg.core.load_planner import LoadPlanner
from aliciacfg.core.load_reports import LoadReports
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.message_ids import MessageIds
from aliciacfg.core.order import Order
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.plain_secrets import PlainSecrets
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import PlannerFactory
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.restore import ACTIVE, Restored, restore
from aliciacfg.core.retention import Retention
from aliciacfg.core.scrubbing import Scrubbing
from aliciacfg.core.served_files import NOTE_FILE, ServedFiles
from aliciacfg.core.state import State
from aliciacfg.core.vanished_files import VanishedFiles
from aliciacfg.core.views import Views
from aliciacfg.core.waiters import ChangeWaiters
from aliciacfg.counted import counted
from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Applied, Position, Token, Write
from aliciacfg.monitoring.alerts import Alert, Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.metrics import Metrics
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.operations.admin import AdminOperations
from aliciacfg.operations.batch import BatchOperation
from aliciacfg.operations.environment_changes import EnvironmentOperations
from aliciacfg.operations.environment_reads import EnvironmentReads
from aliciacfg.operations.health import Health
from aliciacfg.operations.ledger import Ledger
from aliciacfg.operations.reads import ReadOperations, ReadParts
from aliciacfg.operations.registrations import Registrations
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import BY_NAME
from aliciacfg.operations.write_answers import WriteAnswers
from aliciacfg.operations.write_planner import WritePlanner
from aliciacfg.operations.writes import WriteOperations
from aliciacfg.replicas.format_rise import FormatRise
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.lease import Lease
from aliciacfg.replicas.membership import Membership
from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import LagCheck, Readiness
from aliciacfg.replicas.registry import GONE_SECONDS, Registry
from aliciacfg.sealing.boxes import Keyring, PublicKey
from aliciacfg.sealing.key_file import AdoptionNote, KeyFile
from aliciacfg.sealing.key_store import FileKeyStore, KeyStore
from aliciacfg.settings import Settings
from aliciacfg.sources.source_files import SourceFiles
from aliciacfg.storage.backend import database_in
from aliciacfg.storage.data_directory import DataDirectory
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.home_keys import shared_keys_of
from aliciacfg.storage.shared_keys import SharedKeyStore
from aliciacfg.storage.store import Database, Store
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_SESSION_BYTES = 8
_RUN_BYTES = 4
# A database that nothing was read from for so long stands still.
_STANDS_STILL_SECONDS = 5.0
# Of the data directory's instance, in the name of a daemon that was not given one.
_NAME_DIGITS = 4
_UNREACHABLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that know no transport.

    Attributes:
        alerts: Raised by all parts.
        supervisor: Keeps the tasks of the daemon running.
        drift: The findings about what differs from the store.
        restored: What the store said at the start, without configurations and messages.
        state: The configurations in memory.
        source_files: Reads the files on disk.
        served: What serves a home of several daemons; None where one daemon has the database for itself.
        files: The files in force.
        outbox: What the bus has to hold.
        announcements: Keeps the outbox in step with the state.
        order: Keeps what readers are told in order when the database goes back.
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
        home_key: Tells what the daemons of the home send each other over the bus from what others send; secret.
    """

    alerts: Alerts
    supervisor: Supervisor
    drift: Drift
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


@asynccontextmanager
async def open_core(
    settings: Settings, data: DataDirectory, *, database: Database | None = None, keep_adopted: bool = True
) -> AsyncGenerator[Core, None]:
    """Put the core together over a data directory; at the end commit pending writes and close the store.

    The files are not loaded yet: see ``Core.start``. If a commit may have left memory and database different,
    the block is cancelled and raises that error.

    Args:
        settings: The daemon's settings.
        data: The data directory.
        database: The database, whose keys are in the data directory; None for what the settings name.
        keep_adopted: Whether a database is copied before rows of a lost key file are adopted.

    Raises:
        KeyFileError: The sealing keys cannot be used, or did not write the database.
        StoreError: The database cannot be used.
        Unavailable: The database cannot be read.
    """
    alerts = Alerts(time.time)
    alerts.listen(_log_alert)
    shared_keys = shared_keys_of(settings, serves=True) if database is None else None
    keys = await _open_keys(shared_keys or FileKeyStore(data.key_file))
    async with AsyncExitStack() as stack:
        stack.callback(alerts.tell_counted)
        # One object, whose keys a rotation replaces in place: every part holds it.
        keyring = keys.make_keyring()
        chain = Chain(keyring)
        database = database or database_in(data.path, settings.database_url)
        now = time.time()
        keep = partial(data.keeping_before, "adoption", database.backup, now=now) if keep_adopted else None
        adopted = await asyncio.to_thread(adopt_rows, database, keys, chain, keep=keep, now=now)
        store = await stack.enter_async_context(database.open(chain))
        condition = StoreCondition(alerts)
        store.listen_reads(condition.on_read)
        queue = await stack.enter_async_context(WriteQueue(store, condition))
        audit_log = AuditLog(queue, time.time)
        stack.callback(audit_log.flush)
        tell_adoption(keys, alerts)
        if adopted is not None:
            await _record_adoption(adopted, queue)
        core = await _core(
            settings,
            data,
            alerts=alerts,
            keys=keys,
            shared_keys=shared_keys,
            keyring=keyring,
            chain=chain,
            store=store,
            condition=condition,
            queue=queue,
            audit_log=audit_log,
        )
        stack.callback(core.announcements.store_confirmations)
        if core.following is not None:
            stack.push_async_callback(core.following.stop)
        yield core


async def _open_keys(store: KeyStore) -> KeyFile:
    """Return the keys of a home, made if there are none; wait as long as their database cannot be reached.

    Raises:
        KeyFileError: They cannot be used.
        StoreError: Their database cannot be used.
    """

    def open_keys() -> KeyFile:
        if isinstance(store, SharedKeyStore):
            store.take_file()
        return KeyFile.load_or_create(store, now=time.time())

    told = ""
    while True:
        try:
            return await asyncio.to_thread(open_keys)
        except Unavailable as error:
            if error.message != told:
                told = error.message
                _log.warning("keys_unreachable", keys=store.name, reason=told, remedy="none needed; it tries again")
        await asyncio.sleep(_UNREACHABLE_SECONDS)


async def _check_generation(keys: SharedKeyStore, store: Store, position: Position) -> None:
    """Refuse keys of an earlier time, unless all of the database is: then ``Order`` raises the epoch and tells it.

    Raises:
        KeyFileError: Only the keys are.
        Unavailable: The database cannot be read.
    """
    keys.takes_back = False
    if keys.went_back is None:
        return
    witnessed = await store.witnessed()
    if witnessed is None or witnessed <= position:
        raise keys.went_back
    _log.warning("keys_went_back", keys=keys.name, remedy="rotate the keys and revoke tokens again, if you had done so")
    try:
        await asyncio.to_thread(keys.accept)
    except (KeyFileError, Unavailable) as error:
        _log.warning("keys_not_accepted", reason=str(error), remedy="none needed; the next start tries again")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The parts that are made first, from which the others are made."""

    settings: Settings
    source_files: SourceFiles
    alerts: Alerts
    drift: Drift
    keys: KeyFile
    key_reloads: KeyReloads
    keyring: Keyring
    chain: Chain
    store: Store
    condition: StoreCondition
    queue: WriteQueue
    audit_log: AuditLog
    authorizer: Authorizer
    restored: Restored
    state: State
    outbox: Outbox
    files: LoadedFiles
    drafts: Drafts
    views: Views
    cache: AnswerCache
    waiters: ChangeWaiters
    commits: Commits
    configurations: Configurations
    scrubbing: Scrubbing


async def _core(
    settings: Settings,
    data: DataDirectory,
    *,
    alerts: Alerts,
    keys: KeyFile,
    shared_keys: SharedKeyStore | None,
    keyring: Keyring,
    chain: Chain,
    store: Store,
    condition: StoreCondition,
    queue: WriteQueue,
    audit_log: AuditLog,
) -> Core:
    restored = await restore(store, keyring, requested_environment=settings.environment)
    if shared_keys is not None:
        await _check_generation(shared_keys, store, restored.position)
    tokens = [_unless_revoked(token, keys) for token in await store.tokens()]
    if tokens:
        revoked = [token.token_id for token in tokens if token.confirmed and token.revoked is not None]
        await asyncio.to_thread(_note_tokens, keys, revoked)
    state = State(
        restored.entries,
        active=restored.active,
        position=restored.position,
        used_numbers=restored.used_numbers,
        incomplete=restored.incomplete,
    )
    files = LoadedFiles(restored.defined, restored.schemas, found=restored.files)
    views = Views(
        keyring,
        state,
        await _recipients(store),
        refused_edits=lambda known: files.refused_edits(
            known.environment, sees=lambda name: name in (None, known.service)
        ),
    )
    ground = _Parts(
        settings=settings,
        source_files=SourceFiles(settings),
        alerts=alerts,
        drift=Drift(alerts, time.time),
        keys=keys,
        key_reloads=KeyReloads(keys, keyring, alerts),
        keyring=keyring,
        chain=chain,
        store=store,
        condition=condition,
        queue=queue,
        audit_log=audit_log,
        authorizer=Authorizer(tokens, had_tokens=keys.had_tokens, alerts=alerts, clock=time.time),
        restored=restored.without_contents(),
        state=state,
        outbox=Outbox(restored.announcements, message_ids=MessageIds(keyring)),
        files=files,
        drafts=Drafts(files, state, keyring),
        views=views,
        cache=AnswerCache(state, views, ttl_seconds=settings.cache_ttl_seconds),
        waiters=ChangeWaiters(),
        commits=Commits(state=state, queue=queue),
        configurations=Configurations(
            state=state,
            files=files,
            store=store,
            keyring=keyring,
            max_services=settings.max_services,
        ),
        scrubbing=Scrubbing(store, alerts),
    )
    applied = await store.applied()
    if store.unwritable is not None:
        # As found when it was opened, or when it was loaded.
        queue.begin_unwritable(store.unwritable)
    return _assemble(ground, data, applied)


def _assemble(ground: _Parts, data: DataDirectory, applied: Sequence[Applied]) -> Core:
    data.name_home(None if ground.store.shared is None else _home(ground, data))
    marks = FileMarks(
        files=ground.files,
        authorizer=ground.authorizer,
        rules=ground.restored.rules,
        history_sealed=ground.restored.history_sealed,
    )
    served = _served_files(ground, data)
    reloads, announcements = _reloads(ground, marks, served), _announcements(ground)
    instances = Instances(
        applied,
        current=lambda service: ground.state.committed(ConfigId(ground.state.active, service)).live,
        drift=ground.drift,
        grace_seconds=ground.settings.apply_grace_seconds,
        clock=time.time,
    )
    _listen(ground, reloads, instances)
    following = None if served is None else _following(ground, marks, served, reloads, instances)
    key_rotation = _key_rotation(ground, reloads, announcements)
    presence = _presence(ground, data, following, served)
    drift_checks = DriftChecks(
        files=ground.files,
        reloads=reloads,
        store=ground.store,
        condition=ground.condition,
        alerts=ground.alerts,
        drift=ground.drift,
        instances=instances,
        dropped=ground.restored.dropped,
        rows=None if served is None else lambda: [] if presence.registry is None else presence.registry.live,
    )
    service = _service(
        ground, reloads, announcements, key_rotation, instances, presence, data, following, verify=drift_checks.verify
    )
    presence.connected = lambda: service.health.bus_connected
    return Core(
        alerts=ground.alerts,
        supervisor=Supervisor(ground.alerts),
        drift=ground.drift,
        restored=ground.restored,
        state=ground.state,
        source_files=ground.source_files,
        served=served,
        files=ground.files,
        outbox=ground.outbox,
        announcements=announcements,
        order=Order(
            state=ground.state,
            outbox=ground.outbox,
            announcements=announcements,
            commits=ground.commits,
            chain=ground.chain,
            alerts=ground.alerts,
            clock=time.time,
        ),
        cache=ground.cache,
        configurations=ground.configurations,
        commits=ground.commits,
        reloads=reloads,
        retention=_retention(ground),
        scrubbing=ground.scrubbing,
        store=ground.store,
        condition=ground.condition,
        queue=ground.queue,
        audit_log=ground.audit_log,
        drift_checks=drift_checks,
        key_rotation=key_rotation,
        following=following,
        service=service,
        leadership=presence.leadership,
        readiness=presence.readiness,
        presence=presence,
        membership=_membership(ground, presence),
        session=ground.keyring.derive(f"aliciacfg session v1 {_home(ground, data)}".encode())[:_SESSION_BYTES].hex(),
        home_key=ground.keyring.derive(b"aliciacfg daemons v1"),
    )


def _served_files(ground: _Parts, data: DataDirectory) -> ServedFiles | None:
    """Return what serves a home of several daemons; None if the files on the disk do."""
    shared = ground.store.shared
    if shared is None:
        return None

    async def alone() -> bool:
        rows = await shared.replicas(within_seconds=GONE_SECONDS)
        return all(row.replica.partition(".")[0] == data.instance for row in rows)

    return ServedFiles(
        ground.source_files, ground.keyring, stored=ground.restored.served, note=data.path / NOTE_FILE, alone=alone
    )


def _presence(ground: _Parts, data: DataDirectory, following: Following | None, served: ServedFiles | None) -> Presence:
    """Return what the daemon is among those of its home."""
    settings, started = ground.settings, time.time()
    name = settings.replica or f"{platform.node() or 'daemon'}-{data.instance[:_NAME_DIGITS]}"
    # A process that was killed may still be listed: it is another one.
    replica = f"{data.instance}.{secrets.token_hex(_RUN_BYTES)}"
    if following is None:
        return Presence(
            name=name,
            replica=replica,
            version=__version__,
            started=started,
            leadership=Leadership.single(),
            readiness=Readiness(),
        )
    return Presence(
        name=name,
        replica=replica,
        version=__version__,
        started=started,
        leadership=Leadership(),
        readiness=Readiness(),
        behind_seconds=lambda: following.behind_seconds,
        commit=lambda: following.commit,
        files=served,
    )


def _membership(ground: _Parts, presence: Presence) -> Membership | None:
    """Return the daemon's part among several of its home; None if it serves the home alone."""
    shared = ground.store.shared
    if shared is None:
        return None
    registry = Registry(
        shared,
        presence.describe,
        replica=presence.replica,
        alerts=ground.alerts,
        leading=lambda: presence.leadership.leading,
    )
    format_rise = FormatRise(shared, registry, leading=lambda: presence.leadership.leading)
    presence.share(shared, registry, format_rise)
    lease = Lease(shared, presence.leadership, replica=presence.replica, may_lead=registry.may_lead)
    return Membership(
        lease=lease,
        registry=registry,
        format_rise=format_rise,
        lag_check=LagCheck(presence.readiness, presence.behind_seconds),
        others={"look at the keys": ground.key_reloads.run},
    )


def _home(ground: _Parts, data: DataDirectory) -> str:
    """Return what the bus knows the home by: its data directory, or the keys that all of its daemons share."""
    if ground.store.shared is None:
        return data.instance
    return ground.keyring.derive(b"aliciacfg home v1")[:_SESSION_BYTES].hex()


def _listen(ground: _Parts, reloads: Reloads, instances: Instances) -> None:
    """Register what applies a durable plan; files, views and cache come before the waiters, who read them."""
    ground.files.when_refused.append(ground.cache.clear)
    ground.commits.listen(
        ground.files.on_commit,
        ground.views.on_commit,
        ground.cache.on_commit,
        ground.waiters.on_commit,
        reloads.on_commit,
        lambda plan: ground.outbox.add(plan.announcements),
        lambda plan: instances.look_again(_services_with_other_revisions(plan)),
    )


def _services_with_other_revisions(plan: Plan) -> Iterable[str] | None:
    """Return the services that may have another revision in the active environment after a plan; None for all."""
    moved = plan.activates is not None or ACTIVE in plan.meta
    return None if moved else (config_id.service for config_id in plan.entries)


def _following(
    ground: _Parts, marks: FileMarks, served: ServedFiles, reloads: Reloads, instances: Instances
) -> Following:
    """Have memory follow the other daemons that share the database."""
    ground.key_reloads.when_changed += [ground.views.forget, ground.cache.clear]
    following = Following(
        ground.store,
        ground.commits,
        OthersChanges(
            state=ground.state,
            files=ground.files,
            marks=marks,
            served=served,
            authorizer=ground.authorizer,
            instances=instances,
            outbox=ground.outbox,
            keyring=ground.keyring,
            known_token=lambda token: _unless_revoked(token, ground.keys),
            reload_keys=ground.key_reloads.reload,
        ),
        served=served,
        follow_files=reloads.follow,
    )
    ground.key_reloads.when_changed.append(following.load_files_again)
    ground.commits.follow(following)
    ground.configurations.follow(following)
    ground.queue.follow(following.in_turn)
    ground.store.listen_others(following.deliver)
    return following


def _reloads(ground: _Parts, marks: FileMarks, served: ServedFiles | None) -> Reloads:
    settings = ground.settings
    planners = PlannerFactory(
        keyring=ground.keyring,
        chain=ground.chain,
        views=ground.views,
        outbox=ground.outbox,
        clock=time.time,
        limits=settings.document_limits,
    )
    return Reloads(
        source_files=ground.source_files,
        planner=LoadPlanner(
            planners=planners,
            files=ground.files,
            state=ground.state,
            commits=ground.commits,
            plain_secrets=PlainSecrets(ground.store, ground.keyring),
        ),
        marks=marks,
        reports=LoadReports(alerts=ground.alerts, state=ground.state),
        files=ground.files,
        state=ground.state,
        commits=ground.commits,
        scrubbing=ground.scrubbing,
        authorizer=ground.authorizer,
        vanished=VanishedFiles(seconds=settings.vanished_file_seconds),
        served=served,
    )


def _retention(ground: _Parts) -> Retention:
    settings = ground.settings
    return Retention(
        ground.store,
        ground.audit_log,
        history_keep=settings.history_keep,
        history_days=settings.history_days,
        audit_keep=settings.audit_keep,
        audit_days=settings.audit_days,
        clock=time.time,
    )


def _announcements(ground: _Parts) -> Announcements:
    return Announcements(
        state=ground.state,
        outbox=ground.outbox,
        views=ground.views,
        commits=ground.commits,
        queue=ground.queue,
        keyring=ground.keyring,
        clock=time.time,
    )


def _key_rotation(ground: _Parts, reloads: Reloads, announcements: Announcements) -> KeyRotation:
    return KeyRotation(
        state=ground.state,
        files=ground.files,
        commits=ground.commits,
        views=ground.views,
        cache=ground.cache,
        announcements=announcements,
        reloads=reloads,
        store=ground.store,
        scrubbing=ground.scrubbing,
        keyring=ground.keyring,
        clock=time.time,
    )


def _service(
    ground: _Parts,
    reloads: Reloads,
    announcements: Announcements,
    key_rotation: KeyRotation,
    instances: Instances,
    presence: Presence,
    data: DataDirectory,
    following: Following | None,
    *,
    verify: Callable[[], Awaitable[None]],
) -> ConfigService:
    health = _health(ground, reloads, presence, _home(ground, data))
    write_planner = WritePlanner(
        configurations=ground.configurations,
        files=ground.files,
        views=ground.views,
        authorizer=ground.authorizer,
        audit_log=ground.audit_log,
        alerts=ground.alerts,
        count_invalid=health.count_invalid,
        shared=following is not None,
    )
    answers = WriteAnswers(ground.state, ground.views)
    writes = _writes(ground, write_planner, answers)
    return ConfigService(
        authorizer=ground.authorizer,
        audit_log=ground.audit_log,
        reads=_reads(ground, instances, health.metrics, following),
        environment_reads=EnvironmentReads(
            configurations=ground.configurations,
            state=ground.state,
            files=ground.files,
            drafts=ground.drafts,
            authorizer=ground.authorizer,
        ),
        writes=writes,
        batches=_batches(ground, write_planner, answers),
        environments=EnvironmentOperations(
            state=ground.state, activation=_activation(ground, announcements), reloads=reloads, presence=presence
        ),
        admin=_admin(ground, key_rotation, verify, data),
        health=health,
        registrations=Registrations(
            configurations=ground.configurations,
            state=ground.state,
            outbox=ground.outbox,
            queue=ground.queue,
            instances=instances,
            health=health,
            writes=writes,
        ),
        following=following,
        ledger=None if following is None else _ledger(ground, following),
    )


def _ledger(ground: _Parts, following: Following) -> Ledger | None:
    """Return the answers to writes, which the daemons of a home keep for each other."""

    def stands_still() -> bool:
        return ground.condition.has("hung") or following.behind_seconds > _STANDS_STILL_SECONDS

    shared = ground.store.shared
    return None if shared is None else Ledger(shared, ground.keyring.derive(b"aliciacfg answers v1"), stands_still)


def _health(ground: _Parts, reloads: Reloads, presence: Presence, instance: str) -> Health:
    return Health(
        state=ground.state,
        commits=ground.commits,
        reloads=reloads,
        files=ground.files,
        cache=ground.cache,
        outbox=ground.outbox,
        store=ground.condition,
        alerts=ground.alerts,
        drift=ground.drift,
        metrics=Metrics(operations=BY_NAME, version=__version__),
        presence=presence,
        instance=instance,
        clock=time.time,
    )


def _reads(ground: _Parts, instances: Instances, metrics: Metrics, following: Following | None) -> ReadOperations:
    return ReadOperations(
        ReadParts(
            configurations=ground.configurations,
            state=ground.state,
            files=ground.files,
            views=ground.views,
            cache=ground.cache,
            waiters=ground.waiters,
            authorizer=ground.authorizer,
            audit_log=ground.audit_log,
            instances=instances,
            drift=ground.drift,
            count_read=metrics.accessed,
            following=following,
        )
    )


def _writes(ground: _Parts, planner: WritePlanner, answers: WriteAnswers) -> WriteOperations:
    return WriteOperations(
        configurations=ground.configurations,
        state=ground.state,
        files=ground.files,
        views=ground.views,
        commits=ground.commits,
        planner=planner,
        answers=answers,
        authorizer=ground.authorizer,
    )


def _batches(ground: _Parts, planner: WritePlanner, answers: WriteAnswers) -> BatchOperation:
    return BatchOperation(
        configurations=ground.configurations,
        commits=ground.commits,
        planner=planner,
        answers=answers,
        authorizer=ground.authorizer,
        audit_log=ground.audit_log,
    )


def _activation(ground: _Parts, announcements: Announcements) -> Activation:
    return Activation(
        state=ground.state,
        files=ground.files,
        drafts=ground.drafts,
        configurations=ground.configurations,
        commits=ground.commits,
        outbox=ground.outbox,
        announcements=announcements,
        clock=time.time,
    )


def _admin(
    ground: _Parts, key_rotation: KeyRotation, verify: Callable[[], Awaitable[None]], data: DataDirectory
) -> AdminOperations:
    return AdminOperations(
        configurations=ground.configurations,
        state=ground.state,
        files=ground.files,
        queue=ground.queue,
        store=ground.store,
        authorizer=ground.authorizer,
        audit_log=ground.audit_log,
        alerts=ground.alerts,
        keys=ground.keys,
        key_rotation=key_rotation,
        verify=verify,
        make_snapshot_directory=data.make_snapshot_directory,
        clock=time.time,
    )


async def _record_adoption(note: AdoptionNote, queue: WriteQueue) -> None:
    """Record in the audit log that rows were adopted."""
    context = ChangeContext("config_service", "restore", operation="adopt", where="local")
    detail = f"{counted(note.rows, 'row')} of key {note.key_name or 'none'}"
    await queue.submit(Write(audit=(context.audit_entry(note.at, detail=detail),)))


def _unless_revoked(token: Token, keys: KeyFile) -> Token:
    """Return a token; not confirmed if its row is one from before it was revoked."""
    revived = token.revoked is None and token.token_id in keys.revoked
    return msgspec.structs.replace(token, confirmed=False) if revived else token


def _note_tokens(keys: KeyFile, revoked: Sequence[str]) -> None:
    """Note in the key file what must hold of tokens whatever the database says later."""
    try:
        keys.note_tokens(revoked)
    except KeyFileError as error:
        _log.warning("key_file_not_marked", reason=str(error), remedy="none needed; the next start tries it again")


async def _recipients(store: Store) -> dict[str, PublicKey]:
    return {item.service: PublicKey.parse(item.public_key) for item in await store.recipients() if item.public_key}


def _log_alert(alert: Alert) -> None:
    """Log an alert; of its problems those that its message does not name, each once."""
    texts = (
        f"{problem.pointer}: {problem.message}" if problem.pointer else problem.message for problem in alert.problems
    )
    more = [text for text in dict.fromkeys(texts) if text not in alert.message]
    _log.warning("alert", kind=alert.kind, service=alert.service, message=alert.message, problems=more or None)
