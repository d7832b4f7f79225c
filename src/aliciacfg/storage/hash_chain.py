"""The keyed hash chain over everything that was ever recorded, and the keyed codes of single rows.

Every row has a code: an HMAC-SHA-256 (RFC 2104) over all that is stored in it. A row whose code is not that of this
key was not written by this daemon, and no read returns it. Only a verification finds rows that are gone:

- Revisions and audit entries are only ever added. Each also has a MAC over the MAC of the previous row and itself, so
  that the holder of the key detects every row that was changed, added, removed or moved. The MAC of a revision covers
  its content with all secrets in plain text: sealing the content again changes its code, but not its MAC.
- Overlays, tokens, recipients, schemas and the ``meta`` table are replaced when they change. The end of the chain,
  itself authenticated, holds the sum of the codes of these *standing rows*.
- Announcements and reports of instances may be missing: they are made again.

Old revisions and audit entries may be removed by the daemon itself (retention). The chain then begins later: at a
``ChainStart``, itself a standing row. The rows before it that are kept are confirmed by their codes alone, and a sum
over their places shows whether one of them is missing.

Neither detects that a row was replaced by an older one of the same place that this daemon wrote too, until the next
verification; or ever, that the whole database was replaced by an older copy: restoring a backup looks the same. What is
kept outside of it shows that: see ``Store.witnessed`` and ``core.order``.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest
from aliciacfg.model.records import AuditEntry, Overlay, Position, Record, RecordHead
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.keyed_hash import KeyedHash
from aliciacfg.sealing.sealed_documents import MissingKey, checksum, open_document

START = b"\x00" * 32
"""The MAC that the first row is linked to, and the sum of no MACs."""
TORN = b"\xff" * 32
"""The MAC that a row is linked to if the end of the chain was tampered with; a verification never confirms it."""

KEY_NAME_BYTES = 4

End = tuple[int, bytes, bytes, bytes]
"""The end of the chain: sequence and MAC of the last row, sum of the MACs of standing rows, MAC of these three."""


@dataclass(frozen=True, slots=True)
class ChainStart:
    """Where the links of the chain begin, after older rows were removed.

    Attributes:
        sequence: The place of the last row that needs no link; 0 if all do.
        mac: The MAC that the row behind it is linked to.
        kept: The sum of ``Chain.presence`` over the rows up to that place that are kept.
    """

    sequence: int
    mac: bytes
    kept: bytes


BEGINNING = ChainStart(0, START, START)
"""The start of a chain from which nothing was removed."""


@dataclass(frozen=True, slots=True)
class MalformedRow:
    """A row of the chain that cannot be parsed; ``subject`` names it, as in ``verifier.Broken``."""

    subject: str
    environment: str
    service: str
    sequence: int
    mac: bytes


class Chain:
    """Computes and compares MACs, codes and digests; holds the key, but no rows.

    Digests and codes begin with a short name of the key that made them. The name proves nothing, and nothing is
    believed because of it: rows of another key count only once they were adopted (``Database.adopt``).

    Attributes:
        key_name: The short name of the key.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._mac = KeyedHash(keyring.derive(b"aliciacfg chain v1")).digest
        self._keyring = keyring
        self.key_name = self._mac(b"name")[:KEY_NAME_BYTES]

    def digest(self, document: JsonObject, *, service: str, environment: str) -> str:
        """Return the keyed digest of a configuration, ``version`` included, with its secrets in plain text.

        Returns:
            The name of the key and the MAC, both in hexadecimal, separated by a colon.
        """
        mac = self._mac(documents.canonical([environment, service, document]))
        return f"{self.key_name.hex()}:{mac.hex()}"

    def link(self, previous: bytes, row: RecordHead | AuditEntry) -> bytes:
        """Return the MAC of a row that follows the row whose MAC is ``previous``."""
        return self._mac(previous + msgspec.json.encode(_linked_fields(row)))

    def presence(self, sequence: int) -> bytes:
        """Return a code that stands for a row at a place of the chain, with any content; see ``ChainStart``."""
        return self._mac(b"row kept at %d" % sequence)

    def record_code(self, record: Record, sequence: int) -> bytes:
        """Return the code of a revision as it is stored, at its place in the chain."""
        return self._record_code(record, sequence, msgspec.json.encode(_linked_fields(record)))

    def audit_code(self, entry: AuditEntry, sequence: int) -> bytes:
        """Return the code of an audit entry, at its place in the chain."""
        return self._audit_code(sequence, msgspec.json.encode(_linked_fields(entry)))

    def link_and_code(self, previous: bytes, row: Record | AuditEntry, sequence: int) -> tuple[bytes, bytes]:
        """Return the MAC of a row as ``link`` does, and its code; what both cover is encoded once."""
        linked = msgspec.json.encode(_linked_fields(row))
        if isinstance(row, Record):
            return self._mac(previous + linked), self._record_code(row, sequence, linked)
        return self._mac(previous + linked), self._audit_code(sequence, linked)

    def _record_code(self, record: Record, sequence: int, linked: bytes) -> bytes:
        # Both lists without their brackets.
        fields, content = linked[1:-1], msgspec.json.encode([record.checksum, record.config])[1:-1]
        return self.key_name + self._mac(b'["stored revision",%d,%b,%b]' % (sequence, fields, content))

    def _audit_code(self, sequence: int, linked: bytes) -> bytes:
        return self.key_name + self._mac(b'["stored audit",%d,%b]' % (sequence, linked[1:-1]))

    def overlay_mac(self, overlay: Overlay) -> bytes:
        """Return the code of an overlay as it is stored, with its secrets sealed."""
        row = [overlay.environment, overlay.service, overlay.patch, overlay.origins]
        return self.key_name + self._mac(msgspec.json.encode(row))

    def row_mac(self, table: str, row: Sequence[object]) -> bytes:
        """Return the code of a row that is neither in the chain nor an overlay.

        Args:
            table: Its table.
            row: Its values in the order of its columns, without the MAC.
        """
        # A database may return a whole number of seconds as an integer or as a float.
        values = [float(value) if isinstance(value, int) else value for value in row]
        return self.key_name + self._mac(msgspec.json.encode(["row", table, *values]))

    def confirms_row(self, table: str, row: Sequence[object], mac: object) -> bool:
        """Return whether a row that is neither in the chain nor an overlay is what was written, with this key."""
        return equals(self.row_mac(table, row), mac)

    def end(self, sequence: int, mac: bytes, standing: bytes) -> End:
        """Return the authenticated end of the chain, without which the last rows could be removed unnoticed.

        Args:
            sequence: The sequence of the last row.
            mac: The MAC of the last row.
            standing: The ``sum_macs`` of all standing rows.
        """
        return sequence, mac, standing, self._mac(msgspec.json.encode(["end", sequence, mac.hex(), standing.hex()]))

    def confirmed_end(self, stored: Sequence[object] | None) -> End | None:
        """Return the stored end of the chain, or None if it is missing or not what ``end`` returned."""
        match stored:
            case [int(sequence), bytes(mac), bytes(standing), end_mac]:
                end = self.end(sequence, mac, standing)
                return end if equals(end[-1], end_mac) else None
            case _:
                return None

    def position_mac(self, position: Position) -> bytes:
        """Return the MAC of a position of the home that is kept outside of the database."""
        return self._mac(msgspec.json.encode(["position", position.epoch, position.sequence]))

    def confirms_position(self, position: Position, mac: bytes) -> bool:
        """Return whether ``position_mac`` made a MAC, with this key."""
        return equals(self.position_mac(position), mac)

    def confirms_overlay(self, overlay: Overlay, mac: object) -> bool:
        """Return whether an overlay is what was written, with this key."""
        return equals(self.overlay_mac(overlay), mac)

    def recompute(self, record: Record) -> tuple[str, str] | None:
        """Return digest and checksum of a revision's content; None if the key of a secret in it is not here.

        Raises:
            OperationError: The content is not a JSON object, or a secret in it is damaged.
        """
        if record.deleted:
            if record.config != b"{}":
                raise InvalidRequest("a deletion holds no configuration")
            return self.digest({}, service=record.service, environment=record.environment), ""
        opened = open_document(
            documents.decode_object(record.config),
            self._keyring,
            service=record.service,
            environment=record.environment,
        )
        damaged = [problem for problem in opened.problems if not isinstance(problem, MissingKey)]
        if damaged:
            raise InvalidRequest(f"{damaged[0].pointer} {damaged[0].message}")
        if opened.problems:
            return None
        digest = self.digest(opened.document, service=record.service, environment=record.environment)
        plain = {key: value for key, value in opened.document.items() if key != "version"}
        return digest, checksum(self._keyring, record.service, plain, opened.secrets)


