"""The adoption of a database whose key file was lost: once, by a new key file, and noted in it.

Until the earlier key file was added or the loss was acknowledged, every start raises an alert.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import structlog

from aliciacfg.counted import counted
from aliciacfg.errors import KeyFileError
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sealing.key_file import AdoptionNote, KeyFile
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.store import Database, Origin, StoreError

_log = structlog.get_logger(__name__)

ALERT = "adopted"
"""The kind of the alert about a pending adoption."""


class Explanation(NamedTuple):
    """What is wrong with keys and database, and what to do about it; two sentences without full stops."""

    problem: str
    remedy: str


def adopt_rows(
    database: Database,
    keys: KeyFile,
    chain: Chain,
    *,
    keep: Callable[[], AbstractContextManager[str]] | None,
    now: float,
) -> AdoptionNote | None:
    """Let a key file that has written nothing yet adopt the rows that a database holds; return what was adopted.

    Afterwards the key file says that it has written the database, and nothing else is ever adopted. If the process ends
    in between, the adoption is done already and the next call only notes that.

    Args:
        database: The database.
        keys: The key file.
        chain: The chain of its keys.
        keep: Copies the database as it is, yields where the copy is, and removes it if the block raises; called before
            rows of another key are adopted. The earlier key file together with this copy is the home as it was, tokens
            and recipients included, which an adoption does not take over. None to keep nothing.
        now: Unix seconds.

    Raises:
        StoreError: The database cannot be used.
        KeyFileError: The key file cannot be written any more; or it has written a database, but not a row of this one.
        Unavailable: The copy cannot be made; nothing was adopted.
    """
    if keys.chained:
        if foreign := explain_foreign(database, keys.store.name, chain):
            raise KeyFileError(f"{foreign.problem}. Nothing was changed. {foreign.remedy}")
        return None
    origin = _origin(database, chain)
    try:
        keys.check_writable()
    except KeyFileError as error:
        # Rows that are forged later could otherwise be adopted, at any start.
        _log.warning("rows_not_adopted", reason=str(error), remedy="let the daemon write the key file once")
        return None
    with keep() if keep is not None and origin.is_foreign else nullcontext("") as kept_in:
        if origin.is_foreign:
            keys.begin_adoption(AdoptionNote(now, origin.key_name, 0, kept_in=kept_in, pending=True))
        adoption = database.adopt(chain)
    note = None
    if adoption is not None:
        pending = bool(adoption.key_name)
        note = AdoptionNote(now, adoption.key_name, adoption.rows, kept_in=kept_in, pending=pending)
    keys.mark_chained(note)
    if note is not None:
        _log.warning(
            "rows_adopted",
            rows=note.rows,
            key_name=note.key_name,
            key_file=keys.store.name,
            kept_in=note.kept_in,
            remedy=f"{_REMEDY}; without it: `aliciacfg keys acknowledge`" if note.pending else "none needed",
        )
    return note


_REMEDY = (
    "if you have the earlier keys.json, add it: `aliciacfg keys add --from FILE`. Do not copy it over the new one, "
    "which the database needs now"
)


def report_adoption(keys: KeyFile, alerts: Alerts) -> None:
    """Raise the alert about an adoption that is pending, or end it."""
    note = keys.pending_adoption
    if note is None:
        alerts.clear(ALERT)
    else:
        alerts.raise_(ALERT, "{0.problem}. {0.remedy}.".format(explain_adoption(note)))


def explain_adoption(note: AdoptionNote) -> Explanation:
    """Return what an adoption was and what to do."""
    rows = counted(note.rows, "row") if note.rows else "the rows"
    kept = f" ({note.kept_in} in the data directory is a copy from before)" if note.kept_in else ""
    return Explanation(
        f"keys.json was missing, so a new one was made; it adopted {rows} of the database that the keys of home "
        f"{note.key_name} had written{kept}",
        f"Secrets that were sealed before do not open: {_REMEDY}. Without it, set the secrets again, and run "
        "`aliciacfg keys acknowledge`. Make tokens and recipient keys again",
    )


def explain_foreign(database: Database, key_file: Path | str, chain: Chain) -> Explanation | None:
    """Return that other keys wrote a whole database, and what to do; None if they did not, or it cannot be read."""
    origin = _origin(database, chain)
    if not origin.is_foreign:
        return None
    return Explanation(
        f"{key_file} holds the keys of home {chain.key_name.hex()}, but those of home {origin.key_name} wrote every "
        f"row of {database.name}",
        f"Put the keys.json of home {origin.key_name} back; `aliciacfg keys show` prints the home of one. If it is "
        "gone, move this one out of the data directory, start the daemon, which makes a new one, and add this one: "
        "`aliciacfg keys add --from FILE`. Or restore a backup: `aliciacfg restore FILE`",
    )


def _origin(database: Database, chain: Chain) -> Origin:
    try:
        return database.origin(chain)
    except StoreError:
        # The next program that opens it says what is wrong with it, and can wait for a lock to end.
        return Origin(is_own=False, key_name="")
