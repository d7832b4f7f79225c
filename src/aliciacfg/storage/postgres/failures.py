"""What the errors of the server mean, and what to do about them."""

from aliciacfg.errors import Blocked, Damaged, Unavailable
from aliciacfg.storage.postgres.driver import ServerError
from aliciacfg.storage.store import StoreError

DUPLICATE = "23505"
LOCK_TIMEOUT = "55P03"
MISSING = ("42P01", "42703")
"""A table or a column is not there."""
_READ_ONLY = "25006"
_DAMAGE = frozenset({"XX001", "XX002"})
# Nothing that passes by itself: who may connect, to which database, and what its tables are.
_FOREVER_CLASSES = ("28", "3D", "3F", "42", "0A")
_REMEDIES = {
    "28": "see whether ALICIACFG_DATABASE_URL names the right user and password, and pg_hba.conf lets it in",
    "3D": "create it, with `createdb` for example, or correct ALICIACFG_DATABASE_URL",
    "42501": "give the user the right to create a schema in the database, or make it the owner of the schema aliciacfg",
    "42P07": "another program has a table of that name in the schema aliciacfg; name a database that is empty",
    "53100": "make room on the server's disk",
    "55P03": "find what reads or writes its tables for long, a backup for example, or wait",
    "53300": "raise max_connections on the server, or end other programs' connections",
    "57P03": "it starts, or follows another server; wait",
}
RESTORE = "restore the database from a backup, or let a standby take over"
HOME_IS_GONE = "The database is damaged: the row of the home is gone; restore a backup."
STANDBY = (
    "the server only lets it be read: it is a standby, or set so. Name the primary in ALICIACFG_DATABASE_URL; of "
    "several hosts, separated by commas, the one that takes writes is used"
)


def remedy(error: ServerError) -> str:
    """Return what to do about an error; empty if that is not known."""
    if error.hint:
        return error.hint
    for code in (error.sqlstate, error.sqlstate[:2]):
        if code in _REMEDIES:
            return _REMEDIES[code]
    return "see whether the server runs and can be reached" if error.lost or error.refused else ""


def may_pass(error: ServerError) -> bool:
    """Return whether an error has a cause that may pass: no server, no room, too many connections."""
    known = error.lost or error.refused or bool(error.sqlstate)
    return known and not error.sqlstate.startswith(_FOREVER_CLASSES) and not is_damage(error)


def is_damage(error: ServerError) -> bool:
    """Return whether the server found that a file of the database is damaged."""
    return error.sqlstate in _DAMAGE


def unwritable(error: ServerError) -> Unavailable:
    """Return the error that says why nothing can be written, and what to do where that is known."""
    if is_damage(error):
        return Damaged(f"The database is damaged ({error}): {RESTORE}.")
    if error.sqlstate == LOCK_TIMEOUT:
        return Blocked(
            "The store cannot write: another program, or a replica that hangs, holds the lock on the home; end it."
        )
    if error.sqlstate == _READ_ONLY:
        return Unavailable(f"The store cannot write: {STANDBY}.")
    return Unavailable(_sentence("The store cannot write", error))


def unreadable(error: ServerError) -> Unavailable:
    """Return the error that says why nothing can be read, and what to do where that is known."""
    return Unavailable(_sentence("The store cannot be read", error))


def unusable(name: str, error: ServerError) -> StoreError:
    """Return the error that says why a database cannot be used at all, and what to do."""
    what = remedy(error) or (RESTORE if is_damage(error) else "")
    return StoreError(f"{name} cannot be used: {error}{f'; {what}' if what else ''}")


def _sentence(beginning: str, error: ServerError) -> str:
    what = remedy(error)
    return f"{beginning}: {error}{f'; {what}' if what else ''}."
