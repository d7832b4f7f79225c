"""The part that a daemon takes among several of its home: reports, readiness, and the lead."""

from collections.abc import Awaitable, Callable, Mapping

from aliciacfg.replicas.format_rise import FormatRise
from aliciacfg.replicas.lease import Lease
from aliciacfg.replicas.readiness import ReadinessCheck
from aliciacfg.replicas.registry import Registry

Tasks = Mapping[str, Callable[[], Awaitable[None]]]


class Membership:
    """What runs as long as the daemon serves, and ends when it leaves.

    Attributes:
        tasks: Each runs until it is cancelled, by its name.
    """

    def __init__(
        self,
        *,
        lease: Lease,
        registry: Registry,
        format_rise: FormatRise,
        readiness_check: ReadinessCheck,
        others: Tasks,
    ) -> None:
        """Take no part yet.

        Args:
            lease: Decides who leads.
            registry: Reports.
            format_rise: Raises the format of the database.
            readiness_check: Judges readiness.
            others: Further tasks.
        """
        self._lease = lease
        self._registry = registry
        self.tasks: Tasks = {
            "check of readiness": readiness_check.run,
            "report among the daemons of the home": registry.run,
            "lease of the leader": lease.run,
            "format of the database": format_rise.run,
            **others,
        }

    async def leave(self) -> None:
        """Have another daemon lead at once, and be forgotten; to be called when the tasks and the bus session ended."""
        await self._lease.release()
        await self._registry.leave()
