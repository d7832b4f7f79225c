"""The reads of ``Store``, each on a connection: what the methods of the same name return.

All raise ServerError. A row that is not what was written is left out wherever another one can take its place.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from aliciacfg.errors import Damaged, Unavailable
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
from aliciacfg.storage.hash_chain import BEGINNING, Chain, ChainStart
from aliciacfg.storage.loading import (
    add_meta,
    add_newest,
    head_of,
    not_as_written,
    read_confirmed,
    read_overlays,
    read_tokens,
)
from aliciacfg.storage.postgres import formats
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import HOME_IS_GONE
from aliciacfg.storage.postgres.pace import unhurried
from aliciacfg.storage.postgres.statements import (
    SCHEMA,
    SELECT_AUDIT,
    SELECT_CHANGED,
    SELECT_HOME,
    SELECT_NEWEST,
    SELECT_NEWEST_FIRST,
    SELECT_OVERLAYS,
    SELECT_RECORDS,
    select_coded,
)
from aliciacfg.storage.rows import (
    CHAIN_START,
    Row,
    confirmed_audit_entry,
    ordered_record,
    parse_announcement,
    parse_applied,
    parse_chain_start,
    parse_meta,
    parse_overlay,
    parse_recipient,
    parse_renewal,
    parse_schema,
)

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1
# How many revisions are read at a time where few of them are returned: one may have a megabyte.
_PAGE = 64
_AUDIT_PAGE = 1000
_SELECT_ONE = f"{SELECT_RECORDS} WHERE environment = $1 AND service = $2 AND revision = $3"
_SELECT_SOME = (
    f"{SELECT_RECORDS} WHERE (environment, service, revision)"
    " IN (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]))"
)
_SELECT_HISTORY = (
    f"{SELECT_RECORDS} WHERE environment = $1 AND service = $2 AND revision < $3 ORDER BY revision DESC LIMIT $4"
)
_SELECT_AUDIT_PAGE = (
    f"{SELECT_AUDIT} WHERE sequence < $1 AND ($2::text IS NULL OR service = $2) ORDER BY sequence DESC LIMIT $3"
)
_SELECT_FIRST = f"SELECT min(revision) FROM {SCHEMA}.revisions WHERE environment = $1 AND service = $2 AND revision > 0"
_SELECT_PLACES = f"SELECT environment, revision FROM {SCHEMA}.revisions WHERE service = $1 ORDER BY sequence"
_SELECT_START = f"SELECT value, mac FROM {SCHEMA}.meta WHERE name = '{CHAIN_START}'"


@dataclass(slots=True)
class Change:
    """What commits after one changed.

    Attributes:
        state: The rows.
        created: The environments in which they created a configuration.
        end: The end of the chain after them, as it is stored.
        is_lost: Whether the database lacks what was there before.
        format: The format of the home after them.
    """

    state: StoredState
    created: set[str]
    end: Values
    is_lost: bool
    format: int


async def load(link: Link, chain: Chain) -> tuple[StoredState, Values, int]:
    """Return what a start needs, the end of the chain, and the format; in a transaction: all of it is of one moment.

    Raises:
        OtherFormat: The home has a format that this program does not work with.
    """
    state = StoredState()
    ((commit, *end, number, needs),) = await link.rows(SELECT_HOME)
    formats.check(number, needs)
    doubtful = [row[:2] async for row in link.each(SELECT_NEWEST) if not _add_newest(row, chain, state)]
    for configuration in doubtful:
        add_newest(await link.rows(SELECT_NEWEST_FIRST, *configuration), chain, state)
    state.overlays.extend(read_overlays(await link.rows(SELECT_OVERLAYS), chain, state.dropped))
    state.announcements.extend(await _confirmed(link, chain, "outbox", parse_announcement, state.dropped))
    state.schemas.extend(await _confirmed(link, chain, "schemas", parse_schema, state.dropped))
    state.renewals.extend(await _confirmed(link, chain, "told", parse_renewal, state.dropped))
    meta = dict(await _confirmed(link, chain, "meta", parse_meta, state.dropped))
    return msgspec.structs.replace(add_meta(meta, state), commit=commit), tuple(end), number


def _add_newest(row: Values, chain: Chain, state: StoredState) -> bool:
    """Add the newest revision of a configuration, if it is what was written; return whether it is."""
    found = ordered_record(row, chain)
    if found is None:
        return False
    state.records.append(found)
    return True


async def load_since(
    link: Link, chain: Chain, commit: int, seen: Values | None = None, before: int | None = None
) -> Change:
    """Return what commits after one changed.

    Args:
        link: A connection.
        chain: Confirms the rows.
        commit: The number of the commit.
        seen: The end of the chain after it; None if that is not known.
        before: The format of the home after it; None if that is not known.

    Raises:
        Damaged: There is no row of the home.
        OtherFormat: The home has a format that this program does not work with.
    """
    rows: dict[str, list[Values]] = {}
    sequence, mac = (seen[0], seen[1]) if seen is not None else (0, None)
    async for table, row in unhurried(await link.rows(SELECT_CHANGED, commit, sequence)):
        rows.setdefault(table, []).append(row)
    if "home" not in rows:
        raise Damaged(HOME_IS_GONE)
    ((reached, *end, number, needs),) = rows["home"]
    formats.check(number, needs)
    state = StoredState()
    created: set[str] = set()
    async for *row, is_created in unhurried(rows.get("revisions", ())):
        if is_created:
            created.add(str(row[0]))
        if not _add_newest(tuple(row), chain, state):
            add_newest(await link.rows(SELECT_NEWEST_FIRST, *row[:2]), chain, state)
    dropped = state.dropped
    overlays = rows.get("overlays", [])
    standing = read_overlays((row for row in overlays if not _is_gone(row)), chain, dropped)
    state.overlays.extend([overlay async for overlay in unhurried(standing)])
    state.overlays.extend(parse_overlay(row) for row in overlays if _is_gone(row))

    async def read(table: str, parse: Callable[[Row], T]) -> list[T]:
        return [found async for found in unhurried(read_confirmed(table, _coded(rows, table), chain, parse, dropped))]

    state.announcements.extend(await read("outbox", parse_announcement))
    state.schemas.extend(await read("schemas", parse_schema))
    state.renewals.extend(await read("told", parse_renewal))
    state.recipients.extend(await read("recipients", parse_recipient))
    state.applied.extend(await read("applied", parse_applied))
    state.forgotten.extend((service, instance) for service, instance in rows.get("forgotten", ()))
    state.tokens.extend(read_tokens(_coded(rows, "tokens"), chain))
    meta = dict(read_confirmed("meta", _coded(rows, "meta"), chain, parse_meta, dropped))
    # Retention may have removed the row that was the last one.
    others = [found for (found,) in rows.get("seen", ())]
    is_lost = reached < commit or end[0] < sequence or (bool(others) and mac not in others)
    if is_lost and link.read_only:
        # A standby that is behind: what it lacks, it may still get.
        raise ServerError("the server is a standby that is behind", refused=True)
    state = msgspec.structs.replace(
        add_meta(meta, state),
        commit=reached,
        keys="keys" in rows,
        format=before not in (None, number),
        # Each revision has its entry, too.
        audited=end[0] > sequence,
    )
    return Change(state, created, tuple(end), is_lost, number)


def _is_gone(overlay: Values) -> bool:
    """Return whether a row of ``OVERLAY_COLUMNS`` only says that an overlay was dropped."""
    return overlay[2] is None and overlay[4] is None


def _coded(rows: dict[str, list[Values]], table: str) -> Iterable[tuple[Row, object]]:
    return ((row[:-1], row[-1]) for row in rows.get(table, ()))


async def _confirmed(link: Link, chain: Chain, table: str, parse: Callable[[Row], T], dropped: list[str]) -> list[T]:
    """Return the rows of a table that are what was written; name the others in ``dropped``."""
    return list(read_confirmed(table, await coded_rows(link, table), chain, parse, dropped))


async def coded_rows(link: Link, table: str) -> list[tuple[Row, object]]:
    """Return the rows of a table of ``STANDING_COLUMNS`` or ``RENEWED_COLUMNS``, each with its code."""
    return [(row[:-1], row[-1]) for row in await link.rows(select_coded(table))]


async def chain_start(link: Link, chain: Chain) -> ChainStart:
    """Return where the links of the chain begin."""
    found = await link.rows(_SELECT_START)
    return parse_chain_start(found[0], chain) if found else BEGINNING


async def record(link: Link, chain: Chain, environment: str, service: str, revision: int) -> Record | None:
    """Return one revision, or None.

    Raises:
        Unavailable: The row is not what was written.
    """
    for row in await link.rows(_SELECT_ONE, environment, service, revision):
        found = ordered_record(row, chain)
        if found is None:
            raise Unavailable(not_as_written(environment, service, revision))
        return found
    return None


async def history(
    link: Link, chain: Chain, environment: str, service: str, *, before: int | None, limit: int
) -> list[RecordHead]:
    """Return revisions without their content, newest first."""
    found: list[RecordHead] = []
    upto = MAX_INTEGER if before is None else before
    # A page at a time: the content of every revision does not fit into memory.
    while len(found) < limit:
        rows = await link.rows(_SELECT_HISTORY, environment, service, upto, _PAGE)
        known = (ordered_record(row, chain) for row in rows)
        found += [head_of(one) for one in known if one is not None]
        if len(rows) < _PAGE:
            break
        upto = rows[-1][2]
    return found[:limit]


async def audit(link: Link, chain: Chain, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
    """Return audit entries, newest first."""
    found: list[tuple[int, AuditEntry]] = []
    upto = MAX_INTEGER if before is None else before
    while len(found) < limit:
        rows = await link.rows(_SELECT_AUDIT_PAGE, upto, service, min(limit, _AUDIT_PAGE))
        known = (confirmed_audit_entry(row, chain) for row in rows)
        found += [one for one in known if one is not None]
        if len(rows) < min(limit, _AUDIT_PAGE):
            break
        upto = rows[-1][-2]
    del found[limit:]
    checksums = await _checksums(link, chain, (entry for _, entry in found))
    return [_audited(sequence, entry, checksums) for sequence, entry in found]


_Place = tuple[str | None, str | None, int | None]


async def _checksums(link: Link, chain: Chain, entries: Iterable[AuditEntry]) -> dict[_Place, str]:
    """Return the checksums of the revisions that audit entries name, where these are what was written."""
    places = sorted(
        {
            (entry.environment, entry.service, revision)
            for entry in entries
            for revision in (entry.before, entry.after)
            if entry.environment is not None and entry.service is not None and revision is not None
        }
    )
    found: dict[_Place, str] = {}
    for start in range(0, len(places), _PAGE):
        columns = [list(column) for column in zip(*places[start : start + _PAGE], strict=True)]
        for row in await link.rows(_SELECT_SOME, *columns):
            known = ordered_record(row, chain)
            if known is not None:
                found[known.environment, known.service, known.revision] = known.checksum
    return found


def _audited(sequence: int, entry: AuditEntry, checksums: Mapping[_Place, str]) -> Audited:
    """Return an audit entry as readers get it."""
    return Audited(
        **msgspec.structs.asdict(entry),
        sequence=sequence,
        before_checksum=checksums.get((entry.environment, entry.service, entry.before)),
        after_checksum=checksums.get((entry.environment, entry.service, entry.after)),
    )


async def first_kept(link: Link, chain: Chain, environment: str, service: str) -> int | None:
    """Return the number of the oldest revision; None if nothing was ever removed, or there is none."""
    if not (await chain_start(link, chain)).sequence:
        return None
    ((first,),) = await link.rows(_SELECT_FIRST, environment, service)
    return first


async def places(link: Link, service: str) -> list[tuple[str, int]]:
    """Return environment and number of every revision of a service."""
    return [(environment, revision) for environment, revision in await link.rows(_SELECT_PLACES, service)]


async def revision_at(link: Link, chain: Chain, environment: str, service: str, revision: int) -> Record | None:
    """Return one revision; None if there is none, or it is not what was written."""
    for row in await link.rows(_SELECT_ONE, environment, service, revision):
        return ordered_record(row, chain)
    return None


async def overlays(link: Link, chain: Chain) -> list[Overlay]:
    """Return every overlay that is what was written."""
    return [found for found in read_overlays(await link.rows(SELECT_OVERLAYS), chain, []) if found.confirmed]


async def tokens(link: Link, chain: Chain) -> list[Token]:
    """Return every token that can be parsed."""
    return read_tokens(await coded_rows(link, "tokens"), chain)


async def recipients(link: Link, chain: Chain) -> list[Recipient]:
    """Return the public keys that are what was written."""
    return await _confirmed(link, chain, "recipients", parse_recipient, [])


async def applied(link: Link, chain: Chain) -> list[Applied]:
    """Return the last reports of running copies of services that are what was written."""
    return await _confirmed(link, chain, "applied", parse_applied, [])
