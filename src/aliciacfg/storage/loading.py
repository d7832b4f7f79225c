"""Turns the rows of a database into what a start needs, for every backend.

A row that is not what was written is left out wherever another one can take its place.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from aliciacfg.model.records import Overlay, Position, Record, RecordHead, StoredState, Token
from aliciacfg.storage.hash_chain import Chain
from aliciacfg.storage.rows import (
    OWN_NAMES,
    Row,
    ordered_record,
    parse_position,
    parse_stored_overlay,
    parse_token,
    record_subject,
)

T = TypeVar("T")


def add_newest(rows: Iterable[Row], chain: Chain, state: StoredState) -> None:
    """Add the newest revision of a configuration that is what was written, and the number of the last row after it.

    Args:
        rows: The rows of ``RECORD_COLUMNS``, sequence and code of the configuration, newest first. No more of them are
            read than needed.
        chain: Confirms them.
        state: Is added to.
    """
    passed: set[object] = set()
    number = 0
    configuration: tuple[object, object] = ("", "")
    for row in rows:
        configuration = row[0], row[1]
        found = ordered_record(row, chain)
        if found is not None:
            state.records.append(found)
            number = found.revision
            break
        passed.add(row[2])
        state.dropped.append(record_subject(row))
    # A number far above is forged; one that follows was perhaps used, by a row that was changed since.
    while number + 1 in passed:
        number += 1
    if passed:
        state.used_numbers[str(configuration[0]), str(configuration[1])] = number


def read_overlays(rows: Iterable[Row], chain: Chain, dropped: list[str]) -> Iterator[Overlay]:
    """Yield overlays, ``confirmed`` or not; name those that are not what was written in ``dropped``."""
    for row in rows:
        subject = f"{row[0]}/{row[1]}/overlay"
        try:
            overlay = parse_stored_overlay(row, chain)
        except msgspec.MsgspecError:
            dropped.append(subject)
            continue
        if not overlay.confirmed:
            dropped.append(subject)
        yield overlay


def read_confirmed(
    table: str, rows: Iterable[tuple[Row, object]], chain: Chain, parse: Callable[[Row], T], dropped: list[str]
) -> Iterator[T]:
    """Yield the rows of a table that are what was written; name the others in ``dropped``.

    Args:
        table: The table.
        rows: Its rows, each with its code, of any type.
        chain: Confirms them.
        parse: Makes the result from a row.
        dropped: Is added to.
    """
    for row, mac in rows:
        try:
            if chain.confirms_row(table, row, mac):
                yield parse(row)
                continue
        except msgspec.MsgspecError:
            pass
        dropped.append(f"{table}/{row[0]}")


def read_tokens(rows: Iterable[tuple[Row, object]], chain: Chain) -> list[Token]:
    """Return every token that can be parsed, ``confirmed`` or not."""
    found: list[Token] = []
    for row, mac in rows:
        with contextlib.suppress(msgspec.MsgspecError):
            found.append(parse_token(row, confirmed=chain.confirms_row("tokens", row, mac)))
    return found


def add_meta(meta: Mapping[str, str], state: StoredState) -> StoredState:
    """Return a state with the names and values that are not the store's own, and with the position of the home.

    If the store does not say the position, it is that of the last change.
    """
    state.meta.update({name: value for name, value in meta.items() if name not in OWN_NAMES})
    stored = parse_position(meta)
    places = [
        *(record.home_sequence for record in state.records),
        *(item.home_sequence for item in state.renewals),
        *(item.sequence for item in state.announcements),
    ]
    return msgspec.structs.replace(state, position=Position(stored.epoch, max(stored.sequence, *places, 0)))


def head_of(record: Record) -> RecordHead:
    """Return a revision without its content."""
    return RecordHead(**{name: getattr(record, name) for name in RecordHead.__struct_fields__})


def not_as_written(environment: str, service: str, revision: int) -> str:
    """Return the message about a revision that is asked for and is not what was written."""
    return (
        f"Revision {revision} of {service} in {environment} differs from what was written: the database was "
        "changed outside aliciacfg. Read another revision, or restore a backup."
    )
