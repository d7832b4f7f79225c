"""What the daemon knows in memory: what is committed, and what waits for the disk on top of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aliciacfg.core.composer import Effective
from aliciacfg.documents import JsonObject
from aliciacfg.model.records import Record
from aliciacfg.sealing.sealed_documents import sealed_pointers

Key = tuple[str, str]
"""(environment, service)"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One configuration.

    Attributes:
        record: Its newest revision; None before the first.
        overlay: What was changed at run time, secrets in the open; None where nothing was.
        effective: What ``record`` holds, secrets in the open; None where it is deleted or cannot be composed.
        origins: The revision that brought each leaf of ``overlay``, by JSON Pointer.
    """

    record: Record | None = None
    overlay: JsonObject | None = None
    effective: Effective | None = None
    origins: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def live(self) -> Record | None:
        """The newest revision, if the configuration exists."""
        return None if self.record is None or self.record.deleted else self.record

    @property
    def undecryptable(self) -> bool:
        """Whether what was changed at run time does not open, so that nothing can be composed with it."""
        return bool(sealed_pointers(self.overlay or {}))

    @property
    def revision(self) -> int:
        """The revision that a conditional write has to expect; 0 if the configuration does not exist."""
        return 0 if self.live is None else self.live.revision


NOTHING = Entry()


class State:
    """Entries by key; writers plan on the head, readers see what is committed.

    Attributes:
        generation: Raised whenever heads are given up: a plan made before builds on what never was.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._committed: dict[Key, Entry] = {}
        self._pending: dict[Key, Entry] = {}

    def committed(self, key: Key) -> Entry:
        """What is durable."""
        return self._committed.get(key, NOTHING)

    def head(self, key: Key) -> Entry:
        """What will be durable once every waiting write is."""
        return self._pending.get(key) or self._committed.get(key, NOTHING)

    def is_pending(self, key: Key) -> bool:
        """Whether a write on this configuration waits for the disk."""
        return key in self._pending

    def plan(self, entries: Mapping[Key, Entry]) -> None:
        """Put entries on the head: their write was submitted."""
        self._pending.update(entries)

    def commit(self, entries: Mapping[Key, Entry]) -> None:
        """Their write is durable."""
        for key, entry in entries.items():
            self._committed[key] = entry
            if self._pending.get(key) is entry:
                del self._pending[key]

    def refresh(self, entries: Mapping[Key, Entry]) -> None:
        """Entries whose record is the committed one: what it holds was composed anew, and nothing was written."""
        for key, entry in entries.items():
            if not self.is_pending(key) and self._committed.get(key, NOTHING).record is entry.record:
                self._committed[key] = entry

    def abort(self) -> None:
        """The waiting writes failed, all of them."""
        self.generation += 1
        self._pending.clear()

    def heads(self, environment: str) -> Iterator[tuple[str, Entry]]:
        """Every service of an environment with its head, by name."""
        names = {service for known, service in (*self._committed, *self._pending) if known == environment}
        for service in sorted(names):
            yield service, self.head((environment, service))

    def all_heads(self) -> dict[Key, Entry]:
        """Every configuration with its head."""
        return {**self._committed, **self._pending}

    def live(self, environment: str) -> Iterator[tuple[str, Record]]:
        """The committed configurations of an environment that exist, by name."""
        for (known, service), entry in sorted(self._committed.items(), key=lambda item: item[0]):
            if known == environment and entry.live is not None:
                yield service, entry.live

    def count(self, environment: str) -> int:
        """How many configurations of an environment exist."""
        return sum(1 for (known, _), entry in self._committed.items() if known == environment and entry.live)
