"""The operations that write: each takes the caller, the name it is about (if any) and its request.

A write holds the planning lock from its first look at a head until its plan is submitted, so that writes keep the
order in which they came in; it does not hold it while it waits for the disk.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, Raw, UnsetType

from aliciacfg import documents
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers import (
    ActivateAnswer,
    BatchAnswer,
    DeletedAnswer,
    ReloadAnswer,
    ValidateAnswer,
    WriteAnswer,
)
from aliciacfg.api.encoding import Answer, encode_failure, encode_success
from aliciacfg.api.requests import (
    MAX_BATCH_BYTES,
    MAX_BATCH_UPDATES,
    ActivateRequest,
    BatchRequest,
    BatchUpdate,
    PatchRequest,
    ReloadRequest,
    Request,
    RollbackRequest,
    SetRequest,
    UnsetRequest,
    ValidateRequest,
    WriteRequest,
)
from aliciacfg.core.composer import Effective
from aliciacfg.core.configurations import Configurations, check_environment
from aliciacfg.core.file_changes import as_problems
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import Planner, difference
from aliciacfg.core.state import Entry, Key
from aliciacfg.documents import JsonObject
from aliciacfg.errors import (
    BatchRefused,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotApplied,
    NotFound,
    OperationError,
    Problem,
    SourceError,
    TooLarge,
    Unauthorized,
    ValidationFailed,
)
from aliciacfg.model import names
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sealing.sealed_documents import redact, sealed_document

# As whom a service connects to the broker, which proves by it who asks; and whom it tells its password.
_IDENTITY = tuple(f"/mqtt_config/{name}" for name in ("username", "password", "host", "port", "tls_enabled"))

Wanted = Callable[[JsonObject, Entry], JsonObject]
"""Makes the wanted configuration from what the files alone say and what there is."""


@dataclass(frozen=True, slots=True)
class Current:
    """A configuration as a conditional write finds it; the defaults are those of one that does not exist."""

    revision: int = 0
    checksum: str = ""
    etags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Planned:
    """A change that was planned."""

    planner: Planner
    before: Entry
    after: Entry
    effective: Effective


class WriteOperations:
    """The operations that write."""

    def __init__(
        self,
        configurations: Configurations,
        *,
        authorizer: Authorizer,
        audit_log: AuditLog,
        alerts: Alerts,
        on_invalid: Callable[[], None],
    ) -> None:
        """Take what it needs.

        Args:
            configurations: What is changed.
            authorizer: Says who may change what in a batch.
            audit_log: Told who may not.
            alerts: Told of refused configurations.
            on_invalid: Counts them.
        """
        self._configurations = configurations
        self._authorizer = authorizer
        self._audit_log = audit_log
        self._alerts = alerts
        self._on_invalid = on_invalid

    def current(self, service: str, environment: str | None) -> Current:
        """What a conditional write is compared with.

        Raises:
            InvalidRequest: No service can have this name, or no environment.
            NotFound: There is no such environment.
        """
        names.check_service(service)
        live = self._configurations.state.head((check_environment(self._configurations, environment), service)).live
        return Current() if live is None else Current(live.revision, live.checksum, self._configurations.etags(live))

    async def set(self, caller: Caller, service: str, request: SetRequest) -> Answer:
        """Make ``config`` the whole configuration, by the smallest overlay that yields it."""
        return await self._change(caller, service, request, "set", _replaced(request.config))

    async def patch(self, caller: Caller, service: str, request: PatchRequest) -> Answer:
        """Apply a merge patch (RFC 7396) to the effective configuration.

        Where the files define the service but what they make of it is invalid, to that: a patch may mend it.
        """
        key = self._key(service, request)
        return await self._change(caller, service, request, "patch", self._patched(key, request.patch))

    async def unset(self, caller: Caller, service: str, request: UnsetRequest) -> Answer:
        """Drop one place from the overlay, so that what the files say shows again."""
        tokens = documents.parse_pointer(request.pointer)

        def wanted(base: JsonObject, entry: Entry) -> JsonObject:
            if entry.live is None:
                raise NotFound(f"There is no configuration of {service}.")
            return documents.merge(base, documents.without(entry.overlay or {}, tokens))

        return await self._change(caller, service, request, "unset", wanted, held=False)

    async def delete(self, caller: Caller, service: str, request: WriteRequest) -> Answer:
        """Drop the overlay; without a file that defines the service, the configuration ends."""
        key = self._key(service, request)
        configurations = self._configurations
        async with configurations.planning:
            planner = configurations.planner(key[0])
            entry = configurations.state.head(key)
            if entry.live is None:
                raise NotFound(f"There is no configuration of {service} in {key[0]}.")
            plan = Plan(configurations.state)
            origin = _origin(caller, request, "delete")
            if configurations.defines(key):
                planned = self._plan(caller, plan, key, request, lambda base, _entry: base, origin=origin)
            else:
                planned = None
                self._check_conditions(key, entry, request.expected_revision)
                planner.tombstone(plan, key, origin=origin, announce=self._is_active(key))
            done = self._submit(plan, key, request)
        await done
        if planned is not None:
            return await self._write_answer(planned, dry_run=request.dry_run, remains=True)
        after = plan.entries[key]
        return Answer.of(
            DeletedAnswer(
                service=service,
                environment=key[0],
                revision=after.record.revision if after.record else 1,
                epoch=configurations.epoch,
                message=f"{service} {'would have' if request.dry_run else 'has'} no configuration in {key[0]} any more",
                remains=False,
                dry_run=request.dry_run,
                difference={service: await _difference(entry, after)} if request.dry_run else UNSET,
            )
        )

    async def rollback(self, caller: Caller, service: str, request: RollbackRequest) -> Answer:
        """A new revision with the content of an old one, checked like any write; also of a deleted configuration."""
        key = self._key(service, request)
        record = await self._configurations.revision(key, request.revision)
        problems = self._configurations.open_record(record).problems
        if problems:
            raise ValidationFailed(f"Revision {request.revision} of {service} holds secrets that do not open", problems)
        # Sealed, so that what was a secret then is one again.
        return await self._change(caller, service, request, "rollback", _replaced(sealed_document(record)), held=False)

    async def validate(self, _caller: Caller, service: str, request: ValidateRequest) -> Answer:
        """Say whether ``set`` would take a configuration, and everything that is wrong with it."""
        key = self._key(service, request)
        planner = self._configurations.planner(key[0])
        problems: list[Problem] = []
        try:
            self._composed(planner, key, self._configurations.state.head(key), request.config)
        except ValidationFailed as error:
            problems += error.problems or [Problem("", error.message)]
        return Answer.of(ValidateAnswer(valid=not problems, problems=problems))

    async def batch(self, caller: Caller, request: BatchRequest) -> Answer:
        """Several writes in one transaction: all that are valid, or with ``atomic`` all or none."""
        if len(request.updates) > MAX_BATCH_UPDATES:
            raise TooLarge(
                f"The batch has {len(request.updates)} updates; at most {MAX_BATCH_UPDATES} are allowed: send it in "
                "parts."
            )
        size = sum(len(documents.encode(update)) for update in request.updates)
        if size > MAX_BATCH_BYTES:
            raise TooLarge(f"The batch is {size} bytes; at most {MAX_BATCH_BYTES} are allowed: send it in parts.")
        environment = check_environment(self._configurations, request.environment)
        results: list[_Planned | OperationError] = []
        async with self._configurations.planning:
            plan = Plan(self._configurations.state)
            for update in request.updates:
                # A long batch must not hold up those who read.
                await asyncio.sleep(0)
                results.append(self._try(plan, environment, update, request, caller))
            if request.atomic:
                self._refuse_if_any(request, results)
            keys = list(plan.entries)
            done = _nothing() if request.dry_run else self._configurations.submit(plan, builds_on=keys)
        await done
        answers = [await self._batch_result(result, request) for result in results]
        failed = sum(1 for result in results if isinstance(result, OperationError))
        return Answer.of(BatchAnswer(results=answers, applied=len(results) - failed, failed=failed))

    async def activate(self, caller: Caller, environment: str, request: ActivateRequest) -> Answer:
        """Make an environment the active one, if every service of it is valid."""
        names.check_environment(environment)
        previous = self._configurations.active
        origin = ChangeContext(caller.author, "activation", request.comment, operation="activate", where=caller.where)
        outcome = await self._configurations.activate(environment, origin, dry_run=request.dry_run)
        verb = "would be" if request.dry_run else "is"
        told = (
            f"{environment} {verb} active (was {previous}); {len(outcome.changed)} services get another configuration"
        )
        message = f"{environment} is active already" if environment == previous else told
        return Answer.of(
            ActivateAnswer(
                environment=environment,
                previous=previous,
                changed=outcome.changed,
                restart_required=outcome.restart_required,
                message=message,
                dry_run=request.dry_run,
                difference=outcome.difference if request.dry_run else UNSET,
            )
        )

    async def reload(self, caller: Caller, request: ReloadRequest) -> Answer:
        """Read the files now, and carry out the migrations that schemas wait for if asked to."""
        migrate = (
            ChangeContext(caller.author, "migration", operation="reload", where=caller.where)
            if request.migrate
            else None
        )
        try:
            outcome = await self._configurations.reload(dry_run=request.dry_run, migrate=migrate)
        except SourceError as error:
            raise ValidationFailed(
                "The files were not taken over; the configurations before them go on serving", as_problems(error)
            ) from error
        active = self._configurations.active
        verb = "would change" if request.dry_run else "changed"
        return Answer.of(
            ReloadAnswer(
                environment=active,
                changed=outcome.changed,
                restart_required=outcome.restart_required,
                message=f"{len(outcome.changed)} configurations of {active} {verb}",
                migrations=outcome.migrations,
                dry_run=request.dry_run,
                difference=outcome.difference if request.dry_run else UNSET,
            )
        )

    async def register(self, service: str) -> None:
        """Give a service that has none its default configuration.

        Raises:
            OperationError: It cannot have one: its name, the limit, or its default is not valid; or there are access
                rules and no file names it. A registration proves nothing.
        """
        names.check_service(service)
        configurations = self._configurations
        async with configurations.planning:
            key = (configurations.active, service)
            if configurations.state.head(key).live is not None:
                return
            if self._authorizer.access.enforced and not configurations.defines(key):
                raise Forbidden(
                    f"No file of {key[0]} names {service}, so it does not come to be by registering; an administrator "
                    "can write it under services."
                )
            planner = configurations.planner(key[0])
            plan = Plan(configurations.state)
            configurations.check_room(key, plan)
            base = planner.composer.base(*key)
            effective = planner.composer.effective(*key, base)
            overlay: JsonObject | None = None if configurations.defines(key) else {}
            origin = ChangeContext(service, "registration", operation="register", where="mqtt")
            planner.change(plan, key, effective=effective, overlay=overlay, origin=origin, announce=True)
            done = configurations.submit(plan)
        await done

    async def _change(
        self,
        caller: Caller,
        service: str,
        request: WriteRequest,
        operation: Literal["set", "patch", "unset", "rollback"],
        wanted: Wanted,
        *,
        held: bool = True,
    ) -> Answer:
        """Carry out a write that leaves a configuration; ``held`` to what the service's compatibility asks for."""
        key = self._key(service, request)
        async with self._configurations.planning:
            plan = Plan(self._configurations.state)
            origin = _origin(caller, request, operation)
            planned = self._plan(caller, plan, key, request, wanted, origin=origin, held=held)
            done = self._submit(plan, key, request)
        await done
        return await self._write_answer(planned, dry_run=request.dry_run)

    def _plan(
        self,
        caller: Caller,
        plan: Plan,
        key: Key,
        request: WriteRequest,
        wanted: Wanted,
        *,
        origin: ChangeContext,
        held: bool = True,
    ) -> _Planned:
        """Add to a plan what makes ``wanted`` the configuration, or nothing if it is refused."""
        planner = self._configurations.planner(key[0])
        entry = plan.head(key)
        self._check_conditions(key, entry, request.expected_revision)
        self._configurations.check_room(key, plan)
        base = {name: value for name, value in planner.composer.base(*key).items() if name != "version"}
        config = wanted(base, entry)
        stored = origin.cause == "rollback"
        effective = self._checked(planner, key, entry, config, dry_run=request.dry_run, stored=stored)
        self._check_identity(caller, key, planner.document(entry) or base, effective.document)
        overlay: JsonObject | None = planner.composer.overlay(base, effective)
        if not overlay and self._configurations.defines(key):
            overlay = None
        after = planner.change(
            plan,
            key,
            effective=effective,
            overlay=overlay,
            origin=origin,
            announce=self._is_active(key),
            refuse_breaking=held and not request.allow_breaking,
        )
        return _Planned(planner, entry, after, effective)

    def _check_identity(self, caller: Caller, key: Key, before: JsonObject, after: JsonObject) -> None:
        """Refuse a change by which the writer could become somebody else at the broker.

        Args:
            caller: Who writes.
            key: What.
            before: The configuration; where there is none, what the files make of it.
            after: What is wanted.

        Raises:
            Forbidden: It is one, and the caller is neither the service nor an administrator.
        """
        access, service = self._authorizer.access, key[1]
        if access.is_person(service) and not self._configurations.defines(key):
            raise Forbidden(f"{service} is a person in access.yaml and no service; choose another name.")
        if access.speaks_for(caller, service):
            return
        for pointer in _IDENTITY:
            if documents.find(before, pointer) != documents.find(after, pointer):
                raise Forbidden(
                    f"{pointer} of {service} would be another one, by which {caller.author} could log in as {service}; "
                    f"only {service} itself and administrators may do that."
                )

    def _submit(self, plan: Plan, key: Key, request: WriteRequest) -> Awaitable[None]:
        return _nothing() if request.dry_run else self._configurations.submit(plan, builds_on=[key])

    def _try(
        self, plan: Plan, environment: str, update: BatchUpdate, request: BatchRequest, caller: Caller
    ) -> _Planned | OperationError:
        """Plan one write of a batch, or say why it is refused."""
        write = WriteRequest(
            environment=environment,
            expected_revision=update.expected_revision,
            allow_breaking=request.allow_breaking,
            dry_run=request.dry_run,
        )
        try:
            key = self._key(update.service, write)
            self._authorizer.check(caller, "batch", update.service)
            if not isinstance(update.config, UnsetType) and isinstance(update.patch, UnsetType):
                wanted = _replaced(update.config)
            elif not isinstance(update.patch, UnsetType) and isinstance(update.config, UnsetType):
                wanted = self._patched(key, update.patch)
            else:
                raise InvalidRequest(f"The update of {update.service} has to hold either config or patch.")
            origin = ChangeContext(caller.author, "api", request.comment, operation="batch", where=caller.where)
            return self._plan(caller, plan, key, write, wanted, origin=origin)
        except OperationError as error:
            if isinstance(error, Unauthorized | Forbidden):
                self._audit_log.refused(caller, "batch", update.service, error)
            return error

    def _refuse_if_any(self, request: BatchRequest, results: list[_Planned | OperationError]) -> None:
        """Refuse an atomic batch of which an update is refused, and say so of each.

        Raises:
            BatchRefused: With all answers.
        """
        refused = [(number, error) for number, error in enumerate(results) if isinstance(error, OperationError)]
        if not refused:
            return
        first, error = refused[0]
        name = request.updates[first].service
        others = NotApplied(
            f"Not applied: the batch is atomic, and update {first} ({name[:64]}) was refused.", code=error.code
        )
        raise BatchRefused(
            f"Nothing was applied: the batch is atomic, and {len(refused)} of {len(results)} updates were refused",
            code=error.code,
            problems=[
                Problem(f"/updates/{number}{problem.pointer}", problem.message)
                for number, found in refused
                for problem in found.problems or (Problem("", found.message),)
            ],
            results=[
                encode_failure(result if isinstance(result, OperationError) else others, None) for result in results
            ],
        )

    async def _batch_result(self, result: _Planned | OperationError, request: BatchRequest) -> Raw:
        # A hundred long answers must not hold up those who read either.
        await asyncio.sleep(0)
        if isinstance(result, OperationError):
            return Raw(encode_failure(result, None))
        answer = await self._write_answer(result, dry_run=request.dry_run)
        return Raw(encode_success(answer.body, None))

    def _patched(self, key: Key, patch: JsonObject) -> Wanted:
        """What a merge patch makes of the effective configuration, or of the files' one where that is invalid."""

        def wanted(base: JsonObject, entry: Entry) -> JsonObject:
            if entry.effective is not None:
                return documents.merge(entry.effective.document, patch)
            if entry.live is None and self._configurations.defines(key):
                return documents.merge(base, patch)
            raise NotFound(f"There is no usable configuration of {key[1]} to patch; send a whole one with set.")

        return wanted

    def _checked(
        self, planner: Planner, key: Key, entry: Entry, config: JsonObject, *, dry_run: bool, stored: bool
    ) -> Effective:
        """Check a configuration that is to be written; a refusal is counted and alerted, unless it is a trial."""
        try:
            return self._composed(planner, key, entry, config, stored=stored)
        except ValidationFailed as error:
            if not dry_run:
                self._on_invalid()
                self._alerts.emit("validation_failed", error.message, service=key[1], problems=error.problems)
            raise

    def _composed(
        self, planner: Planner, key: Key, entry: Entry, config: JsonObject, *, stored: bool = False
    ) -> Effective:
        """A whole configuration as a requester sends it: sealed values opened, secrets kept, schema met.

        Args:
            planner: Of the files that serve.
            key: Which configuration.
            entry: What it is on the head.
            config: What was sent.
            stored: It comes from the store, where what is sealed is a secret whatever the schema says by now.
        """
        environment, service = key
        composer = planner.composer
        config = self._configurations.views.kept(config, entry.live)
        shape = list(documents.shape_problems(config))
        if shape:
            raise ValidationFailed(f"The configuration of {service} is invalid", shape)
        opened = composer.open(environment, service, config, what=f"The configuration of {service}")
        current = composer.known(environment, service, entry.effective, entry.overlay)
        kept = planner.secrets(entry)
        wanted, moved = composer.keep(service, opened.document, current, kept)
        if stored:
            return composer.effective(environment, service, wanted, kept={**kept, **moved, **opened.secrets})
        return composer.effective(environment, service, wanted, boxes=opened.secrets, kept={**kept, **moved})

    def _key(self, service: str, request: Request) -> Key:
        names.check_service(service)
        return check_environment(self._configurations, request.environment), service

    def _is_active(self, key: Key) -> bool:
        return key[0] == self._configurations.active

    def _check_conditions(self, key: Key, entry: Entry, expected_revision: int | None) -> None:
        environment, service = key
        sources = self._configurations.sources
        protected = sources is not None and sources.environments[environment].protected
        if expected_revision == entry.revision or (expected_revision is None and not protected):
            return
        message = (
            f"{environment} is protected: a write says which revision it expects. Send expected_revision "
            f"{entry.revision} if that is the one you looked at."
            if expected_revision is None
            else f"{service} in {environment} is at revision {entry.revision}, not {expected_revision}; "
            "get it again and redo the change."
        )
        raise Conflict(message, revision=entry.revision, checksum=entry.live.checksum if entry.live else "")

    async def _write_answer(self, planned: _Planned, *, dry_run: bool, remains: bool | None = None) -> Answer:
        before, after, effective = planned.before, planned.after, planned.effective
        record = after.record
        if record is None:
            raise TypeError("a change always leaves a record")
        unchanged = before.record is record
        unknown = planned.planner.composer.sources.schema(record.service).unknown(effective.document)
        answer = WriteAnswer(
            service=record.service,
            config={**redact(effective.document, effective.secrets), "version": record.version},
            version=record.version,
            last_updated=record.timestamp,
            environment=record.environment,
            revision=record.revision,
            epoch=self._configurations.epoch,
            checksum=record.checksum,
            message=_message(before, after, dry_run=dry_run),
            changed=[] if unchanged else record.changed,
            restart_required=[] if unchanged else record.restart_required,
            warnings=[f"{pointer} is not described by the schema; is the name right?" for pointer in unknown],
            unchanged=unchanged,
            dry_run=dry_run,
            remains=UNSET if remains is None else remains,
            difference={record.service: await _difference(before, after)} if dry_run else UNSET,
        )
        if dry_run:
            # No ETag: the revision it would name does not exist, and another write may become it.
            return Answer.of(answer)
        return Answer(documents.encode(answer), self._configurations.etag(record), created=before.live is None)


def _replaced(config: JsonObject) -> Wanted:
    return lambda _base, _entry: config


async def _difference(before: Entry, after: Entry) -> list[JsonObject]:
    """The JSON Patch of a trial run; made in a thread, because of long arrays it takes seconds."""
    return await asyncio.to_thread(difference, before, after)


async def _nothing() -> None:
    """What a trial run waits for."""


def _origin(caller: Caller, request: WriteRequest, operation: str) -> ChangeContext:
    cause = "rollback" if operation == "rollback" else "api"
    return ChangeContext(caller.author, cause, request.comment, operation=operation, where=caller.where)


def _message(before: Entry, after: Entry, *, dry_run: bool) -> str:
    record = after.record
    if record is None:
        raise TypeError("a change always leaves a record")
    what = f"{record.service} in {record.environment}"
    if before.record is record:
        return f"{what} stays at revision {record.revision}: nothing differs"
    verb = "would be" if dry_run else "is"
    old = f" (was {before.live.revision})" if before.live else ""
    return f"{what} {verb} at revision {record.revision}{old}"
