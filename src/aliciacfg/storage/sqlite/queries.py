"""The reads of ``Store``, each on a connection: what the methods of the same name return.

Functions that return parsed rows raise MsgspecError if one cannot be parsed; all raise sqlite3.Error.
"""

import contextlib
import sqlite3

import msgspec

from aliciacfg.model.records import (
    Announcement,
    Applied,
    Audited,
    Recipient,
    Record,
    RecordHead,
    ServingSchema,
    StoredState,
    Token,
)
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.sqlite.rows import (
    APPLIED_COLUMNS,
    HEAD_COLUMNS,
    RECORD_COLUMNS,
    SELECT_OVERLAYS,
    parse_applied,
    parse_audited,
    parse_head,
    parse_newest,
    parse_recipient,
    parse_record,
    parse_records,
    parse_stored_overlay,
    parse_token,
    select_standing,
)

_MAX_INTEGER = 2**63 - 1
_SELECT_NEWEST = f"""
    SELECT {RECORD_COLUMNS} FROM revisions JOIN (
        SELECT environment AS e, service AS s, max(revision) AS r FROM revisions GROUP BY environment, service
    ) ON environment = e AND service = s AND revision = r
"""
_SELECT_RECORD = f"SELECT {RECORD_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision = ?"
_SELECT_REVISIONS = f"SELECT {RECORD_COLUMNS} FROM revisions WHERE service = ?"
_SELECT_HISTORY = f"""
    SELECT {HEAD_COLUMNS} FROM revisions WHERE environment = ? AND service = ? AND revision < ?
    ORDER BY revision DESC LIMIT ?
"""
_SELECT_AUDIT = """
    SELECT audit.*, b.checksum AS before_checksum, a.checksum AS after_checksum FROM audit
    LEFT JOIN revisions b ON (b.environment, b.service, b.revision) = (audit.environment, audit.service, audit.before)
    LEFT JOIN revisions a ON (a.environment, a.service, a.revision) = (audit.environment, audit.service, audit.after)
    WHERE audit.sequence < ? AND (? IS NULL OR audit.service = ?) ORDER BY audit.sequence DESC LIMIT ?
"""


def load(connection: sqlite3.Connection, chain: Chain) -> StoredState:
    """Return what a start needs."""
    announcements = connection.execute("SELECT subject, sequence, payload, pending FROM outbox")
    return StoredState(
        records=[parse_newest(row, chain) for row in connection.execute(_SELECT_NEWEST)],
        overlays=[parse_stored_overlay(row, chain) for row in connection.execute(SELECT_OVERLAYS)],
        announcements=[
            Announcement(subject, sequence, payload, bool(pending))
            for subject, sequence, payload, pending in announcements
        ],
        schemas=[ServingSchema(*row) for row in connection.execute("SELECT service, document FROM schemas")],
        meta=dict(connection.execute("SELECT name, value FROM meta")),
    )


def record(connection: sqlite3.Connection, environment: str, service: str, revision: int) -> Record | None:
    """Return one revision, or None."""
    row = connection.execute(_SELECT_RECORD, (environment, service, revision)).fetchone()
    return None if row is None else parse_record(row)


def history(
    connection: sqlite3.Connection, environment: str, service: str, *, before: int | None, limit: int
) -> list[RecordHead]:
    """Return revisions without their content, newest first."""
    parameters = (environment, service, _MAX_INTEGER if before is None else before, limit)
    return [parse_head(row) for row in connection.execute(_SELECT_HISTORY, parameters)]


def audit(connection: sqlite3.Connection, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
    """Return audit entries, newest first."""
    parameters = (_MAX_INTEGER if before is None else before, service, service, limit)
    rows = connection.execute(_SELECT_AUDIT, parameters)
    names = [column[0] for column in rows.description]
    return [parse_audited(names, row) for row in rows]


def revisions(connection: sqlite3.Connection, service: str) -> list[Record]:
    """Return every revision of a service that can be parsed."""
    return list(parse_records(connection.execute(_SELECT_REVISIONS, (service,))))


def tokens(connection: sqlite3.Connection, chain: Chain) -> list[Token]:
    """Return every token that can be parsed."""
    found: list[Token] = []
    for row, mac in select_standing(connection, "tokens"):
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(parse_token(row, confirmed=chain.confirms_row("tokens", row, mac)))
    return found


def recipients(connection: sqlite3.Connection, chain: Chain) -> list[Recipient]:
    """Return the public keys that are confirmed."""
    return [
        parse_recipient(row)
        for row, mac in select_standing(connection, "recipients")
        if chain.confirms_row("recipients", row, mac)
    ]


def applied(connection: sqlite3.Connection) -> list[Applied]:
    """Return the last reports of running copies of services."""
    rows = connection.execute(f"SELECT {APPLIED_COLUMNS} FROM applied")
    return [parse_applied(row) for row in rows]
