"""The operations that read: each takes the caller, the name it is about (if any) and its request.

What is at hand is answered at once; nothing here waits for a write.
"""

import asyncio
import shlex
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.access.audit_log import AuditLog
from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers import (
    CompareAnswer,
    DriftAnswer,
    EnvironmentItem,
    EnvironmentsAnswer,
    ExplainAnswer,
    Explained,
    HistoryAnswer,
    HistoryItem,
    InstancesAnswer,
    ListAnswer,
    ListItem,
    SchemaAnswer,
    UnchangedAnswer,
)
from aliciacfg.api.encoding import Answer
from aliciacfg.api.requests import CompareRequest, GetRequest, HistoryRequest, ListRequest, Request
from aliciacfg.core.cache import CachedAnswer
from aliciacfg.core.composer import Composer
from aliciacfg.core.configurations import Configurations, check_environment
from aliciacfg.core.state import Entry, Key
from aliciacfg.documents import Json, yaml_reader
from aliciacfg.errors import InvalidRequest, NotFound, OperationError, Unavailable
from aliciacfg.model import names
from aliciacfg.model.records import Record, RecordHead
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.instances import Instances
from aliciacfg.operations.compare import Side, compare
from aliciacfg.operations.explain import DAEMON, OVERLAY, SCHEMA, Explainer, Source
from aliciacfg.sealing.boxes import REDACTED


