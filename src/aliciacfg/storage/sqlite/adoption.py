"""Codes for rows that have none of this key: of a database whose key file was lost, or of an older version."""

import sqlite3
from collections import Counter
from collections.abc import Iterator

import msgspec

from aliciacfg.errors import OperationError
from aliciacfg.model.records import AuditEntry, Record
from aliciacfg.storage.hash_chain import KEY_NAME_BYTES, START, Chain, ChainStart, equals, sum_macs
from aliciacfg.storage.rows import (
    AUDIT_COLUMNS,
    CHAIN_START,
    RECORD_COLUMNS,
    RENEWED_COLUMNS,
    STANDING_COLUMNS,
    Row,
    confirmed_audit_entry,
    confirmed_record,
    encode_chain_start,
    overlay_row,
    parse_audit_entry,
    parse_overlay,
    parse_record,
)
from aliciacfg.storage.sqlite.chain_tail import (
    REPLACE_CHAIN_END,
    REPLACE_OVERLAY,
    SELECT_CHAIN_END,
    replace_coded,
)
from aliciacfg.storage.sqlite.rows import SELECT_AUDIT, SELECT_OVERLAYS, SELECT_RECORDS, chain_start, select_coded
from aliciacfg.storage.sqlite.transaction import transaction
from aliciacfg.storage.store import Adoption, Origin

_SELECT_PLACES = """
    SELECT sequence, 'revisions' FROM revisions WHERE typeof(sequence) = 'integer'
    UNION ALL SELECT sequence, 'audit' FROM audit ORDER BY sequence
"""
_SELECT = {
    "revisions": f"SELECT mac, {RECORD_COLUMNS} FROM revisions WHERE sequence = ?",
    "audit": f"SELECT mac, {AUDIT_COLUMNS} FROM audit WHERE sequence = ?",
}
_UPDATE_RECORD = "UPDATE revisions SET digest = ?, checksum = ?, mac = ?, code = ? WHERE sequence = ?"
_UPDATE_AUDIT = "UPDATE audit SET mac = ?, code = ? WHERE sequence = ?"
_UPDATE_START = "UPDATE meta SET value = ? WHERE name = ?"
_ADD_CODE = {table: f"UPDATE {table} SET code = ? WHERE sequence = ? AND code = x''" for table in _SELECT}
_CODES = {"revisions": "code", "audit": "code", "outbox": "mac", "applied": "mac"}
_SELECT_LACKING = "SELECT " + " OR ".join(
    f"EXISTS (SELECT 1 FROM {table} WHERE {code} = x'')" for table, code in _CODES.items()
)
_SEALED = b"sealed:v1:"
# Otherwise, who can remove a key file could become an administrator. The rows stay all the same:
# with them, the home stays closed.
_NEVER_ADOPTED = "tokens"
_CODE_COLUMNS = {
    **{table: "mac" for table in (*STANDING_COLUMNS, "overlays", *RENEWED_COLUMNS) if table != _NEVER_ADOPTED},
    "revisions": "code",
    "audit": "code",
}


def adopt(connection: sqlite3.Connection, chain: Chain) -> Adoption | None:
    """Give every row a code of this key, in one transaction; see ``Database.adopt``.

    Raises:
        sqlite3.Error: Nothing was changed.
    """
    with transaction(connection):
        if chain.confirmed_end(connection.execute(SELECT_CHAIN_END).fetchone()) is not None:
            return None
        key_name = _key_name(connection)
        sequence, mac, rows = _adopt_chain(connection, chain)
        standing = START
        for row in connection.execute(SELECT_OVERLAYS).fetchall():
            try:
                overlay = parse_overlay(row)
            except msgspec.MsgspecError:
                standing = _sum_stored(standing, row[-1])
                continue
            code = chain.overlay_mac(overlay)
            connection.execute(REPLACE_OVERLAY, overlay_row(overlay, code))
            standing = sum_macs(standing, code)
            rows += 1
        # Secrets would be sealed to keys that an attacker may have put there.
        connection.execute("DELETE FROM recipients")
        for table in STANDING_COLUMNS:
            for row, stored in list(select_coded(connection, table)):
                if table == _NEVER_ADOPTED:
                    standing = _sum_stored(standing, stored)
                else:
                    standing = sum_macs(standing, replace_coded(connection, chain, table, row))
                    rows += 1
        _code_renewed(connection, chain)
        connection.execute(REPLACE_CHAIN_END, chain.end(sequence, mac, standing))
    return Adoption(key_name, rows) if rows else None


