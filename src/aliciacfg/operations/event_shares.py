"""Shares of the event streams: counts them by caller, and ends one for another caller when all are taken."""

from typing import Protocol

from aliciacfg.access.caller import Account, Caller
from aliciacfg.errors import Busy

_RETRY_AFTER_SECONDS = 10
# A stream that gives way ends only after its client has received what it was sent. So streams that end may exist beside
# those that count: a tenth of these, and one.
_ENDING_SHARE = 10


class Holder(Protocol):
    """A stream that may have to give way."""

    def give_way(self) -> None:
        """End soon, because another caller needs the place."""
        ...


class EventShares:
    """Divides the streams evenly among the callers that ask for any.

    While streams are free, the number for one caller is not limited. When all are taken, the caller with most of them
    loses its newest one to a caller that has at least two fewer. So each caller gets its share after a few requests,
    and two callers with the same number never take streams from each other.
    """

    def __init__(self) -> None:
        """Start without streams."""
        # Of each caller those that do not give way, the newest one last.
        self._held: dict[Account, list[Holder]] = {}
        self._ending: set[Holder] = set()

    @property
    def taken(self) -> int:
        """The number of streams that do not give way."""
        return sum(map(len, self._held.values()))

    def check(self, caller: Caller, most: int) -> None:
        """Return if a caller may have another stream.

        Args:
            caller: Who asks for it.
            most: The largest number of streams.

        Raises:
            Busy: All are taken, and none has to give way for this caller.
        """
        if self.taken < most:
            return
        if self._giving_way_for(caller) is not None and len(self._ending) <= most // _ENDING_SHARE:
            return
        own = len(self._held.get(caller.account, ()))
        yours = f", {own} of them by this caller: its share while others want them too" if own else ""
        raise Busy(
            f"All {most} event streams are taken{yours}. Close one, ask again later, or wait for changes of a "
            "service with wait_seconds; ALICIACFG_MAX_EVENT_STREAMS allows more, as far as the system "
            "allows open files.",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )

    def add(self, stream: Holder, caller: Caller, most: int) -> None:
        """Count a stream that ``check`` allowed; another one gives way for it if all are taken."""
        if self.taken >= most and (holder := self._giving_way_for(caller)) is not None:
            ending = self._held[holder].pop()
            self._ending.add(ending)
            ending.give_way()
        self._held.setdefault(caller.account, []).append(stream)

    def remove(self, stream: Holder) -> None:
        """Count a stream no longer. Safe to call twice."""
        self._ending.discard(stream)
        for account, streams in self._held.items():
            if stream in streams:
                streams.remove(stream)
                if not streams:
                    del self._held[account]
                return

    def _giving_way_for(self, caller: Caller) -> Account | None:
        """Return the account with most streams, if it has at least two more than a caller; otherwise None."""
        most = max(self._held, key=lambda account: len(self._held[account]), default=None)
        if most is None or len(self._held[most]) < len(self._held.get(caller.account, ())) + 2:
            return None
        return most
