"""Alerts for the operator: single events, and conditions that stay active until they are over."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from aliciacfg.errors import Problem

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
# Up to so many different events in a second are published at once, and their repetitions counted; further ones are
# published each time.
_MAX_COUNTED = 256


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One alert; contains no sensitive value.

    Attributes:
        kind: ``validation_failed``, ``tamper``, ``undecryptable``, ``undelivered``, ``open_access`` and so on.
        message: What happened and what to do.
        timestamp: Unix seconds.
        service: The service concerned, if there is one.
        problems: Details, each with its place.
    """

    kind: str
    message: str
    timestamp: float
    service: str | None = None
    problems: tuple[Problem, ...] = ()


class Alerts:
    """Passes alerts to listeners and keeps the active conditions.

    An event that is like one of the same second, its time aside, is counted instead, and published once more at the
    end of the second. A client that sends thousands of invalid writes would otherwise have as many alerts broadcast and
    logged, at 100 of the 765 µs of the processor that each such write took.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._listeners: list[Callable[[Alert], None]] = []
        self._log: Callable[[Alert], None] | None = None
        # By kind, with ":" and what distinguishes conditions of one kind.
        self._active: dict[str, Alert] = {}
        # When each condition began, by the same key.
        self._since: dict[str, float] = {}
        # The message for readers without special rights, by the same key.
        self._public: dict[str, str] = {}
        # How often each event of the running second came again, by the event without its time.
        self._again: dict[Alert, int] = {}

    @property
    def active(self) -> dict[str, str]:
        """The active conditions as every reader may see them: message by kind."""
        return {name: self._public[name] for name in self._active}

    @property
    def conditions(self) -> list[tuple[str, float, Alert]]:
        """The active conditions with all details: name, Unix seconds of the beginning, and last alert; oldest first."""
        return [(name, self._since[name], alert) for name, alert in self._active.items()]

    @property
    def active_alerts(self) -> list[Alert]:
        """The alerts of the active conditions, with all details."""
        return list(self._active.values())

    def listen(self, listener: Callable[[Alert], None]) -> None:
        """Call ``listener`` with every alert from now on."""
        self._listeners.append(listener)

    def log_with(self, log: Callable[[Alert], None]) -> None:
        """Call ``log`` with every alert that has no line of its own in the log."""
        self._log = log

    def emit(
        self,
        kind: str,
        message: str,
        *,
        service: str | None = None,
        problems: Sequence[Problem] = (),
        logged: bool = False,
    ) -> None:
        """Raise an alert about an event.

        Args:
            kind: As in ``Alert``.
            message: As in ``Alert``.
            service: As in ``Alert``.
            problems: As in ``Alert``.
            logged: Whether the log has a line about it already.
        """
        event = Alert(kind, message, 0.0, service=service, problems=tuple(problems))
        if event in self._again:
            self._again[event] += 1
            return
        self._count_from_now(event)
        self._notify(event, logged=logged)

    def report_counted(self) -> None:
        """Raise an alert about each event that came again since its last one, and begin to count anew."""
        counted, self._again = self._again, {}
        for event, count in counted.items():
            if count:
                times = "once more" if count == 1 else f"{count} times more"
                self._count_from_now(event)
                self._notify(msgspec.structs.replace(event, message=f"{event.message} (This happened {times}.)"))

    def _count_from_now(self, event: Alert) -> None:
        """Count an event for a second if it comes again; not without an event loop, as in a command."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if not self._again:
            loop.call_later(_AGAIN_SECONDS, self.report_counted)
        if len(self._again) < _MAX_COUNTED:
            self._again[event] = 0

    def _notify(self, event: Alert, *, logged: bool = False) -> Alert:
        """Pass an event to the listeners as an alert of now, and to the log unless it is there; return the alert."""
        alert = msgspec.structs.replace(event, timestamp=self._clock())
        log = [] if self._log is None or logged else [self._log]
        for listener in [*log, *self._listeners]:
            try:
                listener(alert)
            except Exception:  # noqa: BLE001 - a boundary: alerts are raised where an error would end the daemon
                _log.exception("alert_not_passed_on", kind=alert.kind)
        return alert

    def raise_(
        self,
        kind: str,
        message: str,
        *,
        of: str = "",
        service: str | None = None,
        problems: Sequence[Problem] = (),
        shown: str | None = None,
        logged: bool = False,
    ) -> None:
        """Raise an alert about a condition, which stays active until ``clear``.

        Listeners are called again only if the message or the problems change.

        Args:
            kind: As in ``Alert``.
            message: As in ``Alert``.
            of: Distinguishes several conditions of one kind.
            service: As in ``Alert``.
            problems: As in ``Alert``.
            shown: The message for all readers of health, if ``message`` is for administrators only.
            logged: Whether the log has a line about it already.
        """
        name = f"{kind}:{of}" if of else kind
        known = self._active.get(name)
        if known is None or known.message != message or known.problems != tuple(problems):
            self._public[name] = message if shown is None else shown
            event = Alert(kind, message, 0.0, service=service, problems=tuple(problems))
            self._active[name] = self._notify(event, logged=logged)
            self._since.setdefault(name, self._active[name].timestamp)

    def clear(self, kind: str, *, of: str = "") -> None:
        """End a condition; arguments as for ``raise_``."""
        name = f"{kind}:{of}" if of else kind
        self._active.pop(name, None)
        self._since.pop(name, None)
        self._public.pop(name, None)
