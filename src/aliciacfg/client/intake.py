"""What comes from the bus: put in order, read, and handed to the hub, after a delay if the service spreads changes."""

import asyncio
import logging
import random
from typing import Generic

from aliciacfg.client.current import Current, SettingsT
from aliciacfg.client.errors import ConfigError, NotFound, Refused, Rejected, Unavailable
from aliciacfg.client.hub import Hub
from aliciacfg.client.messages import InvalidMessage, Refusal, Update, read_answer, read_update
from aliciacfg.client.order import Order, Verdict
from aliciacfg.client.snapshot import Snapshot
from aliciacfg.client.values import Reader

_log = logging.getLogger(__name__)

# Codes of what passes by itself.
_PASSING = frozenset({"busy", "unavailable", "internal"})
_ADD_SERVICE = "add it to environments/base.yaml, or run `aliciacfg service add {service}` beside the daemon"


class Intake(Generic[SettingsT]):
    """Takes messages and answers about one service.

    Attributes:
        order: Decides which of them count.
        wanted: Set while the daemon has to be asked.
        news: Set when anything was learned; the waiting task clears it.
        failure: Why there is no live configuration; None if there is one, or nothing is known.
        live: Whether a configuration of the daemon has arrived and fits.
    """

    def __init__(
        self, service: str, reader: Reader[SettingsT], hub: Hub[SettingsT], snapshot: Snapshot, *, spread_seconds: float
    ) -> None:
        self.order = Order()
        self.wanted = asyncio.Event()
        self.news = asyncio.Event()
        self.failure: ConfigError | None = None
        self.live = False
        self._service = service
        self._reader = reader
        self._hub = hub
        self._snapshot = snapshot
        self._spread_seconds = spread_seconds
        # What becomes the state at the end of the delay; None is a deletion.
        self._next: tuple[Current[SettingsT], Update] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Whether there was a connection when anything came last, and still is.
        self._in_touch = False
        self._warned: str | None = None
        # The last message that counted, or what the program started with.
        self._last: Update | None = None

    @property
    def needs_answer(self) -> bool:
        """Whether the daemon has to be asked to know what counts."""
        return self.order.in_doubt or (self.order.held is None and not isinstance(self.failure, NotFound))

    def message(self, payload: bytes) -> None:
        """Take a message on the service's topic."""
        if not payload:
            self.nothing_retained()
            return
        try:
            update = read_update(payload, self._service)
        except InvalidMessage as error:
            self._warn(str(error))
            if self.order.held is None:
                self.wanted.set()
            return
        in_touch, self._in_touch = self._in_touch, True
        self._warned = None
        verdict = self.order.judge(update.numbers)
        if self.order.in_doubt:
            self.wanted.set()
        try:
            self._take(update, verdict, in_touch=in_touch)
        except Rejected as error:
            _log.warning("revision %d of %s is rejected: %s", update.revision, self._service, error)

    def nothing_retained(self) -> None:
        """Note that the broker holds no message, or does no longer."""
        self.order.doubt()
        self._hub.lose()
        self.wanted.set()

    def answer(self, payload: bytes, cause: int, *, at_once: bool = False) -> None:
        """Take an answer of the daemon.

        Args:
            payload: The answer.
            cause: ``order.cause`` when the question was sent.
            at_once: Whether a change takes effect without the delay.

        Raises:
            NotFound: The daemon has no configuration of this service.
            Unavailable: It does not answer.
            Rejected: It does not fit.
        """
        try:
            found = read_answer(payload, self._service)
        except InvalidMessage as error:
            raise self.fail(Unavailable(f"the answer is not a daemon's: {error}")) from error
        self._in_touch = True
        if isinstance(found, Update):
            self._take(found, self.order.judge_answer(found.numbers, cause), at_once=at_once)
            return
        raise self.fail(self._refused(found, cause))

    def fail(self, error: ConfigError) -> ConfigError:
        """Note why there is no answer, and return it."""
        if not self.live:
            self.failure = error
        self.news.set()
        return error

    def lose(self) -> None:
        """Note that the connection is gone."""
        self._in_touch = False
        self._hub.lose()

    def started_from(self, update: Update | None) -> None:
        """Note what the program started with in place of the daemon's configuration."""
        self._last = update

    def close(self) -> None:
        """Let nothing become the state any more."""
        self._cancel()

    def _warn(self, reason: str) -> None:
        """Log that a message is ignored; once for each reason, until a right one comes: there may be floods of them."""
        if reason != self._warned:
            self._warned = reason
            _log.warning("a message about %s is not the daemon's, and is ignored: %s", self._service, reason)

    def _refused(self, refusal: Refusal, cause: int) -> ConfigError:
        if refusal.code == "not_found" and self.order.judge_absence(cause):
            self.live = False
            self._schedule(None)
        return refused(refusal, self._service)

    def _take(self, update: Update, verdict: Verdict, *, in_touch: bool = False, at_once: bool = False) -> None:
        """Take an update that came in order, or not.

        Args:
            update: The update.
            verdict: How it stands to what is held.
            in_touch: Whether it came as a message, and not as the first of its connection.
            at_once: Whether it takes effect without the delay.

        Raises:
            Rejected: It does not fit.
        """
        if verdict == "older":
            return
        self.news.set()
        if verdict == "same" and self._hub.has_state and self._timer is not None:
            if at_once:
                self._fire()
            return
        if verdict == "same" and self._hub.has_state and not self._may_read_better(update):
            self.live, self.failure = True, None
            self._hub.confirm()
            return
        self._hub.note_restarts(update.restart_required if self._follows(update, in_touch=in_touch) else None)
        self._last = update
        try:
            record = self._reader.read(update, source="live")
        except Rejected as error:
            self._cancel()
            self._hub.reject(update, error)
            self.fail(error)
            raise
        self._hub.lose()
        self.live, self.failure = True, None
        self._schedule((record, update), at_once=at_once or not self._hub.has_state)

    def _follows(self, update: Update, *, in_touch: bool) -> bool:
        """Return whether no message is missing between an update and the last one."""
        last = self._last
        if last is None:
            return False
        if last.environment != update.environment:
            return in_touch
        return last.revision <= update.revision <= last.revision + 1

    def _may_read_better(self, update: Update) -> bool:
        """Return whether a message that came before may be taken, or say more, now: a key may have come meanwhile."""
        if self._hub.rejection is not None:
            return True
        redacted = self._hub.state.record.redacted
        return bool(redacted) and self._reader.unreadable(update).keys() != redacted.keys()

    def _schedule(self, following: tuple[Current[SettingsT], Update] | None, *, at_once: bool = False) -> None:
        """Have a record, or a deletion, become the state after a random delay; one that waits is replaced."""
        self._next = following
        if at_once or self._spread_seconds <= 0:
            self._fire()
        elif self._timer is None:
            delay = random.uniform(0, self._spread_seconds)  # noqa: S311 - spreads load
            self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _fire(self) -> None:
        self._cancel()
        following, self._next = self._next, None
        if following is None:
            self._hub.delete()
            self._snapshot.remove()
            return
        self._hub.put(*following)
        if not self._in_touch:
            # The connection was lost while it waited.
            self._hub.lose()


def refused(refusal: Refusal, service: str) -> ConfigError:
    """Return the error for a request that the daemon refused."""
    if refusal.code in _PASSING:
        return Unavailable(f"the daemon cannot answer now ({refusal.code}): {refusal.message}")
    if refusal.code != "not_found":
        return Refused(f"the daemon refuses ({refusal.code}): {refusal.message}")
    if refusal.message.endswith("?"):
        # The daemon knows one that was probably meant.
        return NotFound(f"{refusal.message} If it is new, {_ADD_SERVICE.format(service=service)}")
    return NotFound(f"the daemon has no configuration of {service}: {_ADD_SERVICE.format(service=service)}")
