"""From a wanted change to what has to be written: revisions, overlays, announcements.

Nothing here waits or has an effect; ``configurations.Configurations`` carries plans out.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.outbox import Announced, Outbox, announce_record, service_subject
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import Entry, Key
from aliciacfg.documents import Bump, Change, JsonObject
from aliciacfg.errors import Incompatible, Problem, ValidationFailed
from aliciacfg.model import versions
from aliciacfg.model.records import Overlay, Record
from aliciacfg.sealing.boxes import REDACTED, Keyring
from aliciacfg.sealing.sealed_documents import open_record, redact, redact_record, seal_document
from aliciacfg.storage.hash_chain import Chain


class Planner:
    """Plans revisions of one moment's files; the epoch and the keys are the database's."""

    def __init__(
        self,
        *,
        composer: Composer,
        keyring: Keyring,
        chain: Chain,
        show: Callable[[Record], JsonObject],
        outbox: Outbox,
        epoch: int,
        clock: Callable[[], float],
    ) -> None:
        self.composer = composer
        self._keyring = keyring
        self._chain = chain
        self._show = show
        self._outbox = outbox
        self._epoch = epoch
        self._clock = clock

    def change(
        self,
        plan: Plan,
        key: Key,
        *,
        effective: Effective,
        overlay: JsonObject | None,
        origin: ChangeContext,
        announce: bool,
        refuse_breaking: bool = False,
        reseal: bool = False,
    ) -> Entry:
        """Add to a plan what makes ``effective`` the configuration of ``key``; to nothing, if it is refused.

        Args:
            plan: Is added to.
            key: Which configuration.
            effective: What it shall be.
            overlay: The overlay that makes it so, secrets in the open; None for none.
            origin: Why.
            announce: The environment is the active one.
            refuse_breaking: Hold what the service's ``compatibility`` asks for.
            reseal: Write the overlay even if it is the same: more of it is secret now.

        Returns:
            The entry after the plan; with the same record where the effective configuration does not differ.

        Raises:
            ValidationFailed: The version asked for is below what the change needs.
            Incompatible: It would break readers; names each key.
        """
        entry = plan.head(key)
        record = entry.live
        if record is None or record.checksum != effective.checksum:
            record = self._record(key, entry, effective, origin, refuse_breaking=refuse_breaking)
            self._append(plan, entry, record, origin)
            if announce:
                self.tell(plan, record)
        origins = _origins(entry, overlay, record.revision)
        if not _same_overlay(entry.overlay, overlay) or (reseal and overlay is not None):
            plan.overlays.append(self._overlay(key, overlay, origins, effective.secrets))
        after = plan.entries[key] = Entry(record, overlay, effective, origins)
        return after

    def replace_overlay(self, plan: Plan, key: Key, overlay: JsonObject) -> None:
        """Add to a plan another overlay of a configuration that cannot be composed now; its revision stays."""
        entry = plan.head(key)
        origins = _origins(entry, overlay, entry.record.revision if entry.record else 0)
        # By value: a migration moves secrets to other places.
        values = set(self.secrets(entry).values())
        kept = {pointer: value for pointer, value in documents.walk_strings(overlay) if value in values}
        secrets = kept | self.composer.sources.schema(key[1]).secrets(overlay)
        plan.overlays.append(self._overlay(key, overlay, origins, secrets))
        plan.entries[key] = Entry(entry.record, overlay, entry.effective, origins)

    def announce(self, plan: Plan, record: Record, *, before: JsonObject) -> Announced:
        """Add to a plan what tells a service a configuration that is not new, after another one.

        Args:
            plan: Is added to.
            record: The configuration.
            before: The document that the service had, secrets in the open; empty if it had none.
        """
        after = self.document(plan.head((record.environment, record.service)))
        changed = [change.pointer for change in documents.changes(before, after)]
        told = Announced(changed, self._restart_required(record.service, changed) if before else [])
        self.tell(plan, record, told)
        return told

    def tell(self, plan: Plan, record: Record, told: Announced | None = None) -> None:
        """Add to a plan what tells a service its configuration; arguments as for ``announce_record``."""
        shown = self._show(record)
        now = self._clock()
        plan.announcements.append(
            announce_record(self._outbox, record, shown=shown, epoch=self._epoch, now=now, told=told)
        )

    def secrets(self, entry: Entry) -> dict[str, str]:
        """What a configuration holds as secrets, as far as they open; a schema that unmarks one does not free it."""
        if entry.effective is not None:
            return entry.effective.secrets
        if entry.live is None:
            return {}
        return open_record(entry.live, self._keyring).secrets

    def document(self, entry: Entry) -> JsonObject:
        """What a configuration holds, without ``version``, secrets in the open where they open."""
        if entry.effective is not None:
            return entry.effective.document
        return {} if entry.live is None else open_record(entry.live, self._keyring).readable

    def tombstone(self, plan: Plan, key: Key, *, origin: ChangeContext, announce: bool) -> Entry:
        """Add to a plan what ends a configuration: its revision counter stays, its retained message goes."""
        environment, service = key
        entry = plan.head(key)
        record = Record(
            environment=environment,
            service=service,
            revision=(entry.record.revision if entry.record else 0) + 1,
            version=entry.record.version if entry.record else versions.FIRST,
            timestamp=self._clock(),
            author=origin.author,
            cause=origin.cause,
            checksum="",
            digest=self._chain.digest({}, service=service, environment=environment),
            config=b"{}",
            changed=[""],
            restart_required=[],
            breaking=True,
            comment=origin.comment,
            deleted=True,
        )
        self._append(plan, entry, record, origin)
        if entry.overlay is not None:
            plan.overlays.append(Overlay(environment, service, None))
        if announce:
            plan.announcements.append(self._outbox.create(service_subject(service), b""))
        plan.entries[key] = Entry(record)
        return plan.entries[key]

    def _append(self, plan: Plan, before: Entry, record: Record, origin: ChangeContext) -> None:
        plan.records.append(record)
        plan.audit.append(
            origin.done(
                record.timestamp,
                environment=record.environment,
                service=record.service,
                before=before.live.revision if before.live else None,
                after=record.revision,
            )
        )

    def _record(
        self, key: Key, entry: Entry, effective: Effective, origin: ChangeContext, *, refuse_breaking: bool
    ) -> Record:
        environment, service = key
        previous = entry.record
        live = entry.live
        old = self.document(entry)
        changes = list(documents.changes(old, effective.document))
        version, problem = effective.requested_version or versions.FIRST, None
        if previous is not None:
            bump: Bump = versions.bump_for(changes)
            version, problem = versions.next_version(previous.version, bump, effective.requested_version)
            if live is not None and bump == "major" and refuse_breaking:
                self._check_compatible(service, old, effective.document, changes, version)
        if problem is not None:
            raise ValidationFailed(f"The version asked for {service} is too low", [problem])
        changed = [change.pointer for change in changes]
        document = self._sealed(key, effective.document, effective.secrets)
        content: JsonObject = {**effective.document, "version": version}
        return Record(
            environment=environment,
            service=service,
            revision=(previous.revision if previous else 0) + 1,
            version=version,
            timestamp=self._clock(),
            author=origin.author,
            cause=origin.cause,
            checksum=effective.checksum,
            digest=self._chain.digest(content, service=service, environment=environment),
            config=documents.canonical({**document, "version": version}),
            changed=changed,
            restart_required=self._restart_required(service, changed) if live else [],
            breaking=live is not None and any(change.bump == "major" for change in changes),
            comment=origin.comment,
        )

    def _overlay(
        self, key: Key, overlay: JsonObject | None, origins: dict[str, int], secrets: Mapping[str, str]
    ) -> Overlay:
        environment, service = key
        if overlay is None:
            return Overlay(environment, service, None)
        sealed = self._sealed(key, overlay, secrets)
        return Overlay(environment, service, documents.canonical(sealed), origins)

    def _sealed(self, key: Key, document: JsonObject, secrets: Mapping[str, str]) -> JsonObject:
        environment, service = key
        return seal_document(document, secrets, self._keyring, service=service, environment=environment)

    def _restart_required(self, service: str, pointers: list[str]) -> list[str]:
        return self.composer.sources.schema(service).restart_required(pointers)

    def _check_compatible(
        self, service: str, old: JsonObject, new: JsonObject, changes: Sequence[Change], version: str
    ) -> None:
        """Refuse what readers of the old configuration may not survive.

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


