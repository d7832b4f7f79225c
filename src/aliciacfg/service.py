"""ConfigService: the operations that requesters see, whatever the transport.

Each takes the caller, the name it is about (if any) and its request, and returns an encoded answer. A write
plans on the head of the state and submits its plan before it first waits, so that writes keep the order in
which they came in, and reads never wait for writes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Literal

import msgspec
from msgspec import UNSET

from aliciacfg import documents, names
from aliciacfg.alerts import Alerts
from aliciacfg.cache import CachedAnswer
from aliciacfg.composing import MISPLACED_BOX, Composer, Effective, redacted
from aliciacfg.configurations import Configurations, as_problem, check_environment
from aliciacfg.documents import Json, JsonObject
from aliciacfg.errors import Conflict, NotFound, Problem, SourceError, Unavailable, ValidationFailed
from aliciacfg.messages import (
    SOURCE,
    Caller,
    DeletedAnswer,
    EnvironmentItem,
    EnvironmentsAnswer,
    GetRequest,
    HealthAnswer,
    ListAnswer,
    ListItem,
    ListRequest,
    PatchRequest,
    ReloadAnswer,
    Request,
    SchemaAnswer,
    SetRequest,
    UnchangedAnswer,
    UnsetRequest,
    ValidateAnswer,
    ValidateRequest,
    WriteAnswer,
    WriteRequest,
)
from aliciacfg.outbox import service_subject
from aliciacfg.planning import Origin, Plan, Planner, redact_sealed
from aliciacfg.records import Record
from aliciacfg.sealing import REDACTED
from aliciacfg.state import Entry, Key
from aliciacfg.store import Store

VERSION = package_version("aliciacfg")


@dataclass(frozen=True, slots=True)
class Answer:
    """An operation's encoded answer.

    Attributes:
        body: A JSON object, without ``status`` and ``request_id``.
        etag: Opaque; of answers that show one configuration.
        created: The configuration did not exist before.
    """

    body: bytes
    etag: str | None = None
    created: bool = False


@dataclass(frozen=True, slots=True)
class Current:
    """A configuration as a conditional write finds it; the defaults are those of one that does not exist."""

    revision: int = 0
    checksum: str = ""
    etag: str | None = None


class Counters:
    """What health tells since the start."""

    def __init__(self) -> None:
        self.messages_processed = 0
        self.errors = 0
        self.validation_errors = 0


class ConfigService:
    """The operations.

    Attributes:
        counters: Counted by the adapters, told by health.
        instance: Names this daemon's data directory on the bus.
        bus_connected: Kept by the bus adapter.
        devices: How many devices the device registry knows; None while it is absent.
    """

    def __init__(
        self,
        *,
        configurations: Configurations,
        store: Store,
        alerts: Alerts,
        instance: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configurations = configurations
        self._store = store
        self._alerts = alerts
        self._clock = clock
        self._started = time.monotonic()
        self._online: dict[str, bool] = {}
        self.counters = Counters()
        self.instance = instance
        self.bus_connected = False
        self.devices: int | None = None

    def cached_get(self, service: str) -> CachedAnswer | None:
        """The encoded answer to a plain ``get`` in the active environment, if it is at hand."""
        configurations = self._configurations
        return configurations.cache.get((configurations.active, service))

    async def get(self, _caller: Caller, service: str, request: GetRequest) -> Answer:
        """One configuration."""
        names.check_service(service)
        key = (self._environment(request), service)
        record = self._configurations.live(key)
        if request.revision is not None and request.revision != record.revision:
            old = await self._configurations.revision(key, request.revision)
            return Answer(self._configurations.encoded(old), self._configurations.etag(old))
        answer = await self._configurations.answer(key)
        if request.if_checksum is not None and request.if_checksum == answer.checksum:
            unchanged = UnchangedAnswer(revision=answer.revision, checksum=answer.checksum)
            return Answer(documents.encode(unchanged), answer.etag)
        return Answer(answer.body, answer.etag)

    async def set(self, caller: Caller, service: str, request: SetRequest) -> Answer:
        """Make ``config`` the whole configuration, by the smallest overlay that yields it."""
        return await self._change(caller, service, request, lambda _base, _entry: request.config)

    async def patch(self, caller: Caller, service: str, request: PatchRequest) -> Answer:
        """Apply a merge patch (RFC 7396) to the effective configuration.

        Where the files define the service but what they make of it is invalid, to that: a patch may mend it.
        """

        def wanted(base: JsonObject, entry: Entry) -> Json:
            if entry.effective is not None:
                return documents.merge(entry.effective.document, request.patch)
            if entry.live is None and self._configurations.defines((self._environment(request), service)):
                return documents.merge(base, request.patch)
            raise NotFound(f"There is no usable configuration of {service} to patch; send a whole one with set.")

        return await self._change(caller, service, request, wanted)

    async def unset(self, caller: Caller, service: str, request: UnsetRequest) -> Answer:
        """Drop one place from the overlay, so that what the files say shows again."""
        tokens = documents.parse_pointer(request.pointer)

        def wanted(base: JsonObject, entry: Entry) -> Json:
            if entry.live is None:
                raise NotFound(f"There is no configuration of {service}.")
            return documents.merge(base, documents.without(entry.overlay or {}, tokens))

        return await self._change(caller, service, request, wanted)

    async def delete(self, caller: Caller, service: str, request: WriteRequest) -> Answer:
        """Drop the overlay; without a file that defines the service, the configuration ends."""
        names.check_service(service)
        key = (self._environment(request), service)
        planner = self._configurations.planner(key[0])
        entry = self._configurations.state.head(key)
        if entry.live is None:
            raise NotFound(f"There is no configuration of {service} in {key[0]}.")
        if self._configurations.defines(key):
            return await self._change(caller, service, request, lambda base, _entry: base, remains=True)
        self._check_conditions(key, entry, request)
        plan = Plan()
        after = planner.tombstone(plan, key, entry, origin=_origin(caller, request), announce=self._is_active(key))
        if not request.dry_run:
            await self._configurations.carry_out(plan)
        return _answer(
            DeletedAnswer(
                service=service,
                environment=key[0],
                revision=after.record.revision if after.record else 1,
                epoch=self._configurations.epoch,
                message=f"{service} {'would have' if request.dry_run else 'has'} no configuration in {key[0]} any more",
                remains=False,
                dry_run=request.dry_run,
            )
        )

    async def validate(self, _caller: Caller, service: str, request: ValidateRequest) -> Answer:
        """Say whether ``set`` would take a configuration, and everything that is wrong with it."""
        names.check_service(service)
        key = (self._environment(request), service)
        composer = self._configurations.planner(key[0]).composer
        problems: list[Problem] = []
        try:
            self._composed(composer, key, self._configurations.state.head(key), request.config)
        except ValidationFailed as error:
            problems += error.problems or [Problem("", error.message)]
        return _answer(ValidateAnswer(valid=not problems, problems=problems))

    async def schema(self, _caller: Caller, service: str, request: Request) -> Answer:
        """The whole JSON Schema of a service, base contract included."""
        names.check_service(service)
        key = (self._environment(request), service)
        sources = self._configurations.sources
        if sources is None:
            raise Unavailable("The schema files cannot be used; see the health alerts.")
        if service not in sources.schemas and self._configurations.state.committed(key).live is None:
            raise NotFound(f"There is neither a schema nor a configuration of {service}.")
        schema = sources.schema(service)
        return _answer(SchemaAnswer(service=service, schema=schema.document, version=schema.version))

    async def list(self, _caller: Caller, request: ListRequest) -> Answer:
        """The configurations of one environment, by name."""
        environment = self._environment(request)
        found = [
            (service, record)
            for service, record in self._configurations.state.live(environment)
            if service.startswith(request.prefix) and service > request.after
        ]
        page = found[: request.limit]
        items = [
            ListItem(
                service=service,
                environment=environment,
                version=record.version,
                revision=record.revision,
                checksum=record.checksum,
                last_updated=record.timestamp,
                config=redact_sealed(record) if request.include == "config" else UNSET,
            )
            for service, record in page
        ]
        return _answer(ListAnswer(configs=items, next=page[-1][0] if len(found) > len(page) else None))

    async def environments(self, _caller: Caller, _request: Request) -> Answer:
        """Every environment with what is wrong with it."""
        sources = self._configurations.sources
        items = [
            EnvironmentItem(
                name=name,
                protected=environment.protected,
                files=[file.file for file in environment.files],
                services=sorted(environment.services),
                problems=self._configurations.problems(name),
            )
            for name, environment in (sources.environments.items() if sources is not None else ())
        ]
        return _answer(EnvironmentsAnswer(active=self._configurations.active, environments=items))

    async def reload(self, _caller: Caller, _request: Request) -> Answer:
        """Read the files now."""
        try:
            changed = await self._configurations.reload()
        except SourceError as error:
            raise ValidationFailed(
                "The files were not taken over; the configurations before them go on serving",
                [as_problem(problem) for problem in error.problems],
            ) from error
        active = self._configurations.active
        message = f"{len(changed)} configurations of {active} changed"
        return _answer(ReloadAnswer(environment=active, changed=changed, message=message))

    async def health(self, _caller: Caller, _request: Request) -> Answer:
        """How the daemon is."""
        return _answer(self.health_now())

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
            validation_errors=self.counters.validation_errors,
            mqtt_connected=self.bus_connected,
            outbox_pending=configurations.outbox.pending,
            drift=0,
            device_registry="absent" if self.devices is None else self.devices,
            services_online=sum(self._online.values()),
            messages_processed=self.counters.messages_processed,
            errors=self.counters.errors,
            alerts=self._alerts.standing,
        )

    @property
    def ready(self) -> bool:
        """Whether store and bus are usable."""
        return self._store.healthy and self.bus_connected

    async def register(self, service: str) -> None:
        """A service announced itself: give it its configuration, or say again what it is.

        Raises:
            OperationError: It cannot have one: its name, the limit, or its default is not valid.
        """
        names.check_service(service)
        key = (self._configurations.active, service)
        entry = self._configurations.state.head(key)
        if entry.live is not None:
            self._online[service] = True
            self._configurations.outbox.repeat(service_subject(service))
            return
        planner = self._configurations.planner(key[0])
        self._configurations.check_room(key)
        effective = planner.composer.effective(*key, planner.composer.base(*key))
        plan = Plan()
        overlay: JsonObject | None = None if self._configurations.defines(key) else {}
        origin = Origin(service, "registration")
        planner.change(plan, key, entry, effective=effective, overlay=overlay, origin=origin, announce=True)
        await self._configurations.carry_out(plan)
        self._online[service] = True

    def unregister(self, service: str) -> None:
        """A service said goodbye."""
        if service in self._online:
            self._online[service] = False

    def current(self, service: str, environment: str | None) -> Current:
        """What a conditional write is compared with."""
        live = self._configurations.state.head((environment or self._configurations.active, service)).live
        return Current() if live is None else Current(live.revision, live.checksum, self._configurations.etag(live))

    async def _change(
        self,
        caller: Caller,
        service: str,
        request: WriteRequest,
        wanted: Callable[[JsonObject, Entry], Json],
        *,
        remains: bool | None = None,
    ) -> Answer:
        """Carry out a write that leaves a configuration: ``wanted`` makes it from the files' one and the entry."""
        names.check_service(service)
        key = (self._environment(request), service)
        planner = self._configurations.planner(key[0])
        entry = self._configurations.state.head(key)
        self._check_conditions(key, entry, request)
        self._configurations.check_room(key)
        base = planner.composer.base(*key)
        base.pop("version", None)
        config = wanted(base, entry)
        effective = self._checked(planner.composer, key, entry, config if isinstance(config, dict) else {})
        overlay: JsonObject | None = planner.composer.overlay(base, effective)
        if not overlay and self._configurations.defines(key):
            overlay = None
        plan = Plan()
        after = planner.change(
            plan,
            key,
            entry,
            effective=effective,
            overlay=overlay,
            origin=_origin(caller, request),
            announce=self._is_active(key),
        )
        if not request.dry_run:
            await self._configurations.carry_out(plan, builds_on=key)
        return self._write_answer(planner, entry, after, effective, request=request, remains=remains)

    def _checked(self, composer: Composer, key: Key, entry: Entry, config: JsonObject) -> Effective:
        """Check a configuration that is to be written; a refusal is counted and alerted."""
        try:
            return self._composed(composer, key, entry, config)
        except ValidationFailed as error:
            self.counters.validation_errors += 1
            self._alerts.emit("validation_failed", error.message, service=key[1], problems=error.problems)
            raise

    def _composed(self, composer: Composer, key: Key, entry: Entry, config: JsonObject) -> Effective:
        """A whole configuration as a requester sends it: sealed values opened, secrets kept, schema met."""
        environment, service = key
        shape = list(documents.shape_problems(config))
        if shape:
            raise ValidationFailed(f"The configuration of {service} is invalid", shape)
        opened, boxes = composer.opened(environment, service, config, what=f"The configuration of {service}")
        current = composer.known(environment, service, entry.effective, entry.overlay)
        effective = composer.effective(environment, service, composer.keep(service, opened, current))
        # A box may leave its place for another of the same service; it must not leave for an open one.
        if outside := boxes - effective.secrets.keys():
            raise ValidationFailed(
                f"The configuration of {service} is invalid", [Problem(p, MISPLACED_BOX) for p in sorted(outside)]
            )
        return effective

    def _environment(self, request: Request) -> str:
        return check_environment(self._configurations, request.environment)

    def _is_active(self, key: Key) -> bool:
        return key[0] == self._configurations.active

    def _check_conditions(self, key: Key, entry: Entry, request: WriteRequest) -> None:
        environment, service = key
        sources = self._configurations.sources
        protected = sources is not None and sources.environments[environment].protected
        if request.expected_revision == entry.revision or (request.expected_revision is None and not protected):
            return
        message = (
            f"{environment} is protected: a write says which revision it expects. Send expected_revision "
            f"{entry.revision} if that is the one you looked at."
            if request.expected_revision is None
            else f"{service} in {environment} is at revision {entry.revision}, not {request.expected_revision}; "
            "get it again and redo the change."
        )
        raise Conflict(message, revision=entry.revision, checksum=entry.live.checksum if entry.live else "")

    def _status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        if not self._store.healthy:
            return "unhealthy"
        if self._configurations.degraded is not None or not self.bus_connected:
            return "degraded"
        return "healthy"

    def _write_answer(
        self,
        planner: Planner,
        before: Entry,
        after: Entry,
        effective: Effective,
        *,
        request: WriteRequest,
        remains: bool | None,
    ) -> Answer:
        record = after.record
        if record is None:
            raise TypeError("a change always leaves a record")
        unchanged = before.record is record
        unknown = planner.composer.sources.schema(record.service).unknown(effective.document)
        answer = WriteAnswer(
            service=record.service,
            config={**redacted(effective.document, effective.secrets), "version": record.version},
            version=record.version,
            last_updated=record.timestamp,
            environment=record.environment,
            revision=record.revision,
            epoch=self._configurations.epoch,
            checksum=record.checksum,
            message=_message(before, record, unchanged=unchanged, dry_run=request.dry_run),
            changed=[] if unchanged else record.changed,
            restart_required=[] if unchanged else record.restart_required,
            warnings=[f"{pointer} is not described by the schema; is the name right?" for pointer in unknown],
            unchanged=unchanged,
            dry_run=request.dry_run,
            remains=UNSET if remains is None else remains,
            difference={record.service: _difference(before, effective)} if request.dry_run else UNSET,
        )
        if request.dry_run:
            # No ETag: the revision it would name does not exist, and another write may become it.
            return _answer(answer)
        return Answer(documents.encode(answer), self._configurations.etag(record), created=before.live is None)


def _answer(value: msgspec.Struct) -> Answer:
    return Answer(documents.encode(value))


def _origin(caller: Caller, request: WriteRequest) -> Origin:
    return Origin(caller.author, "api", request.comment)


def _message(before: Entry, record: Record, *, unchanged: bool, dry_run: bool) -> str:
    what = f"{record.service} in {record.environment}"
    if unchanged:
        return f"{what} stays at revision {record.revision}: nothing differs"
    verb = "would be" if dry_run else "is"
    old = f" (was {before.live.revision})" if before.live else ""
    return f"{what} {verb} at revision {record.revision}{old}"


def _difference(before: Entry, effective: Effective) -> list[JsonObject]:
    """RFC 6902 operations between the redacted documents; a changed secret shows as replaced by ``***``."""
    new = redacted(effective.document, effective.secrets)
    old = before.effective
    if old is None:
        return documents.json_patch({}, new)
    other = [p for p, value in effective.secrets.items() if old.secrets.get(p, value) != value]
    return [
        *documents.json_patch(redacted(old.document, old.secrets), new),
        *({"op": "replace", "path": pointer, "value": REDACTED} for pointer in other),
    ]
