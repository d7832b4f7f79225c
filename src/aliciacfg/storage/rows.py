"""Converts between rows of the database and the Structs of ``model.records``.

Rows may have been edited in the database, so that parsing never trusts the types of values. The functions
``confirmed_…`` return what a row holds only if its code is that of the chain's key.
"""

import re
from collections.abc import Iterator, Mapping
from operator import attrgetter

import msgspec

from aliciacfg.api.fields import MAX_NUMBER
from aliciacfg.model.records import (
    START,
    Announcement,
    Applied,
    AuditEntry,
    Overlay,
    Position,
    Recipient,
    Record,
    Renewal,
    ServingSchema,
    Token,
    Write,
)
from aliciacfg.storage.hash_chain import BEGINNING, Chain, ChainStart, equals

Row = tuple[str | int | float | bytes | None, ...]

RECORD_COLUMNS = (
    "environment, service, revision, version, timestamp, author, cause, checksum, digest, changed,"
    " restart_required, breaking, comment, deleted, config, home_sequence"
)
AUDIT_COLUMNS = ", ".join(f'"{name}"' for name in AuditEntry.__struct_fields__)
OVERLAY_COLUMNS = "environment, service, patch, origins, mac"
TOKEN_FIELDS = tuple(name for name in Token.__struct_fields__ if name != "confirmed")
STANDING_COLUMNS = {
    "meta": ("name", "value"),
    "schemas": ("service", "document"),
    "tokens": TOKEN_FIELDS,
    "recipients": ("service", "public_key"),
    "told": ("configuration", "home_sequence"),
}
"""The tables of standing rows (see ``hash_chain``) but overlays, with their columns: the key first, no code."""
RENEWED_COLUMNS = {
    "outbox": ("subject", "sequence", "payload", "pending"),
    "applied": Applied.__struct_fields__,
}
"""The tables whose rows are made again when they are gone, with their columns: the key first, no code."""


def _names(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(","))


TABLES: dict[str, tuple[str, ...]] = {
    "revisions": (*_names(RECORD_COLUMNS), "sequence", "mac", "code"),
    "audit": (*_names(AUDIT_COLUMNS), "sequence", "mac", "code"),
    "overlays": _names(OVERLAY_COLUMNS),
    **{table: (*columns, "mac") for table, columns in (STANDING_COLUMNS | RENEWED_COLUMNS).items()},
}
"""The columns of every table that every backend has, keys first, with the codes of their rows."""
CHAIN = "chain"
"""Stands for the end of the chain where the rows of all tables are copied: one row, as ``hash_chain.End``."""

# Names in the table ``meta``.
_EPOCH = "epoch"
_SEQUENCE = "sequence"
CHAIN_START = "chain_start"
OWN_NAMES = frozenset({_EPOCH, _SEQUENCE, CHAIN_START})
"""Names in the table ``meta`` that only this package reads."""

_CHAIN_START = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64}) ([0-9a-f]{64})", re.ASCII)

_RECORD_FIELDS = _names(RECORD_COLUMNS)
# Side by side; stored as JSON.
_LISTS = ("changed", "restart_required")
_BEFORE_LISTS, _AFTER_LISTS = _RECORD_FIELDS.index(_LISTS[0]), _RECORD_FIELDS.index(_LISTS[-1]) + 1
_record_values = attrgetter(*_RECORD_FIELDS)
_FLAGS = frozenset({"breaking", "deleted"})


def record_row(record: Record) -> Row:
    """Return the values of a revision for ``RECORD_COLUMNS``."""
    values = _record_values(record)
    lists = map(msgspec.json.encode, values[_BEFORE_LISTS:_AFTER_LISTS])
    return (*values[:_BEFORE_LISTS], *lists, *values[_AFTER_LISTS:])


def overlay_row(overlay: Overlay, mac: bytes) -> Row:
    """Return the values of an overlay for ``OVERLAY_COLUMNS``; ``mac`` is its code."""
    return overlay.environment, overlay.service, overlay.patch, msgspec.json.encode(overlay.origins), mac


