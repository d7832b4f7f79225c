"""Health, readiness and metrics of the daemon."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Literal

from aliciacfg import __version__
from aliciacfg.access.caller import Caller
from aliciacfg.api.answers import HealthAnswer
from aliciacfg.api.encoding import Answer
from aliciacfg.api.fields import SOURCE
from aliciacfg.api.requests import Request
from aliciacfg.core.cache import AnswerCache
from aliciacfg.core.commits import Commits
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import Outbox
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.state import State
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift
from aliciacfg.monitoring.metrics import Metrics, Readings
from aliciacfg.monitoring.store_condition import StoreCondition


class Health:
    """The health, readiness and metrics of the daemon.

    Attributes:
        instance: Names this daemon's home on the bus.
        metrics: Counted by the adapters and the operations.
        bus_connected: Set by the bus adapter.
        devices: The number of devices that the device registry knows; None while it is absent. Set by the bus adapter.
        services_online: Services that have announced themselves, and whether they are online.
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
        self._clock = clock
        self._started = time.monotonic()
        self.instance = instance
        self.metrics = metrics
        self.bus_connected = False
        self.devices: int | None = None
        self.services_online: dict[str, bool] = {}

    async def health(self, _caller: Caller, _request: Request) -> Answer:
        """Return the health of the daemon."""
        return Answer.of(self.now())

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
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics as text, and its content type.

        Args:
            accept: The media types that the scraper accepts.
        """
        readings = Readings(
            cache_hits=self._cache.hits,
            cache_misses=self._cache.misses,
            revisions=self._commits.revisions,
            outbox_pending=self._outbox.pending,
            outbox_oldest_seconds=self._outbox.oldest_seconds,
            drift=self._drift.counts,
            alerts=Counter(alert.kind for alert in self._alerts.active_alerts),
            broker_connected=self.bus_connected,
        )
        return self.metrics.exposition(accept, readings)

    def count_invalid(self) -> None:
        """Count a configuration that was refused as invalid."""
        self.metrics.validation_errors += 1

    @property
    def ready(self) -> bool:
        """Whether store and bus are usable."""
        return self._store.usable and self.bus_connected

    def _status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        if self._store.level == "healthy" and (self._reloads.degraded is not None or not self.bus_connected):
            return "degraded"
        return self._store.level
