"""Running copies of services, as they report what they have applied.

Reports are believed as they come: the bus adapter says whose they are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from aliciacfg.api.answers import InstanceItem
from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.model.records import Applied, Record, Write
from aliciacfg.monitoring.drift import Drift, Finding

FORGOTTEN_SECONDS = 24 * 60 * 60
_MAX_INSTANCES = 64
_SAVE_SECONDS = 60.0


@dataclass(slots=True)
class _Wanted:
    """The revision that the copies of a service have to apply, and since when this is known."""

    environment: str
    revision: int
    since: float


@dataclass(slots=True)
class _Known:
    by_name: dict[str, Applied] = field(default_factory=dict[str, Applied])
    saved: dict[str, float] = field(default_factory=dict[str, float])
    wanted: _Wanted | None = None


class Instances:
    """What every known copy of every service runs."""

    def __init__(
        self,
        applied: Iterable[Applied],
        *,
        current: Callable[[str], Record | None],
        drift: Drift,
        grace_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """Take what is known.

        Args:
            applied: What the store has.
            current: The newest revision of a service in the active environment, if there is one.
            drift: Told which copies lag behind.
            grace_seconds: How long a copy may take to apply a revision.
            clock: Unix seconds.
        """
        self._services: dict[str, _Known] = {}
        self._current = current
        self._drift = drift
        self._grace = grace_seconds
        self._clock = clock
        for item in applied:
            known = self._services.setdefault(item.service, _Known())
            known.by_name[item.instance] = item
            known.saved[item.instance] = item.last_seen

    def of(self, service: str, *, current: Record) -> list[InstanceItem]:
        """The copies of a service by name, compared with a revision."""
        known = self._services.get(service, _Known())
        return [
            InstanceItem(
                instance=item.instance,
                revision=item.revision,
                checksum=item.checksum,
                status=item.status,
                since=item.since,
                last_seen=item.last_seen,
                current=_runs(item, current),
                error=item.error,
            )
            for _, item in sorted(known.by_name.items())
        ]

    def report(self, service: str, report: AppliedReport) -> Write | None:
        """Take a report; returns what has to be written, if anything has.

        A service without a configuration has no copies. Of too many copies those seen least recently are forgotten.
        """
        current = self._current(service)
        if current is None:
            return None
        known = self._services.setdefault(service, _Known())
        before = known.by_name.get(report.instance)
        now = self._clock()
        item = Applied(
            service=service,
            instance=report.instance,
            environment=current.environment,
            revision=report.revision,
            checksum=report.checksum,
            status=report.status,
            error=report.error,
            since=now,
            last_seen=now,
        )
        same = before is not None and _essence(before) == _essence(item)
        if same and before is not None:
            item = msgspec.structs.replace(item, since=before.since)
        known.by_name[report.instance] = item
        if same and now - known.saved[report.instance] < _SAVE_SECONDS:
            # Copies that report all the time must not make the disk busy.
            return None
        known.saved[report.instance] = now
        forgotten: list[Applied] = []
        while len(known.by_name) > _MAX_INSTANCES:
            forgotten.append(min(known.by_name.values(), key=lambda other: other.last_seen))
            del known.by_name[forgotten[-1].instance], known.saved[forgotten[-1].instance]
        return Write(applied=(item,), forgotten=tuple(forgotten))

    def forget(self, service: str) -> Write | None:
        """The service said goodbye; returns what has to be written, if anything has."""
        known = self._services.pop(service, None)
        return Write(forgotten=tuple(known.by_name.values())) if known is not None and known.by_name else None

    def look(self) -> None:
        """Find the copies that have not applied the current revision within their time."""
        now = self._clock()
        findings: dict[str, Finding] = {}
        for service, known in self._services.items():
            current = self._current(service)
            if current is None:
                continue
            wanted = known.wanted
            if wanted is None or (wanted.environment, wanted.revision) != (current.environment, current.revision):
                # Not when it was recorded: another environment's revision may be old, and is wanted only now.
                wanted = known.wanted = _Wanted(current.environment, current.revision, now)
            for item in known.by_name.values():
                message = self._lags(item, current, wanted, now)
                if message is not None:
                    findings[f"{service}/{item.instance}"] = Finding(message, service)
        self._drift.settle("instance", findings)

    def _lags(self, item: Applied, current: Record, wanted: _Wanted, now: float) -> str | None:
        if _runs(item, current) or now - item.last_seen > FORGOTTEN_SECONDS:
            return None
        what = f"{item.service} {item.instance!r}"
        meant = item.environment == current.environment and item.revision == current.revision
        if item.status == "rejected" and meant:
            return f"{what} rejected revision {current.revision}: {item.error or 'it does not say why'}"
        # A copy that has just come may begin with what it remembers.
        if now - max(wanted.since, item.since) < self._grace:
            return None
        if item.status == "restart_pending":
            return f"{what} has to be restarted to take revision {current.revision}"
        if meant:
            return f"{what} runs something else than revision {current.revision}: its checksum is another one"
        return f"{what} runs revision {item.revision}, not {current.revision}; is it alive, and does it read updates?"


def _runs(item: Applied, current: Record) -> bool:
    return (
        item.status == "applied"
        and item.environment == current.environment
        and item.revision == current.revision
        and item.checksum in {"", current.checksum}
    )


def _essence(item: Applied) -> tuple[str, int, str, str, str | None]:
    return item.environment, item.revision, item.checksum, item.status, item.error
