"""Gives tables that exist the storage parameters that new ones are created with."""

import structlog

from aliciacfg.storage.postgres.driver import Link
from aliciacfg.storage.postgres.statements import RENEWED_OPTIONS, RENEWED_TABLES, SCHEMA

_log = structlog.get_logger(__name__)

# Only the owner may change them.
_SELECT_OPTIONS = f"""
    SELECT relname::text, coalesce(reloptions, '{{}}'::text[]) FROM pg_class
    WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r' AND relname = ANY($1::text[])
        AND pg_has_role(relowner, 'USAGE')
    ORDER BY relname
"""


async def apply_options(link: Link) -> None:
    """Set the parameters that differ, in a transaction; others stay as they were set.

    Reads and writes of the tables go on meanwhile.

    Raises:
        ServerError: They cannot be read or changed.
    """
    for table, found in await link.rows(_SELECT_OPTIONS, list(RENEWED_TABLES)):
        missing = [f"{name} = {value}" for name, value in RENEWED_OPTIONS.items() if f"{name}={value}" not in found]
        if missing:
            await link.run(f"ALTER TABLE {SCHEMA}.{table} SET ({', '.join(missing)})")
            _log.info("table_options_changed", table=f"{SCHEMA}.{table}", options=missing)
