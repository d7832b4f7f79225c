"""What other daemons commit to the same database, as plans, as if it had been made here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core import restore
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import KEY, Outbox
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.restore import SharedTexts, opened_entry
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.core.state import Entry, State
from aliciacfg.errors import OperationError
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Overlay, Record, Renewal, StoredState, Token
from aliciacfg.monitoring.instances import Instances
from aliciacfg.sealing.boxes import Keyring, key_ids
from aliciacfg.sealing.sealed_documents import open_document, open_record, sealed_pointers

_OTHERS = ChangeContext("another daemon", "api", operation="follow")
# Configurations that are composed before anything else goes on: some milliseconds.
_SLICE = 10
# Announcements that follow together with the configurations.
_ANNOUNCED = 1000
# Documents that are looked through for keys before anything else goes on.
_TEXTS = 100


class OthersChanges:
    """Makes plans of what other daemons committed; has no effect but through them."""

    def __init__(
        self,
        *,
        state: State,
        files: LoadedFiles,
        marks: FileMarks,
        served: ServedFiles,
        authorizer: Authorizer,
        instances: Instances,
        outbox: Outbox,
        keyring: Keyring,
        known_token: Callable[[Token], Token],
        reload_keys: Callable[[], Awaitable[bool]],
    ) -> None:
        """Hold the parts.

        Args:
            state: The configurations in memory.
            files: The files in force, from which contents are composed.
            marks: What the store says about the files.
            served: The files that serve.
            authorizer: Has the tokens.
            instances: Has the reports of services.
            outbox: Has the announcements.
            keyring: Opens overlays.
            known_token: Returns a token as far as its row is believed.
            reload_keys: Awaited when another daemon changed the keys, or published one that this one may not have;
                returns whether the keys here are the latest.
        """
        self._state = state
        self._files = files
        self._marks = marks
        self._served = served
        self._authorizer = authorizer
        self._instances = instances
        self._outbox = outbox
        self._keyring = keyring
        self._known_token = known_token
        self._reload_keys = reload_keys
        self._keys_pending = False

    @property
    def keys_pending(self) -> bool:
        """Whether the keys changed and could not be read."""
        return self._keys_pending

    async def planned(self, change: StoredState) -> tuple[Plan, list[object]]:
        """Return a plan whose entries are those after a change, and the entries that it replaces.

        It composes as a start does, and lets others go on in between.
        """
        restore.log_dropped_rows(change)
        needs_keys = self._keys_pending or await self._needs_keys(change)
        if needs_keys:
            self._keys_pending = not await self._reload_keys()
        plan = Plan(self._state, _OTHERS)
        replaced: list[object] = []
        await self._plan_entries(plan, change, replaced)
        if needs_keys:
            await self._plan_reopened(plan, replaced)
        plan.epoch = max(plan.epoch, change.position.epoch)
        plan.sequence = change.position.sequence
        plan.records += change.records
        plan.announcements += change.announcements[:_ANNOUNCED]
        plan.schemas += change.schemas
        plan.recipients += change.recipients
        plan.renewals += change.renewals
        plan.meta |= change.meta
        active = change.meta.get(restore.ACTIVE)
        plan.activates = active if active != self._state.active else None
        plan.on_commit.append(lambda: self._apply_rest(change))
        return plan, replaced

    async def announce_rest(self, change: StoredState) -> None:
        """Have the outbox follow the announcements that a plan of ``planned`` left out, a few at a time.

        The broker may get them later than what is read here, and does so in any case.
        """
        for start in range(_ANNOUNCED, len(change.announcements), _ANNOUNCED):
            await asyncio.sleep(0)
            self._outbox.add(change.announcements[start : start + _ANNOUNCED])

    async def _needs_keys(self, change: StoredState) -> bool:
        """Return whether another key seals now, or values of a change are sealed with one that is not here."""
        if change.keys or any(item.subject == KEY for item in change.announcements):
            return True
        sealed = [*(item.config for item in change.records), *(item.patch for item in change.overlays if item.patch)]
        sealed.append(change.meta.get(restore.SERVED, "").encode())
        for number, text in enumerate(sealed, start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            if not all(map(self._keyring.has, key_ids(text))):
                return True
        return False

    def _apply_rest(self, change: StoredState) -> None:
        """Put in memory what is no configuration."""
        self._files.follow(change.schemas, change.meta)
        self._marks.follow(change.meta)
        self._served.follow(change)
        self._authorizer.apply_tokens(map(self._known_token, change.tokens))
        self._instances.follow(change.applied, change.forgotten)

    async def _plan_entries(self, plan: Plan, change: StoredState, replaced: list[object]) -> None:
        records = {_id(item): item for item in change.records}
        overlays = {_id(item): item for item in change.overlays}
        places = {_id(item): item.home_sequence for item in change.renewals}
        texts = SharedTexts()
        for number, config_id in enumerate(dict.fromkeys([*records, *overlays, *places]), start=1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            replaced.append(before)
            record = self._record(before, records.get(config_id), places.get(config_id, 0), texts)
            entry = self._entry(before, record, overlays.get(config_id))
            if entry is None:
                continue
            _add(plan, config_id, entry)

    async def recompose(self) -> None:
        """Compose what the files before did not yield, and these may."""
        entries: dict[ConfigId, Entry] = {}
        for number, config_id in enumerate(self._state.all_heads(), start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            if before.live is not None and before.effective is None:
                entries[config_id] = self._composed(before, before)
        self._state.refresh(entries)

    async def _plan_reopened(self, plan: Plan, replaced: list[object]) -> None:
        """Plan the configurations whose overlays did not open before, and may now."""
        for number, config_id in enumerate(self._state.all_heads(), start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            if config_id in plan.entries or before.overlay is None or not before.undecryptable:
                continue
            opened = open_document(
                before.overlay, self._keyring, service=config_id.service, environment=config_id.environment
            )
            sealed = {**before.sealed, **opened.secrets}
            entry = self._composed(before, Entry(before.record, opened.document, None, before.origins, sealed))
            if entry.undecryptable and not opened.secrets:
                continue
            replaced.append(before)
            _add(plan, config_id, entry)

    def _record(self, before: Entry, changed: Record | None, renewed: int, texts: SharedTexts) -> Record | None:
        """Return the newest revision with the place of the last change that readers are notified of."""
        record = changed or before.record
        if record is None:
            return None
        place = max(record.home_sequence, renewed)
        if before.record is not None and before.record.revision == record.revision:
            # The same revision, of which more is sealed now.
            place = max(place, before.record.home_sequence)
        return texts.replace(record, home_sequence=place)

    def _entry(self, before: Entry, record: Record | None, overlay: Overlay | None) -> Entry | None:
        """Return an entry after a change, its content composed if the files yield it; None if there is nothing."""
        if overlay is None:
            entry = Entry(record, before.overlay, None, before.origins, before.sealed)
        elif overlay.patch is None or not (overlay.confirmed or record is not None):
            entry = Entry(record)
        else:
            entry = opened_entry(record, overlay, self._keyring)
        if entry.record is None and entry.overlay is None and before.record is None and before.overlay is None:
            return None
        return self._composed(before, entry)

    def _composed(self, before: Entry, entry: Entry) -> Entry:
        record = entry.live
        if record is None or entry.undecryptable:
            return entry
        known = before.effective
        if known is not None and known.checksum == record.checksum and before.overlay == entry.overlay:
            # Readers get the same revision in a new place.
            effective = known
        else:
            found = None if self._files.current_planner is None else self._files.current_planner.composer
            effective = None if found is None else self._composed_by(found, record, entry)
        return entry if effective is None else Entry(record, entry.overlay, effective, entry.origins)

    def _composed_by(self, composer: Composer, record: Record, entry: Entry) -> Effective | None:
        """Return the content of a revision; None if these files and the overlay do not yield it."""
        environment = composer.sources.environments.get(record.environment)
        if environment is None or environment.problems:
            return None
        found = None
        with contextlib.suppress(OperationError):
            found = composer.compose(record.environment, record.service, entry.overlay)
            if found.checksum == record.checksum:
                return replace(found, checksum=record.checksum)
        if not self._has_more_secrets(record, found):
            return None
        with contextlib.suppress(OperationError):
            # What the schema does not mark any more stays a secret.
            kept = {**open_record(record, self._keyring).secrets, **entry.sealed}
            found = composer.compose(record.environment, record.service, entry.overlay, kept=kept)
            if found.checksum == record.checksum:
                return replace(found, checksum=record.checksum)
        return None

    def _has_more_secrets(self, record: Record, found: Effective | None) -> bool:
        """Return whether a revision holds secrets where the files and the schema have none."""
        if found is None:
            return True
        document = msgspec.json.decode(record.config)
        return not found.secrets.keys() >= set(sealed_pointers(document))


def _id(item: Record | Overlay | Renewal) -> ConfigId:
    return ConfigId(item.environment, item.service)


def _add(plan: Plan, config_id: ConfigId, entry: Entry) -> None:
    plan.entries[config_id] = entry
    if entry.live is None or entry.effective is not None:
        plan.settled.add(config_id)