def _linked_fields(row: RecordHead | AuditEntry) -> list[object]:
    """Return the fields of a row that its MAC covers; a revision's digest stands for its checksum and content."""
    if isinstance(row, AuditEntry):
        return [
            "audit", row.timestamp, row.who, row.where, row.operation, row.outcome, row.environment, row.service,
            row.before, row.after, row.detail, row.count,
        ]  # fmt: skip
    fields: list[object] = [
        "revision", row.environment, row.service, row.revision, row.version, row.timestamp, row.author, row.cause,
        row.digest, row.changed, row.restart_required, row.breaking, row.comment, row.deleted,
    ]  # fmt: skip
    # Revisions from before there was such a number have none.
    return [*fields, row.home_sequence] if row.home_sequence else fields


def equals(code: bytes, stored: object) -> bool:
    """Compare a code with a stored one, which may be of any type, in constant time."""
    return isinstance(stored, bytes) and hmac.compare_digest(code, stored)


def sum_macs(total: bytes, *macs: bytes) -> bytes:
    """Add MACs to a sum, or remove those that are in it already: the sum is an exclusive or.

    Only the holder of the key can compute MACs, so that two different sets of rows have different sums.
    """
    result = int.from_bytes(total, "big")
    for mac in macs:
        # Leaves out the name of the key. A stored MAC that was made longer differs in its last bytes all the same.
        result ^= int.from_bytes(mac[-len(START) :], "big")
    return result.to_bytes(len(START), "big")
