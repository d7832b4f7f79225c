"""A planned write, and the reason for it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import msgspec

from aliciacfg.access.caller import Caller
from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import (
    Announcement,
    Answer,
    AuditEntry,
    Basis,
    Cause,
    Overlay,
    Position,
    Recipient,
    Record,
    Renewal,
    ServingSchema,
    Write,
)

Problems = dict[str, tuple[Problem, ...]]
"""Problems by service; the empty name holds those of an environment's files."""
Lacking = dict[str, list[str]]
"""The JSON Pointers of missing secrets by service."""


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """Who changes something, through what, and why.

    Attributes:
        author: The name of the caller, or of the part of the daemon that caused the change.
        cause: The kind of event, as the history shows it.
        comment: The author's comment.
        operation: The operation that was requested.
        where: The way it came in, as in ``records.AuditEntry``.
        answer_key: The requester and the request under which the answer is kept (``records.Answer``); None if it is
            not.
    """

    author: str
    cause: Cause
    comment: str | None = None
    operation: str = "reload"
    where: str = "files"
    answer_key: tuple[str, str] | None = None

    @classmethod
    def of_request(
        cls, caller: Caller, operation: str, *, cause: Cause = "api", comment: str | None = None
    ) -> "ChangeContext":
        """Return the context of a change that a caller requested with an operation."""
        return cls(
            caller.author,
            cause,
            comment,
            operation=operation,
            where=caller.where,
            answer_key=caller.answer_key,
        )

    def audit_entry(
        self,
        timestamp: float,
        *,
        environment: str | None = None,
        service: str | None = None,
        before: int | None = None,
        after: int | None = None,
        detail: str | None = None,
    ) -> AuditEntry:
        """Return the audit entry about a change that was made; arguments as in ``records.AuditEntry``."""
        return AuditEntry(
            timestamp=timestamp,
            who=self.author,
            where=self.where,
            operation=self.operation,
            outcome="done",
            environment=environment,
            service=service,
            before=before,
            after=after,
            detail=detail,
        )


