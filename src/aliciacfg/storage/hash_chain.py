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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from aliciacfg import documents
from aliciacfg.documents import JsonObject
from aliciacfg.errors import InvalidRequest, OperationError
from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay, Record, RecordHead
from aliciacfg.sealing.boxes import CannotOpen, Keyring, UnknownKey, is_sealed

START = b"\x00" * 32
"""What the first row is linked to."""
TORN = b"\xff" * 32
"""What a row is linked to where the end of the chain was tampered with: it never is confirmed."""

_NAME_BYTES = 4
_REMEDIES = {
    "tokens": " and proves nobody; revoke it and make another",
    "recipients": ", so nothing is sealed to its key; set it anew",
}

End = tuple[int, bytes, bytes, bytes]
"""The note about the end of the chain: sequence and code of the last row, sum of the codes of standing rows, seal.

Standing rows are those that are replaced, not added to: overlays, tokens, recipients, schemas, the table of names.
"""


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that the chain does not confirm; ``message`` says why."""

    subject: str
    message: str
    environment: str
    service: str


@dataclass(frozen=True, slots=True)
class Misshapen:
    """A row in the chain that is not even formed like one that was ever written; the first part names it."""

    subject: str
    environment: str
    service: str
    sequence: int
    mac: bytes


@dataclass(slots=True)
class Findings:
    """What a verification found.

    Attributes:
        confirmed: How many rows are as they were written.
        unreadable: How many of these hold secrets whose key is not here, so that their content was not compared.
        broken: The others.
    """

    confirmed: int = 0
    unreadable: int = 0
    broken: list[Broken] = field(default_factory=list[Broken])


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
        document = documents.decode(record.config)
        opened: dict[str, str] = {}
        for pointer, value in documents.walk_strings(document):
            if is_sealed(value):
                try:
                    opened[pointer] = self._keyring.open(
                        value, service=record.service, environment=record.environment, pointer=pointer
                    )
                except UnknownKey:
                    return None
                except CannotOpen as error:
                    raise InvalidRequest(f"{pointer} {error}") from error
        plain = documents.replace_strings(document, opened)
        if not isinstance(plain, dict):
            raise InvalidRequest("a configuration is an object")
        digest = self.digest(plain, service=record.service, environment=record.environment)
        plain.pop("version", None)
        return digest, checksum(self._keyring, record.service, plain, opened)

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


def checksum(keyring: Keyring, service: str, document: JsonObject, secrets: dict[str, str]) -> str:
    """SHA-256 in hex of the canonical JSON of a document without ``version``.

    Each secret counts as its keyed digest, so that the checksum neither tells it nor changes with its box.
    """
    digests = {pointer: keyring.digest(value, service=service, pointer=pointer) for pointer, value in secrets.items()}
    return hashlib.sha256(documents.canonical(documents.replace_strings(document, digests))).hexdigest()


def total(sum_of_others: bytes, *codes: bytes) -> bytes:
    """The sum of the codes of a set of rows; adding one that is in it takes it out again.

    Sums of codes that nobody can make tell sets apart: which rows there are, and that none is one of before.
    """
    result = int.from_bytes(sum_of_others, "big")
    for code in codes:
        # Without the name of the key; of a code that somebody made longer a part, which tells apart all the same.
        result ^= int.from_bytes(code[-len(START) :], "big")
    return result.to_bytes(len(START), "big")


class Verifier:
    """Walks the chain from its start, a piece at a time."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._mac = START
        self._sequence = 0
        self._standing = START
        self.findings = Findings()

    def feed(self, rows: Iterable[ChainedRow | Misshapen]) -> None:
        """Take the next rows, by ``sequence``."""
        for row in rows:
            if isinstance(row, Misshapen):
                self.reject(row.subject, row.environment, row.service)
            elif (reason := self._reason(row)) is None:
                self.findings.confirmed += 1
            else:
                self._broken(row, reason)
            # Go on from what is stored: one broken row does not make all behind it suspect.
            self._mac, self._sequence = row.mac, row.sequence

    def reject(self, subject: str, environment: str, service: str) -> None:
        """Take note of a row that is not formed like any that was written, so that nothing can be compared."""
        message = f"the row {subject} is not formed like any that was written"
        self.findings.broken.append(Broken(subject, message, environment, service))

    def end(self, found: Sequence[object] | None) -> Findings:
        """Compare what there was with the note about the end of the chain."""
        end = self._chain.confirmed_end(found)
        if end is None:
            self._missing("the note about the end of the chain was changed")
            return self.findings
        sequence, mac, standing, _ = end
        if (sequence, mac) != (self._sequence, self._mac):
            self._missing(f"the chain ends at row {self._sequence}, but was written to row {sequence}")
        if standing != self._standing:
            message = (
                "changes made at run time, tokens, recipients, schemas or settings were taken out of the database, put "
                "into it, or put back to older ones"
            )
            self.findings.broken.append(Broken("standing", message, "", ""))
        return self.findings

    def check_overlays(self, overlays: Iterable[tuple[Overlay, bytes]]) -> None:
        """Compare each overlay with its code."""
        for overlay, mac in overlays:
            self._standing = total(self._standing, mac)
            if hmac.compare_digest(self._chain.seal_overlay(overlay), mac):
                self.findings.confirmed += 1
            else:
                subject = f"{overlay.environment}/{overlay.service}/overlay"
                message = "the changes made at run time were changed in the database; set the service anew"
                self.findings.broken.append(Broken(subject, message, overlay.environment, overlay.service))

    def check_rows(self, table: str, rows: Iterable[tuple[Sequence[object], object]]) -> None:
        """Compare each other standing row of a table with its code."""
        for row, code in rows:
            if isinstance(code, bytes):
                self._standing = total(self._standing, code)
            if self._chain.confirms_row(table, row, code):
                self.findings.confirmed += 1
            else:
                subject = f"{table}/{row[0]}"
                message = f"the row {subject} is not what was written{_REMEDIES.get(table, '')}"
                self.findings.broken.append(Broken(subject, message, "", ""))

    def _reason(self, row: ChainedRow) -> str | None:
        if row.sequence <= self._sequence:
            return "it does not stand in its place"
        if row.sequence != self._sequence + 1:
            return f"rows {self._sequence + 1} to {row.sequence - 1} before it are missing"
        if not hmac.compare_digest(self._chain.link(self._mac, row.row), row.mac):
            return "it, or the row before it, is not what was written"
        if isinstance(row.row, AuditEntry):
            return None
        try:
            content = self._chain.recompute(row.row)
        except OperationError:
            return "its configuration is not what was written"
        if content is None or not row.row.digest:
            self.findings.unreadable += 1
        elif content != (row.row.digest, row.row.checksum):
            return "its configuration or its checksum is not what was written"
        return None

    def _broken(self, chained: ChainedRow, reason: str) -> None:
        row = chained.row
        if isinstance(row, AuditEntry):
            subject, what = f"audit/{chained.sequence}", f"entry {chained.sequence} of the audit"
        else:
            subject = f"{row.environment}/{row.service}/{row.revision}"
            what = f"revision {row.revision} of {row.service} in {row.environment}"
        message = f"{what} is not confirmed: {reason}"
        self.findings.broken.append(Broken(subject, message, row.environment or "", row.service or ""))

    def _missing(self, message: str) -> None:
        self.findings.broken.append(Broken("end", f"{message}: rows may have been cut off", "", ""))
