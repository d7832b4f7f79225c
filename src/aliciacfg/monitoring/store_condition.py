"""What is wrong with the store at present, for health, readiness and alerts."""

from collections.abc import Mapping
from typing import Literal

from aliciacfg.monitoring.alerts import Alerts

Fault = Literal["write", "read", "slow", "hung", "damage", "rows"]
"""The store cannot be written, cannot be read, a write takes long or very long, the database is damaged, rows in it are
not what was written."""

Level = Literal["healthy", "degraded", "unhealthy"]

_LEVELS: Mapping[Fault, Level] = {
    "write": "unhealthy",
    "read": "unhealthy",
    "slow": "degraded",
    "hung": "unhealthy",
    "damage": "degraded",
    "rows": "degraded",
}


class StoreCondition:
    """The present faults of the store; each is a condition of the alert ``store``."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._faults: dict[Fault, str] = {}

    def report(self, fault: Fault, message: str) -> None:
        """Note a fault, or that a known one has another message.

        Args:
            fault: The kind of fault.
            message: What is wrong and what to do, without any stored value.
        """
        self._faults[fault] = message
        self._alerts.raise_("store", message, of=fault)

    def clear(self, *faults: Fault) -> None:
        """Note that faults are over."""
        for fault in faults:
            if self._faults.pop(fault, None) is not None:
                self._alerts.clear("store", of=fault)

    def on_read(self, failure: str | None) -> None:
        """Note that a read succeeded (None), or why it failed."""
        if failure is None:
            self.clear("read")
        else:
            self.report(
                "read",
                f"{failure} What is in memory is served, the history and the audit log are not. See whether its disk "
                "is failing; a daemon that runs goes on by itself when it can read. If the database is damaged, "
                "restore a backup (`aliciacfg restore FILE`).",
            )

    def has(self, fault: Fault) -> bool:
        """Return whether there is this fault at present."""
        return fault in self._faults

    @property
    def level(self) -> Level:
        """How the daemon is, as far as its store is concerned."""
        levels = {_LEVELS[fault] for fault in self._faults}
        return "unhealthy" if "unhealthy" in levels else "degraded" if levels else "healthy"

    @property
    def usable(self) -> bool:
        """Whether writes are made at present, and made in time."""
        return self._faults.keys() <= {"damage", "rows"}