def find_origin(connection: sqlite3.Connection, chain: Chain) -> Origin:
    """Return which key wrote a database; see ``Database.origin``.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    if chain.confirmed_end(connection.execute(SELECT_CHAIN_END).fetchone()) is not None:
        return Origin(is_own=True, key_name="")
    others: Counter[bytes] = Counter()
    for table, column in _CODE_COLUMNS.items():
        named = connection.execute(
            f"SELECT substr({column}, 1, {KEY_NAME_BYTES}), count(*) FROM {table}"
            f" WHERE typeof({column}) = 'blob' AND length({column}) > {KEY_NAME_BYTES} GROUP BY 1"
        ).fetchall()
        if any(name == chain.key_name for name, _ in named) and _confirms_any(connection, chain, table):
            return Origin(is_own=True, key_name="")
        others.update({name: count for name, count in named if name != chain.key_name})
    return Origin(is_own=False, key_name=others.most_common(1)[0][0].hex() if others else "")


def _confirms_any(connection: sqlite3.Connection, chain: Chain, table: str) -> bool:
    """Return whether a row of a table is what this key wrote."""
    match table:
        case "revisions":
            return any(confirmed_record(row, chain) for row in connection.execute(SELECT_RECORDS))
        case "audit":
            return any(confirmed_audit_entry(row, chain) for row in connection.execute(SELECT_AUDIT))
        case "overlays":
            return any(_confirms_overlay(row, chain) for row in connection.execute(SELECT_OVERLAYS))
        case _:
            return any(chain.confirms_row(table, row, mac) for row, mac in select_coded(connection, table))


def _confirms_overlay(row: Row, chain: Chain) -> bool:
    try:
        return chain.confirms_overlay(parse_overlay(row), row[-1])
    except msgspec.MsgspecError:
        return False


def lacks_codes(connection: sqlite3.Connection) -> bool:
    """Return whether a row has the empty code that the upgrade of an older version left for ``add_codes``."""
    (lacking,) = connection.execute(_SELECT_LACKING).fetchone()
    return bool(lacking)


def add_codes(connection: sqlite3.Connection, chain: Chain) -> None:
    """Give each row of the chain that this key wrote, and that its MAC confirms, the code that it lacks.

    A revision with a secret that does not open gets none: nothing shows that its content is what was written.
    """
    previous, before = START, 0
    for sequence, stored, row in _chained(connection):
        if row is not None and sequence == before + 1 and equals(chain.link(previous, row), stored):
            if isinstance(row, AuditEntry):
                connection.execute(_ADD_CODE["audit"], (chain.audit_code(row, sequence), sequence))
            elif _content(row, chain) == (row.digest, row.checksum):
                connection.execute(_ADD_CODE["revisions"], (chain.record_code(row, sequence), sequence))
        previous, before = stored if isinstance(stored, bytes) else previous, sequence
    # Reports cannot be compared with anything; the instances report again.
    connection.execute("DELETE FROM applied WHERE mac = x''")
    # An announcement is compared with its revision before it is used.
    for row, stored in list(select_coded(connection, "outbox")):
        if stored == b"":
            replace_coded(connection, chain, "outbox", row)


def _adopt_chain(connection: sqlite3.Connection, chain: Chain) -> tuple[int, bytes, int]:
    """Link all rows of the chain anew; return sequence and MAC of the last one, and how many were adopted.

    Rows that cannot be parsed, and revisions that contradict their own checksum, stay as they are.
    """
    mac, last, count = START, 0, 0
    start, kept = chain_start(connection, chain, adopting=True), START
    for sequence, stored, found in _chained(connection):
        if last <= start.sequence < sequence:
            start = ChainStart(start.sequence, mac, kept)
        last = sequence
        if sequence <= start.sequence:
            kept = sum_macs(kept, chain.presence(sequence))
        row = _adoptable(found, chain) if isinstance(found, Record) else found
        if row is None:
            mac = stored if isinstance(stored, bytes) else mac
            continue
        mac = chain.link(mac, row)
        count += 1
        if isinstance(row, AuditEntry):
            connection.execute(_UPDATE_AUDIT, (mac, chain.audit_code(row, sequence), sequence))
        else:
            code = chain.record_code(row, sequence)
            connection.execute(_UPDATE_RECORD, (row.digest, row.checksum, mac, code, sequence))
    if last <= start.sequence:
        start = ChainStart(start.sequence, mac, kept)
    connection.execute(_UPDATE_START, (encode_chain_start(start), CHAIN_START))
    return last, mac, count


def _adoptable(record: Record, chain: Chain) -> Record | None:
    """Return a revision with digest and checksum of this key; None if it is damaged."""
    try:
        content = chain.recompute(record)
    except OperationError:
        return None
    if content is None:
        return msgspec.structs.replace(record, digest="")
    digest, checksum = content
    # The checksum of a document with secrets depends on the key that was lost.
    if checksum != record.checksum and _SEALED not in record.config:
        return None
    return msgspec.structs.replace(record, digest=digest, checksum=checksum)


def _content(record: Record, chain: Chain) -> tuple[str, str] | None:
    try:
        return chain.recompute(record)
    except OperationError:
        return None


def _chained(connection: sqlite3.Connection) -> Iterator[tuple[int, object, Record | AuditEntry | None]]:
    """Yield sequence, MAC and content of the rows of the chain in their order; None for what cannot be parsed."""
    for sequence, table in connection.execute(_SELECT_PLACES).fetchall():
        mac, *values = connection.execute(_SELECT[table], (sequence,)).fetchone()
        parse = parse_record if table == "revisions" else parse_audit_entry
        try:
            yield sequence, mac, parse(tuple(values))
        except msgspec.MsgspecError:
            yield sequence, mac, None


def _code_renewed(connection: sqlite3.Connection, chain: Chain) -> None:
    """Give every announcement and report a code; an announcement is compared with its revision before it is used."""
    for table in RENEWED_COLUMNS:
        for row, _ in list(select_coded(connection, table)):
            replace_coded(connection, chain, table, row)


def _key_name(connection: sqlite3.Connection) -> str:
    """Return the name of the key that wrote the rows, in hexadecimal; empty if they have no codes."""
    for _, mac in select_coded(connection, "meta"):
        if isinstance(mac, bytes) and mac:
            return mac[:KEY_NAME_BYTES].hex()
    return ""


def _sum_stored(standing: bytes, stored: object) -> bytes:
    return sum_macs(standing, stored) if isinstance(stored, bytes) else standing
