"""Files that were in force and are missing or empty now: each has to stay so for a time until it counts as removed.

An editor, a copy or a version control system takes a file away for a moment, and a directory may be unmounted. Without
the time, that would end the services that only this file names.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from aliciacfg.errors import SourceError, SourceProblem


class FilesVanished(SourceError):
    """Files vanished that may come back at once; nothing is changed until they have been away for the whole time."""


class VanishedFiles:
    """The files that are away, and since when."""

    def __init__(self, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without files that are away.

        Args:
            seconds: How long a file has to be away until it counts as removed.
            clock: Returns seconds; must not jump with the time of day.
        """
        self._seconds = seconds
        self._clock = clock
        # When each file was first seen to be away, by its name.
        self._since: dict[str, float] = {}
        self._due: float | None = None

    @property
    def due(self) -> bool:
        """Whether a load that was put off can be tried again."""
        return self._due is not None and self._clock() >= self._due

    def look(
        self, before: Collection[str], now: Mapping[str, bool], *, dry_run: bool = False
    ) -> tuple[SourceProblem, ...]:
        """Return a problem for each file that is away.

        Args:
            before: The names of the files in force that contain something.
            now: The files that are there, and whether each contains anything.
            dry_run: Do not remember which files are away.
        """
        away = sorted(name for name in before if not now.get(name))
        if not dry_run:
            self._since = {name: self._since.get(name, self._clock()) for name in away}
        return tuple(SourceProblem(name, None, self._message(empty=name in now)) for name in away)

    def check(self, problems: Iterable[SourceProblem]) -> None:
        """Refuse a load as long as one of the files is not away for long enough.

        Args:
            problems: What ``look`` returned, and what follows from it.

        Raises:
            FilesVanished: One is not.
        """
        newest = max(self._since.values(), default=None)
        if newest is None or self._clock() >= newest + self._seconds:
            return
        self._due = newest + self._seconds
        raise FilesVanished(problems)

    def settle(self) -> None:
        """Note that nothing is put off any more: a load was accepted, or refused for another reason."""
        self._due = None

    def _message(self, *, empty: bool) -> str:
        found = "is empty" if empty else "is missing"
        return (
            f"{found}, but was in force; put it back. If it stays so for {self._seconds:g} s, it counts as removed, "
            "and what only it defines ends"
        )
