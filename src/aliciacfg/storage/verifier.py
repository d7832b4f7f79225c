"""Compares stored rows with the keyed hash chain."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aliciacfg.errors import OperationError
from aliciacfg.model.records import AuditEntry, ChainedRow, Overlay
from aliciacfg.storage.hash_chain import BEGINNING, START, Chain, ChainStart, MalformedRow, equals, sum_macs

_REMEDIES = {
    "tokens": " and is not accepted; remove it: aliciacfg token revoke {key}",
    "recipients": ", so nothing is sealed to its key; make one again: aliciacfg recipient new {key}",
    "schemas": " and is not used; it is written again when the files are loaded",
    "meta": " and is not used",
    "told": " and is not used; everything is published again, in another epoch, if services are ahead",
    "outbox": " and is not published; the message is made again at the next start",
    "applied": " and is not used; it is replaced by the next report",
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that the chain does not confirm.

    Attributes:
        subject: Names the row: ``<environment>/<service>/<revision>``, ``<environment>/<service>/overlay``,
            ``audit/<sequence>``, ``<table>/<key>``; ``end`` and ``standing`` if rows are missing.
        message: What was found and what to do, for an operator.
        environment: The environment that the row is about; empty if none.
        service: The service that the row is about; empty if none.
    """

    subject: str
    message: str
    environment: str
    service: str


@dataclass(slots=True)
class Findings:
    """The result of a verification.

    Attributes:
        confirmed: The number of rows that are as they were written.
        unreadable: How many of these hold secrets whose key is not here, so that their content was not compared.
        broken: All other rows.
        damage: What is wrong with the database itself, so that rows may be missing or unreadable; no stored values.
    """

    confirmed: int = 0
    unreadable: int = 0
    broken: list[Broken] = field(default_factory=list[Broken])
    damage: list[str] = field(default_factory=list[str])


