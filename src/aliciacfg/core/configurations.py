"""Configurations: the state of all services in all environments, and the only way to change it.

Takes files over, carries plans out, keeps cache and outbox in step with what is durable. The operations that
requesters see are in ``service``.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.api.answers import ConfigAnswer, Migration
from aliciacfg.api.bus_messages import UpdateMessage
from aliciacfg.api.encoding import Answer
from aliciacfg.core.cache import AnswerCache, CachedAnswer
from aliciacfg.core.composer import Composer
from aliciacfg.core.file_changes import (
    Adopter,
    Adoption,
    SchemaRefused,
    as_problems,
    changed_schemas,
    serving_schemas,
)
from aliciacfg.core.outbox import (
    ENVIRONMENT,
    KEY,
    Outbox,
    announce_record,
    service_subject,
    subject_service,
)
from aliciacfg.core.plan import ChangeContext, Plan, Problems
from aliciacfg.core.planner import Planner, difference
from aliciacfg.core.schema_changes import Evolution, Evolver, Waiting
from aliciacfg.core.state import Entry, Key, State
from aliciacfg.core.views import Views
from aliciacfg.documents import JsonObject
from aliciacfg.errors import (
    NotFound,
    OperationError,
    Problem,
    SourceError,
    SourceProblem,
    TooLarge,
    Unavailable,
    ValidationFailed,
)
from aliciacfg.model import names
from aliciacfg.model.records import (
    Announcement,
    Cause,
    Overlay,
    Record,
    RecordHead,
    StoredState,
    Write,
)
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sealing.boxes import PREFIX, Keyring
from aliciacfg.sealing.sealed_documents import OpenedDocument, open_document, open_record, seal_further
from aliciacfg.sources.layers import Sources, Stamps
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue

# Names in the store's meta table.
_EPOCH = "epoch"
_ACTIVE = "active_environment"
_REQUESTED = "requested_environment"
_DEFINED = "defined_services"
_RULED = "access_rules"


# Stands for an overlay that somebody changed in the database: like one that does not open, it is not used.
_UNBELIEVABLE: JsonObject = {"changed in the database": f"{PREFIX}?"}

_NO_FILES = "The environment files cannot be used, so nothing can be changed; see the health alerts."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change of many configurations comes to.

    Attributes:
        changed: The services whose configuration, as they are told it, is another one.
        restart_required: Those of them that take it only at a restart.
        difference: JSON Patch by service, of a trial run.
        migrations: The schemas that wait for their migration, or had it.
    """

    changed: list[str]
    restart_required: list[str]
    difference: dict[str, list[JsonObject]]
    migrations: list[Migration] = field(default_factory=list[Migration])


