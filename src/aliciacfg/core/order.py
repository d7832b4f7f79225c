"""The order of changes for readers: kept though the database goes back, or another program forges what comes next.

A reader applies a message exactly if its position, ``(epoch, sequence)``, is higher than the one that it holds. So two
things have to be noticed and put right. The database may be older than what was published from it: a backup was
restored, a copy put in its place. Then the epoch is raised past everything that was seen, and everything is published
again. And another program may publish a message with a higher position; readers who applied it would ignore the right
one from then on. Then the right one gets a still higher position.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeGuard

import msgspec

from aliciacfg import documents
from aliciacfg.api.fields import MAX_NUMBER
from aliciacfg.core.announcements import Announcements
from aliciacfg.core.commits import Commits
from aliciacfg.core.outbox import Outbox, subject_service
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import deletion
from aliciacfg.core.state import State
from aliciacfg.documents import Json
from aliciacfg.model import names
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import START, Position
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.storage.hash_chain import Chain

Origin = Literal["own", "ahead", "foreign"]
"""Where a message that differs from the right one comes from.

``own``: the daemon published it, before. ``ahead``: the daemon published it, and the database does not know of it.
``foreign``: another program published it.
"""

_CONTEXT = ChangeContext("config_service", "restore", operation="restore")
# How far a forged message may move epoch or sequence at most: 2^53 is 2^33 such steps away, a forgery a second for 272
# years.
_MAX_STEP = 2**20


HIGHEST = Position(MAX_NUMBER, MAX_NUMBER)
"""No message that a reader applies has a higher position."""


class _Own(msgspec.Struct, frozen=True):
    """What the daemon's own messages say of their place; only updates name a service."""

    epoch: int
    sequence: int
    environment: str = ""
    service: str = ""
    revision: int = 0


class _Claims(msgspec.Struct, frozen=True):
    """The position in a message of another program, of any type."""

    epoch: Any = None
    sequence: Any = None


_CLAIMS = {name: re.compile(rb'"%s"\s*:\s*([0-9]{1,16})(?![0-9.eE])' % name.encode()) for name in ("epoch", "sequence")}


