"""Statements that read rows as ``storage.rows`` parses them."""

import sqlite3
from collections.abc import Iterator

from aliciacfg.storage.hash_chain import BEGINNING, Chain, ChainStart
from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    CHAIN_START,
    OVERLAY_COLUMNS,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
    Row,
    parse_chain_start,
)

SELECT_RECORDS = f"SELECT {RECORD_COLUMNS}, sequence, code FROM revisions"
SELECT_RECORD_BY_ROW = f"{SELECT_RECORDS} WHERE rowid = ?"
SELECT_AUDIT = f"SELECT {AUDIT_COLUMNS}, sequence, code FROM audit"
SELECT_OVERLAYS = f"SELECT {OVERLAY_COLUMNS} FROM overlays"


def select_coded(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Row, object]]:
    """Yield the rows of a table of ``STANDING_COLUMNS`` or ``RENEWED_COLUMNS``, each with its code, of any type."""
    columns = ", ".join((STANDING_COLUMNS | RENEWED_COLUMNS)[table])
    for *row, mac in connection.execute(f"SELECT {columns}, mac FROM {table}"):
        yield tuple(row), mac


def chain_start(connection: sqlite3.Connection, chain: Chain, *, adopting: bool = False) -> ChainStart:
    """Return where the links of the chain begin, as ``parse_chain_start``."""
    found = connection.execute("SELECT value, mac FROM meta WHERE name = ?", (CHAIN_START,)).fetchone()
    return BEGINNING if found is None else parse_chain_start(found, chain, adopting=adopting)
