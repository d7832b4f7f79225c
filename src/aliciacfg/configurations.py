"""Configurations: the state of all services in all environments, and the only way to change it.

Takes files over, carries plans out, keeps cache and outbox in step with what is durable. The operations that
requesters see are in ``service``.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping

import msgspec

from aliciacfg import documents, names, sealing
from aliciacfg.alerts import Alerts
from aliciacfg.cache import AnswerCache, CachedAnswer
from aliciacfg.composing import Composer
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
from aliciacfg.layers import Environment, Sources
from aliciacfg.messages import ConfigAnswer, UpdateMessage
from aliciacfg.outbox import ENVIRONMENT, KEY, Outbox, service_subject, subject_service
from aliciacfg.planning import Origin, Plan, Planner, announce_record, redact_sealed
from aliciacfg.records import Record, Write
from aliciacfg.sealing import Keyring
from aliciacfg.state import Entry, Key, State
from aliciacfg.store import Store

_FILES = Origin("files", "file")

# Names in the store's meta table.
_EPOCH = "epoch"
_ACTIVE = "active_environment"
_REQUESTED = "requested_environment"
_DEFINED = "defined_services"

Problems = dict[str, tuple[Problem, ...]]
"""Problems by service; "" are those of an environment's files."""


class Configurations:
    """All configurations, durable and planned.

    Attributes:
        active: The name of the active environment.
        epoch: Raised when a database is restored from a backup.
        state: What is committed and what waits for the disk.
        outbox: What the bus has to hold.
        cache: Encoded answers to ``get``.
        last_update: Unix seconds of the newest revision since the start.
        degraded: Why the files on disk are not the ones that serve, or None.
    """

    def __init__(
        self,
        *,
        store: Store,
        keyring: Keyring,
        cache: AnswerCache,
        alerts: Alerts,
        load_sources: Callable[[], Sources],
        max_config_bytes: int,
        max_services: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._alerts = alerts
        self._load_sources = load_sources
        self._max_config_bytes = max_config_bytes
        self._max_services = max_services
        self._clock = clock
        self._planner: Planner | None = None
        self._problems: dict[str, Problems] = {}
        self._defined: dict[str, list[str]] = {}
        self._reloading = asyncio.Lock()
        self.cache = cache
        self.state = State()
        self.outbox = Outbox()
        self.active = ""
        self.epoch = 1
        self.last_update: float | None = None
        self.degraded: str | None = None
        store.on_abort = self._aborted

    async def start(self, requested_environment: str) -> None:
        """Bring back what is stored, take the files over, and settle what has to be announced.

        Args:
            requested_environment: The ``ENVIRONMENT`` setting; where it differs from the previous start's it
                decides which environment is active.

        Raises:
            SourceError: The active environment is not valid, and there is nothing recorded to serve instead, or
                ``ENVIRONMENT`` asks for another one than before.
            Unavailable: The store cannot write.
        """
        stored = await self._store.load()
        self.epoch = int(stored.meta.get(_EPOCH, "1"))
        self.outbox = Outbox(stored.announcements)
        overlays = {
            (overlay.environment, overlay.service): self._open_overlay(overlay.environment, overlay.service, patch)
            for overlay in stored.overlays
            if (patch := overlay.patch) is not None
        }
        records = {(record.environment, record.service): record for record in stored.records}
        self.state.commit({key: Entry(records.get(key), overlays.get(key)) for key in records.keys() | overlays.keys()})
        self._defined = msgspec.json.decode(stored.meta.get(_DEFINED, "{}"), type=dict[str, list[str]])
        moved = requested_environment != stored.meta.get(_REQUESTED)
        self.active = requested_environment if moved else stored.meta.get(_ACTIVE, requested_environment)
        meta = {_ACTIVE: self.active, _REQUESTED: requested_environment, _EPOCH: str(self.epoch)}
        try:
            await self._adopt(await asyncio.to_thread(self._load_sources), meta=meta)
        except SourceError as error:
            # An environment that cannot be activated is not moved to: what the bus holds stays as it is.
            if moved or not any(True for _ in self.state.live(self.active)):
                raise
            self._degrade(error)
        await self._settle_announcements()

    async def reload(self) -> list[str]:
        """Read the files again and take them over, whole or not at all.

        Returns:
            The services of the active environment whose configuration changed.

        Raises:
            SourceError: The active environment would not be valid; everything stays as it was.
            Unavailable: The store cannot write; everything stays as it was.
        """
        async with self._reloading:
            try:
                changed = await self._adopt(await asyncio.to_thread(self._load_sources), meta={})
            except SourceError as error:
                self._degrade(error)
                raise
            self.degraded = None
            self._alerts.clear("validation_failed")
            return changed

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
            raise Unavailable("The environment files cannot be used, so nothing can be changed; see the health alerts.")
        found = self._planner.composer.sources.environments.get(environment)
        if found is None:
            raise Unavailable(f"The files of {environment} are gone, so nothing can be changed in it.")
        if found.problems:
            raise Unavailable(
                f"The files of {environment} cannot be used, so nothing can be changed in it: {found.problems[0]}"
            )
        return self._planner

    def defines(self, key: Key) -> bool:
        """Whether the files name a service."""
        environment, service = key
        sources = self.sources
        found = None if sources is None else sources.environments.get(environment)
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
        if record is None or record.deleted:
            raise NotFound(f"There is no revision {number} of {key[1]} in {key[0]}.")
        return record

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
        # Another revision may have been committed while the store was read.
        if newest is not None and (stored is None or stored.revision != newest.revision):
            stored = newest
        return self._remember(key, stored or record)

    def encoded(self, record: Record) -> bytes:
        """The answer to ``get`` for one revision, without ``status`` and ``request_id``; secrets redacted."""
        return documents.encode(
            ConfigAnswer(
                service=record.service,
                config=redact_sealed(record),
                version=record.version,
                last_updated=record.timestamp,
                environment=record.environment,
                revision=record.revision,
                epoch=self.epoch,
                checksum=record.checksum,
            )
        )

    def etag(self, record: Record) -> str:
        """Opaque; covers environment, epoch, revision and what a reader sees (everybody: secrets redacted)."""
        text = f"{record.environment}/{record.service}/{self.epoch}/{record.revision}/{record.checksum}/redacted"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def check_room(self, key: Key) -> None:
        """Refuse a new service beyond the limit.

        Raises:
            TooLarge: There are as many as allowed.
        """
        environment, _ = key
        if self.state.head(key).live is not None or self.defines(key):
            return
        if sum(1 for _, entry in self.state.heads(environment) if entry.live) >= self._max_services:
            raise TooLarge(
                f"There are {self._max_services} services in {environment} already (ALICIACFG_MAX_SERVICES); "
                "delete one first."
            )

    async def carry_out(self, plan: Plan, *, builds_on: Key | None = None) -> None:
        """Submit a plan, and wait until it is durable.

        Submits before it first waits: plans made one after another are written in that order.

        Args:
            plan: May be empty.
            builds_on: For an empty plan: the configuration it found nothing to change in.

        Raises:
            Unavailable: The store cannot write; nothing was changed.
            Busy: Too many writes wait.
        """
        if plan.empty:
            # "Unchanged" is true only once the write that made it so is on the disk.
            if builds_on is not None and self.state.is_pending(builds_on):
                await self._store.submit(Write(), lambda: None)
            else:
                # What a record holds may be known only now, after a start with broken files.
                self.state.refresh(plan.entries)
            return
        done = self._store.submit(plan.write, lambda: self._committed(plan))
        self.state.plan(plan.entries)
        for key in plan.entries:
            self._problems.get(key[0], {}).pop(key[1], None)
        await done

    async def write_confirmations(self) -> None:
        """Write down what the bus was seen to hold, so that the next start need not publish it again.

        Raises:
            Unavailable: The store cannot write.
        """
        confirmed = self.outbox.take_confirmed()
        if confirmed:
            await self._store.submit(Write(confirmed=confirmed), lambda: None)

    def _committed(self, plan: Plan) -> None:
        self.state.commit(plan.entries)
        for key, entry in plan.entries.items():
            if entry.live is None:
                self.cache.discard(key)
            else:
                self._remember(key, entry.live)
        if plan.records:
            self.last_update = plan.records[-1].timestamp
        self.outbox.add(plan.announcements)

    def _remember(self, key: Key, record: Record) -> CachedAnswer:
        return self.cache.put(
            key,
            body=self.encoded(record),
            etag=self.etag(record),
            revision=record.revision,
            checksum=record.checksum,
        )

    def _aborted(self, error: Exception) -> None:
        self.state.abort()
        self._alerts.emit(
            "store", f"The store cannot write ({error}); nothing was changed. See whether its disk is full."
        )

    async def _adopt(self, sources: Sources, *, meta: dict[str, str]) -> list[str]:
        """Take over files, whole or not at all; returns the changed services of the active environment."""
        planner = Planner(
            composer=Composer(sources, self._keyring, max_bytes=self._max_config_bytes),
            keyring=self._keyring,
            outbox=self.outbox,
            epoch=self.epoch,
            clock=self._clock,
        )
        plan = Plan(meta=dict(meta))
        problems = {name: self._plan_environment(planner, plan, found) for name, found in sources.environments.items()}
        self._refuse_active(sources, problems)
        defined = {name: sorted(found.services) for name, found in sources.environments.items()}
        if defined != self._defined:
            plan.meta[_DEFINED] = documents.encode(defined).decode()
        before = self._planner, self._problems, self._defined
        # From here on writes build on the new files: their plans come after this one.
        self._planner, self._problems, self._defined = planner, problems, defined
        try:
            await self.carry_out(plan)
        except OperationError:
            self._planner, self._problems, self._defined = before
            raise
        return [record.service for record in plan.records if record.environment == self.active]

    def _plan_environment(self, planner: Planner, plan: Plan, environment: Environment) -> Problems:
        """Plan every service of one environment, and say what is wrong with which."""
        if environment.problems:
            return {"": tuple(as_problem(problem) for problem in environment.problems)}
        problems: Problems = {}
        heads = dict(self.state.heads(environment.name))
        known = {service for service, entry in heads.items() if entry.live or entry.overlay is not None}
        undecryptable: list[str] = []
        for service in sorted(environment.services | known):
            entry = heads.get(service, Entry())
            if _undecryptable(entry):
                undecryptable.append(service)
                continue
            try:
                self._plan_service(planner, plan, (environment.name, service), entry, environment)
            except OperationError as error:
                listed = error.problems or (Problem("", error.message),)
                problems[service] = tuple(_located(environment, service, problem) for problem in listed)
        self._tell_undecryptable(environment.name, undecryptable)
        return problems

    def _plan_service(self, planner: Planner, plan: Plan, key: Key, entry: Entry, environment: Environment) -> None:
        name, service = key
        announce = name == self.active
        if service not in environment.services:
            if entry.overlay is None:
                planner.tombstone(plan, key, entry, origin=_FILES, announce=announce)
                return
            if service in self._defined.get(name, ()):
                raise ValidationFailed(
                    "was removed from the files but has changes made at run time; delete those first, or put it back"
                )
        merged = documents.merge(planner.composer.base(name, service), entry.overlay or {})
        effective = planner.composer.effective(name, service, merged if isinstance(merged, dict) else {})
        # An empty overlay only says that a service exists that no file names.
        overlay = None if service in environment.services and not entry.overlay else entry.overlay
        planner.change(plan, key, entry, effective=effective, overlay=overlay, origin=_FILES, announce=announce)

    def _tell_undecryptable(self, environment: str, services: list[str]) -> None:
        if services:
            self._alerts.stand(
                "undecryptable",
                f"Changes made at run time to {', '.join(services)} in {environment} are sealed with a key that is not "
                "here; their last revisions go on serving. Restore the key file, or set these services anew.",
                of=environment,
            )
        else:
            self._alerts.clear("undecryptable", of=environment)

    def _refuse_active(self, sources: Sources, problems: Mapping[str, Problems]) -> None:
        if self.active not in sources.environments:
            known = ", ".join(sources.environments) or "none"
            message = f"is missing, but {self.active!r} is active; create it, or set ENVIRONMENT to one of: {known}"
            raise SourceError([SourceProblem(f"environments/{self.active}.yaml", None, message)])
        before = self._defined.get(self.active)
        if before and not sources.environments[self.active].services:
            # A file emptied by accident must not end every configuration of the home.
            message = (
                f"no file of {self.active} names a service any more, though {len(before)} were defined; bring them "
                "back. To end configurations, remove them one after another"
            )
            raise SourceError([SourceProblem(f"environments/{self.active}.yaml", None, message)])
        found = sources.environments[self.active].problems or [
            SourceProblem(f"services/{service}", None, problem.message, problem.pointer)
            for service, listed in problems[self.active].items()
            for problem in listed
        ]
        if found:
            raise SourceError(found)

    async def _settle_announcements(self) -> None:
        """Make the outbox say what the active environment is: at a start, after a switch or a restore."""
        plan = Plan()
        live = dict(self.state.live(self.active))
        for service, record in live.items():
            known = self.outbox.current.get(service_subject(service))
            if known is None or not _announces(known.payload, record, self.epoch):
                plan.announcements.append(announce_record(self.outbox, record, epoch=self.epoch, now=self._clock()))
        for subject, item in self.outbox.current.items():
            service = subject_service(subject)
            if service is not None and service not in live and item.payload:
                plan.announcements.append(self.outbox.create(subject, b""))
        for subject, payload in (
            (ENVIRONMENT, documents.encode({"environment": self.active, "epoch": self.epoch})),
            (KEY, documents.encode(self._keyring.published)),
        ):
            known = self.outbox.current.get(subject)
            if known is None or known.payload != payload:
                plan.announcements.append(self.outbox.create(subject, payload))
        await self.carry_out(plan)

    def _open_overlay(self, environment: str, service: str, patch: bytes) -> JsonObject:
        """An overlay with its secrets in the open; one that does not open stays sealed."""
        overlay: JsonObject = msgspec.json.decode(patch)
        opened: dict[str, str] = {}
        for pointer, value in documents.walk_strings(overlay):
            if sealing.is_sealed(value):
                try:
                    opened[pointer] = self._keyring.open(
                        value, service=service, environment=environment, pointer=pointer
                    )
                except sealing.CannotOpen:
                    continue
        result = documents.replace_strings(overlay, opened)
        return result if isinstance(result, dict) else {}

    def _degrade(self, error: SourceError) -> None:
        first = str(error.problems[0]) if error.problems else "nothing is wrong"
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        self.degraded = first
        self._alerts.stand(
            "validation_failed",
            f"The files were not taken over, the configurations before them go on serving: {first}{more}",
            problems=[as_problem(problem) for problem in error.problems],
        )


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


def as_problem(problem: SourceProblem) -> Problem:
    """A problem with a file, its place put into the message."""
    return Problem(problem.pointer, str(problem))


def _located(environment: Environment, service: str, problem: Problem) -> Problem:
    file, line = environment.locate(service, problem.pointer)
    where = file if line is None else f"{file}:{line}"
    return Problem(
        f"/services/{documents.escape(service)}{problem.pointer}",
        f"{where}: {service} {problem.pointer or '(document)'}: {problem.message}",
    )


def _undecryptable(entry: Entry) -> bool:
    return any(sealing.is_sealed(value) for _, value in documents.walk_strings(entry.overlay or {}))


def _announces(payload: bytes, record: Record, epoch: int) -> bool:
    """Whether a retained message says what a revision is."""
    if not payload:
        return False
    try:
        message = msgspec.json.decode(payload, type=UpdateMessage)
    except msgspec.MsgspecError:
        return False
    return (message.environment, message.revision, message.epoch, message.checksum) == (
        record.environment,
        record.revision,
        epoch,
        record.checksum,
    )
