"""Converts between rows of the database and the Structs of ``model.records``."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from aliciacfg import documents
from aliciacfg.errors import OperationError
from aliciacfg.model import versions
from aliciacfg.model.records import AuditEntry, Overlay, Record, RecordHead, Token, Write
from aliciacfg.storage.hash_chain import Chain

HEAD_COLUMNS = (
    "environment, service, revision, version, timestamp, author, cause, checksum, digest, changed,"
    " restart_required, breaking, comment, deleted"
)
COLUMNS = f"{HEAD_COLUMNS}, config"
SELECT_CHAIN = f"SELECT sequence, mac, {COLUMNS} FROM revisions"  # noqa: S608 - constant
_AUDIT_FIELDS = AuditEntry.__struct_fields__
AUDIT_COLUMNS = ", ".join(f'"{name}"' for name in _AUDIT_FIELDS)
SELECT_OVERLAYS = "SELECT environment, service, patch, origins, mac FROM overlays"
APPLIED_COLUMNS = "service, instance, environment, revision, checksum, status, error, since, last_seen"
TOKEN_FIELDS = tuple(name for name in Token.__struct_fields__ if name != "confirmed")
# Columns of the tables whose rows are replaced and have a code each, the key first.
STANDING_COLUMNS = {
    "meta": ("name", "value"),
    "schemas": ("service", "document"),
    "tokens": TOKEN_FIELDS,
    "recipients": ("service", "public_key"),
}
_FIELDS = tuple(name.strip() for name in COLUMNS.split(","))
_LISTS = frozenset({"changed", "restart_required"})
_FLAGS = frozenset({"breaking", "deleted"})
Row = tuple[str | int | float | bytes | None, ...]


def coded_rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Row, object]]:
    """The rows of a table whose rows have a code each, and their codes."""
    columns = ", ".join(STANDING_COLUMNS[table])
    for *row, code in connection.execute(f"SELECT {columns}, mac FROM {table}"):  # noqa: S608 - constants
        yield tuple(row), code


def parse_audit_entry(row: Row) -> AuditEntry:
    """Return the audit entry of a row of ``AUDIT_COLUMNS``."""
    return msgspec.convert(dict(zip(_AUDIT_FIELDS, row, strict=True)), AuditEntry)


def standing_rows(write: Write) -> Iterator[tuple[str, Row]]:
    """The standing rows of a write, overlays left out, with their tables."""
    for schema in write.schemas:
        yield "schemas", (schema.service, schema.document)
    for token in write.tokens:
        yield "tokens", tuple(getattr(token, name) for name in TOKEN_FIELDS)
    for recipient in write.recipients:
        yield "recipients", (recipient.service, recipient.public_key)
    for row in write.meta:
        yield "meta", row


def record_row(record: Record) -> Row:
    """Return the values of a revision in the order of ``COLUMNS``."""
    values = msgspec.structs.asdict(record)
    return tuple(msgspec.json.encode(values[name]) if name in _LISTS else values[name] for name in _FIELDS)


def parse_record(row: Row) -> Record:
    """Return the revision of a row of ``COLUMNS``."""
    return msgspec.convert(_values(row), Record)


def parse_records(rows: Iterable[Row]) -> Iterator[Record]:
    """Yield the revisions of rows of ``COLUMNS``, without rows that cannot be parsed."""
    for row in rows:
        with contextlib.suppress(msgspec.MsgspecError):
            yield parse_record(row)


def newest_record(row: Row, chain: Chain) -> Record:
    """The newest revision of a configuration, or what can be believed of one that was tampered with.

    Raises:
        MsgspecError: Nothing can.
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


def _is_object(config: bytes) -> bool:
    try:
        return isinstance(documents.decode(config), dict)
    except OperationError:
        return False


def stored_overlay(row: Row, chain: Chain) -> Overlay:
    """An overlay, or which one was tampered with."""
    try:
        overlay = parse_overlay(row)
        confirmed = chain.confirms_overlay(overlay, row[4])
    except msgspec.MsgspecError:
        environment, service, *_ = row
        overlay = msgspec.convert({"environment": environment, "service": service, "patch": b"{}"}, Overlay)
        confirmed = False
    return msgspec.structs.replace(overlay, confirmed=confirmed)


def parse_head(row: Row) -> RecordHead:
    """Return the revision of a row of ``HEAD_COLUMNS``."""
    return msgspec.convert(_values(row), RecordHead)


def _values(row: Row) -> dict[str, object]:
    """A row's values by name; one of a head has no content."""
    values: dict[str, object] = {}
    for name, value in zip(_FIELDS, row, strict=False):
        if isinstance(value, bytes) and name in _LISTS:
            values[name] = msgspec.json.decode(value)
        else:
            values[name] = bool(value) if name in _FLAGS else value
    return values


def parse_overlay(row: Row) -> Overlay:
    """Return the overlay of a row."""
    environment, service, patch, origins, *_ = row
    return msgspec.convert(
        {
            "environment": environment,
            "service": service,
            "patch": patch,
            "origins": msgspec.json.decode(origins) if isinstance(origins, bytes | str) else {},
        },
        Overlay,
    )


def overlay_row(overlay: Overlay, chain: Chain) -> Row:
    """Return the values of an overlay with its code."""
    origins = msgspec.json.encode(overlay.origins)
    return overlay.environment, overlay.service, overlay.patch, origins, chain.seal_overlay(overlay)
