"""Creates the tables, checks those that are there, and removes programs that somebody put into the schema."""

import structlog

from aliciacfg.storage.hash_chain import START, Chain
from aliciacfg.storage.postgres.driver import Link, Values
from aliciacfg.storage.postgres.statements import (
    BEGIN_WRITING,
    COLUMNS,
    CREATE,
    CREATE_KEYS,
    FORMAT,
    INSERT_HOME,
    SCHEMA,
)
from aliciacfg.storage.store import StoreError

_log = structlog.get_logger(__name__)

_MIN_SERVER = 140000
# Of this program; any other number would do.
_LOCK = 0x616C6963
_SELECT_SERVER = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
_SELECT_UNSAFE = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"
_SELECT_SCHEMA = f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"
# Whoever fills the database reads another one meanwhile, which takes as long as it takes.
_PATIENT = "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0"
_SELECT_EXISTS = f"SELECT to_regclass('{SCHEMA}.home') IS NOT NULL"
_SELECT_KEYS_EXIST = f"SELECT to_regclass('{SCHEMA}.keys') IS NOT NULL"
_CREATE_SCHEMA = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
_SELECT_TABLES = f"SELECT relname::text FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r'"
_SELECT_FORMAT = f"SELECT format FROM {SCHEMA}.home"
_LAST_COMMIT = ", ".join(f"coalesce((SELECT max(commit) FROM {SCHEMA}.{table}), 0)" for table in COLUMNS)
_REPLACE_HOME = f"""
    INSERT INTO {SCHEMA}.home SELECT true, greatest({_LAST_COMMIT}), 0, '', '', '', {FORMAT}, 0
    ON CONFLICT DO NOTHING RETURNING one
"""
_SELECT_PROGRAMS = f"""
    SELECT 'trigger', tgname::text, c.relname::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND NOT t.tgisinternal
    UNION ALL SELECT 'rule', rulename::text, c.relname::text FROM pg_rewrite AS r
        JOIN pg_class AS c ON c.oid = r.ev_class WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND c.relkind <> 'v'
    UNION ALL SELECT 'view', relname::text, '' FROM pg_class
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'v'
"""


async def exists(link: Link) -> bool:
    """Return whether the tables are there.

    Raises:
        ServerError: That cannot be read.
    """
    ((found,),) = await link.rows(_SELECT_EXISTS)
    return bool(found)


async def check_server(link: Link) -> None:
    """Check that the server can hold a database of aliciacfg.

    Raises:
        ServerError: That cannot be read.
        StoreError: The server is too old, or stores texts in another encoding.
    """
    ((version, encoding),) = await link.rows(_SELECT_SERVER)
    if version < _MIN_SERVER:
        raise StoreError(f"the server is PostgreSQL {version // 10000}; aliciacfg needs 14 or later")
    if encoding != "UTF8":
        raise StoreError(f"the database has the encoding {encoding}; create one with `createdb --encoding=UTF8`")


async def warn_of_loss(link: Link) -> None:
    """Log what of the server's settings lets it lose commits that it has answered.

    Raises:
        ServerError: They cannot be read.
    """
    for (name,) in await link.rows(_SELECT_UNSAFE):
        _log.warning("database_not_durable", setting=name, remedy=f"set {name} = on in the server's postgresql.conf")


async def has_keys(link: Link) -> bool:
    """Return whether there is a table for the keys.

    Raises:
        ServerError: That cannot be read.
    """
    ((found,),) = await link.rows(_SELECT_KEYS_EXIST)
    return bool(found)


async def prepare_keys(link: Link) -> None:
    """Create the table for the keys if there is none, in a transaction; only one daemon at a time does so.

    Raises:
        ServerError: Nothing was changed once the transaction is rolled back.
    """
    await link.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
    if not await has_keys(link):
        # Asks for rights even where there is one.
        if not await exists(link):
            await link.run(_CREATE_SCHEMA)
        await link.run(CREATE_KEYS)


async def check(link: Link) -> bool:
    """Return whether the tables are there, and can be used as they are.

    Raises:
        ServerError: That cannot be read.
        StoreError: The server is too old, stores texts in another encoding, or the tables are those of a newer version.
    """
    await check_server(link)
    if not await exists(link):
        return False
    missing = COLUMNS.keys() - {name for (name,) in await link.rows(_SELECT_TABLES)}
    if missing:
        raise StoreError(f"the table {SCHEMA}.{min(missing)} is missing: restore the database from a backup")
    for (found,) in await link.rows(_SELECT_FORMAT):
        if found > FORMAT:
            raise StoreError(
                f"its tables have format {found}, this aliciacfg knows up to {FORMAT}: run the newer aliciacfg, or "
                "restore a backup from before it was used"
            )
    return True


async def prepare(link: Link, chain: Chain) -> None:
    """Create the tables in an empty database, and remove programs; only one daemon at a time does so.

    Raises:
        ServerError: Nothing was changed.
        StoreError: As ``check``.
    """
    await link.run(f"{BEGIN_WRITING}; SELECT pg_advisory_xact_lock({_LOCK})")
    if not await check(link):
        await link.run(CREATE)
        await link.rows(INSERT_HOME, *chain.end(0, START, START))
    if not await has_keys(link):
        await link.run(CREATE_KEYS)
    await replace_home(link)
    for kind, name, table in await programs(link):
        place = f" ON {SCHEMA}.{_quoted(table)}" if table else ""
        await link.run(f"DROP {kind} {f'{SCHEMA}.' if kind == 'view' else ''}{_quoted(name)}{place}")
        _log.warning("program_dropped", kind=kind, name=name, remedy="find out what wrote to the database")
    await link.run("COMMIT")
    await warn_of_loss(link)


async def prepare_filling(link: Link, *, kept_as: str) -> None:
    """Begin a transaction in which the tables are there, and empty; no daemon may create them meanwhile.

    Args:
        link: Begins it.
        kept_as: The name of the schema that the tables of a home get that is there; empty to refuse one.

    Raises:
        ServerError: Nothing was changed.
        StoreError: As ``check``; or a home is there.
    """
    await link.run(f"{BEGIN_WRITING}; {_PATIENT}; SELECT pg_advisory_xact_lock({_LOCK})")
    await check_server(link)
    if kept_as:
        ((there,),) = await link.rows(_SELECT_SCHEMA)
        if there:
            await link.run(f"ALTER SCHEMA {SCHEMA} RENAME TO {_quoted(kept_as)}")
    if not kept_as and await check(link):
        # Two states of one home must not be mixed; a daemon that waits for the lock finds the new one.
        if await link.rows(f"SELECT FROM {SCHEMA}.home WHERE commit > 0 FOR UPDATE"):
            raise StoreError("it holds a home already")
        await replace_home(link)
    else:
        await link.run(CREATE)
        await link.rows(INSERT_HOME, 0, START, START, b"")
    if not await has_keys(link):
        await link.run(CREATE_KEYS)


async def replace_home(link: Link) -> None:
    """Make another row of the home if somebody removed it; no end of the chain is in it, which verifications tell.

    Raises:
        ServerError: It cannot be made.
    """
    if await link.rows(_REPLACE_HOME):
        _log.error("home_row_missing", remedy="compare the database with a backup; find out what wrote to it")


async def programs(link: Link) -> list[Values]:
    """Return kind, name and table of triggers, rules and views: with them, somebody could undo what is written.

    Raises:
        ServerError: They cannot be read.
    """
    return await link.rows(_SELECT_PROGRAMS)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
