"""What an operator has to know: events, and conditions that stand until somebody mends them."""

from collections.abc import Callable, Sequence

import msgspec

from aliciacfg.errors import Problem


class Alert(msgspec.Struct, frozen=True, omit_defaults=True):
    """One alert; holds no sensitive value.

    Attributes:
        kind: ``validation_failed``, ``tamper``, ``undecryptable``, ``undelivered``, ``open_access`` …
        message: What happened and what to do.
        timestamp: Unix seconds.
        service: The service concerned, if it is one.
        problems: Everything that is wrong.
    """

    kind: str
    message: str
    timestamp: float
    service: str | None = None
    problems: tuple[Problem, ...] = ()


class Alerts:
    """Raises alerts to whoever listens, and remembers the standing ones."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._listeners: list[Callable[[Alert], None]] = []
        self._standing: dict[str, Alert] = {}
        self._shown: dict[str, str] = {}

    @property
    def standing(self) -> dict[str, str]:
        """The conditions that stand, as everybody may see them: kind to message."""
        return {kind: self._shown[kind] for kind in self._standing}

    @property
    def standing_alerts(self) -> list[Alert]:
        """The standing alerts whole, for a listener that comes late."""
        return list(self._standing.values())

    def listen(self, listener: Callable[[Alert], None]) -> None:
        """Call ``listener`` with every alert from now on."""
        self._listeners.append(listener)

    def emit(self, kind: str, message: str, *, service: str | None = None, problems: Sequence[Problem] = ()) -> Alert:
        """Raise an alert about something that happened."""
        alert = Alert(kind, message, self._clock(), service=service, problems=tuple(problems))
        for listener in self._listeners:
            listener(alert)
        return alert

    def stand(
        self, kind: str, message: str, *, of: str = "", problems: Sequence[Problem] = (), shown: str | None = None
    ) -> None:
        """Raise an alert about a condition that lasts; said once for as long as its message stays the same.

        Args:
            kind: As in ``Alert``.
            message: As in ``Alert``.
            of: Tells conditions of one kind apart.
            problems: As in ``Alert``.
            shown: The message for everybody, where the other one is only for those whom alerts are for.
        """
        name = f"{kind}:{of}" if of else kind
        known = self._standing.get(name)
        if known is None or known.message != message or known.problems != tuple(problems):
            self._shown[name] = message if shown is None else shown
            self._standing[name] = self.emit(kind, message, problems=problems)

    def clear(self, kind: str, *, of: str = "") -> None:
        """The condition is over."""
        self._standing.pop(f"{kind}:{of}" if of else kind, None)
