"""Looking for drift that nobody reports: rows, copies of services, files."""

import asyncio
from collections.abc import Callable

import structlog

from aliciacfg.configurations import Configurations
from aliciacfg.drift import Drift, Finding
from aliciacfg.errors import Unavailable
from aliciacfg.instances import Instances
from aliciacfg.store import Store
from aliciacfg.watching import Snapshot

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_VERIFY_EVERY = 600
_MAX_TOLD = 100


class Patrol:
    """Looks now and then."""

    def __init__(
        self,
        *,
        configurations: Configurations,
        store: Store,
        drift: Drift,
        instances: Instances,
        label: Callable[[str], str],
    ) -> None:
        """Take what it looks at.

        Args:
            configurations: Know which files serve.
            store: Holds the rows.
            drift: Told what is found.
            instances: The copies of services.
            label: The name of a file for people.
        """
        self._configurations = configurations
        self._store = store
        self._drift = drift
        self._instances = instances
        self._label = label

    async def run(self) -> None:
        """Look until cancelled: at copies every second, at all rows at the start and every ten minutes."""
        count = 0
        while True:
            if count % _VERIFY_EVERY == 0:
                await self.verify()
            self._instances.look()
            count += 1
            await asyncio.sleep(_LOOK_SECONDS)

    async def verify(self) -> None:
        """Compare every row of the store with the keyed chain."""
        try:
            findings = await self._store.verify()
        except Unavailable as error:
            _log.warning("store_not_verified", reason=error.message)
            return
        self._drift.settle(
            "row",
            {broken.subject: Finding(broken.message, broken.service or None) for broken in findings.broken[:_MAX_TOLD]},
        )
        _log.info(
            "store_verified", rows=findings.confirmed, broken=len(findings.broken), unreadable=findings.unreadable
        )

    def compare_files(self, seen: Snapshot) -> None:
        """Compare the files there are with those that serve."""
        serving = self._configurations.stamps
        if serving is None:
            self._drift.settle("file", {"": Finding("The files on disk cannot be used, and none serve.")})
            return
        changed = [path for path in seen.keys() | serving.keys() if seen.get(path) != serving.get(path)]
        self._drift.settle(
            "file",
            {
                self._label(path): Finding(f"{self._label(path)} was changed, and what serves is the file of before.")
                for path in sorted(changed)[:_MAX_TOLD]
            },
        )