class Order:
    """Compares what the broker holds with what the database knows, and keeps the right messages the newest."""

    def __init__(
        self,
        *,
        state: State,
        outbox: Outbox,
        announcements: Announcements,
        commits: Commits,
        chain: Chain,
        alerts: Alerts,
        clock: Callable[[], float],
    ) -> None:
        """Hold the parts.

        Args:
            state: Has the position of the home.
            outbox: Has the right messages, and knows its own.
            announcements: Announces everything again.
            commits: Makes the new order durable before anything is published in it.
            chain: Makes the digests of revisions.
            alerts: Gets an alert when the database went back.
            clock: Unix seconds.
        """
        self._state = state
        self._outbox = outbox
        self._announcements = announcements
        self._commits = commits
        self._chain = chain
        self._alerts = alerts
        self._clock = clock
        # The highest position that the database should know and does not.
        self._ahead: Position | None = None
        # The highest revision that was published, of configurations where the database does not know it.
        self._lost: dict[ConfigId, int] = {}

    @property
    def behind(self) -> bool:
        """Whether the database was found to be older than what was published from it; ``catch_up`` puts it right."""
        return self._ahead is not None or bool(self._lost)

    async def start(self, witnessed: Position | None) -> None:
        """Put the order right if the database is older than what was noted outside of it.

        Raises:
            Unavailable: The store cannot write.
        """
        if witnessed is not None and witnessed > Position(self._state.epoch, self._state.sequence):
            self._ahead = witnessed
            await self.catch_up()

    async def restore(self, beyond: Position, revisions: Mapping[ConfigId, int], *, detail: str) -> int:
        """Put the order right after a restore, when it is known what was there before; return the new epoch.

        Args:
            beyond: The highest position that any reader may hold.
            revisions: The highest revision of each configuration that was there before. One that the database does not
                know as it was gets a revision above it, so that no number is used twice.
            detail: What was restored, for the audit log.

        Raises:
            Unavailable: The store cannot write.
        """
        known = Position(self._state.epoch, self._state.sequence)
        self._ahead = Position(max(beyond.epoch, known.epoch), max(beyond.sequence, known.sequence))
        self._lost = dict(revisions)
        await self._catch_up(detail)
        return self._state.epoch

    def origin(self, subject: str, payload: bytes) -> Origin:
        """Return where a message with content comes from that is not the one which the broker has to hold.

        Args:
            subject: The subject on whose topic it is.
            payload: Its bytes; anything at all.
        """
        if payload == self._outbox.unsigned(subject):
            return "own"
        if not self._outbox.is_ours(subject, payload):
            return "foreign"
        try:
            found = msgspec.json.decode(payload, type=_Own)
        except msgspec.ValidationError:
            return "own"
        position = Position(found.epoch, found.sequence)
        lost = self._note_revision(found)
        current = self._outbox.current.get(subject)
        if current is None:
            ahead = position > Position(self._state.epoch, self._state.sequence)
        else:
            # Of the same place there is one message only, and this is another one.
            ahead = position >= Position(self._state.epoch, current.sequence)
        if ahead or (lost and found.epoch == self._state.epoch):
            self._ahead = position if self._ahead is None else max(self._ahead, position)
            return "ahead"
        return "own"

    async def catch_up(self) -> None:
        """Raise the epoch if the database went back, and announce everything again; durable when this returns.

        A configuration of which a higher revision was published gets one above it, so that no number is used twice.

        Raises:
            Unavailable: The store cannot write; the next call tries again.
        """
        ahead = self._ahead or START
        if await self._catch_up(f"the database knew less than epoch {ahead.epoch}, {ahead.sequence}"):
            self._alerts.raise_(
                "restored",
                "The database is older than what was published from it, as after the restore of a backup. Everything "
                f"is published again as epoch {self._state.epoch}, and services follow it. Changes made after that "
                "backup are lost: make them again.",
            )

    async def _catch_up(self, detail: str) -> bool:
        """Do what ``catch_up`` promises but for the alert; return whether the epoch was raised.

        Args:
            detail: For the audit log.

        Raises:
            Unavailable: The store cannot write.
        """
        if not self.behind:
            return False
        ahead, lost = self._ahead, dict(self._lost)

        async def make(plan: Plan) -> None:
            await self._commits.flush()
            if ahead is not None:
                plan.raise_epoch(ahead)
            for config_id, revision in lost.items():
                self._plan_revision(plan, config_id, revision)
            await self._announcements.plan(plan)
            if ahead is not None:
                plan.audit.append(_CONTEXT.audit_entry(self._clock(), detail=f"epoch {plan.epoch}: {detail}"))

        await self._commits.change(_CONTEXT, make, exclusive=True)
        if self._ahead == ahead:
            self._ahead = None
        self._lost = {known: number for known, number in self._lost.items() if number > lost.get(known, 0)}
        return ahead is not None

    async def overtake(self, subject: str, claimed: Position | None) -> bool:
        """Make the right message of a subject newer than a forged one, if a reader may have applied that.

        Args:
            subject: The subject.
            claimed: The highest position of a forged message; None if none had a valid one.

        Returns:
            Whether the right message is newer now. If it is not, only its removal makes readers forget the forged one.

        Raises:
            Unavailable: The store cannot write.
        """
        current = self._outbox.current.get(subject)
        if claimed is None or current is None or not current.payload:
            return True
        held = Position(self._state.epoch, current.sequence)
        if claimed < held:
            return True
        if claimed.epoch > self._state.epoch + _MAX_STEP:
            return False

        async def make(plan: Plan) -> None:
            await self._commits.flush()
            if claimed.epoch == plan.epoch and claimed.sequence <= self._state.sequence + _MAX_STEP:
                plan.advance(claimed)
                self._announcements.renew(plan, subject)
            else:
                plan.raise_epoch(Position(claimed.epoch, 0))
                await self._announcements.plan(plan)
                detail = f"epoch {plan.epoch}: another program published as epoch {claimed.epoch}"
                plan.audit.append(_CONTEXT.audit_entry(self._clock(), detail=detail))

        await self._commits.change(_CONTEXT, make, exclusive=True)
        return True

    def is_gone(self, subject: str) -> bool:
        """Return whether a subject without an announcement has no right message.

        If there is a configuration whose announcement could not be stored, or there may be one that cannot be read, the
        daemon's own message at the broker is the best there is.
        """
        service = subject_service(subject)
        if service is None or self._state.incomplete:
            return False
        return self._state.committed(ConfigId(self._state.active, service)).live is None

    def settled(self) -> None:
        """Note that the broker holds everything as it has to be."""
        self._alerts.clear("restored")

    def _note_revision(self, found: _Own) -> bool:
        """Note a published revision that the database does not know; return whether it is one."""
        if not found.revision or names.service_problem(found.service) is not None:
            return False
        config_id = ConfigId(found.environment, found.service)
        record = self._state.head(config_id).record
        known = self._state.incomplete if record is None else found.revision <= record.revision
        if known:
            return False
        self._lost[config_id] = max(found.revision, self._lost.get(config_id, 0))
        return True

    def _plan_revision(self, plan: Plan, config_id: ConfigId, lost: int) -> None:
        """Add a revision above the lost one with the content that the database has."""
        entry = plan.head(config_id)
        record = entry.record
        if record is None:
            record = deletion(config_id, self._chain, _CONTEXT, before=None, now=self._clock())
        elif record.revision >= lost:
            return
        record = msgspec.structs.replace(
            record,
            revision=lost + 1,
            timestamp=self._clock(),
            author=_CONTEXT.author,
            cause=_CONTEXT.cause,
            comment=None,
            changed=[],
            restart_required=[],
            breaking=False,
            home_sequence=plan.next_sequence(),
        )
        plan.records.append(record)
        plan.entries[config_id] = replace(entry, record=record)


def claimed_position(payload: bytes) -> Position | None:
    """Return the highest position that any reader may find in a message of another program; None if there is none.

    Readers differ in what they make of duplicate members, deep nesting or bytes that are not UTF-8, so numbers count
    wherever they stand.
    """
    found: dict[str, list[Json]] = {
        name: [int(number) for number in pattern.findall(payload)] for name, pattern in _CLAIMS.items()
    }
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        content = msgspec.json.decode(payload, type=_Claims)
        found["epoch"].append(documents.normalise(content.epoch))
        found["sequence"].append(documents.normalise(content.sequence))
    epochs, sequences = ([number for number in listed if _is_valid(number)] for listed in found.values())
    return Position(max(epochs), max(sequences)) if epochs and sequences else None


def _is_valid(number: Json) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= MAX_NUMBER
