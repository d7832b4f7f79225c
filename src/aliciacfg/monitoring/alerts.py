"""Alerts for the operator: single events, and conditions that stay active until they are over."""

from collections.abc import Callable, Sequence

import msgspec
import structlog

from aliciacfg.errors import Problem

_log = structlog.get_logger(__name__)


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
    """Passes alerts to listeners and keeps the active conditions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._listeners: list[Callable[[Alert], None]] = []
        # By kind, with ":" and what distinguishes conditions of one kind.
        self._active: dict[str, Alert] = {}
        # The message for readers without special rights, by the same key.
        self._public: dict[str, str] = {}

    @property
    def active(self) -> dict[str, str]:
        """The active conditions as every reader may see them: message by kind."""
        return {name: self._public[name] for name in self._active}

    @property
    def active_alerts(self) -> list[Alert]:
        """The alerts of the active conditions, with all details."""
        return list(self._active.values())

    def listen(self, listener: Callable[[Alert], None]) -> None:
        """Call ``listener`` with every alert from now on."""
        self._listeners.append(listener)

    def emit(self, kind: str, message: str, *, service: str | None = None, problems: Sequence[Problem] = ()) -> Alert:
        """Raise an alert about an event."""
        alert = Alert(kind, message, self._clock(), service=service, problems=tuple(problems))
        for listener in self._listeners:
            try:
                listener(alert)
            except Exception:  # noqa: BLE001 - a boundary: alerts are raised where an error would end the daemon
                _log.exception("alert_not_passed_on", kind=kind)
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
        """
        name = f"{kind}:{of}" if of else kind
        known = self._active.get(name)
        if known is None or known.message != message or known.problems != tuple(problems):
            self._public[name] = message if shown is None else shown
            self._active[name] = self.emit(kind, message, service=service, problems=problems)

    def clear(self, kind: str, *, of: str = "") -> None:
        """End a condition; arguments as for ``raise_``."""
        name = f"{kind}:{of}" if of else kind
        self._active.pop(name, None)
        self._public.pop(name, None)
