"""Work on the whole database: reseal, rewrite, find key ids."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import structlog

from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import Overlay, Write
from aliciacfg.sealing.boxes import key_ids
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.postgres.driver import Link, ServerError, Values
from aliciacfg.storage.postgres.failures import LOCK_TIMEOUT
from aliciacfg.storage.postgres.formats import check_home
from aliciacfg.storage.postgres.statements import (
    COLUMNS,
    NOTE_RESIDUE,
    SCHEMA,
    SELECT_COMMIT,
    SELECT_OVERLAYS,
    SELECT_RECORDS,
)
from aliciacfg.storage.rows import (
    confirmed_record,
    parse_record,
    parse_stored_overlay,
)
from aliciacfg.storage.store import Reseal

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_ROWS_RESEALED = 200
_SEALED = "position('sealed:v1:'::bytea IN config) > 0"
_UPDATE_CONFIG = f"""
    UPDATE {SCHEMA}.revisions SET config = $1, code = $2, commit = (SELECT commit + 1 FROM {SCHEMA}.home)
    WHERE sequence = $3
"""
_SELECT_RESIDUE = f"SELECT residue FROM {SCHEMA}.home"
_END_RESIDUE = f"UPDATE {SCHEMA}.home SET residue = 0 WHERE residue = $1"
_REWRITTEN = ("revisions", "overlays", "outbox")
_REWRITE_LOCK_SECONDS = 2
# A transaction that reads an older state keeps the rows of that state in the tables.
_SELECT_READERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
"""


async def reseal_rows(link: Link, chain: Chain, reseal: Reseal) -> list[Write]:
    """Reseal every stored configuration under the lock; return what is to be written of overlays in the same commit.

    Args:
        link: Has the lock.
        chain: Computes the codes.
        reseal: Seals a document anew; called in another thread.

    Raises:
        ServerError: Nothing is changed once the transaction is rolled back.
    """
    sequences = [row[0] for row in await link.rows(f"SELECT sequence FROM {SCHEMA}.revisions WHERE {_SEALED}")]
    for start in range(0, len(sequences), _ROWS_RESEALED):
        some = sequences[start : start + _ROWS_RESEALED]
        rows = await link.rows(f"{SELECT_RECORDS} WHERE sequence = ANY($1::bigint[])", some)
        await link.repeat(_UPDATE_CONFIG, await asyncio.to_thread(_resealed, rows, chain, reseal))
    overlays = await link.rows(SELECT_OVERLAYS)
    changed = await asyncio.to_thread(_resealed_overlays, overlays, chain, reseal)
    ((commit,),) = await link.rows(SELECT_COMMIT)
    await link.rows(NOTE_RESIDUE, commit + 1)
    return [Write(overlays=tuple(changed))]


def _resealed(rows: Sequence[Values], chain: Chain, reseal: Reseal) -> list[Values]:
    """Return config, code and sequence of revisions that are sealed anew.

    What was not confirmed before is not confirmed afterwards, and what is no JSON stays as it is.
    """
    found: list[Values] = []
    for row in rows:
        *values, sequence, code = row
        with contextlib.suppress(InvalidRequest, msgspec.MsgspecError):
            record = parse_record(tuple(values))
            config = reseal(record.config, record.environment, record.service)
            if confirmed_record(row, chain) is not None:
                code = chain.record_code(msgspec.structs.replace(record, config=config), sequence)
            found.append((config, code, sequence))
    return found


def _resealed_overlays(rows: Sequence[Values], chain: Chain, reseal: Reseal) -> list[Overlay]:
    found: list[Overlay] = []
    for row in rows:
        overlay = parse_stored_overlay(row, chain)
        # A fresh MAC would hide that the overlay was edited.
        if overlay.confirmed:
            patch = reseal(overlay.patch or b"{}", overlay.environment, overlay.service)
            found.append(msgspec.structs.replace(overlay, patch=patch))
    return found


async def rewrite_tables(link: Link) -> bool:
    """Write the tables anew in which rows from before a resealing are left; return False while they are being read.

    Through a pooler that is not possible.

    The files before are removed. What the server's write-ahead log, its archive, its standbys and copies of its
    directory hold is beyond the reach of a client.

    Raises:
        OtherFormat: The home has a format that this program does not work with.
        ServerError: They cannot be written.
    """
    await check_home(link)
    ((residue,),) = await link.rows(_SELECT_RESIDUE)
    if not residue:
        return True
    if link.pooled:
        # It cannot be done in a transaction, and a pooler keeps nothing together that is in none.
        _log.debug("tables_not_rewritten", remedy="name the server itself in ALICIACFG_DATABASE_URL for a start")
        return False
    ((readers,),) = await link.rows(_SELECT_READERS)
    if readers:
        return False
    await link.run(f"SET lock_timeout = '{_REWRITE_LOCK_SECONDS}s'")
    try:
        for table in _REWRITTEN:
            await link.run(f"VACUUM (FULL) {SCHEMA}.{table}")
    except ServerError as error:
        if error.sqlstate == LOCK_TIMEOUT:
            return False
        raise
    finally:
        if not link.closed:
            await link.run("RESET lock_timeout")
    await link.rows(_END_RESIDUE, residue)
    return True


async def key_ids_of(link: Link) -> set[str]:
    """Return the ids of the keys that any value is sealed with; in a transaction.

    Raises:
        ServerError: The database cannot be read.
    """
    found: set[str] = set()
    for table, columns in COLUMNS.items():
        async for row in link.each(f"SELECT {', '.join(columns)} FROM {SCHEMA}.{table}"):
            for value in row:
                if isinstance(value, bytes | str):
                    found |= set(key_ids(value if isinstance(value, bytes) else value.encode()))
    return found
