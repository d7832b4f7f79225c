"""Prepares the rows of a database for a ``Verifier``, for every backend."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay, Record
from aliciacfg.storage.hash_chain import MalformedRow
from aliciacfg.storage.rows import Row, parse_audit_entry, parse_overlay, parse_record, record_subject
from aliciacfg.storage.verifier import Verifier


def chained_records(rows: Iterable[Row], verifier: Verifier) -> Iterator[ChainedRow | MalformedRow]:
    """Yield revisions that have a place in the chain; reject the others.

    Args:
        rows: Sequence, MAC and code, and the values of ``RECORD_COLUMNS``.
        verifier: Learns of the others.
    """
    return _chained(rows, parse_record, verifier)


def chained_audit(rows: Iterable[Row], verifier: Verifier) -> Iterator[ChainedRow | MalformedRow]:
    """Yield audit entries that have a place in the chain; reject the others.

    Args:
        rows: Sequence, MAC and code, and the values of ``AUDIT_COLUMNS``.
        verifier: Learns of the others.
    """
    return _chained(rows, parse_audit_entry, verifier)


def _chained(
    rows: Iterable[Row], parse: Callable[[Row], Record | AuditEntry], verifier: Verifier
) -> Iterator[ChainedRow | MalformedRow]:
    for sequence, mac, code, *values in rows:
        subject, environment, service = f"audit/{sequence}", "", ""
        if parse is parse_record:
            environment, service, _ = map(str, values[:3])
            subject = record_subject(tuple(values))
        if not isinstance(sequence, int) or not isinstance(mac, bytes):
            verifier.reject(subject, environment, service)
            continue
        try:
            yield ChainedRow(sequence, parse(tuple(values)), mac, code if isinstance(code, bytes) else b"")
        except msgspec.MsgspecError:
            yield MalformedRow(subject, environment, service, sequence, mac)


def coded_overlays(rows: Iterable[Row], verifier: Verifier) -> Iterator[tuple[Overlay, bytes]]:
    """Yield overlays with their MACs, from rows of ``OVERLAY_COLUMNS``; reject rows that cannot be parsed."""
    for row in rows:
        environment, service, *_, mac = row
        try:
            yield parse_overlay(row), msgspec.convert(mac, bytes)
        except msgspec.MsgspecError:
            verifier.reject(f"{environment}/{service}/overlay", str(environment), str(service))
