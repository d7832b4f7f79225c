"""Converts between rows of the database and the Structs of ``model.records``.

Rows may have been edited in the file, so that parsing never trusts the types of values.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from aliciacfg import documents
from aliciacfg.errors import OperationError
from aliciacfg.model import versions
from aliciacfg.model.records import Applied, Audited, AuditEntry, Overlay, Recipient, Record, RecordHead, Token, Write
from aliciacfg.storage.hash_chain import Chain

Row = tuple[str | int | float | bytes | None, ...]

HEAD_COLUMNS = (
    "environment, service, revision, version, timestamp, author, cause, checksum, digest, changed,"
    " restart_required, breaking, comment, deleted"
)
RECORD_COLUMNS = f"{HEAD_COLUMNS}, config"
AUDIT_COLUMNS = ", ".join(f'"{name}"' for name in AuditEntry.__struct_fields__)
OVERLAY_COLUMNS = "environment, service, patch, origins, mac"
APPLIED_COLUMNS = ", ".join(Applied.__struct_fields__)
TOKEN_FIELDS = tuple(name for name in Token.__struct_fields__ if name != "confirmed")
STANDING_COLUMNS = {
    "meta": ("name", "value"),
    "schemas": ("service", "document"),
    "tokens": TOKEN_FIELDS,
    "recipients": ("service", "public_key"),
}
"""The tables of standing rows (see ``hash_chain``) but overlays, with their columns: the key first, no MAC."""

SELECT_CHAIN = f"SELECT sequence, mac, {RECORD_COLUMNS} FROM revisions"
SELECT_OVERLAYS = f"SELECT {OVERLAY_COLUMNS} FROM overlays"

_RECORD_FIELDS = tuple(name.strip() for name in RECORD_COLUMNS.split(","))
_LISTS = frozenset({"changed", "restart_required"})
_FLAGS = frozenset({"breaking", "deleted"})


def record_row(record: Record) -> Row:
    """Return the values of a revision for ``RECORD_COLUMNS``."""
    values = msgspec.structs.asdict(record)
    return tuple(msgspec.json.encode(values[name]) if name in _LISTS else values[name] for name in _RECORD_FIELDS)


def overlay_row(overlay: Overlay, chain: Chain) -> Row:
    """Return the values of an overlay for ``OVERLAY_COLUMNS``."""
    origins = msgspec.json.encode(overlay.origins)
    return overlay.environment, overlay.service, overlay.patch, origins, chain.overlay_mac(overlay)


def standing_rows(write: Write) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a write for the tables of ``STANDING_COLUMNS``, each with the name of its table."""
    for schema in write.schemas:
        yield "schemas", (schema.service, schema.document)
    for token in write.tokens:
        yield "tokens", tuple(getattr(token, name) for name in TOKEN_FIELDS)
    for recipient in write.recipients:
        yield "recipients", (recipient.service, recipient.public_key)
    for row in write.meta:
        yield "meta", row


def select_standing(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Row, object]]:
    """Yield the rows of a table of ``STANDING_COLUMNS``, each with its MAC, which may be of any type."""
    columns = ", ".join(STANDING_COLUMNS[table])
    for *row, mac in connection.execute(f"SELECT {columns}, mac FROM {table}"):
        yield tuple(row), mac


def parse_record(row: Row) -> Record:
    """Return the revision in a row of ``RECORD_COLUMNS``.

    Raises:
        MsgspecError: The row cannot be parsed; so for every function ``parse_…``.
    """
    return msgspec.convert(_record_values(row), Record)


def parse_head(row: Row) -> RecordHead:
    """Return the revision in a row of ``HEAD_COLUMNS``."""
    return msgspec.convert(_record_values(row), RecordHead)


def parse_records(rows: Iterable[Row]) -> Iterator[Record]:
    """Yield the revisions in rows of ``RECORD_COLUMNS``; leave out rows that cannot be parsed."""
    for row in rows:
        with contextlib.suppress(msgspec.MsgspecError):
            yield parse_record(row)


