"""A planned write, and why it happens."""

from dataclasses import dataclass, field

from aliciacfg.core.state import Entry, Key, State
from aliciacfg.errors import Problem
from aliciacfg.model.records import (
    AdoptedSchema,
    Announcement,
    AuditEntry,
    Cause,
    Overlay,
    Recipient,
    Record,
    Token,
    Write,
)


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """Why a change happens.

    Attributes:
        author: Who caused it.
        cause: What kind of event it was.
        comment: What the author said about it.
        operation: What was asked for.
        where: Where it came in, as in ``records.AuditEntry``.
    """

    author: str
    cause: Cause
    comment: str | None = None
    operation: str = "reload"
    where: str = "files"

    def done(
        self,
        timestamp: float,
        *,
        environment: str | None = None,
        service: str | None = None,
        before: int | None = None,
        after: int | None = None,
        detail: str | None = None,
    ) -> AuditEntry:
        """The audit's entry about it; arguments as in ``records.AuditEntry``."""
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
    """A write and what it makes of the state.

    Attributes:
        state: What it is made on.
        generation: Of ``state`` when it was begun; a plan that outlived it cannot be carried out.
        entries: The entries after the write.
        records: The revisions to append.
        overlays: The overlays to replace or drop.
        announcements: What the bus has to be told.
        schemas: The schemas that serve from now on.
        resealed: Revisions of which more is sealed than before.
        recipients: The keys that services' secrets are sealed to from now on.
        tokens: Tokens that are new or changed.
        audit: What was done.
        meta: Names and values for the store's own table.
        activates: The environment that is active from now on, if it is another one.
    """

    state: State
    generation: int = field(init=False)
    entries: dict[Key, Entry] = field(default_factory=dict[Key, Entry])
    records: list[Record] = field(default_factory=list[Record])
    overlays: list[Overlay] = field(default_factory=list[Overlay])
    announcements: list[Announcement] = field(default_factory=list[Announcement])
    schemas: list[AdoptedSchema] = field(default_factory=list[AdoptedSchema])
    resealed: list[Record] = field(default_factory=list[Record])
    recipients: list[Recipient] = field(default_factory=list[Recipient])
    tokens: list[Token] = field(default_factory=list[Token])
    audit: list[AuditEntry] = field(default_factory=list[AuditEntry])
    meta: dict[str, str] = field(default_factory=dict[str, str])
    activates: str | None = None

    def __post_init__(self) -> None:
        self.generation = self.state.generation

    def head(self, key: Key) -> Entry:
        """What the next change of a configuration builds on: what this plan made of it, or else its head."""
        return self.entries.get(key) or self.state.head(key)

    @property
    def write(self) -> Write:
        """What goes into the store."""
        return Write(
            records=tuple(self.records),
            overlays=tuple(self.overlays),
            announcements=tuple(self.announcements),
            schemas=tuple(self.schemas),
            resealed=tuple(self.resealed),
            recipients=tuple(self.recipients),
            tokens=tuple(self.tokens),
            audit=tuple(self.audit),
            meta=tuple(self.meta.items()),
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return self.write == Write()


Problems = dict[str, tuple[Problem, ...]]
"""Problems by service; "" are those of an environment's files."""
