"""Whether a daemon may take its share of the home's requests."""

import asyncio
from collections.abc import Callable

import structlog

from aliciacfg.replicas.turns import Turns

_log = structlog.get_logger(__name__)

MAX_LAG_SECONDS = 2.0
"""By how much the memory of a daemon may be behind the database while it is ready."""

LAGGING = (
    f"its memory may be more than {MAX_LAG_SECONDS:g} s behind the database, which answers too slowly "
    "or cannot be reached"
)
"""Why a daemon is not ready whose memory is."""

NOTHING_SERVES = "the files that serve the home are missing in the database"
"""Why a daemon is not ready that could not compose anything at its start."""
FILES_REFUSED = (
    "this daemon cannot use the files that serve the home, so that nothing can be written through it; see its log"
)
"""Why a daemon is not ready that other daemons put files in force for, of another version or with other limits."""

_LOOK_SECONDS = 0.2


class Readiness:
    """Set by what judges it, such as the age of what is in memory; read by the adapters.

    Attributes:
        ready: Whether requests may be taken.
        problem: Why they may not; empty if they may.
        turns: Notified when it changes.
    """

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.problem = "" if ready else "it has just started"
        self.turns = Turns()

    def set(self, ready: bool, problem: str = "it is not ready") -> None:
        """Note whether requests may be taken, and wake all who wait for that.

        Args:
            ready: Whether they may.
            problem: Why they may not.
        """
        self.problem = "" if ready else problem
        if ready != self.ready:
            self.ready = ready
            self.turns.notify()


class ReadinessCheck:
    """Judges readiness by what is wrong with the daemon at present."""

    def __init__(self, readiness: Readiness, fault: Callable[[], str]) -> None:
        """Judge nothing yet.

        Args:
            readiness: Is set.
            fault: Returns why the daemon is not ready; empty if it is.
        """
        self._readiness = readiness
        self._fault = fault

    def look(self) -> None:
        """Judge now."""
        fault = self._fault()
        if (not fault) is not self._readiness.ready:
            _log.info("not_ready" if fault else "ready", reason=fault or None)
        self._readiness.set(not fault, fault)

    async def run(self) -> None:
        """Judge several times a second until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)
