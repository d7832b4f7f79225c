"""When a daemon takes an edit of the files over for its home: it leads, and all daemons have the same edit."""

from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import NOTHING_SERVES


class EditTurn:
    """Says whether it is this daemon's turn to put the files on its disk in force, for all daemons of the home."""

    def __init__(self, presence: Presence) -> None:
        """Ask for a daemon.

        Args:
            presence: Which daemon leads, and which files each has.
        """
        self._presence = presence

    def comes(self, own: str, served: str, *, edited: bool) -> bool:
        """Return whether it is.

        Files that are merely others than what serves are not enough. Where the files of one machine were put in
        force, and that machine is lost, the rest would take their older ones over as if they were an edit.

        Args:
            own: The digest of the files on the disk; empty if they cannot be read.
            served: The digest of what serves.
            edited: Whether they were changed here since that serves.
        """
        registry = self._presence.registry
        if registry is None or not self._presence.leadership.leading or own in ("", served):
            return False
        live = registry.live
        if all(row.replica != self._presence.replica for row in live):
            # Nothing was read yet.
            return False
        others = [row for row in live if row.replica != self._presence.replica]
        return all(row.files == own for row in others) and (edited or any(row.edited for row in others))

    def is_missed(self, *, put_back: bool) -> bool:
        """Return whether this daemon leads, and what serves is missing in the database.

        Args:
            put_back: Whether an earlier one is in its place; else that is so if another daemon says that it lacks it.
        """
        registry = self._presence.registry
        if registry is None or not self._presence.leadership.leading:
            return False
        return put_back or any(
            row.problem == NOTHING_SERVES for row in registry.live if row.replica != self._presence.replica
        )
