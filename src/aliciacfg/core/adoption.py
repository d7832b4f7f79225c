"""The adoption of a database whose key file was lost: once, by a new key file, and noted in it."""

import structlog

from aliciacfg.errors import KeyFileError
from aliciacfg.sealing.key_file import AdoptionNote, KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import Database

_log = structlog.get_logger(__name__)


def adopt_rows(database: Database, keys: KeyFile, chain: Chain, *, now: float) -> AdoptionNote | None:
    """Let a key file that has written nothing yet adopt the rows that a database holds; return what was adopted.

    Afterwards the key file says that it has written the database, and nothing else is ever adopted. If the process ends
    in between, the adoption is done already and the next call only notes that.

    Raises:
        StoreError: The database cannot be used.
        KeyFileError: The key file cannot be written any more.
    """
    if keys.chained:
        return None
    try:
        keys.check_writable()
    except KeyFileError as error:
        # Rows that somebody adds later could otherwise be adopted, at any start.
        _log.warning("rows_not_adopted", reason=str(error), remedy="let the daemon write the key file once")
        return None
    adoption = database.adopt(chain)
    note = None if adoption is None else AdoptionNote(now, adoption.key_name, adoption.rows)
    keys.mark_chained(note)
    if note is not None:
        _log.warning("rows_adopted", rows=note.rows, key_name=note.key_name, key_file=str(keys.path))
    return note