class ReadOperations:
    """The operations that read."""

    def __init__(
        self,
        configurations: Configurations,
        *,
        authorizer: Authorizer,
        audit_log: AuditLog,
        instances: Instances,
        drift: Drift,
        on_read: Callable[[str], None],
    ) -> None:
        """Take what it needs.

        Args:
            configurations: What is read.
            authorizer: Says who may read what.
            audit_log: Told when secrets leave in the open.
            instances: Which copies of services run what.
            drift: What is not as the store has it.
            on_read: Counts the services whose configuration was read.
        """
        self._on_read = on_read
        self._configurations = configurations
        self._authorizer = authorizer
        self._audit_log = audit_log
        self._instances = instances
        self._drift = drift

    def cached_get(self, service: str) -> CachedAnswer | None:
        """The encoded answer to a plain ``get`` in the active environment, if it is at hand; counts as read."""
        configurations = self._configurations
        cached = configurations.cache.hit((configurations.active, service))
        if cached is not None:
            self._on_read(service)
        return cached

    async def get(self, caller: Caller, service: str, request: GetRequest) -> Answer:
        """One configuration."""
        answer = await self._get(caller, self._key(service, request), request)
        self._on_read(service)
        return answer

    async def _get(self, caller: Caller, key: Key, request: GetRequest) -> Answer:
        newest = self._configurations.state.committed(key).revision
        if request.revision is not None and request.revision != newest:
            # An old revision can be looked at when the configuration is deleted, too.
            record = await self._configurations.revision(key, request.revision)
            plain = Answer(self._configurations.encoded(record), self._configurations.etag(record))
        else:
            record = self._configurations.live(key)
            cached = await self._configurations.answer(key)
            plain = Answer(cached.body, cached.etag)
            if request.if_checksum is not None and request.if_checksum == cached.checksum:
                unchanged = UnchangedAnswer(revision=cached.revision, checksum=cached.checksum)
                return Answer(documents.encode(unchanged), cached.etag)
        if self._in_the_open(caller, key[1]):
            plain = self._configurations.plaintext(record)
            self._audit_log.delivered(caller, key[1], key[0], record.revision)
        if request.pointer is None and request.format == "json":
            return plain
        return self._picked(plain, key[1], request)

    async def while_current(
        self, service: str, environment: str | None, is_current: Callable[[str], bool], seconds: float
    ) -> None:
        """Wait until a configuration is not the one that somebody holds any more, or the time is over.

        Args:
            service: Whose.
            environment: Where; None is the active one, also when that changes meanwhile.
            is_current: Whether an ETag is of what they hold.
            seconds: At most.

        Raises:
            NotFound: There is no such configuration, or no longer.
        """
        names.check_service(service)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    key = (check_environment(self._configurations, environment), service)
                    if not any(map(is_current, self._configurations.etags(self._configurations.live(key)))):
                        return
                    await self._configurations.change_of(key)
        except TimeoutError:
            return

    async def schema(self, _caller: Caller, service: str, request: Request) -> Answer:
        """The whole JSON Schema of a service, base contract included."""
        key = self._key(service, request)
        sources = self._configurations.sources
        if sources is None:
            raise Unavailable("The schema files cannot be used; see the health alerts.")
        if service not in sources.schemas and self._configurations.state.committed(key).live is None:
            raise NotFound(f"There is neither a schema nor a configuration of {service}.")
        schema = sources.schema(service)
        return Answer.of(SchemaAnswer(service=service, schema=schema.document, version=schema.version))

    async def list(self, caller: Caller, request: ListRequest) -> Answer:
        """The configurations of one environment that the caller may read, by name."""
        environment = check_environment(self._configurations, request.environment)
        found = [
            (service, record)
            for service, record in self._configurations.state.live(environment)
            if service.startswith(request.prefix)
            and service > request.after
            and self._authorizer.may(caller, "list", service)
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
                config=self._configurations.views.shown(record) if request.include == "config" else UNSET,
            )
            for service, record in page
        ]
        return Answer.of(ListAnswer(configs=items, next=page[-1][0] if len(found) > len(page) else None))

    async def history(self, _caller: Caller, service: str, request: HistoryRequest) -> Answer:
        """The revisions of one configuration, newest first; also of one that was deleted."""
        key = self._key(service, request)
        found = await self._configurations.history(key, before=request.before, limit=request.limit + 1)
        page = found[: request.limit]
        return Answer.of(
            HistoryAnswer(
                service=service,
                environment=key[0],
                revisions=[_history_item(head) for head in page],
                next=page[-1].revision if len(found) > len(page) else None,
            )
        )

    async def explain(self, _caller: Caller, service: str, request: Request) -> Answer:
        """Where each value comes from."""
        key = self._key(service, request)
        record = self._configurations.live(key)
        entry = self._configurations.state.committed(key)
        composer = self._configurations.planner(key[0]).composer
        found = composer.sources.environments[key[0]]
        if entry.effective is None or not _makes(composer, key, entry):
            raise Unavailable(
                f"What the files make of {service} in {key[0]} is not what is recorded; see its problems."
            )
        sources = [Source(SCHEMA, composer.sources.defaults(*key))]
        sources += [
            Source(f"{layer.file}#{layer.section}", layer.patch, layer.placed_lines, secret=layer.secret)
            for layer in found.layers(service)
        ]
        if entry.overlay:
            sources.append(Source(OVERLAY, entry.overlay, revisions=entry.origins))
        explainer = Explainer(
            entry.effective.document, sources, composer.sources.schema(service), secrets=entry.effective.secrets
        )
        version = Explained(value=record.version, layer=DAEMON, line=None, overridden=[])
        return Answer.of(
            ExplainAnswer(
                service=service,
                environment=key[0],
                revision=record.revision,
                values={**explainer.values(), "/version": version},
                removed=explainer.removed(),
            )
        )

    async def compare(self, caller: Caller, service: str, request: CompareRequest) -> Answer:
        """Two environments of one service, or two revisions."""
        names.check_service(service)
        if request.env1 is request.env2 is request.rev1 is request.rev2 is None:
            raise InvalidRequest("Say what to compare: env1 and env2, or rev1 and rev2.")
        first = check_environment(self._configurations, request.environment if request.env1 is None else request.env1)
        second = check_environment(self._configurations, first if request.env2 is None else request.env2)
        one = await self._side((first, service), request.rev1)
        two = await self._side((second, service), request.rev2)
        apart = {"version"} if first == second else {"version", "environment"}
        tell_secrets = self._authorizer.access.administers(caller)
        result = compare(self._open(one, apart), self._open(two, apart), tell_secrets=tell_secrets)
        return Answer.of(
            CompareAnswer(
                service=service,
                env1=first,
                env2=second,
                rev1=one.revision,
                rev2=two.revision,
                equal=result.equal,
                changed=result.changed,
                only_in_env1=result.only_in_first,
                only_in_env2=result.only_in_second,
                secrets=result.secrets,
            )
        )

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
        return Answer.of(EnvironmentsAnswer(active=self._configurations.active, environments=items))

    async def instances(self, _caller: Caller, service: str, request: Request) -> Answer:
        """Which copies of a service run which revision, since when."""
        key = self._key(service, request)
        record = self._configurations.live(key)
        return Answer.of(
            InstancesAnswer(
                service=service,
                environment=key[0],
                revision=record.revision,
                instances=self._instances.of(service, current=record),
            )
        )

    async def drift(self, _caller: Caller, _request: Request) -> Answer:
        """What is not as the store has it."""
        return Answer.of(DriftAnswer(drift=self._drift.items, found=dict(self._drift.found)))

    def _in_the_open(self, caller: Caller, service: str) -> bool:
        """Whether secrets may leave as they are: to the service itself, where nobody reads along, if it is said so."""
        access = self._authorizer.access
        return caller.private and service in access.plaintext and access.decide(caller, "get", service).secrets

    def _key(self, service: str, request: Request) -> Key:
        names.check_service(service)
        return check_environment(self._configurations, request.environment), service

    async def _side(self, key: Key, revision: int | None) -> Record:
        if revision is None:
            return self._configurations.live(key)
        return await self._configurations.revision(key, revision)

    def _open(self, record: Record, apart: set[str]) -> Side:
        """A revision for comparing, without the members that say whose it is."""
        opened = self._configurations.open_record(record)
        unopened = {problem.pointer: REDACTED for problem in opened.problems}
        document = {key: value for key, value in opened.document.items() if key not in apart}
        return Side(document, {**opened.secrets, **unopened})

    def _picked(self, plain: Answer, service: str, request: GetRequest) -> Answer:
        """A part of a configuration, or its text in another form."""
        fields: dict[str, Any] = msgspec.json.decode(plain.body)
        config: Json = fields["config"]
        if request.pointer is not None:
            found = documents.find(config, request.pointer)
            if isinstance(found, msgspec.UnsetType):
                raise NotFound(f"There is nothing at {request.pointer} in the configuration of {service}.")
            config = found
        match request.format:
            case "json":
                return Answer(documents.encode({**fields, "config": config}), plain.etag)
            case "yaml":
                return Answer(yaml_reader.dump(config).encode(), plain.etag, form="yaml")
            case "env":
                text = self._as_variables(config, service, request.pointer or "")
                return Answer(text.encode(), plain.etag, form="env")

    def _as_variables(self, config: Json, service: str, pointer: str) -> str:
        """Lines that a shell reads: ``x-env`` names, or else names made of the pointers."""
        sources = self._configurations.sources
        schema = None if sources is None else sources.schema(service)
        named: dict[str, str] = {}
        made: list[tuple[str, str]] = []
        for place, value in documents.leaves(config, pointer):
            marked = None if schema is None else schema.variable(place)
            if marked is not None:
                named.setdefault(marked, _variable_line(marked, value))
            else:
                name = _variable_name(place)
                made.append((name, _variable_line(name, value)))
        uses = Counter([*named, *(name for name, _ in made)])
        lines = [
            line if uses[name] == 1 else f"# {name} could be several values; name them with x-env\n"
            for name, line in made
        ]
        return "".join(dict.fromkeys([*lines, *named.values()]))