def standing_rows(write: Write) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a write for the tables of ``STANDING_COLUMNS``, each with the name of its table.

    Those of its position come from ``position_rows``.
    """
    for schema in write.schemas:
        yield "schemas", (schema.service, schema.document)
    for token in write.tokens:
        yield "tokens", tuple(getattr(token, name) for name in TOKEN_FIELDS)
    for recipient in write.recipients:
        yield "recipients", (recipient.service, recipient.public_key)
    for renewal in write.renewals:
        yield "told", (f"{renewal.environment}/{renewal.service}", renewal.home_sequence)
    for row in write.meta:
        yield "meta", row


def position_rows(position: Position) -> Iterator[tuple[str, Row]]:
    """Yield the rows that hold the position of the home, as ``standing_rows`` yields those of a write."""
    yield "meta", (_EPOCH, str(position.epoch))
    yield "meta", (_SEQUENCE, str(position.sequence))


def encode_chain_start(start: ChainStart) -> str:
    """Return the value of ``CHAIN_START`` in the table ``meta``."""
    return f"{start.sequence} {start.mac.hex()} {start.kept.hex()}"


def parse_chain_start(row: Row, chain: Chain, *, adopting: bool = False) -> ChainStart:
    """Return where the links of the chain begin.

    Args:
        row: Value and code of the row ``CHAIN_START`` of the table ``meta``.
        chain: Confirms the row; where it does not, the chain begins at its first row.
        adopting: Whether the row of another key counts.
    """
    value, mac = row
    if not (adopting or chain.confirms_row("meta", (CHAIN_START, value), mac)):
        return BEGINNING
    match = _CHAIN_START.fullmatch(str(value))
    return BEGINNING if match is None else ChainStart(int(match[1]), bytes.fromhex(match[2]), bytes.fromhex(match[3]))


def announcement_row(item: Announcement) -> Row:
    """Return the values of an announcement for ``RENEWED_COLUMNS``."""
    return item.subject, item.sequence, item.payload, int(item.pending)


def record_subject(row: Row) -> str:
    """Return the name of a row of ``RECORD_COLUMNS`` in findings and logs."""
    return "/".join(map(str, row[:3]))


def confirmed_record(row: Row, chain: Chain) -> Record | None:
    """Return the revision in a row of ``RECORD_COLUMNS``, sequence and code; None if it is not what was written."""
    *values, sequence, code = row
    if not isinstance(sequence, int):
        return None
    try:
        record = parse_record(tuple(values))
    except msgspec.MsgspecError:
        return None
    return record if equals(chain.record_code(record, sequence), code) else None


def ordered_record(row: Row, chain: Chain) -> Record | None:
    """Return the same as ``confirmed_record``, with its place in the order of the changes of the home.

    ``home_sequence`` is a field of its own: ``sequence`` is the place in the chain. A revision from before there was a
    ``home_sequence`` has 0 there; its place in the chain counts instead.
    """
    record = confirmed_record(row, chain)
    if record is None or record.home_sequence:
        return record
    return msgspec.structs.replace(record, home_sequence=row[-2])


def confirmed_audit_entry(row: Row, chain: Chain) -> tuple[int, AuditEntry] | None:
    """Return the entry in a row of ``AUDIT_COLUMNS``, sequence and code, with its place in the chain.

    None if it is not what was written.
    """
    *values, sequence, code = row
    if not isinstance(sequence, int):
        return None
    try:
        entry = parse_audit_entry(tuple(values))
    except msgspec.MsgspecError:
        return None
    return (sequence, entry) if equals(chain.audit_code(entry, sequence), code) else None


def parse_record(row: Row) -> Record:
    """Return the revision in a row of ``RECORD_COLUMNS``.

    Raises:
        MsgspecError: The row cannot be parsed; so for every function ``parse_…``.
    """
    values: dict[str, object] = {}
    for name, value in zip(_RECORD_FIELDS, row, strict=True):
        if isinstance(value, bytes) and name in _LISTS:
            values[name] = _decode_json(value)
        else:
            values[name] = bool(value) if name in _FLAGS else value
    return msgspec.convert(values, Record)


def _decode_json(value: bytes | str) -> object:
    """Return the JSON value in a column; every problem with it is raised as MsgspecError."""
    try:
        return msgspec.json.decode(value)
    except (UnicodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def parse_overlay(row: Row) -> Overlay:
    """Return the overlay in a row of ``OVERLAY_COLUMNS``."""
    environment, service, patch, origins, *_ = row
    return msgspec.convert(
        {
            "environment": environment,
            "service": service,
            "patch": patch,
            "origins": _decode_json(origins) if isinstance(origins, bytes | str) else origins,
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


def parse_applied(row: Row) -> Applied:
    """Return the report in a row without its code."""
    return msgspec.convert(dict(zip(Applied.__struct_fields__, row, strict=True)), Applied)


def parse_announcement(row: Row) -> Announcement:
    """Return the announcement in a row without its code."""
    subject, sequence, payload, pending = row
    values = {"subject": subject, "sequence": sequence, "payload": payload, "pending": bool(pending)}
    return msgspec.convert(values, Announcement)


def parse_schema(row: Row) -> ServingSchema:
    """Return the schema in a row without its code."""
    return msgspec.convert(dict(zip(ServingSchema.__struct_fields__, row, strict=True)), ServingSchema)


def parse_renewal(row: Row) -> Renewal:
    """Return the renewal in a row of the table ``told`` without its code."""
    configuration, home_sequence = row
    environment, _, service = str(configuration).partition("/")
    values = {"environment": environment, "service": service, "home_sequence": home_sequence}
    return msgspec.convert(values, Renewal)


def parse_position(meta: Mapping[str, str]) -> Position:
    """Return the position of the home in a table of names and values; the first one where it does not say."""
    return Position(_number(meta.get(_EPOCH), START.epoch), _number(meta.get(_SEQUENCE), START.sequence))


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdecimal() and default <= int(text) <= MAX_NUMBER else default


def parse_meta(row: Row) -> tuple[str, str]:
    """Return name and value in a row without its code."""
    return msgspec.convert(row, tuple[str, str])


def parse_token(row: Row, *, confirmed: bool) -> Token:
    """Return the token in a row without its code."""
    return msgspec.convert({**dict(zip(TOKEN_FIELDS, row, strict=True)), "confirmed": confirmed}, Token)


def parse_recipient(row: Row) -> Recipient:
    """Return the recipient in a row without its code."""
    return msgspec.convert(dict(zip(Recipient.__struct_fields__, row, strict=True)), Recipient)
