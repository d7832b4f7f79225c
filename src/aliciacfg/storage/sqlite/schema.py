"""The tables of the database, and how the database of an older version is upgraded."""

import sqlite3

import msgspec

from aliciacfg.errors import OperationError
from aliciacfg.storage.hash_chain import START, Chain, sum_macs
from aliciacfg.storage.sqlite.rows import (
    SELECT_CHAIN,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    overlay_row,
    parse_overlay,
    parse_record,
    select_standing,
)
from aliciacfg.storage.sqlite.transaction import REPLACE_CHAIN_END, REPLACE_OVERLAY, ChainTail
from aliciacfg.storage.store import StoreError

# Applied in order; PRAGMA user_version is the number of those that were applied.
MIGRATIONS = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE revisions (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        revision INTEGER NOT NULL,
        version TEXT NOT NULL,
        timestamp REAL NOT NULL,
        author TEXT NOT NULL,
        cause TEXT NOT NULL,
        checksum TEXT NOT NULL,
        config BLOB NOT NULL,
        changed BLOB NOT NULL,
        restart_required BLOB NOT NULL,
        breaking INTEGER NOT NULL,
        comment TEXT,
        deleted INTEGER NOT NULL,
        PRIMARY KEY (environment, service, revision)
    );
    CREATE TABLE overlays (
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        patch BLOB NOT NULL,
        PRIMARY KEY (environment, service)
    ) WITHOUT ROWID;
    CREATE TABLE outbox (
        subject TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        payload BLOB NOT NULL,
        pending INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
    # ``_chain_rows`` computes the MACs of revisions and overlays.
    """
    ALTER TABLE revisions ADD COLUMN sequence INTEGER;
    ALTER TABLE revisions ADD COLUMN digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE revisions ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    UPDATE revisions SET sequence = rowid;
    CREATE UNIQUE INDEX revisions_sequence ON revisions (sequence);
    ALTER TABLE overlays ADD COLUMN origins BLOB NOT NULL DEFAULT '{}';
    ALTER TABLE overlays ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    CREATE TABLE chain (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        sequence INTEGER NOT NULL,
        mac BLOB NOT NULL,
        overlays BLOB NOT NULL,
        sealed BLOB NOT NULL
    );
    CREATE TABLE schemas (
        service TEXT PRIMARY KEY,
        document BLOB
    ) WITHOUT ROWID;
    CREATE TABLE applied (
        service TEXT NOT NULL,
        instance TEXT NOT NULL,
        environment TEXT NOT NULL,
        revision INTEGER NOT NULL,
        checksum TEXT NOT NULL,
        status TEXT NOT NULL,
        error TEXT,
        since REAL NOT NULL,
        last_seen REAL NOT NULL,
        PRIMARY KEY (service, instance)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE audit (
        sequence INTEGER PRIMARY KEY,
        timestamp REAL NOT NULL,
        who TEXT NOT NULL,
        "where" TEXT NOT NULL,
        operation TEXT NOT NULL,
        outcome TEXT NOT NULL,
        environment TEXT,
        service TEXT,
        before INTEGER,
        after INTEGER,
        detail TEXT,
        count INTEGER NOT NULL,
        mac BLOB NOT NULL
    );
    CREATE TABLE tokens (
        token_id TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        revoked REAL
    ) WITHOUT ROWID;
    CREATE TABLE recipients (
        service TEXT PRIMARY KEY,
        public_key TEXT
    ) WITHOUT ROWID;
    """,
    # ``_add_row_macs`` computes the MACs of the rows of these tables.
    """
    ALTER TABLE meta ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE schemas ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE recipients ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE chain RENAME COLUMN overlays TO standing;
    """,
)

# The numbers of the migrations after which rows get MACs: of revisions and overlays, of all other rows.
_CHAIN_ADDED = 2
_ROW_MACS_ADDED = 4


def check_version(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the database does not have the tables of this version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"its schema has version {version}; start this aliciacfg on it once")


def migrate(connection: sqlite3.Connection, chain: Chain, *, trust_old_rows: bool) -> None:
    """Create the tables in an empty database, or upgrade those of an older version.

    Args:
        connection: Not in a transaction.
        chain: Computes the MACs of rows that have none yet.
        trust_old_rows: As for ``Database.open``.

    Raises:
        StoreError: The rows of an older version are not to be trusted.
        sqlite3.Error: The database is damaged, or was written by a newer version.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"its schema has version {version}, this aliciacfg knows {len(MIGRATIONS)}: run the newer aliciacfg"
        )
    if 0 < version < _ROW_MACS_ADDED and not trust_old_rows:
        raise StoreError(
            "the database has the format of an older aliciacfg, but a newer one has used keys.json: if a backup was "
            "restored, restore its keys.json too; otherwise the database was replaced"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number};")
        if number == _CHAIN_ADDED:
            _chain_rows(connection, chain)
        elif number == _ROW_MACS_ADDED:
            _add_row_macs(connection, chain)
        connection.execute("COMMIT")


def _chain_rows(connection: sqlite3.Connection, chain: Chain) -> None:
    """Link the revisions of a database from before there was a chain, and compute the MACs of its overlays.

    Runs only in the migration that creates the chain. If it ran whenever the end of the chain is missing, it would
    confirm rows that were edited.

    Raises:
        sqlite3.DatabaseError: A revision is damaged.
    """
    mac = START
    sequence = 0
    update = "UPDATE revisions SET sequence = ?, digest = ?, mac = ? WHERE sequence = ?"
    for place, _, *row in connection.execute(f"{SELECT_CHAIN} ORDER BY sequence").fetchall():
        sequence += 1
        try:
            record = parse_record(tuple(row))
            content = chain.recompute(record)
        except (msgspec.MsgspecError, OperationError) as error:
            raise sqlite3.DatabaseError(f"revision {row[2]} of {row[1]} in {row[0]} is damaged: {error}") from error
        record = msgspec.structs.replace(record, digest="" if content is None else content[0])
        mac = chain.link(mac, record)
        connection.execute(update, (sequence, record.digest, mac, place))
    overlays = START
    for row in connection.execute(SELECT_OVERLAYS).fetchall():
        overlay = parse_overlay(row)
        overlays = sum_macs(overlays, chain.overlay_mac(overlay))
        connection.execute(REPLACE_OVERLAY, overlay_row(overlay, chain))
    connection.execute(REPLACE_CHAIN_END, chain.end(sequence, mac, overlays))


def _add_row_macs(connection: sqlite3.Connection, chain: Chain) -> None:
    """Compute the MACs of tokens, recipients, schemas and ``meta`` of a database in which they have none."""
    tail = ChainTail(connection, chain)
    for table in STANDING_COLUMNS:
        for row, _ in list(select_standing(connection, table)):
            tail.replace_row(table, row)
    tail.write_end()
