"""The operations that read. Each gets the caller, the name it concerns (if any) and its request.

No read waits for a write, and only old revisions are read from the store.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.configurations import (
    HistoryAnswer,
    HistoryItem,
    ListAnswer,
    ListItem,
    SchemaAnswer,
    UnchangedAnswer,
)
from aliciacfg.api.answers.monitoring import DriftAnswer, InstancesAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import CurrentRequest, GetRequest, HistoryRequest, ListRequest, Request
from aliciacfg.core.cache import AnswerCache, CachedAnswer
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.following import Following
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.state import State
from aliciacfg.core.views import Views
from aliciacfg.core.waiters import ChangeWaiters
from aliciacfg.documents import Json, yaml_writer
from aliciacfg.errors import NotFound, Unavailable
from aliciacfg.model import names
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record, RecordHead
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.operations.env_export import as_variables
from aliciacfg.operations.pages import Page
from aliciacfg.operations.service_status import Statuses, StatusParts
from aliciacfg.sources.unclear_services import MAX_OTHERS, looks_like

# A write is in the database before it is answered, so one look there finds what the caller knows of. A little longer is
# waited for the sake of a caller that expects what is written just now, or has heard of it before a standby did.
_REVISION_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.2
# Each of them lists every place that its revision changed.
_HEADS_AT_ONCE = 25


class CountRead(Protocol):
    """Counts reads of the configuration of a service."""

    def __call__(self, service: str, times: int = 1) -> None:
        """Count so many reads."""
        ...


@dataclass(frozen=True, slots=True)
class ReadParts:
    """What the read operations use.

    Attributes:
        configurations: Finds configurations and revisions.
        state: Has the committed entries.
        files: The files in force.
        views: Renders configurations for readers.
        cache: Has the encoded answers.
        waiters: Wakes long polls.
        authorizer: Decides who may read what.
        audit_log: Records that secrets were delivered in plain text.
        instances: Knows which instances of services run what.
        drift: Has the findings.
        count_read: Counts the services whose configuration was read.
        online: The services that have registered, and whether they are online.
    """

    configurations: Configurations
    state: State
    files: LoadedFiles
    views: Views
    cache: AnswerCache
    waiters: ChangeWaiters
    authorizer: Authorizer
    audit_log: AuditLog
    instances: Instances
    drift: Drift
    count_read: CountRead
    online: Mapping[str, bool]
    following: Following | None = None


class ReadOperations:
    """The operations that read."""

    def __init__(self, parts: ReadParts) -> None:
        self._parts = parts
        self._configurations = parts.configurations
        self._state = parts.state
        self._cache = parts.cache
        self._count_read = parts.count_read

    def cached_get(self, service: str) -> CachedAnswer | None:
        """Return the cached answer to a ``get`` without fields in the active environment; None if there is none."""
        found = self._cache.find((self._state.active, service))
        if found is not None:
            self._count_read(service)
        return found

    def peek_get(self, service: str) -> CachedAnswer | None:
        """Return what ``cached_get`` returns if that is in the cache, without counting it."""
        return self._cache.peek((self._state.active, service))

    def count_gets(self, service: str, times: int) -> None:
        """Count reads that were answered with what ``peek_get`` returned."""
        self._cache.hits += times
        self._count_read(service, times)

    def cached_part(self, service: str, pointer: str) -> tuple[CachedAnswer, bytes] | None:
        """Return what ``cached_get`` returns, with the encoded answer to a ``get`` with only ``pointer``.

        Raises:
            InvalidRequest: The pointer is malformed.
        """
        config_id = (self._state.active, service)
        found = self._cache.find(config_id)
        part = None if found is None else self._cache.part(config_id, found, pointer)
        if found is None or part is None:
            return None
        self._count_read(service)
        return found, part

    def meant(self, caller: Caller, service: str, environment: str | None) -> str | None:
        """Return the service that a caller who asks for one that does not exist probably means.

        Args:
            caller: Services that it may not read are not considered.
            service: The name in the request.
            environment: The environment; None for the active one.

        Returns:
            None if the service exists, if no name is like it, or if there are very many services.
        """
        environment = self._state.active if environment is None else environment
        if self._state.committed(ConfigId(environment, service)).live is not None:
            return None
        return looks_like(service, [name for name, _ in islice(self._readable(caller, environment), MAX_OTHERS + 1)])

    async def get(self, caller: Caller, service: str, request: GetRequest) -> Answer:
        """Return one configuration."""
        answer = await self._get(caller, self._id(service, request), request)
        self._count_read(service)
        return answer

    async def _get(self, caller: Caller, config_id: ConfigId, request: GetRequest) -> Answer:
        parts = self._parts
        if request.revision is not None and request.revision != self._state.committed(config_id).revision:
            # Old revisions of a deleted configuration can be read, too.
            record = await self._configurations.revision(config_id, request.revision)
            answer = Answer(parts.views.encoded(record), parts.views.etag(record))
        else:
            record = self._configurations.live(config_id)
            cached = self._cache.answer(config_id, record)
            answer = Answer(cached.body, cached.etag)
            if request.if_checksum is not None and request.if_checksum == cached.checksum:
                unchanged = UnchangedAnswer(revision=cached.revision, checksum=cached.checksum)
                return Answer(documents.encode(unchanged), cached.etag)
        if self._in_plain_text(caller, config_id.service):
            if parts.following is not None:
                # The rule that allows it, or the token, may have been taken away.
                parts.following.check_fresh()
            answer = parts.views.plaintext_answer(record)
            parts.audit_log.record_delivery(caller, config_id.service, config_id.environment, record.revision)
        if request.pointer is None and request.format == "json":
            return answer
        return self._picked(answer, config_id.service, request)

    def check_names(self, service: str, environment: str | None) -> None:
        """Check what a request names.

        Raises:
            InvalidRequest: A name is not valid.
            NotFound: There is no such environment.
        """
        self._configurations.config_id(service, environment)

    async def wait_for_revision(self, service: str, environment: str | None, revision: int) -> None:
        """Wait until a configuration has at least a revision here, a second at most; if it has, return at once.

        Args:
            service: The service.
            environment: The environment; None for the active one, even if that changes during the wait.
            revision: The revision, which may be that of a deletion.

        Raises:
            InvalidRequest: A name is not valid.
            NotFound: There is no such environment, or the revision was not made in time.
            Unavailable: The database cannot be read, or does not answer in time.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + _REVISION_SECONDS
        while not self._has(service, environment, revision):
            change = self._parts.waiters.change_of(self._configurations.config_id(service, environment))
            waiting = asyncio.ensure_future(change)
            try:
                if self._parts.following is not None:
                    await self._parts.following.confirm()
                if self._has(service, environment, revision):
                    return
                left = end - clock()
                if left <= 0:
                    raise NotFound(
                        f"Revision {revision} of {service} is not here after {_REVISION_SECONDS:g} s; leave at_least "
                        "out to get the newest one that is."
                    )
                await asyncio.wait({waiting}, timeout=min(left, _LOOK_AGAIN_SECONDS))
            finally:
                waiting.cancel()

    def _has(self, service: str, environment: str | None, revision: int) -> bool:
        record = self._state.committed(self._configurations.config_id(service, environment)).record
        return record is not None and record.revision >= revision

    async def while_current(
        self, service: str, environment: str | None, is_current: Callable[[str], bool], seconds: float
    ) -> None:
        """Wait until a configuration differs from the client's copy, at most ``seconds``.

        Args:
            service: The service.
            environment: The environment; None for the active one, even if that changes during the wait.
            is_current: Returns whether an ETag is that of the client's copy.
            seconds: The longest wait.

        Raises:
            NotFound: The configuration does not exist, or no longer.
        """
        names.check_service(service)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    config_id = self._configurations.config_id(service, environment)
                    etags = self._parts.views.etags(self._configurations.live(config_id))
                    if not any(map(is_current, etags)):
                        return
                    await self._parts.waiters.change_of(config_id)
        except TimeoutError:
            return

    async def schema(self, _caller: Caller, service: str, request: Request) -> Answer:
        """Return the JSON Schema of a service, including the base contract."""
        config_id = self._id(service, request)
        sources = self._parts.files.sources
        if sources is None:
            raise Unavailable("The schema files cannot be used; see the health alerts.")
        if service not in sources.schemas and self._state.committed(config_id).live is None:
            raise NotFound(f"There is neither a schema nor a configuration of {service}.")
        schema = sources.schema(service)
        return Answer.of(SchemaAnswer(service=service, schema=schema.document, version=schema.version))

    async def list(self, caller: Caller, request: ListRequest) -> Answer:
        """Return the configurations of one environment that the caller may read, sorted by name."""
        environment = self._configurations.environment(request.environment)
        statuses = self._statuses(caller, environment) if request.include == "status" else None
        page = Page[ListItem](request.limit)
        for service, record in self._readable(caller, environment, after=request.after, prefix=request.prefix):
            item = ListItem(
                service=service,
                environment=environment,
                version=record.version,
                revision=record.revision,
                checksum=record.checksum,
                last_updated=record.timestamp,
                config=self._parts.views.public(record) if request.include == "config" else UNSET,
                status=UNSET if statuses is None else statuses.of(record),
            )
            if not page.add(item):
                break
        readable = self._parts.authorizer.access.readable(caller)
        answer = ListAnswer(
            configs=page.items,
            next=page.items[-1].service if page.more else None,
            refused_edits=self._parts.files.refused_edits(
                environment, sees=lambda name: name is None or readable is None or name in readable
            ),
        )
        if statuses is None:
            return Answer.of(answer)
        invalid = (
            []
            if request.after
            else statuses.invalid(
                lambda name: name.startswith(request.prefix) and (readable is None or name in readable)
            )
        )
        return Answer.of(
            msgspec.structs.replace(answer, active=statuses.active, protected=statuses.protected, invalid=invalid)
        )

    def _statuses(self, caller: Caller, environment: str) -> Statuses:
        parts = self._parts
        made = StatusParts(parts.state, parts.files, parts.authorizer, parts.drift, parts.instances, parts.online)
        return Statuses(made, caller, environment)

    def _readable(
        self, caller: Caller, environment: str, *, after: str = "", prefix: str = ""
    ) -> Iterator[tuple[str, Record]]:
        """Yield the configurations that a caller may read; what it may not read is not even looked at."""
        allowed = self._parts.authorizer.access.readable(caller)
        if allowed is None:
            yield from self._state.live(environment, after=after, prefix=prefix)
            return
        for service in allowed.after(after, prefix):
            record = self._state.committed(ConfigId(environment, service)).live
            if record is not None:
                yield service, record

    async def history(self, _caller: Caller, service: str, request: HistoryRequest) -> Answer:
        """Return the revisions of one configuration, newest first, even if it was deleted."""
        config_id = self._id(service, request)
        page = Page[HistoryItem](request.limit)
        before = request.before
        while not page.more:
            wanted = min(request.limit + 1 - len(page.items), _HEADS_AT_ONCE)
            found = await self._configurations.history(config_id, before=before, limit=wanted)
            page.extend(_history_item(head) for head in found)
            if len(found) < wanted:
                break
            before = found[-1].revision
        return Answer.of(
            HistoryAnswer(
                service=service,
                environment=config_id.environment,
                revisions=page.items,
                next=page.items[-1].revision if page.more else None,
            )
        )

    async def instances(self, _caller: Caller, service: str, request: CurrentRequest) -> Answer:
        """Return the running copies of a service with the revision that each one runs."""
        config_id = self._id(service, request)
        record = self._configurations.live(config_id)
        return Answer.of(
            InstancesAnswer(
                service=service,
                environment=config_id.environment,
                revision=record.revision,
                instances=self._parts.instances.of(service, current=record),
            )
        )

    async def drift(self, _caller: Caller, _request: Request) -> Answer:
        """Return the differences from the state in the store."""
        drift = self._parts.drift
        return Answer.of(DriftAnswer(drift=drift.items, found=dict(drift.found)))

    def _id(self, service: str, request: Request) -> ConfigId:
        return self._configurations.config_id(service, request.environment)

    def _in_plain_text(self, caller: Caller, service: str) -> bool:
        """Return whether an answer has secrets in plain text: for the service itself, over a private connection."""
        access = self._parts.authorizer.access
        if not caller.private or service not in access.plaintext:
            return False
        return access.decide(caller, "read", service, operation="get").secrets

    def _picked(self, answer: Answer, service: str, request: GetRequest) -> Answer:
        """Return a part of a configuration, or its text in another form."""
        fields: dict[str, Any] = msgspec.json.decode(answer.body)
        config: Json = fields["config"]
        if request.pointer is not None:
            found = documents.find(config, request.pointer)
            if isinstance(found, msgspec.UnsetType):
                raise NotFound(f"There is nothing at {request.pointer} in the configuration of {service}.")
            config = found
        match request.format:
            case "json":
                return Answer(documents.encode({**fields, "config": config}), answer.etag)
            case "yaml":
                return Answer(yaml_writer.dump(config).encode(), answer.etag, form="yaml")
            case "env":
                sources = self._parts.files.sources
                schema = None if sources is None else sources.schema(service)
                text = as_variables(config, schema, request.pointer or "")
                return Answer(text.encode(), answer.etag, form="env")


def _history_item(head: RecordHead) -> HistoryItem:
    return HistoryItem(
        revision=head.revision,
        sequence=head.home_sequence,
        version=head.version,
        timestamp=head.timestamp,
        author=head.author,
        cause=head.cause,
        breaking=head.breaking,
        comment=head.comment,
        checksum=head.checksum,
        changed=head.changed,
        restart_required=head.restart_required,
        deleted=head.deleted,
    )
