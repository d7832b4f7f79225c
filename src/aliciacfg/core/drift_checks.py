"""Looking for drift that nobody reports: rows, copies of services, files."""

import asyncio

import structlog

from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.reloads import Reloads
from aliciacfg.errors import Unavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift, Finding
from aliciacfg.monitoring.instances import Instances
from aliciacfg.sources.source_files import label
from aliciacfg.sources.watcher import Snapshot
from aliciacfg.storage.store import Store

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_VERIFY_EVERY = 600
_MAX_TOLD = 100


class DriftChecks:
    """Looks now and then."""

    def __init__(
        self,
        *,
        files: LoadedFiles,
        reloads: Reloads,
        store: Store,
        alerts: Alerts,
        drift: Drift,
        instances: Instances,
    ) -> None:
        """Take what it looks at.

        Args:
            files: The files in force.
            reloads: Know which schema files were refused.
            store: Holds the rows.
            alerts: Told of rows that cannot be compared.
            drift: Told what is found.
            instances: The copies of services.
        """
        self._files = files
        self._reloads = reloads
        self._store = store
        self._alerts = alerts
        self._drift = drift
        self._instances = instances

    async def run(self) -> None:
        """Look until cancelled: at copies every second, at all rows at the start and every ten minutes."""
        count = 0
        while True:
            try:
                if count % _VERIFY_EVERY == 0:
                    await self.verify()
                self._instances.check()
            except Exception:  # noqa: BLE001 - the supervisor of all looking: whatever is found may not end the daemon
                _log.exception("patrol_failed")
            count += 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def verify(self) -> None:
        """Compare every row of the store with the keyed chain."""
        try:
            findings = await self._store.verify()
        except Unavailable as error:
            _log.warning("store_not_verified", reason=error.message)
            return
        self._drift.replace(
            "row",
            {broken.subject: Finding(broken.message, broken.service or None) for broken in findings.broken[:_MAX_TOLD]},
        )
        if findings.unreadable:
            self._alerts.raise_(
                "undecryptable",
                f"{findings.unreadable} revisions hold secrets whose key is not here, so nobody can tell whether they "
                "are what was written. Restore the key file.",
                of="history",
            )
        else:
            self._alerts.clear("undecryptable", of="history")
        _log.info(
            "store_verified", rows=findings.confirmed, broken=len(findings.broken), unreadable=findings.unreadable
        )

    def compare_files(self, seen: Snapshot) -> None:
        """Compare the files there are with those that serve."""
        serving = self._files.stamps
        if serving is None:
            self._drift.replace(
                "file", {"": Finding("The files on disk cannot be used; what was recorded last goes on serving.")}
            )
            return
        changed = [path for path in seen.keys() | serving.keys() if seen.get(path) != serving.get(path)]
        names = [*self._reloads.refused_schemas, *(label(path) for path in sorted(changed))]
        self._drift.replace(
            "file",
            {
                name: Finding(f"{name} was changed, and what serves is the file of before.")
                for name in names[:_MAX_TOLD]
            },
        )
