"""Plans changes: which revisions, overlays and announcements a change writes.

A planner has no effect but on the plan, and waits for nothing but a thread that seals; ``commits.Commits`` carries
plans out.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.outbox import ChangedPointers, Outbox, announce_record, service_subject
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import NO_ORIGINS, Entry
from aliciacfg.core.views import Views
from aliciacfg.core.written_documents import WrittenDocuments
from aliciacfg.documents import Bump, Change, DocumentLimits, JsonObject
from aliciacfg.errors import Incompatible, InvalidDocument, Problem
from aliciacfg.model import versions
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Overlay, Record
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import open_record, redact, reusable_boxes, seal_values
from aliciacfg.sources.layers import Sources
from aliciacfg.storage.hash_chain import Chain

# Sealing them takes a millisecond.
_MANY_SECRETS = 20
_MAX_MADE = 64
# The longest pointer that is kept for other services.
_MAX_SHARED = 256


class _Boxes(NamedTuple):
    """The secrets of a revision as its record holds them, by JSON Pointer, and the id of the key that sealed them."""

    record: Record
    key: str
    boxes: Mapping[str, str]


class Planner:
    """Plans revisions on the files of one moment.

    Attributes:
        composer: Composes configurations from these files.
        written: Checks what writers send, with these files.
    """

    def __init__(
        self,
        *,
        composer: Composer,
        keyring: Keyring,
        chain: Chain,
        views: Views,
        outbox: Outbox,
        clock: Callable[[], float],
    ) -> None:
        self.composer = composer
        self.written = WrittenDocuments(composer, keyring)
        self._keyring = keyring
        self._chain = chain
        self._views = views
        self._outbox = outbox
        self._clock = clock
        # The least recently written one is the first.
        self._made: dict[ConfigId, _Boxes] = {}

    def change(
        self,
        plan: Plan,
        config_id: ConfigId,
        *,
        effective: Effective,
        overlay: JsonObject | None,
        context: ChangeContext | None = None,
        refuse_breaking: bool = False,
        sealed: Mapping[str, str] | None = None,
    ) -> Entry:
        """Add to a plan what makes ``effective`` the content of a configuration; add nothing if that is refused.

        Args:
            plan: The plan.
            config_id: The configuration.
            effective: Its wanted content.
            overlay: The overlay that yields it, secrets in plain text; None for none.
            context: The reason, if it is another one than the plan's.
            refuse_breaking: Refuse a breaking change if the service's ``compatibility`` forbids it.
            sealed: What ``seal_ahead`` returned for the same plan and content.

        Returns:
            The entry after the plan; it has the same record where the effective configuration does not differ.

        Raises:
            InvalidDocument: The requested version is below the one that the change needs.
            Incompatible: The change would break readers; lists each key.
        """
        context = context or plan.context
        entry = plan.head(config_id)
        record = entry.live
        boxes: dict[str, str] = {}
        if record is None or record.checksum != effective.checksum:
            boxes = {**self._reusable(entry, effective.secrets), **(sealed or {})}
            boxes |= self._boxes(config_id, _without(effective.secrets, boxes))
            record = self._record(plan, config_id, effective, boxes, context, refuse_breaking=refuse_breaking)
            self._keep_boxes(config_id, record, boxes)
            self._append(plan, entry, record, context)
            shown = plan.redacted[config_id] = redact(effective.document, effective.secrets)
            if plan.announces(config_id):
                self._announce(plan, record, self._views.encoded_public_of(record, shown))
        origins = _origins(entry, overlay, record.revision)
        if not _same_overlay(entry.overlay, overlay):
            plan.overlays.append(self._overlay(config_id, overlay, origins, effective.secrets, boxes))
        after = plan.entries[config_id] = Entry(record, overlay, effective, origins or NO_ORIGINS)
        plan.settled.add(config_id)
        return after

    def replace_overlay(self, plan: Plan, config_id: ConfigId, overlay: JsonObject) -> None:
        """Add to a plan another overlay of a configuration that cannot be composed now; its revision stays."""
        entry = plan.head(config_id)
        origins = _origins(entry, overlay, entry.record.revision if entry.record else 0)
        # By value: a migration moves secrets to other places.
        values = set(self.secrets(entry).values())
        kept = {pointer: value for pointer, value in documents.walk_strings(overlay) if value in values}
        secrets = kept | self.composer.sources.schema(config_id.service).secrets(overlay)
        plan.overlays.append(self._overlay(config_id, overlay, origins, secrets, {}))
        plan.entries[config_id] = Entry(entry.record, overlay, entry.effective, origins)

    def announce_again(self, plan: Plan, record: Record) -> None:
        """Add to a plan that readers see a revision in another way than before."""
        config_id = ConfigId(record.environment, record.service)
        announce_again(plan, config_id, outbox=self._outbox, views=self._views, now=self._clock())

    def announce_switch(self, plan: Plan, record: Record, *, before: JsonObject) -> ChangedPointers:
        """Add to a plan that a service gets a configuration after another one; the configuration has to exist.

        Args:
            plan: The plan.
            record: Its revision.
            before: The document that the service had, secrets in plain text; empty if it had none.
        """
        config_id = ConfigId(record.environment, record.service)
        after = self.document(plan.head(config_id))
        changed = [change.pointer for change in documents.changes(before, after)]
        pointers = ChangedPointers(changed, self._restart_required(record.service, changed) if before else [])
        renewed = plan.renew_sequence(config_id) or record
        self._announce(plan, renewed, self._views.public(renewed), pointers)
        return pointers

    def secrets(self, entry: Entry) -> dict[str, str]:
        """Return the secrets of a configuration that open, by pointer, also those that the schema marks no longer."""
        if entry.effective is not None:
            return entry.effective.secrets
        recorded = {} if entry.live is None else open_record(entry.live, self._keyring).secrets
        return {**recorded, **entry.sealed}

    def document(self, entry: Entry) -> JsonObject:
        """Return the content of a configuration without ``version``, secrets in plain text where they open."""
        if entry.effective is not None:
            return entry.effective.document
        return {} if entry.live is None else open_record(entry.live, self._keyring).readable

    def tombstone(self, plan: Plan, config_id: ConfigId, *, context: ChangeContext | None = None) -> Entry:
        """Add to a plan the deletion of a configuration; its revision counter goes on, its retained message goes."""
        environment, service = config_id
        context = context or plan.context
        entry = plan.head(config_id)
        record = deletion(config_id, self._chain, context, before=entry.record, now=self._clock())
        record = msgspec.structs.replace(
            record, revision=plan.state.next_revision(config_id, entry), home_sequence=plan.next_sequence()
        )
        self._append(plan, entry, record, context)
        if entry.overlay is not None:
            plan.overlays.append(Overlay(environment, service, None))
        if plan.announces(config_id):
            plan.announcements.append(self._outbox.remove(service_subject(service), record.home_sequence))
        plan.entries[config_id] = Entry(record)
        plan.settled.add(config_id)
        return plan.entries[config_id]

    def _announce(
        self, plan: Plan, record: Record, shown: JsonObject | msgspec.Raw, pointers: ChangedPointers | None = None
    ) -> None:
        plan.announcements.append(
            announce_record(self._outbox, record, shown=shown, epoch=plan.epoch, now=self._clock(), pointers=pointers)
        )

    def _append(self, plan: Plan, before: Entry, record: Record, context: ChangeContext) -> None:
        plan.records.append(record)
        plan.audit.append(
            context.audit_entry(
                record.timestamp,
                environment=record.environment,
                service=record.service,
                before=before.live.revision if before.live else None,
                after=record.revision,
            )
        )

    def _record(
        self,
        plan: Plan,
        config_id: ConfigId,
        effective: Effective,
        boxes: Mapping[str, str],
        context: ChangeContext,
        *,
        refuse_breaking: bool,
    ) -> Record:
        environment, service = config_id
        entry = plan.head(config_id)
        previous, live = entry.record, entry.live
        old = self.document(entry)
        changes = [] if previous is None else documents.changes(old, effective.document)
        version, problem = effective.requested_version or versions.FIRST, None
        if previous is not None:
            bump: Bump = versions.bump_for(changes)
            version, problem = versions.next_version(previous.version, bump, effective.requested_version)
            if live is not None and bump == "major" and refuse_breaking:
                self._check_compatible(service, old, effective.document, changes, version)
        if problem is not None:
            raise InvalidDocument(f"The version asked for {service} is too low", [problem])
        changed = [change.pointer for change in changes]
        if previous is None:
            # Everything is new. Services have the same places, whose pointers would take each of them two kilobytes.
            changed = [
                _shared(pointer) if len(pointer) <= _MAX_SHARED else pointer
                for pointer, _ in documents.leaves(effective.document)
            ]
        content: JsonObject = {**effective.document, "version": version}
        return Record(
            environment=environment,
            service=service,
            revision=plan.state.next_revision(config_id, entry),
            version=version,
            timestamp=self._clock(),
            author=context.author,
            cause=context.cause,
            checksum=effective.checksum,
            digest=self._chain.digest(content, service=service, environment=environment),
            config=documents.canonical(documents.replace_strings(content, boxes)),
            changed=changed,
            restart_required=self._restart_required(service, changed) if live else [],
            breaking=live is not None and any(change.bump == "major" for change in changes),
            comment=context.comment,
            home_sequence=plan.next_sequence(),
        )

    def _overlay(
        self,
        config_id: ConfigId,
        overlay: JsonObject | None,
        origins: dict[str, int],
        secrets: Mapping[str, str],
        boxes: Mapping[str, str],
    ) -> Overlay:
        """Return an overlay as it is stored; a secret that is in ``boxes`` is not sealed a second time."""
        if overlay is None:
            return Overlay(config_id.environment, config_id.service, None)
        held = {pointer: value for pointer, value in secrets.items() if documents.find(overlay, pointer) == value}
        missing = {pointer: value for pointer, value in held.items() if pointer not in boxes}
        known = {pointer: boxes[pointer] for pointer in held if pointer in boxes}
        sealed = documents.replace_strings(overlay, known | self._boxes(config_id, missing))
        return Overlay(config_id.environment, config_id.service, documents.canonical(sealed), origins)

    async def seal_ahead(self, plan: Plan, config_id: ConfigId, effective: Effective) -> dict[str, str]:
        """Seal, in a thread, the secrets that a change would have to seal, if they are many; by JSON Pointer.

        Each takes 50 µs, and a change may have hundreds. ``change`` seals those that are not in the result.
        """
        entry = plan.head(config_id)
        unchanged = entry.live is not None and entry.live.checksum == effective.checksum
        if unchanged or len(effective.secrets) < _MANY_SECRETS:
            return {}
        fresh = _without(effective.secrets, self._reusable(entry, effective.secrets))
        return {} if len(fresh) < _MANY_SECRETS else await asyncio.to_thread(self._boxes, config_id, fresh)

    def _reusable(self, entry: Entry, secrets: Mapping[str, str]) -> dict[str, str]:
        """Return the boxes of an entry's revision for those secrets that it has already, by JSON Pointer."""
        if entry.live is None or entry.effective is None:
            return {}
        before = entry.effective.secrets
        same = {pointer: value for pointer, value in secrets.items() if before.get(pointer) == value}
        made = self._made.get(ConfigId(entry.live.environment, entry.live.service))
        if made is not None and made.record is entry.live and made.key == self._keyring.current:
            return {pointer: made.boxes[pointer] for pointer in same if pointer in made.boxes}
        return reusable_boxes(entry.live, same, self._keyring)

    def _keep_boxes(self, config_id: ConfigId, record: Record, boxes: Mapping[str, str]) -> None:
        """Remember the boxes of a revision for the one after it: reading them from the record takes 14 µs of a write.

        Only of those that were written last, and a rotation of the keys makes them useless. All were sealed, or found
        to be sealed, with the current key just now: those of ``seal_ahead``, while which the key may change, are many.
        """
        self._made.pop(config_id, None)
        if 0 < len(boxes) < _MANY_SECRETS:
            self._made[config_id] = _Boxes(record, self._keyring.current, boxes)
            if len(self._made) > _MAX_MADE:
                del self._made[next(iter(self._made))]

    def _boxes(self, config_id: ConfigId, secrets: Mapping[str, str]) -> dict[str, str]:
        """Seal secrets to their places."""
        environment, service = config_id
        return seal_values(secrets, self._keyring, service=service, environment=environment)

    def _restart_required(self, service: str, pointers: list[str]) -> list[str]:
        return self.composer.sources.schema(service).restart_required(pointers)

    def _check_compatible(
        self, service: str, old: JsonObject, new: JsonObject, changes: Sequence[Change], version: str
    ) -> None:
        """Refuse a change that readers of the old configuration may not survive.

        Raises:
            Incompatible: With each key that would disappear or change its type.
        """
        if self.composer.sources.schema(service).compatibility == "none":
            return
        broken = [change.pointer for change in changes if change.bump == "major"]
        raise Incompatible(
            f"The change breaks readers of {service}: it needs version {version}. Send allow_breaking if every reader "
            "can do without these keys",
            [Problem(pointer, _breakage(old, new, pointer)) for pointer in broken],
        )