@dataclass(slots=True)
class Plan:
    """A write, and the entries that are in memory once it is durable.

    Attributes:
        state: The state that the plan builds on.
        context: The reason for it.
        exclusive: Whether it builds on more than the configurations that it looks at: see ``Commits.change``.
        epoch: The epoch after the write.
        sequence: The place of the last change in this plan that readers are notified of; 0 if there is none.
        generation: The generation of ``state`` at the beginning of the plan; if it has changed by the end of the plan,
            the plan is refused.
        entries: The entries after the write.
        settled: Those of them that were composed and are valid, or are deleted; the others are reported in another way.
        records: The revisions to append.
        redacted: The redacted document of each new revision, without ``version``: rendered once, for its announcement
            and for the answer to its author.
        overlays: The overlays to replace or drop.
        announcements: The messages that the broker must retain.
        schemas: The schemas that are in force from now on.
        resealed: Revisions of which more is sealed than before.
        recipients: The keys that services' secrets are sealed to from now on.
        renewals: The new places of configurations without a new revision.
        audit: The audit entries.
        meta: Names and values for the store's own table.
        answers: The answer to the request, where it is kept.
        activates: The environment that becomes the active one, if another one does.
        on_commit: Called in order when the write is durable, before any listener of the commits.
        when_decided: Called in order when the fate of the change is decided: it is durable, a dry run, or refused. Not
            if another plan is made in place of this one: what is reported or counted of it must be so once.
        looked_at: The services that it looked at.
        room_in: The environments in which it looked for room for another configuration.
        followed: How many changes of other daemons were in memory when the plan was begun.
    """

    state: State
    context: ChangeContext
    exclusive: bool = False
    epoch: int = field(init=False)
    sequence: int = field(init=False, default=0)
    _epoch_before: int = field(init=False)
    generation: int = field(init=False)
    entries: dict[ConfigId, Entry] = field(default_factory=dict[ConfigId, Entry])
    settled: set[ConfigId] = field(default_factory=set[ConfigId])
    records: list[Record] = field(default_factory=list[Record])
    redacted: dict[ConfigId, JsonObject] = field(default_factory=dict[ConfigId, JsonObject])
    overlays: list[Overlay] = field(default_factory=list[Overlay])
    announcements: list[Announcement] = field(default_factory=list[Announcement])
    schemas: list[ServingSchema] = field(default_factory=list[ServingSchema])
    resealed: list[Record] = field(default_factory=list[Record])
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    renewals: list[Renewal] = field(default_factory=list[Renewal])
    audit: list[AuditEntry] = field(default_factory=list[AuditEntry])
    meta: dict[str, str] = field(default_factory=dict[str, str])
    answers: tuple[Answer, ...] = ()
    activates: str | None = None
    on_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    when_decided: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    looked_at: set[str] = field(default_factory=set[str])
    room_in: set[str] = field(default_factory=set[str])
    followed: int = 0

    def __post_init__(self) -> None:
        self.epoch = self._epoch_before = self.state.epoch
        self.generation = self.state.generation

    @property
    def raises_epoch(self) -> bool:
        """Whether everything that readers hold counts as older once the plan is durable."""
        return self.epoch != self._epoch_before

    def next_sequence(self) -> int:
        """Give the next place to a change that readers are notified of."""
        self.sequence = self.state.next_sequence()
        return self.sequence

    def raise_epoch(self, beyond: Position) -> None:
        """Make everything that readers hold older than all changes from now on.

        Args:
            beyond: The highest position that any reader may hold.
        """
        self.epoch = max(self.epoch, beyond.epoch) + 1
        self.advance(beyond)

    def advance(self, beyond: Position) -> None:
        """Give no place any more up to the one of a position."""
        self.state.sequence = max(self.state.sequence, beyond.sequence)

    def renew_sequence(self, config_id: ConfigId) -> Record | None:
        """Give a configuration the next place, because readers see it in another way; return it, if it exists."""
        entry = self.head(config_id)
        if entry.live is None:
            return None
        record = msgspec.structs.replace(entry.live, home_sequence=self.next_sequence())
        self.renewals.append(Renewal(config_id.environment, config_id.service, record.home_sequence))
        self.entries[config_id] = replace(entry, record=record)
        return record

    def keep_answer(self, content: bytes) -> None:
        """Have the answer kept in the transaction of the plan, if the request is one whose answer is."""
        if self.context.answer_key is not None:
            self.answers = (Answer(*self.context.answer_key, content),)

    def head(self, config_id: ConfigId) -> Entry:
        """Return the entry that the next change of a configuration builds on: this plan's own, or else its head."""
        self.looked_at.add(config_id.service)
        return self.entries.get(config_id) or self.state.head(config_id)

    def heads(self, environment: str) -> Iterator[tuple[str, Entry]]:
        """Yield every service of an environment with what ``head`` returns, by name."""
        names = {service for service, _ in self.state.heads(environment)}
        names |= {known.service for known in self.entries if known.environment == environment}
        for service in sorted(names):
            yield service, self.head(ConfigId(environment, service))

    def announces(self, config_id: ConfigId) -> bool:
        """Return whether the bus holds this configuration: its environment is the active one."""
        return config_id.environment == self.state.active

    @property
    def _moves(self) -> bool:
        return self.sequence > 0 or self.raises_epoch

    @property
    def writes(self) -> bool:
        """Whether there is any content for the store."""
        return self._moves or any(
            (
                self.records, self.overlays, self.announcements, self.schemas, self.resealed, self.recipients,
                self.renewals, self.audit, self.meta, self.answers,
            )
        )  # fmt: skip

    @property
    def basis(self) -> Basis:
        """What the plan was made on so far."""
        if self.exclusive:
            return Basis(everything=True)
        return Basis(frozenset(self.looked_at), frozenset(self.room_in))

    def decide(self) -> None:
        """Call what waits for the fate of the change, once."""
        decided, self.when_decided = self.when_decided, []
        for callback in decided:
            callback()

    @property
    def write(self) -> Write:
        """The content for the store."""
        return Write(
            records=tuple(self.records),
            overlays=tuple(self.overlays),
            announcements=tuple(self.announcements),
            schemas=tuple(self.schemas),
            resealed=tuple(self.resealed),
            recipients=tuple(self.recipients),
            renewals=tuple(self.renewals),
            audit=tuple(self.audit),
            meta=tuple(self.meta.items()),
            answers=self.answers,
            position=Position(self.epoch, self.sequence or self.state.sequence) if self._moves else None,
            basis=self.basis,
        )
