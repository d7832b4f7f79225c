"""Supervision of the daemon's tasks: an unexpected error is logged and alerted, and the task runs again."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from aliciacfg.errors import leaves
from aliciacfg.monitoring.alerts import Alerts

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
# Longer than the longest pause, so that an alert does not end while its task waits to run again.
_RECOVERED_SECONDS = 120.0


class Supervisor:
    """Keeps tasks running: a part that watches, alerts, checks or publishes must not end the daemon.

    An error that a task does not expect is a fault of the program. It is logged with its traceback; the alert
    ``internal`` names the task and the type of the error, never its text, because that may quote a value.

    These end the daemon all the same, each for a reason:

    - ``AnotherDaemon``: two daemons on one bus would overwrite each other's messages for ever. The caller names it in
      ``fatal``.
    - ``WentBack``: memory holds what the database has lost, and only a start can find out what to serve. It is in
      ``fatal`` as well.
    - ``OtherFormat``: daemons of a newer version raised the format of the database, which this program cannot write. It
      is in ``fatal`` as well.
    - A failure of the task that commits (``WriteQueue``): memory and database may differ until the next start.
      It cancels the daemon's main task, and cancellations pass through here.
    - Errors at the start, before anything is served: a daemon that cannot do its work says so and exits.
    """

    def __init__(
        self,
        alerts: Alerts,
        *,
        first_pause_seconds: float = _FIRST_PAUSE_SECONDS,
        recovered_seconds: float = _RECOVERED_SECONDS,
    ) -> None:
        """Supervise no task yet.

        Args:
            alerts: Gets the alerts.
            first_pause_seconds: The pause before a task runs again; it doubles up to one minute.
            recovered_seconds: How long a task has to be without an error until its alert ends.
        """
        self._alerts = alerts
        self._first_pause = first_pause_seconds
        self._recovered = recovered_seconds
        # Ends the alert of each task that failed.
        self._recoveries: dict[str, asyncio.TimerHandle] = {}

    async def keep_running(
        self, name: str, work: Callable[[], Awaitable[object]], *, fatal: tuple[type[Exception], ...] = ()
    ) -> None:
        """Run a task until it returns or is cancelled; after an unexpected error, run it again.

        Args:
            name: The task in logs and alerts.
            work: Begins the task.
            fatal: Errors that are raised instead, also out of an exception group.
        """
        clock = asyncio.get_running_loop().time
        pause = self._first_pause
        while True:
            started = clock()
            try:
                await work()
            except Exception as error:
                if any(isinstance(found, fatal) for found in leaves(error)):
                    raise
                if clock() - started >= self._recovered:
                    pause = self._first_pause
                self.report(name, error, consequence="it is started again")
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)

    def report(self, name: str, error: BaseException, *, consequence: str = "everything else goes on") -> None:
        """Log an unexpected error with its traceback and raise the alert ``internal``, which ends by itself.

        Args:
            name: What failed.
            error: Why.
            consequence: What the daemon does about it.
        """
        _log.error("task_failed", task=name, consequence=consequence, exc_info=error)
        kinds = sorted({type(found).__name__ for found in leaves(error)})
        self._alerts.raise_(
            "internal",
            f"Unexpected error in {name} ({', '.join(kinds)}); {consequence}. The log has the traceback: report it as "
            "a fault of aliciacfg.",
            of=name,
        )
        if name in self._recoveries:
            self._recoveries[name].cancel()
        self._recoveries[name] = asyncio.get_running_loop().call_later(self._recovered, self._recover, name)

    def _recover(self, name: str) -> None:
        del self._recoveries[name]
        self._alerts.clear("internal", of=name)