class PlannerFactory:
    """Makes composers and planners for files that were just read; the keys are the daemon's."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        chain: Chain,
        views: Views,
        outbox: Outbox,
        clock: Callable[[], float],
        limits: DocumentLimits,
    ) -> None:
        self._keyring = keyring
        self._chain = chain
        self._views = views
        self._outbox = outbox
        self._clock = clock
        self._limits = limits

    def composer(self, sources: Sources) -> Composer:
        """Return what composes configurations from files."""
        return Composer(sources, self._keyring, limits=self._limits)

    def planner(self, sources: Sources) -> Planner:
        """Return what plans changes on files."""
        return Planner(
            composer=self.composer(sources),
            keyring=self._keyring,
            chain=self._chain,
            views=self._views,
            outbox=self._outbox,
            clock=self._clock,
        )


def announce_again(plan: Plan, config_id: ConfigId, *, outbox: Outbox, views: Views, now: float) -> None:
    """Add to a plan that readers see a configuration in another way than before; nothing if it does not exist.

    Args:
        plan: The plan.
        config_id: The configuration.
        outbox: Makes the announcement, if the bus holds the configuration.
        views: What readers will see once the plan is durable.
        now: Unix seconds.
    """
    record = plan.renew_sequence(config_id)
    if record is not None and plan.announces(config_id):
        shown = views.public(record)
        plan.announcements.append(announce_record(outbox, record, shown=shown, epoch=plan.epoch, now=now))


def deletion(config_id: ConfigId, chain: Chain, context: ChangeContext, *, before: Record | None, now: float) -> Record:
    """Return the revision that ends a configuration, without its place in the order of the home.

    Args:
        config_id: The configuration.
        chain: Makes the digest.
        context: The reason.
        before: The newest revision; None if there is none.
        now: Unix seconds.
    """
    return Record(
        environment=config_id.environment,
        service=config_id.service,
        revision=(before.revision if before else 0) + 1,
        version=before.version if before else versions.FIRST,
        timestamp=now,
        author=context.author,
        cause=context.cause,
        checksum="",
        digest=chain.digest({}, service=config_id.service, environment=config_id.environment),
        config=b"{}",
        changed=[""],
        restart_required=[],
        breaking=True,
        comment=context.comment,
        deleted=True,
    )


@lru_cache(maxsize=4096)
def _shared(pointer: str) -> str:
    """Return a pointer as one object for those that are equal.

    Not ``sys.intern``, which keeps some for ever on Python 3.12: writers choose the names.
    """
    return pointer


def _without(secrets: Mapping[str, str], sealed: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets at other places than those of sealed ones."""
    return {pointer: value for pointer, value in secrets.items() if pointer not in sealed}


def _breakage(old: JsonObject, new: JsonObject, pointer: str) -> str:
    before, after = documents.find(old, pointer), documents.find(new, pointer)
    if after is UNSET:
        return "would disappear"
    found = "nothing" if before is UNSET else documents.type_name(before)
    return f"would change from {found} to {documents.type_name(after)}"


def _origins(entry: Entry, overlay: JsonObject | None, revision: int) -> dict[str, int]:
    """Return the revision that introduced each leaf of an overlay: an earlier one that had it so, or this one."""
    if overlay is None:
        return {}
    before = dict(documents.leaves(entry.overlay or {}))
    return {
        pointer: entry.origins.get(pointer, revision)
        if pointer in before and documents.equal(before[pointer], value)
        else revision
        for pointer, value in documents.leaves(overlay)
    }


def _same_overlay(old: JsonObject | None, new: JsonObject | None) -> bool:
    if old is None or new is None:
        return old is new
    return documents.equal(old, new)
