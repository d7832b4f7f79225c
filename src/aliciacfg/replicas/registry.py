"""What the daemons of a home report to each other, once a second, in the database."""

import asyncio
import time
from collections.abc import Callable
from typing import Literal

import structlog
from msgspec.structs import replace

from aliciacfg.errors import Unavailable
from aliciacfg.model.records import Replica
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.storage.store import SharedHome

_log = structlog.get_logger(__name__)

ReplicaState = Literal["ready", "not_ready", "gone"]

FORGOTTEN_SECONDS = 3600.0
"""How long a daemon that reports no more is still listed."""
GONE_SECONDS = 5.0
"""A daemon that did not report for so long is gone: several reports are missing, and a stop of a second is none."""

_REPORT_SECONDS = 1.0
# Longer than a lease and its next renewal by another daemon.
_WITHOUT_LEADER_SECONDS = 6.0
# Another daemon is preferred as the leader only if this one is worse for so long.
_UNFIT_SECONDS = 3.0
_LEAVE_SECONDS = 2.0
_GONE_ALERT = "replica_gone"
_LEADER_ALERT = "no_leader"


class Registry:
    """Reports this daemon, and reads the reports of all.

    Attributes:
        replica: The id of this daemon: that of its data directory, a dot, and what differs for each start.
        rows: All daemons that reported within the last hour, this one included, as of the last second.
        leader_changes: How often another daemon began to lead, this one included.
    """

    def __init__(
        self,
        shared: SharedHome,
        describe: Callable[[], Replica],
        *,
        replica: str,
        alerts: Alerts,
        leading: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report nothing yet.

        Args:
            shared: Has the reports.
            describe: Returns the report of this daemon.
            replica: The id of this daemon.
            alerts: Raised about daemons that are gone, if this one leads, and about a home without a leader.
            leading: Returns whether this daemon leads.
            clock: Seconds, monotonic.
        """
        self._shared = shared
        self._describe = describe
        self._alerts = alerts
        self._leading = leading
        self._clock = clock
        self.replica = replica
        self.rows: list[Replica] = []
        self.leader_changes = 0
        self._last_leader: str | None = None
        # Since when the reports can be read without interruption, and a leader is missing.
        self._readable_since: float | None = None
        self._leaderless_since: float | None = None
        # Since when this daemon is not as fit to lead as it could be.
        self._unfit_since: float | None = None
        self._read_at = clock()
        self._forgot_earlier = False
        self._alerted: set[str] = set()

    @property
    def live(self) -> list[Replica]:
        """The daemons that report, this one included."""
        return [row for row in self.rows if self.state(row) != "gone"]

    @property
    def own(self) -> Replica | None:
        """The last report of this daemon, as the database has it."""
        return next((row for row in self.rows if row.replica == self.replica), None)

    @property
    def leader(self) -> Replica | None:
        """The daemon that leads."""
        return next((row for row in self.rows if row.leads), None)

    @property
    def leaderless(self) -> bool:
        """Whether no daemon leads, for longer than it takes one to take over."""
        return self._lasts(self._leaderless_since, _WITHOUT_LEADER_SECONDS)

    @property
    def gone(self) -> list[Replica]:
        """The daemons that reported within the last hour and do not any more, without having stopped in order."""
        return [row for row in self.rows if self.state(row) == "gone"]

    def state(self, row: Replica) -> ReplicaState:
        """Return how a daemon is, by its last report.

        While the database could not be read, no daemon could report; so none counts as gone until all had time to do so
        again.
        """
        if row.silent > GONE_SECONDS and self._lasts(self._readable_since, GONE_SECONDS):
            return "gone"
        return "not_ready" if row.problem else "ready"

    def may_lead(self, leading: bool) -> bool:
        """Return whether this daemon may take the lease, or keep it if it leads.

        It takes the lease only if it is ready. If it is not ready, or does not reach the broker, while another one is
        and does, it leaves it to that one: after some seconds if it leads, at once if not.
        """
        own = self._describe()
        if not own.problem and own.connected:
            self._unfit_since = None
            return True
        if self._unfit_since is None:
            self._unfit_since = self._clock()
        if leading and not self._lasts(self._unfit_since, _UNFIT_SECONDS):
            return True
        others = (row for row in self.rows if row.replica != self.replica)
        better = any(row.connected and self.state(row) == "ready" and row.silent <= GONE_SECONDS for row in others)
        return not better and (leading or not own.problem)

    async def run(self) -> None:
        """Report once a second until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_REPORT_SECONDS)

    async def look(self) -> None:
        """Report, read what the others reported, and raise and clear the alerts about it."""
        try:
            async with asyncio.timeout(_REPORT_SECONDS):
                await self._exchange()
                await self._forget_earlier()
        except (Unavailable, TimeoutError) as error:
            if self._readable_since is not None:
                _log.warning("replica_not_reported", reason=str(error) or "no answer in time")
            self._readable_since = self._leaderless_since = None
        self._raise_alerts()

    def read(self) -> list[Replica]:
        """Return ``rows`` as they are at most two seconds later; it asks nothing of the database.

        Raises:
            Unavailable: The reports cannot be read at present.
        """
        if self._readable_since is None:
            raise Unavailable(
                "The database cannot be reached, so it is not known how the daemons of the home are; try again later."
            )
        since = self._clock() - self._read_at
        return [replace(row, silent=row.silent + since) for row in self.rows]

    async def leave(self) -> None:
        """Have the others forget this daemon, which stops in order."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._shared.forget(self.replica)
        except (Unavailable, TimeoutError):
            _log.info("replica_not_forgotten", remedy="none needed; the others forget it in time")

    async def _exchange(self) -> None:
        """Report, and read what the others reported.

        Raises:
            Unavailable: The database cannot be reached.
        """
        await self._shared.report(self._describe())
        self.rows = await self._shared.replicas(within_seconds=FORGOTTEN_SECONDS)
        now = self._clock()
        if self._readable_since is None or now - self._read_at > GONE_SECONDS:
            # Also if this process was stopped meanwhile: it does not know what the others could do.
            self._readable_since = now
        self._read_at = now
        leader = self.leader
        if leader is None:
            self._leaderless_since = now if self._leaderless_since is None else self._leaderless_since
            return
        self._leaderless_since = None
        if leader.replica != self._last_leader:
            self._last_leader = leader.replica
            self.leader_changes += 1
            _log.info("leader_changed", leader=leader.name, replica=leader.replica)

    async def _forget_earlier(self) -> None:
        """Remove the reports of earlier runs on this data directory, whose lock this process has.

        Raises:
            Unavailable: The database cannot be reached.
        """
        if self._forgot_earlier:
            return
        directory = self.replica.partition(".")[0]
        for row in self.rows:
            if row.replica.partition(".")[0] == directory and row.replica != self.replica:
                await self._shared.forget(row.replica)
        self._forgot_earlier = True

    def _lasts(self, since: float | None, seconds: float) -> bool:
        return since is not None and self._clock() - since > seconds

    def _raise_alerts(self) -> None:
        """Raise what is wrong with the home, and clear what no longer is; that one is gone, only the leader reports."""
        gone = {row.name: row for row in self.gone} if self._leading() else {}
        for name, row in gone.items():
            self._alerts.raise_(
                _GONE_ALERT,
                f"The daemon {name} ({row.url or 'without HTTP'}) of this home has not reported for more than "
                f"{GONE_SECONDS:g} s: it ended, hangs, or cannot reach the database. Start it again; if it is not to "
                "come back, this ends by itself after an hour.",
                of=name,
            )
        for name in self._alerted - gone.keys():
            self._alerts.clear(_GONE_ALERT, of=name)
        self._alerted = set(gone)
        if self.leaderless:
            self._alerts.raise_(
                _LEADER_ALERT,
                "No daemon of this home leads: retained messages, edits of files and registrations wait. See which one "
                "is not ready, and why: aliciacfg replicas",
            )
        else:
            self._alerts.clear(_LEADER_ALERT)
