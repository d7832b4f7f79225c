"""The keyed hash chain over everything that was ever recorded.

Each row's code is HMAC-SHA-256 over the code of the row before and the row itself, so that a row which somebody
changed, added, took out or moved is not confirmed, by whoever has the key. Rows that are replaced and not added to
stand for themselves: each has a code of its own, and the note about the chain's end has the sum of those codes.

The content counts with its secrets in the open: sealing it anew, with another key or because a schema now calls more of
it secret, changes no code.

What the chain cannot tell: that the whole database was put back to an older state, which is what restoring a backup
is.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest, OperationError
from aliciacfg.model.records import AuditEntry, Overlay, Record, RecordHead
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.sealed_documents import MissingKey, checksum, open_document

START = b"\x00" * 32
"""What the first row is linked to."""
TORN = b"\xff" * 32
"""What a row is linked to where the end of the chain was tampered with: it never is confirmed."""

_NAME_BYTES = 4

End = tuple[int, bytes, bytes, bytes]
"""The note about the end of the chain: sequence and code of the last row, sum of the codes of standing rows, seal.

Standing rows are those that are replaced, not added to: overlays, tokens, recipients, schemas, the table of names.
"""


@dataclass(frozen=True, slots=True)
class Misshapen:
    """A row in the chain that is not even formed like one that was ever written; the first part names it."""

    subject: str
    environment: str
    service: str
    sequence: int
    mac: bytes


class Chain:
    """Computes codes; knows the key and no rows.

    Digests and the codes of overlays begin with a name of their key. It proves nothing, but what names another key,
    because the key file was lost, cannot be told from what somebody changed, and is not held against anybody who reads
    it.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive(b"aliciacfg chain v1")
        self._keyring = keyring
        self._name = self._code(b"name")[:_NAME_BYTES]

    def digest(self, document: JsonObject, *, service: str, environment: str) -> str:
        """Keyed digest of a configuration, ``version`` included, with its secrets in the open."""
        code = self._code(documents.canonical([environment, service, document]))
        return f"{self._name.hex()}:{code.hex()}"

    def link(self, previous: bytes, row: RecordHead | AuditEntry) -> bytes:
        """The code of a row behind the one whose code is ``previous``."""
        return self._code(previous + msgspec.json.encode(_counted(row)))

    def seal_overlay(self, overlay: Overlay) -> bytes:
        """The code of an overlay as it is stored, which stands for itself: overlays are replaced."""
        row = [overlay.environment, overlay.service, overlay.patch, overlay.origins]
        return self._name + self._code(msgspec.json.encode(row))

    def seal_row(self, table: str, row: Sequence[object]) -> bytes:
        """The code of another standing row: a token, a recipient, a schema, a name with its value."""
        # SQLite keeps whole seconds as it keeps fractions.
        values = [float(value) if isinstance(value, int) else value for value in row]
        return self._name + self._code(msgspec.json.encode(["row", table, *values]))

    def confirms_row(self, table: str, row: Sequence[object], code: object) -> bool:
        """Whether a standing row is what was written, with the key that is here."""
        return isinstance(code, bytes) and hmac.compare_digest(self.seal_row(table, row), code)

    def seal_end(self, sequence: int, mac: bytes, standing: bytes) -> End:
        """The note about the end of the chain, without which rows could be cut off unseen.

        Args:
            sequence: Of the last row.
            mac: Its code.
            standing: The ``total`` of the codes of all standing rows.
        """
        return sequence, mac, standing, self._code(msgspec.json.encode(["end", sequence, mac.hex(), standing.hex()]))

    def confirmed_end(self, found: Sequence[object] | None) -> End | None:
        """What was read as the note about the end of the chain, if it is one that ``seal_end`` made."""
        match found:
            case [int(sequence), bytes(mac), bytes(standing), bytes(sealed)]:
                end = self.seal_end(sequence, mac, standing)
                return end if hmac.compare_digest(end[-1], sealed) else None
            case _:
                return None

    def confirms(self, record: Record) -> bool:
        """Whether the content of a revision is what was written, as far as that can be told with the keys here."""
        try:
            content = self.recompute(record)
        except OperationError:
            return False
        foreign = not record.digest.startswith(f"{self._name.hex()}:")
        return content is None or foreign or content == (record.digest, record.checksum)

    def confirms_overlay(self, overlay: Overlay, code: object) -> bool:
        """Whether an overlay is what was written, as far as that can be told with the keys here."""
        if not isinstance(code, bytes):
            return False
        return not code.startswith(self._name) or hmac.compare_digest(self.seal_overlay(overlay), code)

    def recompute(self, record: Record) -> tuple[str, str] | None:
        """Digest and checksum that the content of a revision has; None where the key of a secret is not here.

        Raises:
            OperationError: The content is no JSON object, or a secret in it is damaged.
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

    def _code(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, hashlib.sha256)


def _counted(row: RecordHead | AuditEntry) -> list[object]:
    """What of a row the chain holds; of a revision neither checksum nor content, for which its digest stands."""
    if isinstance(row, AuditEntry):
        return [
            "audit", row.timestamp, row.who, row.where, row.operation, row.outcome, row.environment, row.service,
            row.before, row.after, row.detail, row.count,
        ]  # fmt: skip
    return [
        "revision", row.environment, row.service, row.revision, row.version, row.timestamp, row.author, row.cause,
        row.digest, row.changed, row.restart_required, row.breaking, row.comment, row.deleted,
    ]  # fmt: skip


def total(sum_of_others: bytes, *codes: bytes) -> bytes:
    """The sum of the codes of a set of rows; adding one that is in it takes it out again.

    Sums of codes that nobody can make tell sets apart: which rows there are, and that none is one of before.
    """
    result = int.from_bytes(sum_of_others, "big")
    for code in codes:
        # Without the name of the key; of a code that somebody made longer a part, which tells apart all the same.
        result ^= int.from_bytes(code[-len(START) :], "big")
    return result.to_bytes(len(START), "big")