def difference(before: Entry, after: Entry) -> list[JsonObject]:
    """RFC 6902 operations between two redacted configurations; a changed secret shows as replaced by ``***``."""
    old, new = _shown(before), _shown(after)
    if before.effective is None or after.effective is None:
        return documents.json_patch(old, new)
    known = before.effective.secrets
    other = [pointer for pointer, value in after.effective.secrets.items() if known.get(pointer, value) != value]
    return [
        *documents.json_patch(old, new),
        *({"op": "replace", "path": pointer, "value": REDACTED} for pointer in other),
    ]


def _shown(entry: Entry) -> JsonObject:
    if entry.effective is not None:
        return redact(entry.effective.document, entry.effective.secrets)
    if entry.live is None:
        return {}
    document = redact_record(entry.live)
    document.pop("version", None)
    return document


def _breakage(old: JsonObject, new: JsonObject, pointer: str) -> str:
    before, after = documents.find(old, pointer), documents.find(new, pointer)
    if after is UNSET:
        return "would disappear"
    found = "nothing" if before is UNSET else documents.type_name(before)
    return f"would change from {found} to {documents.type_name(after)}"


def _origins(entry: Entry, overlay: JsonObject | None, revision: int) -> dict[str, int]:
    """Which revision brought each leaf of an overlay: the one before that had it so, else this one."""
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
