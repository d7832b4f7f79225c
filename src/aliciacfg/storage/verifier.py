"""Compares stored rows with the keyed hash chain."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aliciacfg.errors import OperationError
from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay
from aliciacfg.storage.hash_chain import START, Chain, Misshapen, total

_REMEDIES = {
    "tokens": " and proves nobody; revoke it and make another",
    "recipients": ", so nothing is sealed to its key; set it anew",
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that the chain does not confirm; ``message`` says why."""

    subject: str
    message: str
    environment: str
    service: str


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
