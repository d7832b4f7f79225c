"""Finds old revisions and audit entries, and removes a few of them, so that the chain still shows what others remove.

A chain cannot lose links in its middle, so it gets a later start first: see ``hash_chain.ChainStart``. The start moves
over rows in their order, each of which has to be there: what was missing before stays missing.
"""

from contextlib import aclosing

from aliciacfg.model.records import Write
from aliciacfg.storage.hash_chain import Chain, ChainStart, sum_macs
from aliciacfg.storage.postgres.driver import Link, Values
from aliciacfg.storage.postgres.queries import chain_start
from aliciacfg.storage.postgres.statements import SCHEMA, SELECT_AUDIT, SELECT_NEWEST_FIRST, SELECT_RECORDS
from aliciacfg.storage.rows import CHAIN_START, confirmed_audit_entry, confirmed_record, encode_chain_start
from aliciacfg.storage.store import Kept, Outdated

# A transaction with this many takes a few milliseconds, which is how long a commit may wait for it.
_REMOVED_AT_ONCE = 25
_PASSED_AT_ONCE = 1000

# From the oldest on, so that what is kept has no gap; never the newest one.
_SELECT_OLD = f"""
    WITH r AS (
        SELECT environment, service, revision, timestamp,
            row_number() OVER (PARTITION BY environment, service ORDER BY revision DESC) AS place
        FROM {SCHEMA}.revisions WHERE revision > 0
    ), f AS (
        SELECT environment, service, min(revision) FILTER (WHERE timestamp >= $2) AS kept FROM r GROUP BY 1, 2
    )
    SELECT environment, service, max(revision) FROM r JOIN f USING (environment, service)
    WHERE place > 1 AND (place > $1::bigint OR ($2::double precision IS NOT NULL AND (kept IS NULL OR revision < kept)))
    GROUP BY 1, 2
"""
_SELECT_OLD_AUDIT = f"""
    WITH r AS (SELECT sequence, timestamp, row_number() OVER (ORDER BY sequence DESC) AS place FROM {SCHEMA}.audit),
        f AS (SELECT min(sequence) FILTER (WHERE timestamp >= $2) AS kept FROM r)
    SELECT max(sequence) FROM r, f
    WHERE place > 1 AND (place > $1::bigint OR ($2::double precision IS NOT NULL AND (kept IS NULL OR sequence < kept)))
"""
_OLD_RECORDS = (
    f"{SELECT_RECORDS} WHERE environment = $1 AND service = $2 AND revision > 0 AND revision <= $3 ORDER BY revision"
)
_OLD_AUDIT = f"{SELECT_AUDIT} WHERE sequence <= $1 ORDER BY sequence"
_SELECT_PLACES = f"""
    SELECT sequence, mac FROM (
        SELECT sequence, mac FROM {SCHEMA}.revisions WHERE sequence > $1 AND sequence <= $2
        UNION ALL SELECT sequence, mac FROM {SCHEMA}.audit WHERE sequence > $1 AND sequence <= $2
    ) AS r ORDER BY sequence LIMIT $3
"""


async def find_outdated(link: Link, kept: Kept) -> list[Outdated]:
    """Return what may be removed: for each configuration its oldest revisions, and the oldest audit entries.

    Raises:
        ServerError: The database cannot be read.
    """
    found = [
        Outdated("revisions", upto, environment, service)
        for environment, service, upto in await link.rows(_SELECT_OLD, kept.revisions, kept.revisions_since)
    ]
    ((upto,),) = await link.rows(_SELECT_OLD_AUDIT, kept.audit, kept.audit_since)
    return found if upto is None else [*found, Outdated("audit", upto)]


async def remove_some(link: Link, chain: Chain, outdated: Outdated) -> tuple[list[Write], int, bool] | None:
    """Remove a few outdated rows under the lock; return what is to be written of it in the same commit.

    Rows that are not what was written stay as evidence, and so do those behind a place where a row is missing.

    Returns:
        The writes, how many rows were removed, and whether to call this again; None if there is nothing to remove.

    Raises:
        ServerError: Nothing is removed once the transaction is rolled back.
    """
    candidates = await _candidates(link, chain, outdated)
    if not candidates:
        return None
    before = await chain_start(link, chain)
    start = await _moved(link, chain, before, max(candidates))
    removed = [sequence for sequence in candidates if sequence <= start.sequence]
    await link.rows(f"DELETE FROM {SCHEMA}.{outdated.table} WHERE sequence = ANY($1::bigint[])", removed)
    kept = sum_macs(start.kept, *map(chain.presence, removed))
    value = encode_chain_start(ChainStart(start.sequence, start.mac, kept))
    more = start.sequence > before.sequence or len(removed) == _REMOVED_AT_ONCE
    return [Write(meta=((CHAIN_START, value),))], len(removed), more


async def _candidates(link: Link, chain: Chain, outdated: Outdated) -> list[int]:
    """Return the places in the chain of the rows to remove next: outdated, what was written, and not in force."""
    found: list[int] = []
    if outdated.table == "audit":
        rows = link.each(_OLD_AUDIT, outdated.upto)
    else:
        of_one = outdated.environment, outdated.service
        in_force = await _in_force(link, chain, of_one)
        rows = link.each(_OLD_RECORDS, *of_one, min(outdated.upto, in_force - 1))
    async with aclosing(rows):
        async for row in rows:
            if _is_confirmed(outdated.table, row, chain):
                found.append(row[-2])
            if len(found) == _REMOVED_AT_ONCE:
                break
    return found


def _is_confirmed(table: str, row: Values, chain: Chain) -> bool:
    found = confirmed_audit_entry(row, chain) if table == "audit" else confirmed_record(row, chain)
    return found is not None


async def _in_force(link: Link, chain: Chain, of_one: tuple[str, str]) -> int:
    """Return the number of the revision that a start would load: the newest one that is what was written."""
    async with aclosing(link.each(SELECT_NEWEST_FIRST, *of_one)) as rows:
        async for row in rows:
            record = confirmed_record(row, chain)
            if record is not None:
                return record.revision
    return 0


async def _moved(link: Link, chain: Chain, start: ChainStart, upto: int) -> ChainStart:
    """Return the start of the chain moved up to a place, over a limited number of rows and never over a gap."""
    last, kept, link_mac = start.sequence, start.kept, start.mac
    for sequence, mac in await link.rows(_SELECT_PLACES, start.sequence, upto, _PASSED_AT_ONCE):
        if sequence != last + 1:
            break
        last, link_mac = sequence, mac
        kept = sum_macs(kept, chain.presence(sequence))
    return start if last == start.sequence else ChainStart(last, link_mac, kept)
