"""The reads of ``Store``, each on a connection: what the methods of the same name return.

All raise sqlite3.Error. A row that is not what was written is left out wherever another one can take its place.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import msgspec

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import (
    Applied,
    Audited,
    AuditEntry,
    Overlay,
    Recipient,
    Record,
    RecordHead,
    StoredState,
    Token,
)
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.loading import (
    add_meta,
    add_newest,
    head_of,
    not_as_written,
    read_confirmed,
    read_overlays,
    read_tokens,
)
from aliciacfg.storage.rows import (
    Row,
    confirmed_audit_entry,
    ordered_record,
    parse_announcement,
    parse_applied,
    parse_meta,
    parse_recipient,
    parse_renewal,
    parse_schema,
)
from aliciacfg.storage.sqlite.damage import is_damage
from aliciacfg.storage.sqlite.rows import (
    SELECT_AUDIT,
    SELECT_OVERLAYS,
    SELECT_RECORD_BY_ROW,
    SELECT_RECORDS,
    chain_start,
    select_coded,
)

T = TypeVar("T")

_MAX_INTEGER = 2**63 - 1
_SELECT_CONFIGURATIONS = "SELECT DISTINCT environment, service FROM revisions"
_SELECT_NEWEST_FIRST = f"{SELECT_RECORDS} WHERE environment = ? AND service = ? ORDER BY revision DESC"
_SELECT_RECORD = f"{SELECT_RECORDS} WHERE environment = ? AND service = ? AND revision = ?"
_SELECT_REVISION_ROWS = "SELECT rowid FROM revisions WHERE service = ?"
_SELECT_FIRST = (
    "SELECT min(revision) FROM revisions WHERE environment = ? AND service = ? AND typeof(revision) = 'integer'"
)
_SELECT_HISTORY = f"{SELECT_RECORDS} WHERE environment = ? AND service = ? AND revision < ? ORDER BY revision DESC"
_SELECT_AUDIT = f"{SELECT_AUDIT} WHERE sequence < ? AND (? IS NULL OR service = ?) ORDER BY sequence DESC"


def load(connection: sqlite3.Connection, chain: Chain) -> StoredState:
    """Return what a start needs; what cannot be read because the database is damaged is named in ``damaged``."""
    state = StoredState()
    for environment, service in _configurations(connection, state):
        with _noting_damage(state, f"the configuration of {service} in {environment}"):
            add_newest(connection.execute(_SELECT_NEWEST_FIRST, (environment, service)), chain, state)
    incomplete = bool(state.damaged)
    with _noting_damage(state, "run-time changes"):
        state.overlays.extend(read_overlays(connection.execute(SELECT_OVERLAYS), chain, state.dropped))
    with _noting_damage(state, "announcements"):
        state.announcements.extend(_confirmed(connection, chain, "outbox", parse_announcement, state.dropped))
    with _noting_damage(state, "schemas"):
        state.schemas.extend(_confirmed(connection, chain, "schemas", parse_schema, state.dropped))
    with _noting_damage(state, "the order of changes"):
        state.renewals.extend(_confirmed(connection, chain, "told", parse_renewal, state.dropped))
    meta: dict[str, str] = {}
    with _noting_damage(state, "names and values"):
        meta.update(_confirmed(connection, chain, "meta", parse_meta, state.dropped))
    return msgspec.structs.replace(add_meta(meta, state), incomplete=incomplete)


def _configurations(connection: sqlite3.Connection, state: StoredState) -> list[tuple[str, str]]:
    """Return environment and service of every configuration: from the index, or from the table if it is damaged."""
    found: dict[tuple[str, str], None] = {}
    for query in (_SELECT_CONFIGURATIONS, f"{_SELECT_CONFIGURATIONS} NOT INDEXED"):
        damage = len(state.damaged)
        with _noting_damage(state, "the list of configurations"):
            found.update(dict.fromkeys(connection.execute(query)))
        if len(state.damaged) == damage:
            break
    return list(found)


@contextlib.contextmanager
def _noting_damage(state: StoredState, what: str) -> Generator[None]:
    """Note in a state that something cannot be read, if the block finds the database damaged."""
    try:
        yield
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        state.damaged.append(f"{what} ({error})")


def record(
    connection: sqlite3.Connection, chain: Chain, environment: str, service: str, revision: int
) -> Record | None:
    """Return one revision, or None.

    Raises:
        Unavailable: The row is not what was written.
    """
    row = connection.execute(_SELECT_RECORD, (environment, service, revision)).fetchone()
    if row is None:
        return None
    found = ordered_record(row, chain)
    if found is None:
        raise Unavailable(not_as_written(environment, service, revision))
    return found


def history(
    connection: sqlite3.Connection, chain: Chain, environment: str, service: str, *, before: int | None, limit: int
) -> list[RecordHead]:
    """Return revisions without their content, newest first."""
    found: list[RecordHead] = []
    parameters = environment, service, _MAX_INTEGER if before is None else before
    # Row by row: a page with the content of every revision does not fit into memory.
    for row in connection.execute(_SELECT_HISTORY, parameters):
        if len(found) == limit:
            break
        known = ordered_record(row, chain)
        if known is not None:
            found.append(head_of(known))
    return found


def audit(
    connection: sqlite3.Connection, chain: Chain, *, before: int | None, limit: int, service: str | None
) -> list[Audited]:
    """Return audit entries, newest first."""
    found: list[Audited] = []
    for row in connection.execute(_SELECT_AUDIT, (_MAX_INTEGER if before is None else before, service, service)):
        if len(found) == limit:
            break
        known = confirmed_audit_entry(row, chain)
        if known is not None:
            found.append(_audited(connection, chain, *known))
    return found


def first_kept(connection: sqlite3.Connection, chain: Chain, environment: str, service: str) -> int | None:
    """Return the number of the oldest revision; None if nothing was ever removed, or there is none."""
    if not chain_start(connection, chain).sequence:
        return None
    return connection.execute(_SELECT_FIRST, (environment, service)).fetchone()[0]


def revision_rows(connection: sqlite3.Connection, service: str) -> list[int]:
    """Return the ids of the rows of every revision of a service."""
    return [row for (row,) in connection.execute(_SELECT_REVISION_ROWS, (service,))]


def revision_in(connection: sqlite3.Connection, *, chain: Chain, row: int) -> Record | None:
    """Return the revision in a row; None if there is none, or it is not what was written."""
    found = connection.execute(SELECT_RECORD_BY_ROW, (row,)).fetchone()
    return None if found is None else ordered_record(found, chain)


def overlays(connection: sqlite3.Connection, chain: Chain) -> list[Overlay]:
    """Return every overlay that is what was written."""
    found = read_overlays(connection.execute(SELECT_OVERLAYS), chain, [])
    return [overlay for overlay in found if overlay.confirmed]


def tokens(connection: sqlite3.Connection, chain: Chain) -> list[Token]:
    """Return every token that can be parsed."""
    return read_tokens(select_coded(connection, "tokens"), chain)


def recipients(connection: sqlite3.Connection, chain: Chain) -> list[Recipient]:
    """Return the public keys that are what was written."""
    return list(_confirmed(connection, chain, "recipients", parse_recipient, []))


def applied(connection: sqlite3.Connection, chain: Chain) -> list[Applied]:
    """Return the last reports of running copies of services that are what was written."""
    return list(_confirmed(connection, chain, "applied", parse_applied, []))


def _confirmed(
    connection: sqlite3.Connection, chain: Chain, table: str, parse: Callable[[Row], T], dropped: list[str]
) -> Iterator[T]:
    """Return the rows of a table that are what was written; name the others in ``dropped``."""
    return read_confirmed(table, select_coded(connection, table), chain, parse, dropped)


def _audited(connection: sqlite3.Connection, chain: Chain, sequence: int, entry: AuditEntry) -> Audited:
    """Return an audit entry as readers get it."""

    def checksum(revision: int | None) -> str | None:
        row = connection.execute(_SELECT_RECORD, (entry.environment, entry.service, revision)).fetchone()
        found = None if row is None else ordered_record(row, chain)
        return None if found is None else found.checksum

    return Audited(
        **msgspec.structs.asdict(entry),
        sequence=sequence,
        before_checksum=checksum(entry.before),
        after_checksum=checksum(entry.after),
    )