class Configurations:
    """All configurations, durable and planned.

    Attributes:
        active: The name of the active environment.
        epoch: Raised when a database is restored from a backup.
        state: What is committed and what waits for the disk.
        outbox: What the bus has to hold.
        cache: Encoded answers to ``get``.
        last_update: Unix seconds of the newest revision since the start.
        revisions: How many were committed since the start, by cause.
        degraded: Why the files on disk are not the ones that serve, or None.
        refused_schemas: The schema files on disk of which those of before serve since the start.
        retry_files: What kept files from being taken over has changed since: another try may go well.
        planning: Held from the first look at a head until the plan is submitted, by whoever waits in between.
    """

    def __init__(
        self,
        *,
        store: Store,
        queue: WriteQueue,
        keyring: Keyring,
        chain: Chain,
        cache: AnswerCache,
        alerts: Alerts,
        authorizer: Authorizer,
        views: Views,
        load_sources: Callable[[], Sources],
        max_config_bytes: int,
        max_services: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._queue = queue
        self._keyring = keyring
        self._chain = chain
        self._alerts = alerts
        self._authorizer = authorizer
        self.views = views
        self._load_sources = load_sources
        self._max_config_bytes = max_config_bytes
        self._max_services = max_services
        self._clock = clock
        self._planner: Planner | None = None
        self._problems: dict[str, Problems] = {}
        self._defined: dict[str, list[str]] = {}
        self._serving: dict[str, JsonObject | None] = {}
        self._ruled = False
        self._waiters: dict[Key, set[asyncio.Future[None]]] = {}
        self._reloading = asyncio.Lock()
        self._in_the_way: frozenset[str] = frozenset()
        self.planning = asyncio.Lock()
        self.cache = cache
        self.state = State()
        self.outbox = Outbox()
        self.active = ""
        self.epoch = 1
        self.last_update: float | None = None
        self.revisions: Counter[Cause] = Counter()
        self.degraded: str | None = None
        self.refused_schemas: list[str] = []
        self.retry_files = False
        queue.listen_abort(self._aborted)

    async def load(self, requested_environment: str) -> dict[str, str]:
        """Bring back what is stored, and nothing more; returns the store's own table.

        Args:
            requested_environment: What is active in an empty store.
        """
        stored = await self._store.load()
        self.epoch = int(stored.meta.get(_EPOCH, "1"))
        self.outbox = Outbox(stored.announcements)
        self.state.commit(self._entries(stored))
        self._serving = {
            item.service: None if item.document is None else msgspec.json.decode(item.document)
            for item in stored.schemas
        }
        self._defined = msgspec.json.decode(stored.meta.get(_DEFINED, "{}"), type=dict[str, list[str]])
        self._ruled = _RULED in stored.meta
        self.active = stored.meta.get(_ACTIVE, requested_environment)
        return stored.meta

    async def look_again(self) -> None:
        """Take what is stored for what it is now: its boxes are others, and more or fewer of them open.

        Raises:
            Unavailable: The store cannot be read.
        """
        heads = self.state.all_heads()
        stored = self._entries(await self._store.load())
        self.state.commit(
            {key: replace(entry, effective=heads[key].effective) for key, entry in stored.items() if key in heads}
        )

    def _entries(self, stored: StoredState) -> dict[Key, Entry]:
        """What is stored, not composed yet."""
        records = {(record.environment, record.service): record for record in stored.records}
        overlays = {(overlay.environment, overlay.service): overlay for overlay in stored.overlays}
        entries: dict[Key, Entry] = {}
        for key in records.keys() | overlays.keys():
            overlay = overlays.get(key)
            patch = None if overlay is None else self._open_overlay(overlay)
            entries[key] = Entry(records.get(key), patch, origins={} if overlay is None else overlay.origins)
        return entries

    async def start(self, requested_environment: str, *, degraded: bool = True) -> None:
        """Bring back what is stored, take the files over, and settle what has to be announced.

        Args:
            requested_environment: The ``ENVIRONMENT`` setting; where it differs from the previous start's it
                decides which environment is active.
            degraded: Where files are not valid, serve what was recorded last instead.

        Raises:
            SourceError: The active environment is not valid, and there is nothing recorded to serve instead, or
                ``ENVIRONMENT`` asks for another one than before.
            Unavailable: The store cannot write.
        """
        stored = await self.load(requested_environment)
        moved = asks_to_move(requested_environment, stored)
        if moved:
            self.active = requested_environment
        meta = {_ACTIVE: self.active, _REQUESTED: requested_environment, _EPOCH: str(self.epoch)}
        try:
            await self._adopt(await self._read_files(), meta=meta, starting=True)
        except SourceError as error:
            # An environment that cannot be activated is not moved to: what the bus holds stays as it is.
            if moved or not degraded or not any(True for _ in self.state.live(self.active)):
                raise
            if _RULED in stored:
                self._authorizer.close()
            self._degrade(error)
        await self.settle_announcements()

    async def reload(self, *, dry_run: bool = False, migrate: ChangeContext | None = None) -> Outcome:
        """Read the files again and take them over, whole or not at all.

        Args:
            dry_run: Only say what would come of it.
            migrate: Carry out the migrations that schemas wait for, as this.

        Raises:
            SourceError: The active environment would not be valid, or a schema would break what is stored;
                everything stays as it was.
            Unavailable: The store cannot write; everything stays as it was.
        """
        # One after another: what was read before must not be taken over after what was read later.
        async with self._reloading:
            if dry_run:
                return await self._adopt(await self._read_files(), meta={}, dry_run=True, migrate=migrate)
            self.retry_files = False
            try:
                outcome = await self._adopt(await self._read_files(), meta={}, migrate=migrate)
            except SourceError as error:
                self._degrade(error)
                raise
            self.degraded = None
            self.refused_schemas = []
            self._alerts.clear("validation_failed")
            return outcome

    async def _read_files(self) -> Sources:
        return await asyncio.to_thread(self._load_sources)

    async def activate(self, name: str, origin: ChangeContext, *, dry_run: bool = False) -> Outcome:
        """Make another environment the active one: every service of it is checked first, and all move at once.

        Raises:
            NotFound: There is no such environment.
            Unavailable: Files or store cannot be used; nothing moved.
            ValidationFailed: A service of it would be invalid, or it has none; nothing moved.
        """
        async with self.planning:
            check_environment(self, name)
            if name == self.active:
                return Outcome([], [], {})
            if self._planner is None:
                raise Unavailable(_NO_FILES)
            adoption = Adoption(self._planner, Plan(self.state))
            found = adoption.sources.environments[name]
            adopter = Adopter(adoption, active=name, defined=self._defined)
            problems = await adopter.plan_environment(found, origin=origin, announce=False)
            if problems:
                listed = [problem for service in problems.values() for problem in service]
                raise ValidationFailed(f"{name} cannot be activated; {self.active} stays active", listed)
            outcome = await self._plan_move(adoption, name, origin, dry_run=dry_run)
            if not dry_run:
                # Held until it is durable: what is written meanwhile would be announced for the wrong environment.
                await self.submit(adoption.plan)
            return outcome

    async def _plan_move(self, adoption: Adoption, name: str, origin: ChangeContext, *, dry_run: bool) -> Outcome:
        """Plan what the bus is told when another environment becomes the active one."""
        plan, planner = adoption.plan, adoption.planner
        before = {service: entry for service, entry in self.state.heads(self.active) if entry.live}
        services = {service for service, _ in self.state.heads(name)} | {service for _, service in plan.entries}
        after = {service: entry for service in sorted(services) if (entry := plan.head((name, service))).live}
        if not after:
            raise ValidationFailed(f"{name} has no configuration of any service, so it cannot be activated")
        outcome = Outcome([], [], {})
        for service, entry in after.items():
            # Hundreds of services take long enough to be felt by those who read.
            await asyncio.sleep(0)
            old = before.get(service, Entry())
            record = entry.live
            document = {} if old.live is None else planner.document(old)
            announcement = None if record is None else planner.announce(plan, record, before=document)
            if announcement is not None and announcement.changed:
                outcome.changed.append(service)
                if dry_run:
                    outcome.difference[service] = await asyncio.to_thread(difference, old, entry)
                if announcement.restart_required:
                    outcome.restart_required.append(service)
        for service in sorted(before.keys() - after.keys()):
            plan.announcements.append(self.outbox.create(service_subject(service), b""))
            outcome.changed.append(service)
            if dry_run:
                outcome.difference[service] = difference(before[service], Entry())
        plan.announcements.append(self.outbox.create(ENVIRONMENT, self._environment_message(name)))
        plan.meta[_ACTIVE] = name
        plan.activates = name
        plan.audit.append(origin.done(self._clock(), environment=name, detail=f"was {self.active}"))
        return outcome

    @property
    def stamps(self) -> Stamps | None:
        """The files that serve as they were when they were read; None while none can be used."""
        return None if self.sources is None else self.sources.stamps

    @property
    def sources(self) -> Sources | None:
        """The files that serve; None while none can be used."""
        return None if self._planner is None else self._planner.composer.sources

    def problems(self, environment: str) -> list[Problem]:
        """Why an environment cannot be activated."""
        return [problem for listed in self._problems.get(environment, {}).values() for problem in listed]

    def planner(self, environment: str) -> Planner:
        """The planner, where the files of an environment can be composed from.

        Raises:
            Unavailable: They cannot.
        """
        if self._planner is None:
            raise Unavailable(_NO_FILES)
        found = self._planner.composer.sources.environments.get(environment)
        if found is None:
            raise Unavailable(f"The files of {environment} are gone, so nothing can be changed in it.")
        if found.problems:
            raise Unavailable(
                f"The files of {environment} cannot be used, so nothing can be changed in it: {found.problems[0]}"
            )
        return self._planner

    def defines(self, key: Key) -> bool:
        """Whether the files name a service; where they cannot be used, or were not read yet, whether they last did."""
        environment, service = key
        sources = self.sources
        if sources is None:
            return service in self._defined.get(environment, ())
        found = sources.environments.get(environment)
        return found is not None and service in found.services

    def live(self, key: Key) -> Record:
        """The newest revision of a configuration that exists.

        Raises:
            NotFound: There is none; says what is wrong with the files' one, if they have one.
        """
        record = self.state.committed(key).live
        if record is not None:
            return record
        environment, service = key
        listed = self._problems.get(environment, {})
        problems = listed.get(service) or listed.get("") or ()
        why = f" What the files make of it is invalid: {problems[0].message}" if problems else ""
        raise NotFound(f"There is no configuration of {service} in {environment}.{why}")

    async def revision(self, key: Key, number: int) -> Record:
        """One revision.

        Raises:
            NotFound: There never was one of that number, or it was a deletion.
            Unavailable: The store cannot be read.
        """
        record = await self._store.record(*key, number)
        if record is None:
            raise NotFound(f"There is no revision {number} of {key[1]} in {key[0]}.")
        if record.deleted:
            raise NotFound(
                f"With revision {number} {key[1]} was deleted in {key[0]}; its content is in the one before."
            )
        if not self._chain.confirms(record):
            raise Unavailable(
                f"Revision {number} of {key[1]} in {key[0]} is not what was written; somebody changed the database."
            )
        return record

    def open_record(self, record: Record) -> OpenedDocument:
        """Open the document of a revision, ``version`` left out."""
        return open_record(record, self._keyring)

    async def history(self, key: Key, *, before: int | None, limit: int) -> list[RecordHead]:
        """Revisions, newest first.

        Raises:
            NotFound: There never was one.
            Unavailable: The store cannot be read.
        """
        if self.state.committed(key).record is None:
            raise NotFound(f"There never was a configuration of {key[1]} in {key[0]}.")
        return await self._store.history(*key, before=before, limit=limit)

    async def change_of(self, key: Key) -> None:
        """Wait until another revision of a configuration is committed, or another environment is active."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, set()).add(waiter)
        try:
            await waiter
        finally:
            waiters = self._waiters.get(key, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(key, None)

    async def answer(self, key: Key) -> CachedAnswer:
        """The encoded answer to a plain ``get``, from the cache or else read from the store.

        Raises:
            NotFound: There is no such configuration.
            Unavailable: The store cannot be read.
        """
        record = self.live(key)
        found = self.cache.get(key)
        if found is not None:
            return found
        stored = await self._store.record(*key, record.revision)
        newest = self.state.committed(key).live
        # Another revision may have been committed while the store was read, or somebody changed it there.
        if newest is not None and (
            stored is None or stored.revision != newest.revision or not self._chain.confirms(stored)
        ):
            stored = newest
        return self._remember(key, stored or record)

    def encoded(self, record: Record) -> bytes:
        """The answer to ``get`` for one revision, without ``status`` and ``request_id``; secrets redacted."""
        return documents.encode(self._config_answer(record, self.views.shown(record)))

    def _config_answer(self, record: Record, config: JsonObject) -> ConfigAnswer:
        return ConfigAnswer(
            service=record.service,
            config=config,
            version=record.version,
            last_updated=record.timestamp,
            environment=record.environment,
            revision=record.revision,
            epoch=self.epoch,
            checksum=record.checksum,
        )

    def plaintext(self, record: Record) -> Answer:
        """The answer to ``get`` with secrets in the open; its ETag is another one, as what it shows is."""
        body = documents.encode(self._config_answer(record, self.views.opened(record)))
        return Answer(body, self.etags(record)[1])

    def etags(self, record: Record) -> tuple[str, str]:
        """The ETag of what every reader sees of a revision, and of that with its secrets in the open."""
        etag = self.etag(record)
        return etag, f"{etag}o"

    def etag(self, record: Record) -> str:
        """Opaque; covers environment, epoch, revision and how readers see the secrets."""
        key = self.views.recipient(record.service)
        reader = "redacted" if key is None else key.key_id
        text = f"{record.environment}/{record.service}/{self.epoch}/{record.revision}/{record.checksum}/{reader}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def check_room(self, key: Key, plan: Plan) -> None:
        """Refuse a new service beyond the limit.

        Raises:
            TooLarge: There are as many as allowed.
        """
        environment, _ = key
        if plan.head(key).live is not None or self.defines(key):
            return
        there = sum(1 for _, entry in self.state.heads(environment) if entry.live)
        planned = sum(1 for other, entry in plan.entries.items() if entry.live and not self.state.head(other).live)
        if there + planned >= self._max_services:
            raise TooLarge(
                f"There are {self._max_services} services in {environment} already (ALICIACFG_MAX_SERVICES); "
                "delete one first."
            )

    def submit(self, plan: Plan, *, builds_on: Iterable[Key] = ()) -> Awaitable[None]:
        """Submit a plan; what is returned is done when it is durable.

        Plans submitted one after another are written in that order.

        Args:
            plan: May be empty.
            builds_on: For an empty plan: the configurations it found nothing to change in.

        Raises:
            Unavailable: The store cannot write, here or when waited for; nothing was changed.
            Busy: Too many writes wait.
        """
        if plan.generation != self.state.generation:
            raise Unavailable("The store could not write what this change builds on. Nothing was changed.")
        if plan.empty:
            # "Unchanged" is true only once the write that made it so is on the disk.
            if any(self.state.is_pending(key) for key in builds_on):
                return self._queue.flush()
            # What a record holds may be known only now, after a start with broken files.
            self.state.refresh(plan.entries)
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        committed = self._queue.submit(plan.write, lambda: self._committed(plan))
        self.state.plan(plan.entries)
        for key in plan.entries:
            self._problems.get(key[0], {}).pop(key[1], None)
        return committed

    async def write_confirmations(self) -> None:
        """Write down what the bus was seen to hold, so that the next start need not publish it again.

        Raises:
            Unavailable: The store cannot write.
        """
        confirmed = self.outbox.take_confirmed()
        if confirmed:
            await self._queue.submit(Write(confirmed=confirmed))

    def _committed(self, plan: Plan) -> None:
        self.state.commit(plan.entries)
        for key, entry in plan.entries.items():
            if entry.live is None:
                self.cache.discard(key)
            else:
                self._remember(key, entry.live)
        for record in plan.records:
            self._wake((record.environment, record.service))
        if any(service in self._in_the_way for _, service in plan.entries):
            self.retry_files = True
        if plan.records:
            self.last_update = plan.records[-1].timestamp
            self.revisions.update(record.cause for record in plan.records)
        if plan.activates is not None:
            self.active = plan.activates
            for key in list(self._waiters):
                self._wake(key)
        self.outbox.add(plan.announcements)

    def show_anew(self, service: str) -> None:
        """How readers see a service's secrets is another way from now on."""
        for key in [key for key in self.state.all_heads() if key[1] == service]:
            self.cache.discard(key)
            self._wake(key)

    def _wake(self, key: Key) -> None:
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _remember(self, key: Key, record: Record) -> CachedAnswer:
        return self.cache.put(
            key,
            body=self.encoded(record),
            etag=self.etag(record),
            revision=record.revision,
            checksum=record.checksum,
        )

    def _aborted(self, error: Unavailable) -> None:
        self.state.abort()
        self._alerts.emit("store", f"{error.message} Nothing was changed. See whether its disk is full.")

    def _make_composer(self, sources: Sources) -> Composer:
        return Composer(sources, self._keyring, max_bytes=self._max_config_bytes)

    def _make_planner(self, sources: Sources) -> Planner:
        return Planner(
            composer=self._make_composer(sources),
            keyring=self._keyring,
            chain=self._chain,
            show=self.views.shown,
            outbox=self.outbox,
            epoch=self.epoch,
            clock=self._clock,
        )

    async def _adopt(
        self,
        sources: Sources,
        *,
        meta: dict[str, str],
        starting: bool = False,
        dry_run: bool = False,
        migrate: ChangeContext | None = None,
    ) -> Outcome:
        """Take over files, whole or not at all."""
        async with self.planning:
            evolution = Evolver(self._make_composer, self.state.all_heads()).evolve(sources, self._serving)
            if evolution.problems and not starting:
                raise _refusal(evolution)
            try:
                adoption, migrations = await self._plan_files(evolution, migrate=migrate, dry_run=dry_run)
            except SourceError as error:
                told = [*evolution.problems, *error.problems, *_waiting_problems(evolution)]
                raise SourceError(told, services=error.services) from error
            plan = adoption.plan
            plan.schemas += changed_schemas(self._serving, serving_schemas(adoption.sources, self._serving))
            plan.meta.update(meta)
            if adoption.sources.access is not None and not self._ruled:
                plan.meta[_RULED] = "since"
                self._ruled = True
            if adoption.defined != self._defined:
                plan.meta[_DEFINED] = documents.encode(adoption.defined).decode()
            outcome = await self._outcome(plan, migrations, dry_run=dry_run)
            if not dry_run:
                await self._take_over(adoption)
                self._tell_schemas(evolution, migrations)
            return outcome

    async def _plan_files(
        self, evolution: Evolution, *, migrate: ChangeContext | None, dry_run: bool
    ) -> tuple[Adoption, list[Migration]]:
        """Plan what the files make of every environment, with the migrations that shall and can be carried out."""
        ready = [waiting for waiting in evolution.waiting if migrate is not None and not waiting.problems]
        serving = evolution.without_refused.with_schemas({item.move.service: item.move.new for item in ready})
        adoption = Adoption(self._make_planner(serving), Plan(self.state))
        adopter = Adopter(adoption, active=self.active, defined=self._defined)
        for waiting in ready:
            if migrate is not None:
                adopter.migrate(waiting, migrate)
        adopter.reseal(await self._newly_secret(serving))
        await adopter.plan_all()
        return adoption, [
            _migration(waiting, adoption.plan, ready=waiting in ready, dry_run=dry_run) for waiting in evolution.waiting
        ]

    async def _newly_secret(self, sources: Sources) -> list[Record]:
        """Every revision of which a changed schema calls more secret than is sealed, sealed so."""
        found: list[Record] = []
        for changed in changed_schemas(self._serving, serving_schemas(sources, self._serving)):
            # What waits for the disk was planned under the old schema.
            await self._queue.flush()
            for record in await self._store.revisions(changed.service):
                await asyncio.sleep(0)
                schema = sources.schema(record.service)
                if self._chain.confirms(record) and (more := seal_further(record, schema, self._keyring)) is not None:
                    found.append(more)
        return found

    async def _take_over(self, adoption: Adoption) -> None:
        before = self._planner, self._problems, self._defined, self._serving
        # From here on writes build on the new files: their plans come after this one.
        self._planner, self._problems, self._defined = adoption.planner, adoption.problems, adoption.defined
        self._serving = serving_schemas(adoption.sources, self._serving)
        self._in_the_way = frozenset()
        try:
            await self.submit(adoption.plan)
            if adoption.plan.resealed:
                await self._store.scrub()
        except OperationError:
            self._planner, self._problems, self._defined, self._serving = before
            raise
        self._authorizer.adopt(
            adoption.sources.access, {service for listed in adoption.defined.values() for service in listed}
        )
        for environment, services in adoption.undecryptable.items():
            self._tell_undecryptable(environment, services)

    async def _outcome(self, plan: Plan, migrations: list[Migration], *, dry_run: bool) -> Outcome:
        """What a plan does to the active environment."""
        records = [record for record in plan.records if record.environment == self.active]
        outcome = Outcome(
            [record.service for record in records],
            [record.service for record in records if record.restart_required],
            {},
            migrations,
        )
        for record in records if dry_run else ():
            key = self.active, record.service
            outcome.difference[record.service] = await asyncio.to_thread(
                difference, self.state.head(key), plan.head(key)
            )
        return outcome

    def _tell_schemas(self, evolution: Evolution, migrations: list[Migration]) -> None:
        """Stand alerts about schemas on disk that do not serve."""
        if evolution.problems:
            self._degrade(_refusal(evolution))
            self.refused_schemas = [move.file for move in evolution.refused]
        waiting = [item for item in migrations if not item.done]
        self._in_the_way |= {item.service for item in waiting if item.problems}
        if not waiting:
            self._alerts.clear("migration_pending")
            return
        named = ", ".join(f"{item.service} ({item.from_version} to {item.to_version})" for item in waiting)
        self._alerts.stand(
            "migration_pending",
            f"The schemas of {named} wait for their migrations; the old ones serve. Look with: aliciacfg migrate "
            "--dry-run; carry out with: aliciacfg migrate.",
            problems=[problem for item in waiting for problem in item.problems],
        )

    def _tell_undecryptable(self, environment: str, services: list[str]) -> None:
        if services:
            self._alerts.stand(
                "undecryptable",
                f"Changes made at run time to {', '.join(services)} in {environment} do not open: their key is not "
                "here, or somebody changed them in the database. Their last revisions go on serving. Restore the key "
                "file, or set these services anew.",
                of=environment,
            )
        else:
            self._alerts.clear("undecryptable", of=environment)

    async def settle_announcements(self) -> None:
        """Make the outbox say what the active environment is: at a start, after a switch or a restore."""
        plan = Plan(self.state)
        live = dict(self.state.live(self.active))
        for service, record in live.items():
            known = self.outbox.current.get(service_subject(service))
            if known is None or not self._announces(known.payload, record):
                plan.announcements.append(self._announcement(record))
        for subject, item in self.outbox.current.items():
            service = subject_service(subject)
            if service is not None and service not in live and item.payload:
                plan.announcements.append(self.outbox.create(subject, b""))
        for subject, payload in (
            (ENVIRONMENT, self._environment_message(self.active)),
            (KEY, documents.encode(self._keyring.published)),
        ):
            known = self.outbox.current.get(subject)
            if known is None or known.payload != payload:
                plan.announcements.append(self.outbox.create(subject, payload))
        await self.submit(plan)

    def _announcement(self, record: Record) -> Announcement:
        shown = self.views.shown(record)
        return announce_record(self.outbox, record, shown=shown, epoch=self.epoch, now=self._clock())

    def _announces(self, payload: bytes, record: Record) -> bool:
        """Whether a retained message says what a revision is, and as it is shown now."""
        if not payload:
            return False
        try:
            message = msgspec.json.decode(payload, type=UpdateMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        said = (message.environment, message.revision, message.epoch, message.checksum, message.config)
        shown = self.views.shown(record)
        return said == (record.environment, record.revision, self.epoch, record.checksum, shown)

    def _environment_message(self, name: str) -> bytes:
        return documents.encode({"environment": name, "epoch": self.epoch})

    def _open_overlay(self, stored: Overlay) -> JsonObject | None:
        """An overlay with its secrets in the open; one that does not open stays sealed."""
        if stored.patch is None:
            return None
        if not stored.confirmed:
            return dict(_UNBELIEVABLE)
        overlay: JsonObject = msgspec.json.decode(stored.patch)
        opened = open_document(overlay, self._keyring, service=stored.service, environment=stored.environment)
        return opened.document

    def _degrade(self, error: SourceError) -> None:
        first = str(error.problems[0]) if error.problems else "nothing is wrong"
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        self.degraded = first
        self._in_the_way = error.services
        self._alerts.stand(
            "validation_failed",
            f"The files were not taken over, the configurations before them go on serving: {first}{more}",
            problems=as_problems(error),
            # Everybody may ask for health, and what is wrong may quote a value.
            shown="The files were not taken over, the configurations before them go on serving; `aliciacfg check` "
            f"lists what is wrong ({len(error.problems)})",
        )


def asks_to_move(requested_environment: str, stored: Mapping[str, str]) -> bool:
    """Whether a start with this ``ENVIRONMENT`` makes it the active one, whichever was before.

    Args:
        requested_environment: The setting.
        stored: As ``Configurations.load`` returns it.
    """
    return requested_environment != stored.get(_REQUESTED)


def check_environment(configurations: Configurations, name: str | None) -> str:
    """The environment that a request means: the active one unless it names another that exists.

    Raises:
        InvalidRequest: What it names cannot be an environment.
        NotFound: There is no such environment.
    """
    if name is None or name == configurations.active:
        return configurations.active
    names.check_environment(name)
    sources = configurations.sources
    if sources is not None and name not in sources.environments:
        raise NotFound(f"There is no environment {name!r}; there are: {', '.join(sources.environments)}.")
    return name


def _refusal(evolution: Evolution) -> SchemaRefused:
    return SchemaRefused(evolution.problems, services={move.service for move in evolution.refused})


def _migration(waiting: Waiting, plan: Plan, *, ready: bool, dry_run: bool) -> Migration:
    """A move of a schema as requesters see it."""
    move = waiting.move
    keys = [(environment, move.service) for environment in sorted(waiting.overlays)]
    return Migration(
        service=move.service,
        from_version=move.from_version,
        to_version=move.to_version,
        files=[step.file for step in move.steps or ()],
        environments=[environment for environment, _ in keys],
        problems=waiting.problems,
        done=ready and not dry_run,
        difference={key[0]: difference(plan.state.head(key), plan.head(key)) for key in keys}
        if ready and dry_run
        else UNSET,
    )


def _waiting_problems(evolution: Evolution) -> list[SourceProblem]:
    """What to say beside the problems of files that were written for a schema which does not serve yet."""
    return [
        SourceProblem(
            f"schemas/{waiting.move.service}.yaml",
            None,
            f"version {waiting.move.to_version} waits for its migration, so version {waiting.move.from_version} "
            "counts; if the files are written for the new one, run: aliciacfg migrate --dry-run",
        )
        for waiting in evolution.waiting
    ]
