"""Callers that wait until a configuration changes."""

import asyncio

from aliciacfg.core.plan import Plan
from aliciacfg.model.config_id import ConfigId


class ChangeWaiters:
    """Wakes callers that wait for a change of one configuration; register ``on_commit`` with ``Commits``."""

    def __init__(self) -> None:
        # Futures to complete at the next change, by configuration.
        self._waiters: dict[ConfigId, set[asyncio.Future[None]]] = {}

    async def change_of(self, config_id: ConfigId) -> None:
        """Wait until what readers see of a configuration changes, or another environment becomes active."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(config_id, set()).add(waiter)
        try:
            await waiter
        finally:
            waiters = self._waiters.get(config_id, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(config_id, None)

    def on_commit(self, plan: Plan) -> None:
        """Wake the callers whose configuration a plan changed."""
        if plan.activates is not None or plan.raises_epoch:
            changed = set(self._waiters)
        else:
            services = {recipient.service for recipient in plan.recipients}
            # A resealed revision shows a value as a secret that it showed in plain text before.
            records = (*plan.records, *plan.resealed, *plan.renewals) if self._waiters else ()
            changed = {ConfigId(record.environment, record.service) for record in records}
            changed |= {waiting for waiting in self._waiters if waiting.service in services} if services else set()
        for config_id in changed:
            for waiter in self._waiters.pop(config_id, ()):
                if not waiter.done():
                    waiter.set_result(None)
