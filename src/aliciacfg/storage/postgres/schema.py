"""Creates the tables, checks those that are there, and removes foreign triggers, rules and views."""

import structlog

from aliciacfg.storage.hash_chain import START, Chain
from aliciacfg.storage.postgres import formats
from aliciacfg.storage.postgres.driver import Link, Values
from aliciacfg.storage.postgres.statements import (
    BEGIN_WRITING,
    COLUMNS,
    CREATE,
    CREATE_KEYS,
    INSERT_HOME,
    SCHEMA,
    SELECT_FORMAT,
)
from aliciacfg.storage.postgres.table_options import apply_options
from aliciacfg.storage.store import StoreError

_log = structlog.get_logger(__name__)

_MIN_SERVER = 140000
# Of this program; any other number would do.
_LOCK = 0x616C6963
_SELECT_SERVER = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
_SELECT_UNSAFE = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"
_SELECT_SCHEMA = f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"
PATIENT = "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0"
"""Lets a transaction take its time: one that fills the database, for example, reads another one meanwhile."""
_SELECT_EXISTS = f"SELECT to_regclass('{SCHEMA}.home') IS NOT NULL"
_SELECT_KEYS_EXIST = f"SELECT to_regclass('{SCHEMA}.keys') IS NOT NULL"
_CREATE_SCHEMA = f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"
_SELECT_TABLES = f"SELECT relname::text FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r'"
# Every commit waits as long as the tables are waited for; if one is read for longer, it is tried again.
_EXPAND_LOCK_SECONDS = 0.2
_SELECT_EXPANDED = f"SELECT expanded FROM {SCHEMA}.home"
_LOCK_HOME = f"SELECT FROM {SCHEMA}.home FOR UPDATE"
_NOTE_EXPANDED = f"UPDATE {SCHEMA}.home SET expanded = $1"
_LAST_COMMIT = ", ".join(f"coalesce((SELECT max(commit) FROM {SCHEMA}.{table}), 0)" for table in COLUMNS)
_REPLACE_HOME = f"""
    INSERT INTO {SCHEMA}.home (one, commit, sequence, mac, standing, sealed, format, needs, expanded, residue)
    SELECT true, greatest({_LAST_COMMIT}), 0, '', '', '', $1, $2, 0, 0 ON CONFLICT DO NOTHING RETURNING one
"""
_SELECT_PROGRAMS = f"""
    SELECT 'trigger', tgname::text, c.relname::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND NOT t.tgisinternal
    UNION ALL SELECT 'rule', rulename::text, c.relname::text FROM pg_rewrite AS r
        JOIN pg_class AS c ON c.oid = r.ev_class WHERE c.relnamespace = '{SCHEMA}'::regnamespace AND c.relkind <> 'v'
    UNION ALL SELECT 'view', relname::text, '' FROM pg_class
        WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'v'
"""


class UnknownFormat(StoreError):
    """The home has a format that this program does not work with."""


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
        StoreError: The server is too old, stores texts in another encoding, or the home has a format that this
            program does not work with.
    """
    await check_server(link)
    if not await exists(link):
        return False
    missing = COLUMNS.keys() - {name for (name,) in await link.rows(_SELECT_TABLES)}
    if missing:
        raise StoreError(f"the table {SCHEMA}.{min(missing)} is missing: restore the database from a backup")
    await check_format(link)
    return True


async def check_format(link: Link) -> None:
    """Check that this program works with the format of the home.

    Raises:
        ServerError: That cannot be read.
        UnknownFormat: It does not; says which version does.
    """
    for found, needs in await link.rows(SELECT_FORMAT):
        if problem := formats.problem(found, needs):
            raise UnknownFormat(problem)


async def prepare(link: Link, chain: Chain) -> None:
    """Create the tables in an empty database, or expand them, and remove programs; one daemon at a time does so.

    Raises:
        ServerError: Nothing was changed.
        StoreError: As ``check``.
    """
    await link.run(f"{BEGIN_WRITING}; SELECT pg_advisory_xact_lock({_LOCK})")
    if not await check(link):
        await _create(link, *chain.end(0, START, START))
    if not await has_keys(link):
        await link.run(CREATE_KEYS)
    await apply_options(link)
    await replace_home(link)
    await _expand(link)
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
    await link.run(f"{BEGIN_WRITING}; {PATIENT}; SELECT pg_advisory_xact_lock({_LOCK})")
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
        await _create(link, 0, START, START, b"")
    if not await has_keys(link):
        await link.run(CREATE_KEYS)


async def _create(link: Link, *end: object) -> None:
    """Create the tables in the newest format.

    Args:
        link: Has begun a transaction.
        end: The end of the chain.
    """
    await link.run(CREATE)
    for step in formats.STEPS:
        for statement in (*step.expand, *step.contract):
            await link.run(statement)
    await link.rows(INSERT_HOME, *end, formats.newest(), formats.version_of(formats.newest()))


async def _expand(link: Link) -> None:
    """Add to the tables what the newest format needs, unless that was done; older daemons do not notice it.

    Raises:
        ServerError: It cannot be done, or another transaction reads a table for longer; nothing is changed once the
            transaction is rolled back.
    """
    ((expanded,),) = await link.rows(_SELECT_EXPANDED)
    missing = formats.steps_between(expanded, formats.newest())
    if not missing:
        return
    # First the lock that every transaction takes first: its holder would wait for tables that this has locked.
    await link.run(_LOCK_HOME)
    await link.run(f"SET LOCAL lock_timeout = '{_EXPAND_LOCK_SECONDS}s'")
    for step in missing:
        for statement in step.expand:
            await link.run(statement)
    await link.rows(_NOTE_EXPANDED, formats.newest())
    _log.info("tables_expanded", format=formats.newest(), remedy="none needed; older versions go on")


async def replace_home(link: Link) -> None:
    """Make another row of the home if it was removed; it has no end of the chain, which verifications report.

    Raises:
        ServerError: It cannot be made.
    """
    if await link.rows(_REPLACE_HOME, formats.newest(), formats.version_of(formats.newest())):
        _log.error("home_row_missing", remedy="compare the database with a backup; find out what wrote to it")


async def programs(link: Link) -> list[Values]:
    """Return kind, name and table of triggers, rules and views: they could undo what is written.

    Raises:
        ServerError: They cannot be read.
    """
    return await link.rows(_SELECT_PROGRAMS)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
