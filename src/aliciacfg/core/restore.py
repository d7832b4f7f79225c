"""Loads the content of the store into memory, at a start and after the keys changed."""

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import structlog

from aliciacfg.core.outbox import ENVIRONMENT
from aliciacfg.core.state import Entry
from aliciacfg.documents import JsonObject
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Announcement, Overlay, Position, Record, StoredState
from aliciacfg.sealing.boxes import PREFIX, Keyring
from aliciacfg.sealing.sealed_documents import open_document
from aliciacfg.storage.store import Store

_log = structlog.get_logger(__name__)


# Names in the store's table of names and values.
ACTIVE = "active_environment"
REQUESTED = "requested_environment"
DEFINED = "defined_services"
RULES = "access_rules"
HISTORY_SEALED = "history_sealed"
SEALED = "1"
"""The value of ``HISTORY_SEALED``; another one when more counts as secret than before without any change of files."""
FILES = "source_files"
SERVED = "served_files"
"""The name of the texts from which several daemons of a home compose: see ``core.served_files``."""
HOME_ASSISTANT = "home_assistant"
"""The name of the discovery prefix under which something may be retained for Home Assistant; empty for nothing."""

RulesMark = Literal["never", "since", "unknown"]
"""Whether a home has had access rules: never, at some time, or the store does not say."""

_MAX_NAMED = 20

# Replaces an overlay whose row was changed in the database. Its value does not open, so the overlay is ignored.
_TAMPERED: JsonObject = {"changed in the database": f"{PREFIX}?"}


@dataclass(frozen=True, slots=True)
class Restored:
    """The content of a store.

    Attributes:
        entries: Every configuration; none is composed yet.
        used_numbers: The last number that a revision may have had, where it is not that of the newest one.
        announcements: The newest message of each subject, confirmed or not.
        schemas: The schema documents that stored configurations were last checked against, by service; None for a
            service whose schema file is gone.
        defined: The services that the files named, by environment.
        active: The active environment.
        requested: The ``ENVIRONMENT`` setting of the last start; None in a new store. Where the store does not say
            it any more, that of this start: a tampered row moves no home.
        position: The position of the home after the last write.
        rules: Whether the home has had access rules.
        history_sealed: Whether the whole history was compared with the schemas in force, so that nothing which they
            mark as secret is in plain text.
        files: The names of the files in force that contain something.
        served: The files that serve a home of several daemons; None where the store does not say it.
        dropped: The rows that are not what was written, named as in findings of drift.
        incomplete: Whether there may be configurations that ``entries`` lacks, because the database is damaged.
        home_assistant: The discovery prefix under which Home Assistant may have retained messages; empty for none.
        start_marks: What the last start noted in the store: ``ACTIVE`` and ``REQUESTED``, as far as the store says it.
    """

    entries: dict[ConfigId, Entry]
    used_numbers: dict[ConfigId, int]
    announcements: list[Announcement]
    schemas: dict[str, JsonObject | None]
    defined: dict[str, list[str]]
    active: str
    requested: str | None
    position: Position
    rules: RulesMark
    history_sealed: bool
    files: list[str]
    served: str | None
    dropped: list[str]
    incomplete: bool
    home_assistant: str
    start_marks: dict[str, str]

    def without_contents(self) -> "Restored":
        """Return what a start still needs when the contents are where they belong; they change there, or go."""
        return replace(self, entries={}, used_numbers={}, announcements=[])

    def moves_to(self, requested_environment: str) -> bool:
        """Return whether a start with this ``ENVIRONMENT`` setting makes it the active environment."""
        return requested_environment != self.requested


def log_dropped_rows(stored: StoredState) -> None:
    """Log the rows that are not used because they are not what was written, if there are any."""
    if stored.dropped:
        _log.warning(
            "rows_dropped",
            count=len(stored.dropped),
            rows=stored.dropped[:_MAX_NAMED],
            remedy="find out what wrote to the database; `aliciacfg check` lists the rows",
        )