def parse_newest(row: Row, chain: Chain) -> Record:
    """Return the newest revision of a configuration, reduced to what can be trusted; see ``Store.load``.

    Raises:
        MsgspecError: Environment, service or revision cannot be parsed.
    """
    try:
        record = parse_record(row)
    except msgspec.MsgspecError:
        environment, service, revision, *_ = row
        return msgspec.convert(
            {
                "environment": environment, "service": service, "revision": revision, "version": versions.FIRST,
                "timestamp": 0.0, "author": "", "cause": "file", "checksum": "", "digest": "", "changed": [],
                "restart_required": [], "config": b"{}",
            },
            Record,
        )  # fmt: skip
    if not versions.is_version(record.version):
        record = msgspec.structs.replace(record, version=versions.FIRST)
    if chain.confirms(record):
        return record
    return msgspec.structs.replace(record, checksum="", config=record.config if _is_object(record.config) else b"{}")


def parse_overlay(row: Row) -> Overlay:
    """Return the overlay in a row of ``OVERLAY_COLUMNS``."""
    environment, service, patch, origins, *_ = row
    return msgspec.convert(
        {
            "environment": environment,
            "service": service,
            "patch": patch,
            "origins": msgspec.json.decode(origins) if isinstance(origins, bytes | str) else origins,
        },
        Overlay,
    )


def parse_stored_overlay(row: Row, chain: Chain) -> Overlay:
    """Return the overlay in a row of ``OVERLAY_COLUMNS``, ``confirmed`` or not.

    Raises:
        MsgspecError: Environment or service cannot be parsed.
    """
    *_, mac = row
    try:
        overlay = parse_overlay(row)
        confirmed = chain.confirms_overlay(overlay, mac)
    except msgspec.MsgspecError:
        environment, service, *_ = row
        overlay = msgspec.convert({"environment": environment, "service": service, "patch": b"{}"}, Overlay)
        confirmed = False
    return msgspec.structs.replace(overlay, confirmed=confirmed)


def parse_audit_entry(row: Row) -> AuditEntry:
    """Return the entry in a row of ``AUDIT_COLUMNS``."""
    return msgspec.convert(dict(zip(AuditEntry.__struct_fields__, row, strict=True)), AuditEntry)


def parse_audited(names: Iterable[str], row: Row) -> Audited:
    """Return the entry in a row whose columns are called ``names``."""
    return msgspec.convert(dict(zip(names, row, strict=True)), Audited)


def parse_applied(row: Row) -> Applied:
    """Return the report in a row of ``APPLIED_COLUMNS``."""
    return msgspec.convert(dict(zip(Applied.__struct_fields__, row, strict=True)), Applied)


def parse_token(row: Row, *, confirmed: bool) -> Token:
    """Return the token in a row without its MAC."""
    return msgspec.convert({**dict(zip(TOKEN_FIELDS, row, strict=True)), "confirmed": confirmed}, Token)


def parse_recipient(row: Row) -> Recipient:
    """Return the recipient in a row without its MAC."""
    return msgspec.convert(dict(zip(STANDING_COLUMNS["recipients"], row, strict=True)), Recipient)


def _record_values(row: Row) -> dict[str, object]:
    """Return the values of a row of ``RECORD_COLUMNS`` or ``HEAD_COLUMNS`` by the names of the fields."""
    values: dict[str, object] = {}
    for name, value in zip(_RECORD_FIELDS, row, strict=False):
        if isinstance(value, bytes) and name in _LISTS:
            values[name] = msgspec.json.decode(value)
        else:
            values[name] = bool(value) if name in _FLAGS else value
    return values


def _is_object(config: bytes) -> bool:
    try:
        return isinstance(documents.decode(config), dict)
    except OperationError:
        return False
