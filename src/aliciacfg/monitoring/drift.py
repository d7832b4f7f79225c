"""Drift: differences from the state in the store, from their discovery until they are gone."""

from collections.abc import Callable, Mapping
from typing import get_args

import msgspec

from aliciacfg.api.answers.monitoring import DriftItem
from aliciacfg.model.records import DriftKind
from aliciacfg.monitoring.alerts import Alerts

KINDS: tuple[DriftKind, ...] = get_args(DriftKind)
_MAX_ITEMS = 1000


class Finding(msgspec.Struct, frozen=True):
    """A difference that was found.

    Attributes:
        message: What was found and what to do.
        service: The service concerned, if there is one.
        logged: Whether the log has a line about its cause already.
    """

    message: str
    service: str | None = None
    logged: bool = False


class Drift:
    """The current findings by kind and subject; raises one alert for each new finding.

    It keeps at most 1000 findings; further ones are dropped, without an alert, until others are removed.

    Attributes:
        found: The number of findings of each kind since the start.
    """

    def __init__(self, alerts: Alerts, clock: Callable[[], float]) -> None:
        self._alerts = alerts
        self._clock = clock
        self._items: dict[tuple[DriftKind, str], DriftItem] = {}
        self.found: dict[str, int] = dict.fromkeys(KINDS, 0)

    @property
    def items(self) -> list[DriftItem]:
        """The current findings, oldest first."""
        return sorted(self._items.values(), key=lambda item: item.since)

    @property
    def counts(self) -> dict[str, int]:
        """The number of current findings of each kind."""
        return {kind: sum(1 for known, _ in self._items if known == kind) for kind in KINDS}

    def report(
        self, kind: DriftKind, subject: str, message: str, *, service: str | None = None, logged: bool = False
    ) -> None:
        """Add a finding, or replace the message of a known one.

        Args:
            kind: The kind of drift.
            subject: The topic, file, row or instance that differs.
            message: What was found and what to do.
            service: The service concerned, if there is one.
            logged: Whether the log has a line about its cause already.
        """
        key = (kind, subject)
        known = self._items.get(key)
        if known is not None:
            self._items[key] = msgspec.structs.replace(known, message=message)
            return
        if len(self._items) >= _MAX_ITEMS:
            return
        self._items[key] = DriftItem(kind=kind, subject=subject, message=message, since=self._clock(), service=service)
        self.found[kind] += 1
        self._alerts.emit("drift", message, service=service, logged=logged)

    def remove(self, kind: DriftKind, subject: str) -> None:
        """Remove a finding, if there is one."""
        self._items.pop((kind, subject), None)

    def replace(self, kind: DriftKind, findings: Mapping[str, Finding]) -> None:
        """Replace all findings of one kind; ``findings`` are by subject."""
        for known, subject in list(self._items):
            if known == kind and subject not in findings:
                self.remove(kind, subject)
        for subject, finding in findings.items():
            self.report(kind, subject, finding.message, service=finding.service, logged=finding.logged)
