"""Drift: what is not as the store has it, found by whoever looks, until it is mended."""

from collections.abc import Callable, Mapping
from typing import get_args

import msgspec

from aliciacfg.api.answers import DriftItem
from aliciacfg.model.records import DriftKind
from aliciacfg.monitoring.alerts import Alerts

KINDS: tuple[DriftKind, ...] = get_args(DriftKind)
_MAX_ITEMS = 1000


class Finding(msgspec.Struct, frozen=True):
    """What was found, and the service concerned, if it is one."""

    message: str
    service: str | None = None


class Drift:
    """What drifts now, by kind and subject; each new finding is alerted once.

    Of very many at a time the rest is neither kept nor told: whoever mends those sees them then.

    Attributes:
        found: How often each kind was found since the start.
    """

    def __init__(self, alerts: Alerts, clock: Callable[[], float]) -> None:
        self._alerts = alerts
        self._clock = clock
        self._items: dict[tuple[DriftKind, str], DriftItem] = {}
        self.found: dict[str, int] = dict.fromkeys(KINDS, 0)

    @property
    def items(self) -> list[DriftItem]:
        """What drifts now, longest first."""
        return sorted(self._items.values(), key=lambda item: item.since)

    @property
    def counts(self) -> dict[str, int]:
        """How much of each kind drifts now."""
        return {kind: sum(1 for known, _ in self._items if known == kind) for kind in KINDS}

    def report(self, kind: DriftKind, subject: str, message: str, *, service: str | None = None) -> None:
        """Something drifts; said once for as long as it does."""
        key = (kind, subject)
        known = self._items.get(key)
        if known is not None:
            self._items[key] = msgspec.structs.replace(known, message=message)
            return
        if len(self._items) >= _MAX_ITEMS:
            return
        self._items[key] = DriftItem(kind=kind, subject=subject, message=message, since=self._clock(), service=service)
        self.found[kind] += 1
        self._alerts.emit("drift", message, service=service)

    def mend(self, kind: DriftKind, subject: str) -> None:
        """It drifts no more."""
        self._items.pop((kind, subject), None)

    def settle(self, kind: DriftKind, findings: Mapping[str, Finding]) -> None:
        """All that drifts of one kind, by subject; what is not in it drifts no more."""
        for known, subject in list(self._items):
            if known == kind and subject not in findings:
                self.mend(kind, subject)
        for subject, finding in findings.items():
            self.report(kind, subject, finding.message, service=finding.service)
