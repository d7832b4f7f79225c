"""Edits of the files of a home that several daemons serve: looked at on each, taken over by the one that leads."""

from collections.abc import Awaitable, Callable

from aliciacfg.core.load_planner import ReloadResult
from aliciacfg.core.reloads import Reloads
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.errors import Unavailable
from aliciacfg.replicas.edit_turn import EditTurn


class SharedEdits:
    """Decides, whenever the file watcher looks, whether this daemon takes the files on its disk over."""

    def __init__(self, served: ServedFiles, reloads: Reloads, turn: EditTurn) -> None:
        """Hold the parts.

        Args:
            served: Knows which files serve, and which are on the disk.
            reloads: Loads them.
            turn: Says whether it is this daemon's turn.
        """
        self._served = served
        self._reloads = reloads
        self._turn = turn
        # The digest of files that were tried, and refused or put off.
        self._tried = ""

    @property
    def due(self) -> bool:
        """Whether there is something to do although no file changed."""
        if self._served.own_digest == self._tried and not self._reloads.worth_retrying:
            return self._is_missed()
        return self._comes() or self._is_missed()

    async def look(self, carry_out: Callable[[Awaitable[ReloadResult]], Awaitable[bool]]) -> bool:
        """Read the files on the disk, and take them over if it is this daemon's turn.

        Args:
            carry_out: Awaits a load and logs its result; returns False if it is to be tried again.

        Returns:
            False if this is to be called again soon.
        """
        await self._served.look()
        await self._reloads.look_at_ignored()
        if self._served.own_digest == self._served.digest and self._reloads.degraded is not None:
            self._reloads.take_back()
        if self._is_missed():
            try:
                await self._reloads.store_again(self._served)
            except Unavailable:
                return False
        if not self._comes():
            return True
        tried = self._served.own_digest
        done = await carry_out(self._reloads.take_over(self._served))
        self._tried = tried if done else ""
        return done

    def _comes(self) -> bool:
        return self._turn.comes(self._served.own_digest, self._served.digest, edited=self._served.edited)

    def _is_missed(self) -> bool:
        return self._turn.is_missed(put_back=self._served.put_back)
