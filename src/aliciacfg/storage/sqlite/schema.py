"""The tables of the database, and how the database of an older version is upgraded."""

import contextlib
import functools
import sqlite3

import structlog

from aliciacfg.storage.hash_chain import START, Chain
from aliciacfg.storage.sqlite.adoption import add_codes, adopt, lacks_codes
from aliciacfg.storage.sqlite.chain_tail import REPLACE_CHAIN_END
from aliciacfg.storage.sqlite.damage import may_pass
from aliciacfg.storage.store import Adoption, StoreError

_log = structlog.get_logger(__name__)

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
    """
    ALTER TABLE meta ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE schemas ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE tokens ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE recipients ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE chain RENAME COLUMN overlays TO standing;
    """,
    """
    ALTER TABLE revisions ADD COLUMN code BLOB NOT NULL DEFAULT x'';
    ALTER TABLE audit ADD COLUMN code BLOB NOT NULL DEFAULT x'';
    ALTER TABLE outbox ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    ALTER TABLE applied ADD COLUMN mac BLOB NOT NULL DEFAULT x'';
    """,
    """
    ALTER TABLE revisions ADD COLUMN home_sequence INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE told (
        configuration TEXT PRIMARY KEY,
        home_sequence INTEGER NOT NULL,
        mac BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    # With rows that have numbers: they hold up to 4 kB on one page, those without 1 kB, and a message has more.
    """
    DROP TABLE IF EXISTS outbox_before;
    ALTER TABLE outbox RENAME TO outbox_before;
    CREATE TABLE outbox (
        subject TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        payload BLOB NOT NULL,
        pending INTEGER NOT NULL,
        mac BLOB NOT NULL
    );
    INSERT OR IGNORE INTO outbox SELECT subject, sequence, payload, pending, mac FROM outbox_before;
    DROP TABLE outbox_before;
    """,
    # Nothing differs but what may be missing: versions before would take rows that retention removed for stolen ones.
    "",
)

SELECT_PROGRAMS = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')"

# What PRAGMA auto_vacuum says of a file that does not shrink.
_NO_VACUUM = 0
# 256 MB, a second or two.
_MAX_REWRITTEN_PAGES = 65536
# The numbers of the migrations after which all standing rows have codes, and after which all rows have.
_ROW_MACS_ADDED = 4
_CODES_ADDED = 5
# The first one after which the tables have all columns that are read.
_READ_ADDED = 6


@functools.cache
def create_tables() -> str:
    """Return the statements that make in an empty database what all migrations make of it, with its version.

    One after the other they take five times as long: each change of a table has SQLite read all of them again.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join(MIGRATIONS))
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    return "".join(f"{statement};" for (statement,) in found) + f"PRAGMA user_version = {len(MIGRATIONS)};"


def version(connection: sqlite3.Connection) -> int:
    """Return the number of migrations that were applied to the database; 0 if it is empty."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return found


def is_readable(connection: sqlite3.Connection) -> bool:
    """Return whether the database can be read as it is; if not, it has to be created or upgraded before.

    That of the version before can, if its columns are the same and an upgrade would give no row a code.

    Raises:
        sqlite3.Error: The database is damaged, or was written by a newer version.
    """
    found = _known_version(connection)
    return found == len(MIGRATIONS) or (found >= _READ_ADDED and not lacks_codes(connection))


def check_readable(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError unless ``is_readable``."""
    if not is_readable(connection):
        found = version(connection)
        raise sqlite3.DatabaseError(
            f"its schema has version {found}, this aliciacfg needs {len(MIGRATIONS)}: start it once where it can write"
        )


def migrate(connection: sqlite3.Connection, chain: Chain) -> None:
    """Create the tables in an empty database, or upgrade those of an older version.

    Raises:
        StoreError: The rows of an older version have no codes, so they are not trusted.
        sqlite3.Error: The database is damaged, or was written by a newer version.
    """
    found = _known_version(connection)
    _drop_programs(connection)
    if 0 < found < _ROW_MACS_ADDED:
        raise StoreError(
            "the database has the format of an older aliciacfg, but a newer one has used keys.json: if a backup was "
            "restored, restore its keys.json too; otherwise the database was replaced"
        )
    _upgrade_tables(connection, chain, found)
    _let_shrink(connection)


def adopt_database(connection: sqlite3.Connection, chain: Chain) -> Adoption | None:
    """Upgrade the tables of any version, and give every row a code of this key; see ``Database.adopt``.

    Raises:
        sqlite3.Error: The database is damaged, or was written by a newer version.
    """
    found = _known_version(connection)
    _drop_programs(connection)
    _upgrade_tables(connection, chain, found)
    return adopt(connection, chain)


def _let_shrink(connection: sqlite3.Connection) -> None:
    """Write a database of an older version anew, once, so that its file can shrink later; a large one stays as it is.

    Without that, free pages are used again, but not given back.
    """
    ((mode,),) = connection.execute("PRAGMA auto_vacuum").fetchall()
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    if mode != _NO_VACUUM or pages > _MAX_REWRITTEN_PAGES:
        return
    try:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("VACUUM")
    except sqlite3.Error as error:
        # No room for a copy for example, or another program reads it. The next start tries again.
        if not may_pass(error):
            raise
        _log.info("database_not_rewritten", reason=str(error))


def _drop_programs(connection: sqlite3.Connection) -> None:
    """Remove triggers and views: they could undo what is written later."""
    for kind, name in connection.execute(SELECT_PROGRAMS).fetchall():
        connection.execute(f"DROP {kind} IF EXISTS {quoted(name)}")
        _log.warning("program_dropped", kind=kind, name=name, remedy="find out what wrote to the database")


def quoted(name: object) -> str:
    """Return a name as an identifier in SQL."""
    return '"' + str(name).replace('"', '""') + '"'


def _known_version(connection: sqlite3.Connection) -> int:
    found = version(connection)
    if found > len(MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"its schema has version {found}, this aliciacfg knows {len(MIGRATIONS)}: run the newer aliciacfg, or "
            "restore a backup from before it was used"
        )
    return found


def _upgrade_tables(connection: sqlite3.Connection, chain: Chain, found: int) -> None:
    """Apply the migrations that are missing, in one transaction: a process that is killed leaves nothing half done."""
    missing = MIGRATIONS[found:]
    if not missing:
        return
    upgrade = f"{''.join(missing)} PRAGMA user_version = {len(MIGRATIONS)};" if found else create_tables()
    connection.executescript(f"BEGIN IMMEDIATE; {upgrade}")
    if found == 0:
        connection.execute(REPLACE_CHAIN_END, chain.end(0, START, START))
    elif found < _CODES_ADDED or lacks_codes(connection):
        # Versions that upgraded in several transactions may have been killed before they added the codes.
        add_codes(connection, chain)
    connection.execute("COMMIT")
