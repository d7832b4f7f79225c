"""Whether a daemon may take its share of the home's requests."""

from aliciacfg.replicas.turns import Turns


class Readiness:
    """Set by what judges it, such as the age of what is in memory; read by the adapters.

    Attributes:
        ready: Whether requests may be taken.
        turns: Notified when that changes.
    """

    def __init__(self, *, ready: bool = True) -> None:
        self.ready = ready
        self.turns = Turns()

    def set(self, ready: bool) -> None:
        """Note whether requests may be taken, and wake all who wait for that."""
        if ready != self.ready:
            self.ready = ready
            self.turns.notify()