async def restore(store: Store, keyring: Keyring, *, requested_environment: str) -> Restored:
    """Load the content of a store.

    Args:
        store: The store.
        keyring: Opens overlays.
        requested_environment: The active environment of an empty store.

    Raises:
        Unavailable: The store cannot be read.
    """
    stored = await store.load()
    log_dropped_rows(stored)
    announced = _announced(stored.announcements)
    defined, files = marked_files(stored.meta, defined={}, found=[])
    active = stored.meta.get(ACTIVE) or announced.environment
    return Restored(
        entries=stored_entries(stored, keyring),
        used_numbers={ConfigId(*place): number for place, number in stored.used_numbers.items()},
        announcements=stored.announcements,
        schemas={
            item.service: None if item.document is None else msgspec.json.decode(item.document)
            for item in stored.schemas
        },
        defined=dict(defined),
        active=active or requested_environment,
        requested=stored.meta.get(REQUESTED) or (requested_environment if active else None),
        position=Position(max(stored.position.epoch, announced.epoch), stored.position.sequence),
        rules=rules_mark(stored.meta),
        history_sealed=stored.meta.get(HISTORY_SEALED) == SEALED,
        files=list(files),
        served=stored.meta.get(SERVED),
        dropped=stored.dropped,
        incomplete=stored.incomplete,
        home_assistant=stored.meta.get(HOME_ASSISTANT, ""),
        start_marks={name: stored.meta[name] for name in (ACTIVE, REQUESTED) if name in stored.meta},
    )


def stored_entries(stored: StoredState, keyring: Keyring) -> dict[ConfigId, Entry]:
    """Return every stored configuration; ``effective`` is not composed yet.

    Where no revision is left that could stay in force, an overlay that was tampered with counts as deleted.
    """
    renewed = {ConfigId(item.environment, item.service): item.home_sequence for item in stored.renewals}
    records: dict[ConfigId, Record] = {}
    shared = SharedTexts()
    for record in stored.records:
        config_id = ConfigId(record.environment, record.service)
        place = max(record.home_sequence, renewed.get(config_id, 0))
        records[config_id] = shared.replace(record, home_sequence=place)
    named = {ConfigId(overlay.environment, overlay.service): overlay for overlay in stored.overlays}
    overlays = {config_id: item for config_id, item in named.items() if item.confirmed or config_id in records}
    entries: dict[ConfigId, Entry] = {}
    for config_id in records.keys() | overlays.keys():
        overlay = overlays.get(config_id)
        record = records.get(config_id)
        entries[config_id] = Entry(record) if overlay is None else opened_entry(record, overlay, keyring)
    return entries


class SharedTexts:
    """Makes revisions share what is equal in many: otherwise it takes a fifth of a configuration's memory."""

    def __init__(self) -> None:
        self._lists: dict[tuple[str, ...], list[str]] = {}

    def replace(self, record: Record, *, home_sequence: int) -> Record:
        """Return a revision with another place."""
        return msgspec.structs.replace(
            record,
            home_sequence=home_sequence,
            environment=sys.intern(record.environment),
            version=sys.intern(record.version),
            author=sys.intern(record.author),
            changed=self._list(record.changed),
            restart_required=self._list(record.restart_required),
        )

    def _list(self, pointers: list[str]) -> list[str]:
        key = tuple(pointers)
        return self._lists.get(key) or self._lists.setdefault(key, [sys.intern(pointer) for pointer in pointers])


class _Announced(msgspec.Struct, frozen=True):
    """What the retained message about the active environment says."""

    environment: str = ""
    epoch: int = 1


def _announced(announcements: Iterable[Announcement]) -> _Announced:
    """Return what was published last about the active environment, in case its own row is gone."""
    for item in announcements:
        if item.subject == ENVIRONMENT:
            return msgspec.json.decode(item.payload, type=_Announced)
    return _Announced()


def marked_files(
    meta: Mapping[str, str], *, defined: Mapping[str, list[str]], found: Collection[str]
) -> tuple[Mapping[str, list[str]], Collection[str]]:
    """Return the services that the files in force name by environment, and the names of those files.

    Args:
        meta: Names with values of the store.
        defined: The services where the store does not say it.
        found: The names of files where the store does not say it.
    """
    if DEFINED in meta:
        defined = msgspec.json.decode(meta[DEFINED], type=dict[str, list[str]])
    if FILES in meta:
        found = msgspec.json.decode(meta[FILES], type=list[str])
    return defined, found


def rules_mark(meta: Mapping[str, str]) -> RulesMark:
    """Return whether the home has had access rules, as the store says it."""
    match meta.get(RULES):
        case "never":
            return "never"
        case "since":
            return "since"
        case _:
            return "unknown"


def opened_entry(record: Record | None, stored: Overlay, keyring: Keyring) -> Entry:
    """Return an entry with its overlay's secrets in plain text; a value that does not open stays sealed."""
    if stored.patch is None:
        return Entry(record, origins=stored.origins)
    if not stored.confirmed:
        return Entry(record, dict(_TAMPERED), origins=stored.origins)
    overlay: JsonObject = msgspec.json.decode(stored.patch)
    opened = open_document(overlay, keyring, service=stored.service, environment=stored.environment)
    return Entry(record, opened.document, origins=stored.origins, sealed=opened.secrets)
