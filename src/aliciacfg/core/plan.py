"""A planned write, and the reason for it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aliciacfg.core.state import Entry, State
from aliciacfg.documents import JsonObject
from aliciacfg.errors import Problem
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import (
    Announcement,
    AuditEntry,
    Cause,
    Overlay,
    Recipient,
    Record,
    ServingSchema,
    Write,
)

Problems = dict[str, tuple[Problem, ...]]
"""Problems by service; the empty name holds those of an environment's files."""


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """Who changes something, through what, and why.

    Attributes:
        author: The name of the caller, or of the part of the daemon that caused the change.
        cause: The kind of event, as the history shows it.
        comment: The author's comment.
        operation: The operation that was requested.
        where: The way it came in, as in ``records.AuditEntry``.
    """

    author: str
    cause: Cause
    comment: str | None = None
    operation: str = "reload"
    where: str = "files"

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
        generation: The generation of ``state`` at the beginning of the plan; if it has changed by the end of the plan,
            the plan is refused.
        entries: The entries after the write.
        records: The revisions to append.
        redacted: The redacted document of each new revision, without ``version``: rendered once, for its announcement
            and for the answer to its author.
        overlays: The overlays to replace or drop.
        announcements: The messages that the broker must retain.
        schemas: The schemas that are in force from now on.
        resealed: Revisions of which more is sealed than before.
        recipients: The keys that services' secrets are sealed to from now on.
        audit: The audit entries.
        meta: Names and values for the store's own table.
        activates: The environment that becomes the active one, if another one does.
        on_commit: Called in order when the write is durable, before any listener of the commits.
    """

    state: State
    context: ChangeContext
    generation: int = field(init=False)
    entries: dict[ConfigId, Entry] = field(default_factory=dict[ConfigId, Entry])
    records: list[Record] = field(default_factory=list[Record])
    redacted: dict[ConfigId, JsonObject] = field(default_factory=dict[ConfigId, JsonObject])
    overlays: list[Overlay] = field(default_factory=list[Overlay])
    announcements: list[Announcement] = field(default_factory=list[Announcement])
    schemas: list[ServingSchema] = field(default_factory=list[ServingSchema])
    resealed: list[Record] = field(default_factory=list[Record])
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    audit: list[AuditEntry] = field(default_factory=list[AuditEntry])
    meta: dict[str, str] = field(default_factory=dict[str, str])
    activates: str | None = None
    on_commit: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def __post_init__(self) -> None:
        self.generation = self.state.generation

    def head(self, config_id: ConfigId) -> Entry:
        """Return the entry that the next change of a configuration builds on: this plan's own, or else its head."""
        return self.entries.get(config_id) or self.state.head(config_id)

    def announces(self, config_id: ConfigId) -> bool:
        """Return whether the bus holds this configuration: its environment is the active one."""
        return config_id.environment == self.state.active

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
            audit=tuple(self.audit),
            meta=tuple(self.meta.items()),
        )