class Verifier:
    """Follows the chain from its start, and compares standing rows with their MACs.

    A store feeds all its rows in any number of pieces: ``check_chain`` in the order of the chain, ``check_overlays``
    and ``check_rows`` for each other table, then ``finish``.
    """

    def __init__(self, chain: Chain, start: ChainStart = BEGINNING) -> None:
        """Begin.

        Args:
            chain: Computes the MACs.
            start: Where the links of the chain begin.
        """
        self._chain = chain
        self._start = start
        # The sum over the places of the rows before the start.
        self._kept = START
        # Of the last row that was checked.
        self._mac = START
        self._sequence = 0
        # The sum of the MACs of the standing rows that were checked.
        self._standing = START
        self.findings = Findings()

    def check_chain(self, rows: Iterable[ChainedRow | MalformedRow]) -> None:
        """Compare the next rows of the chain, in ascending order of ``sequence``."""
        for row in rows:
            if row.sequence <= self._start.sequence:
                self._kept = sum_macs(self._kept, self._chain.presence(row.sequence))
            else:
                self._begin_links()
            if isinstance(row, MalformedRow):
                self.reject(row.subject, row.environment, row.service)
            elif (reason := self._reason(row)) is None:
                self.findings.confirmed += 1
            else:
                self._add_broken(row, reason)
            # Continues from what is stored: one broken row does not make all later ones suspect.
            self._mac, self._sequence = row.mac, row.sequence

    def reject(self, subject: str, environment: str, service: str) -> None:
        """Record a row that cannot be parsed, so that nothing can be compared."""
        message = f"the row {subject} cannot be parsed, so it is not what was written"
        self.findings.broken.append(Broken(subject, message, environment, service))

    def reject_program(self, kind: str, name: str) -> None:
        """Record a program in the database, such as a trigger: no daemon makes one."""
        subject = f"{kind}/{name}"
        message = f"the database has the {subject}, which can undo what is written; the next start removes it"
        self.findings.broken.append(Broken(subject, message, "", ""))

    def check_overlays(self, overlays: Iterable[tuple[Overlay, bytes]]) -> None:
        """Compare each overlay with its MAC."""
        for overlay, mac in overlays:
            self._standing = sum_macs(self._standing, mac)
            if hmac.compare_digest(self._chain.overlay_mac(overlay), mac):
                self.findings.confirmed += 1
            else:
                subject = f"{overlay.environment}/{overlay.service}/overlay"
                message = "its run-time changes were edited in the database; set the service again"
                self.findings.broken.append(Broken(subject, message, overlay.environment, overlay.service))

    def check_rows(self, table: str, rows: Iterable[tuple[Sequence[object], object]], *, counted: bool = True) -> None:
        """Compare each row of a table, its key first, with its code.

        Args:
            table: The table.
            rows: Its rows, each with its code, of any type.
            counted: Whether they are standing rows, so that the end of the chain says which there are.
        """
        for row, mac in rows:
            if counted and isinstance(mac, bytes):
                self._standing = sum_macs(self._standing, mac)
            if self._chain.confirms_row(table, row, mac):
                self.findings.confirmed += 1
            else:
                subject = f"{table}/{row[0]}"
                message = f"the row {subject} is not what was written{_REMEDIES.get(table, '').format(key=row[0])}"
                self.findings.broken.append(Broken(subject, message, "", ""))

    def finish(self, stored: Sequence[object] | None) -> Findings:
        """Compare the rows that were checked with the stored end of the chain, and return all findings."""
        self._begin_links()
        if self._kept != self._start.kept:
            self._add_missing(f"not the rows up to {self._start.sequence} are there that were kept")
        end = self._chain.confirmed_end(stored)
        if end is None:
            self._add_missing("the end of the chain was changed")
            return self.findings
        sequence, mac, standing, _ = end
        if (sequence, mac) != (self._sequence, self._mac):
            self._add_missing(f"the chain ends at row {self._sequence}, but was written up to row {sequence}")
        if standing != self._standing:
            message = (
                "run-time changes, tokens, recipients, schemas or settings were removed from the database, added to "
                "it, or replaced by older ones"
            )
            self.findings.broken.append(Broken("standing", message, "", ""))
        return self.findings

    def _begin_links(self) -> None:
        """Link the next row to the start of the chain, if it is the first one behind it."""
        if self._sequence < self._start.sequence:
            self._sequence, self._mac = self._start.sequence, self._start.mac

    def _reason(self, row: ChainedRow) -> str | None:
        """Return why the chain does not confirm a row, or None if it does."""
        if row.sequence <= self._sequence:
            return "it is not in its place"
        if row.sequence > self._start.sequence:
            if row.sequence != self._sequence + 1:
                return f"rows {self._sequence + 1} to {row.sequence - 1} before it are missing"
            if not hmac.compare_digest(self._chain.link(self._mac, row.row), row.mac):
                return "it, or the row before it, is not what was written"
        if isinstance(row.row, AuditEntry):
            intact = equals(self._chain.audit_code(row.row, row.sequence), row.code)
            return None if intact else "its code is not the one that was written"
        try:
            content = self._chain.recompute(row.row)
        except OperationError:
            return "its configuration is not what was written"
        if content is None:
            self.findings.unreadable += 1
        # One with a secret that did not open when it was adopted has no digest; the code below covers it as it is.
        elif row.row.digest and content != (row.row.digest, row.row.checksum):
            return "its configuration or its checksum is not what was written"
        if not equals(self._chain.record_code(row.row, row.sequence), row.code):
            return "its configuration is not what was written"
        return None

    def _add_broken(self, chained: ChainedRow, reason: str) -> None:
        row = chained.row
        if isinstance(row, AuditEntry):
            subject, what = f"audit/{chained.sequence}", f"entry {chained.sequence} of the audit log"
        else:
            subject = f"{row.environment}/{row.service}/{row.revision}"
            what = f"revision {row.revision} of {row.service} in {row.environment}"
        message = f"{what} is not confirmed: {reason}"
        self.findings.broken.append(Broken(subject, message, row.environment or "", row.service or ""))

    def _add_missing(self, message: str) -> None:
        self.findings.broken.append(Broken("end", f"{message}: rows may be missing", "", ""))
