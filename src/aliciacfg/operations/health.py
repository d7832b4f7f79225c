"""Health, readiness and metrics of the daemon."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from msgspec import UNSET

from aliciacfg import __version__
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers.health import HealthAnswer, OtherReplica, OwnReplica, ReplicaItem, ReplicasAnswer
from aliciacfg.api.answers.monitoring import AlertItem, AlertsAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.api.fields import SOURCE
from aliciacfg.api.requests import Request
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.state import State
from aliciacfg.model.records import Replica
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.metrics import Metrics, Readings
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.replicas.presence import Presence


class Health:
    """The health, readiness and metrics of the daemon.

    Attributes:
        instance: Names this daemon's home on the bus.
        metrics: Counted by the adapters and the operations.
        bus_connected: Set by the bus adapter.
        broker_hangs: Returns whether the broker acknowledges nothing though it is connected; set by the bus adapter.
        devices: The number of devices that the device registry knows; None while it is absent. Set by the bus adapter.
        services_online: Services that have announced themselves, and whether they are online.
        count_streams: Returns the number of open event streams.
    """

    def __init__(
        self,
        *,
        state: State,
        commits: Commits,
        reloads: Reloads,
        files: LoadedFiles,
        cache: AnswerCache,
        outbox: Outbox,
        store: StoreCondition,
        alerts: Alerts,
        drift: Drift,
        metrics: Metrics,
        presence: Presence,
        instance: str,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._commits = commits
        self._reloads = reloads
        self._files = files
        self._cache = cache
        self._outbox = outbox
        self._store = store
        self._alerts = alerts
        self._drift = drift
        self._presence = presence
        self._clock = clock
        self._started = time.monotonic()
        self.instance = instance
        self.metrics = metrics
        self.bus_connected = False
        self.broker_hangs: Callable[[], bool] = bool
        self.devices: int | None = None
        self.services_online: dict[str, bool] = {}
        self.count_streams: Callable[[], int] = int
        self._render: Callable[[Metrics, Readings, str], tuple[bytes, str]] | None = None

    async def health(self, _caller: Caller, _request: Request) -> Answer:
        """Return the health of the daemon."""
        return Answer.of(self.now())

    async def alerts(self, _caller: Caller, _request: Request) -> Answer:
        """List the conditions of alerts that are not over, with details that are not in the health."""
        items = [
            AlertItem(
                name=name,
                kind=alert.kind,
                message=alert.message,
                since=since,
                service=alert.service,
                problems=list(alert.problems),
            )
            for name, since, alert in self._alerts.conditions
        ]
        return Answer.of(AlertsAnswer(alerts=items))

    async def replicas(self, _caller: Caller, _request: Request) -> Answer:
        """List the daemons that serve the home; each reports itself once a second.

        Raises:
            Unavailable: The database that they share cannot be reached.
        """
        rows, rise = self._presence.replicas(), self._presence.format_rise
        leader = next((row for row in rows if row.leads), None)
        files = "" if self._presence.files is None else self._presence.files.digest
        return Answer.of(
            ReplicasAnswer(
                leader=None if leader is None else leader.name,
                format=UNSET if rise is None else rise.format,
                format_waits=UNSET if rise is None else rise.waits or UNSET,
                replicas=[_item(row, state=self._presence.state(row), files=files) for row in rows],
            )
        )

    def now(self) -> HealthAnswer:
        """Return the current health."""
        return HealthAnswer(
            service=SOURCE,
            service_name=SOURCE,
            status=self._status(),
            instance=self.instance,
            environment=self._state.active,
            version=__version__,
            timestamp=self._clock(),
            uptime=time.monotonic() - self._started,
            configs_managed=self._state.count(self._state.active),
            last_update=self._commits.last_update,
            cache_hit_rate=round(self._cache.hit_rate, 4),
            validation_errors=self.metrics.validation_errors,
            mqtt_connected=self.bus_connected,
            outbox_pending=self._outbox.pending,
            drift=len(self._drift.items),
            device_registry="absent" if self.devices is None else self.devices,
            services_online=sum(self.services_online.values()),
            messages_processed=self.metrics.messages_processed,
            errors=self.metrics.errors,
            alerts=self._alerts.active,
            refused_edits=self._files.refused_edits(sees=lambda _: False),
            replica=UNSET if self._presence.registry is None else self._own_replica(),
            replicas=[] if self._presence.registry is None else self._other_replicas(),
        )

    def _own_replica(self) -> OwnReplica:
        presence = self._presence
        leading = presence.leadership.leading
        leader = presence.name if leading else next((row.name for row in presence.known if row.leads), None)
        return OwnReplica(
            name=presence.name,
            role="leader" if leading else "follower",
            ready=not presence.problem,
            lag_seconds=round(presence.behind_seconds(), 3),
            leader=leader,
        )

    def _other_replicas(self) -> list[OtherReplica]:
        return [
            OtherReplica(name=row.name, role=_role(row), state=self._presence.state(row))
            for row in self._presence.known
        ]

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type.

        Args:
            accept: The media types that the scraper accepts.
        """
        # Afterwards it needs no thread: all may wait for a disk that hangs, which is when people look at metrics.
        render = self._render = self._render or await asyncio.to_thread(_exposition)
        presence = self._presence
        readings = Readings(
            cache_hits=self._cache.hits,
            cache_misses=self._cache.misses,
            revisions=self._commits.revisions,
            outbox_pending=self._outbox.pending,
            outbox_oldest_seconds=self._outbox.oldest_seconds,
            drift=self._drift.counts,
            alerts=Counter(alert.kind for alert in self._alerts.active_alerts),
            broker_connected=self.bus_connected,
            replica_lag_seconds=presence.behind_seconds(),
            replica_lag_commits=presence.behind,
            plans_superseded=self._commits.superseded,
            leading=presence.leadership.leading,
            leader_changes=presence.leader_changes,
            replicas=Counter(presence.state(row) for row in presence.known),
            event_streams=self.count_streams(),
        )
        return render(self.metrics, readings, accept)

    @property
    def broker_away(self) -> bool:
        """Whether no daemon of the home has a broker that answers, as far as this one knows."""
        is_here = self.bus_connected and not self.broker_hangs()
        return not (is_here or self._presence.another_connected)

    def count_invalid(self) -> None:
        """Count a configuration that was refused as invalid."""
        self.metrics.validation_errors += 1

    @property
    def ready(self) -> bool:
        """Whether store and bus are usable, and memory is up to date."""
        return not self.not_ready

    @property
    def not_ready(self) -> str:
        """Why requests had better go elsewhere; empty if the daemon is ready."""
        if self._presence.problem:
            return self._presence.problem
        if not self._store.usable:
            return "the store cannot be used; the alert `store` in /health says why"
        return "" if self.bus_connected else "the broker is not connected"

    def _status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        degraded = self._reloads.degraded is not None or not self.bus_connected or self._presence.troubled
        return "degraded" if degraded and self._store.level == "healthy" else self._store.level


def _role(row: Replica) -> Literal["leader", "follower"]:
    return "leader" if row.leads else "follower"


def _item(row: Replica, *, state: Literal["ready", "not_ready", "gone"], files: str) -> ReplicaItem:
    """Return a daemon as it is listed.

    Args:
        row: Its last report.
        state: How it is.
        files: The digest of the files that serve.
    """
    return ReplicaItem(
        replica=row.replica,
        name=row.name,
        role=_role(row),
        state=state,
        version=row.version,
        format=row.format or UNSET,
        url=row.url,
        since=row.started,
        lag_seconds=round(row.lag, 3),
        lag_commits=row.behind,
        silent_seconds=round(row.silent, 1),
        files_differ=row.files != files,
        problem=row.problem or None,
    )


def _exposition() -> Callable[[Metrics, Readings, str], tuple[bytes, str]]:
    """Return the function that renders the metrics.

    Its library takes 1 MB, which only a daemon with a scraper needs. The first import takes 40 ms, and would block the
    event loop.
    """
    from aliciacfg.monitoring.exposition import exposition  # noqa: PLC0415

    return exposition
