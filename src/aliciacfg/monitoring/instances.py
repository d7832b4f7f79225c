"""Running copies of services, and the revisions that they report to have applied.

Reports are not verified here: the bus adapter determines the service from the topic.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from aliciacfg.api.answers.monitoring import InstanceItem
from aliciacfg.api.bus_messages import AppliedReport
from aliciacfg.model.records import Applied, AppliedStatus, Record, Write
from aliciacfg.monitoring.drift import Drift, Finding

FORGOTTEN_SECONDS = 24 * 60 * 60
_MAX_INSTANCES = 64
_SAVE_SECONDS = 60.0


@dataclass(slots=True)
class Summary:
    """The copies of a service, counted.

    Attributes:
        count: How many there are, without those that have been silent for a day and run something else.
        behind: How many do not run the newest revision.
        restart_pending: How many of these wait for a restart.
        rejected: How many of these have rejected a revision.
    """

    count: int = 0
    behind: int = 0
    restart_pending: int = 0
    rejected: int = 0


@dataclass(slots=True)
class _Wanted:
    """The revision that the copies of a service have to apply.

    Attributes:
        environment: Its environment.
        revision: Its number.
        since: The time from which it has to be applied, in Unix seconds.
    """

    environment: str
    revision: int
    since: float


@dataclass(slots=True)
class _Known:
    """The copies of one service.

    Attributes:
        by_name: The last report of each copy.
        saved: The time at which the last report of each copy was written to the store, in Unix seconds.
        wanted: The revision that the copies have to apply; None before the first check.
    """

    by_name: dict[str, Applied] = field(default_factory=dict[str, Applied])
    saved: dict[str, float] = field(default_factory=dict[str, float])
    wanted: _Wanted | None = None


def _no_one(_service: str) -> None:
    return


class Instances:
    """The last report of every running copy of every service.

    Attributes:
        when_changed: Called with a service of which a copy reports something else than before, came or went.
    """

    def __init__(
        self,
        applied: Iterable[Applied],
        *,
        current: Callable[[str], Record | None],
        drift: Drift,
        grace_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """Restore the reports that are in the store.

        Args:
            applied: The stored reports.
            current: Returns the newest revision of a service in the active environment, or None.
            drift: Receives the copies that do not run the current revision.
            grace_seconds: The time that a copy may take to apply a revision.
            clock: Returns Unix seconds.
        """
        self._services: dict[str, _Known] = {}
        # The services of which a copy may not run the current revision: only these are looked at every second.
        self._unsettled: set[str] = set()
        self._current = current
        self._drift = drift
        self._grace = grace_seconds
        self._clock = clock
        self.when_changed: Callable[[str], None] = _no_one
        for item in applied:
            known = self._services.setdefault(item.service, _Known())
            known.by_name[item.instance] = item
            known.saved[item.instance] = item.last_seen
        self._unsettled.update(self._services)

    def follow(self, applied: Iterable[Applied], forgotten: Iterable[tuple[str, str]]) -> None:
        """Forget the copies that another daemon forgot, and note the reports that it stored since.

        Args:
            applied: The reports; if a newer one of the same copy is known, that stays.
            forgotten: Service and name of the copies.
        """
        for service, instance in forgotten:
            known = self._services.get(service)
            if known is not None:
                known.by_name.pop(instance, None)
                known.saved.pop(instance, None)
                self._unsettled.add(service)
                self.when_changed(service)
        for item in applied:
            known = self._services.setdefault(item.service, _Known())
            before = known.by_name.get(item.instance)
            if before is None or before.last_seen <= item.last_seen:
                known.by_name[item.instance] = item
                known.saved[item.instance] = item.last_seen
                self._unsettled.add(item.service)
                if before is None or _essence(before) != _essence(item):
                    self.when_changed(item.service)

    def of(self, service: str, *, current: Record) -> list[InstanceItem]:
        """Return the copies of a service by name, compared with a revision."""
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

    def summary(self, service: str, *, current: Record) -> Summary:
        """Return the number of copies of a service, compared with a revision."""
        found = Summary()
        known = self._services.get(service)
        if known is None:
            return found
        now = self._clock()
        for item in known.by_name.values():
            runs = _runs(item, current)
            if runs or now - item.last_seen <= FORGOTTEN_SECONDS:
                found.count += 1
                found.behind += not runs
                found.restart_pending += not runs and item.status == "restart_pending"
                found.rejected += not runs and item.status == "rejected"
        return found

    def unsettled(self, status: AppliedStatus) -> list[Applied]:
        """Return the copies whose last report on the current revision of their service has this status.

        Args:
            status: Any but ``applied``: only services are looked at of which a copy may not run the current revision.
        """
        found: list[Applied] = []
        for service in self._unsettled:
            known, current, now = self._services.get(service), self._current(service), self._clock()
            if known is None or current is None:
                continue
            found += [
                item
                for item in known.by_name.values()
                if item.status == status
                and (item.environment, item.revision) == (current.environment, current.revision)
                and now - item.last_seen <= FORGOTTEN_SECONDS
            ]
        return found

    def report(self, service: str, report: AppliedReport) -> Write | None:
        """Record a report, and return what has to be written to the store, if anything.

        Reports on a service without a configuration are ignored. At most 64 copies of a service are kept; the least
        recently seen ones are forgotten.
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
        self._unsettled.add(service)
        if not same:
            self.when_changed(service)
        if same and now - known.saved[report.instance] < _SAVE_SECONDS:
            # Frequent reports without news are not worth a write.
            return None
        known.saved[report.instance] = now
        forgotten: list[Applied] = []
        while len(known.by_name) > _MAX_INSTANCES:
            forgotten.append(min(known.by_name.values(), key=lambda other: other.last_seen))
            del known.by_name[forgotten[-1].instance], known.saved[forgotten[-1].instance]
        return Write(applied=(item,), forgotten=tuple(forgotten))

    def forget(self, service: str) -> Write | None:
        """Forget the copies of a service, and return what has to be written to the store, if anything."""
        known = self._services.pop(service, None)
        self.when_changed(service)
        return Write(forgotten=tuple(known.by_name.values())) if known is not None and known.by_name else None

    def look_again(self, services: Iterable[str] | None) -> None:
        """Note that services have other revisions in the active environment; None for all."""
        if not self._services:
            # An edit may name 10,000 services, of which none runs.
            return
        self._unsettled.update(
            self._services if services is None else (item for item in services if item in self._services)
        )

    def check(self) -> None:
        """Report the copies as drift that did not apply the current revision within the grace period."""
        findings: dict[str, Finding] = {}
        for service in list(self._unsettled):
            findings |= self._findings(service)
        self._drift.replace("instance", findings)

    def check_service(self, service: str) -> None:
        """Do the same for the copies of one service, at once after a report."""
        findings = self._findings(service)
        for instance in self._services[service].by_name if service in self._services else ():
            subject = f"{service}/{instance}"
            if subject in findings:
                self._drift.report("instance", subject, findings[subject].message, service=service)
            else:
                self._drift.remove("instance", subject)

    def _findings(self, service: str) -> dict[str, Finding]:
        """Return the findings about a service's copies by subject; do not look again while all are as they should be.

        What is not looked at again has no finding before a copy reports, or the service gets another revision.
        """
        known, current, now = self._services.get(service), self._current(service), self._clock()
        if known is None or current is None:
            self._unsettled.discard(service)
            return {}
        wanted = known.wanted
        if wanted is None or (wanted.environment, wanted.revision) != (current.environment, current.revision):
            # Not the time of the revision: after a switch of environments an old revision has to be applied.
            wanted = known.wanted = _Wanted(current.environment, current.revision, now)
        copies = known.by_name.values()
        if all(_runs(item, current) or now - item.last_seen > FORGOTTEN_SECONDS for item in copies):
            self._unsettled.discard(service)
            return {}
        lags = {item.instance: self._lag(item, current, wanted, now) for item in copies}
        return {
            f"{service}/{instance}": Finding(message, service)
            for instance, message in lags.items()
            if message is not None
        }

    def _lag(self, item: Applied, current: Record, wanted: _Wanted, now: float) -> str | None:
        if _runs(item, current) or now - item.last_seen > FORGOTTEN_SECONDS:
            return None
        what = f"{item.service} {item.instance!r}"
        meant = item.environment == current.environment and item.revision == current.revision
        if item.status == "rejected" and meant:
            return f"{what} rejected revision {current.revision}: {item.error or 'without a reason'}"
        # A copy that has just started may run the revision that it remembers.
        if now - max(wanted.since, item.since) < self._grace:
            return None
        if item.status == "restart_pending":
            return f"{what} has to be restarted to apply revision {current.revision}"
        if meant:
            return f"{what} runs a configuration other than revision {current.revision}: its checksum differs"
        return (
            f"{what} runs revision {item.revision}, not {current.revision}; is it alive, and does it read updates? "
            f"`aliciacfg instances {item.service}` says when it last reported; one that ended is forgotten after a day"
        )


def _runs(item: Applied, current: Record) -> bool:
    return (
        item.status == "applied"
        and item.environment == current.environment
        and item.revision == current.revision
        and item.checksum in {"", current.checksum}
    )


def _essence(item: Applied) -> tuple[str, int, str, str, str | None]:
    return item.environment, item.revision, item.checksum, item.status, item.error
