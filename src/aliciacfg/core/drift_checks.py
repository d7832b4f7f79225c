"""Periodic checks: whether the store can be read, and drift of its rows, of instances of services, of files."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from aliciacfg.cancellation import note_end
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.reloads import Reloads
from aliciacfg.counted import counted, counted_are
from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Replica
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.monitoring.drift import Drift, Finding
from aliciacfg.monitoring.instances import Instances
from aliciacfg.monitoring.store_condition import StoreCondition
from aliciacfg.sources.source_files import label
from aliciacfg.sources.watcher import Snapshot
from aliciacfg.storage.store import Store
from aliciacfg.storage.verifier import Findings

_log = structlog.get_logger(__name__)

_CHECK_SECONDS = 1.0
_PROBE_SECONDS = 5.0
_HANGING_SECONDS = 3.0
_VERIFICATION_SECONDS = 600.0
_MAX_FINDINGS = 100


class DriftChecks:
    """Checks for drift and replaces the findings."""

    def __init__(
        self,
        *,
        files: LoadedFiles,
        reloads: Reloads,
        store: Store,
        condition: StoreCondition,
        alerts: Alerts,
        drift: Drift,
        instances: Instances,
        dropped: Sequence[str],
        rows: Callable[[], Sequence[Replica]] | None,
    ) -> None:
        """Check the given parts.

        Args:
            files: The files in force.
            reloads: Has the names of refused schema files.
            store: The store whose rows are verified.
            condition: What is known to be wrong with it.
            alerts: Gets an alert about rows that cannot be verified.
            drift: Gets the findings.
            instances: The running instances of services.
            dropped: The rows that the start did not use; they stay findings after they were written again.
            rows: Returns the daemons of the home that live; None where this one serves it alone.
        """
        self._rows = rows
        self._files = files
        self._reloads = reloads
        self._store = store
        self._condition = condition
        self._alerts = alerts
        self._drift = drift
        self._instances = instances
        # A probe that hangs.
        self._probing: asyncio.Task[None] | None = None
        self._dropped = {
            subject: Finding(f"the row {subject} was not what was written; it was not used, and was written again")
            for subject in dropped[:_MAX_FINDINGS]
        }

    async def check_instances_forever(self) -> None:
        """Check the instances of services every second, until cancelled."""
        while True:
            self._instances.check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def verify_forever(self) -> None:
        """Verify all rows at the start and every ten minutes, until cancelled."""
        while True:
            await self.verify()
            await asyncio.sleep(_VERIFICATION_SECONDS)

    async def probe_forever(self) -> None:
        """Check every five seconds, or each second after a failure, whether the store can be read, until cancelled."""
        while True:
            await self.probe()
            await asyncio.sleep(_CHECK_SECONDS if self._condition.has("read") else _PROBE_SECONDS)

    async def probe(self) -> None:
        """Check whether the store can be read: without a request, nothing else would notice that it cannot."""
        # One at a time: a read that hangs occupies a thread.
        probing = self._probing or asyncio.create_task(self._store.probe(), name="probe")
        self._probing = None
        try:
            await asyncio.wait({probing}, timeout=_HANGING_SECONDS)
        except asyncio.CancelledError:
            probing.add_done_callback(note_end)
            probing.cancel()
            raise
        if not probing.done():
            self._probing = probing
            self._condition.on_read("A read of the database hangs.")
            return
        try:
            probing.result()
        except Unavailable as error:
            _log.debug("store_not_read", reason=error.message)

    async def verify(self) -> None:
        """Verify every row of the store with the keyed hash chain."""
        try:
            findings = await self._store.verify()
        except Unavailable as error:
            _log.warning("store_not_verified", reason=error.message)
            return
        self._report_condition(findings)
        damage = {"database": Finding(_damaged(findings.damage))} if findings.damage else {}
        self._drift.replace(
            "row",
            self._dropped
            | damage
            | {
                broken.subject: Finding(broken.message, broken.service or None)
                for broken in findings.broken[:_MAX_FINDINGS]
            },
        )
        if findings.unreadable:
            self._alerts.raise_(
                "undecryptable",
                f"The key of secrets in {counted(findings.unreadable, 'revision')} is missing, so that these cannot be "
                "verified. Add it (`aliciacfg keys add --from FILE`), or restore a backup with its keys (`aliciacfg "
                "restore FILE`).",
                of="history",
            )
        else:
            self._alerts.clear("undecryptable", of="history")
        _log.info(
            "store_verified",
            rows=findings.confirmed,
            broken=len(findings.broken),
            unreadable=findings.unreadable,
            damage=findings.damage,
        )

    def _report_condition(self, findings: Findings) -> None:
        """Let health say that the database is damaged, or was changed from outside."""
        if findings.damage:
            self._condition.report("damage", _damaged(findings.damage))
        else:
            self._condition.clear("damage")
        count = len(findings.broken) or len(self._dropped)
        if count:
            self._condition.report(
                "rows",
                f"In the database {counted_are(count, 'row')} not what was written, or missing. `aliciacfg drift` "
                "lists them; find out what wrote to the database, and restore a backup where the list names no other "
                "remedy.",
            )
        else:
            self._condition.clear("rows")

    def compare_files(self, seen: Snapshot) -> None:
        """Compare the files on disk with the files in force.

        Args:
            seen: The stamps of the files on disk.
        """
        in_force = self._files.stamps
        if in_force is None:
            self._drift.replace(
                "file", {"": Finding("The files on disk are not valid; the last stored configurations stay in force.")}
            )
            return
        if self._rows is not None:
            self._compare_replicas(self._rows())
            return
        changed = [path for path in seen.keys() | in_force.keys() if seen.get(path) != in_force.get(path)]
        names = [*self._reloads.refused_schemas, *(label(path) for path in sorted(changed))]
        # What keeps an edit out of force was logged where it was refused.
        logged = self._reloads.degraded is not None
        self._drift.replace("file", {name: _changed(name, logged=logged) for name in names[:_MAX_FINDINGS]})

    def _compare_replicas(self, rows: Sequence[Replica]) -> None:
        """Note what daemons of the home have on their disks beside what serves.

        Args:
            rows: The daemons that live.
        """
        found = {name: _changed(name) for name in self._reloads.refused_schemas}
        for row in rows:
            for name in filter(None, row.differing.split("\n")):
                if len(rows) == 1:
                    found[name] = _changed(name)
                    continue
                found[f"{name} on {row.name}"] = Finding(
                    f"{name} on {row.name} differs from what serves the home. Bring the same files to all machines; or "
                    f"put those of {row.name} in force, on its machine: aliciacfg --http {row.url or 'URL'} reload"
                )
        self._drift.replace("file", dict(list(found.items())[:_MAX_FINDINGS]))


def _changed(name: str, *, logged: bool = False) -> Finding:
    return Finding(f"{name} was changed, but the version before the change is in force.", logged=logged)


def _damaged(damage: Sequence[str]) -> str:
    more = f" (and {len(damage) - 1} more)" if len(damage) > 1 else ""
    return (
        f"The database is damaged: {damage[0]}{more}. Stop the daemon, restore the database from a backup, and start "
        "again; until then, what it holds may be missing or old."
    )
