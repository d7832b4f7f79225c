"""The tables of the database, and how older databases are upgraded."""

import sqlite3

import msgspec

from aliciacfg.errors import OperationError
from aliciacfg.storage.hash_chain import START, Chain, total
from aliciacfg.storage.sqlite.rows import (
    SELECT_CHAIN,
    SELECT_OVERLAYS,
    STANDING_COLUMNS,
    coded_rows,
    overlay_row,
    parse_overlay,
    parse_record,
)
from aliciacfg.storage.sqlite.transaction import UPSERT_CHAIN_END, UPSERT_OVERLAY, Tail
from aliciacfg.storage.store import StoreError

# Applied in order; PRAGMA user_version counts how many a database has.
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
    # What is there already is taken into the chain by ``adopt_rows``.
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
    # What is there already is taken in by ``_adopt_standing``.
    """
    ALTER TABLE meta ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE schemas ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE recipients ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE chain RENAME COLUMN overlays TO standing;
    """,
)
# The one that makes the chain, and the one that gives other rows than overlays codes of their own.
_CHAINED = 2
_STANDING = 4


def migrate(connection: sqlite3.Connection, chain: Chain, *, adopt: bool) -> None:
    """Bring the tables of a database up to date."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"its schema has version {done}, this aliciacfg knows {len(MIGRATIONS)}: run the newer aliciacfg"
        )
    if 0 < done < _STANDING and not adopt:
        raise StoreError(
            "the database has the form of an older aliciacfg, but keys.json has written a newer one: if a backup was "
            "restored, restore its keys.json too; otherwise somebody replaced the database"
        )
    for number, script in enumerate(MIGRATIONS[done:], start=done + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number};")
        if number == _CHAINED:
            adopt_rows(connection, chain)
        elif number == _STANDING:
            _adopt_standing(connection, chain)
        connection.execute("COMMIT")


def adopt_rows(connection: sqlite3.Connection, chain: Chain) -> None:
    """Take the rows of a database from before there was a chain into it.

    Once, while the chain is made: done whenever there is no end of a chain, it would make good what somebody changed.
    """
    mac = START
    sequence = 0
    update = "UPDATE revisions SET sequence = ?, digest = ?, mac = ? WHERE sequence = ?"
    rows = connection.execute(f"{SELECT_CHAIN} ORDER BY sequence").fetchall()
    for place, _, *row in rows:
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
        made = overlay_row(parse_overlay(row), chain)
        overlays = total(overlays, chain.seal_overlay(parse_overlay(row)))
        connection.execute(UPSERT_OVERLAY, made)
    connection.execute(UPSERT_CHAIN_END, chain.seal_end(sequence, mac, overlays))


def _adopt_standing(connection: sqlite3.Connection, chain: Chain) -> None:
    """Give the rows of a database from before they had codes theirs; once, as ``adopt_rows``."""
    tail = Tail(connection, chain)
    for table in STANDING_COLUMNS:
        for row, _ in list(coded_rows(connection, table)):
            tail.put(table, row)
    tail.write()