def _makes(composer: Composer, key: Key, entry: Entry) -> bool:
    """Whether the files and the overlay make what is recorded; an edit that was refused for this service does not."""
    try:
        merged = documents.merge(composer.base(*key), entry.overlay or {})
        kept = None if entry.effective is None else entry.effective.secrets
        made = composer.effective(*key, merged, kept=kept)
    except OperationError:
        return False
    return entry.live is not None and made.checksum == entry.live.checksum


def _history_item(head: RecordHead) -> HistoryItem:
    return HistoryItem(
        revision=head.revision,
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


def _variable_name(pointer: str) -> str:
    text = "_".join(documents.parse_pointer(pointer)).upper()
    name = "".join(character if character.isascii() and character.isalnum() else "_" for character in text)
    return f"_{name}" if not name or name[0].isdigit() else name


def _variable_line(name: str, value: Json) -> str:
    if any(text == REDACTED for _, text in documents.walk_strings(value)):
        return f"# {name} is a secret\n"
    if isinstance(value, list):
        value = ",".join(_variable_text(item) for item in value)
    text = _variable_text(value)
    if "\0" in text:
        return f"# {name} holds a NUL, which no variable can\n"
    return f"{name}={shlex.quote(text) if text else ''}\n"


def _variable_text(value: Json) -> str:
    return value if isinstance(value, str) else documents.encode(value).decode()
