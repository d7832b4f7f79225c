"""The in-memory state of a home: its configurations, its active environment, its epoch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aliciacfg.core.composer import Effective
from aliciacfg.documents import JsonObject
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import START, Position, Record
from aliciacfg.model.sorted_names import SortedNames
from aliciacfg.sealing.sealed_documents import sealed_pointers

NO_ORIGINS: Mapping[str, int] = MappingProxyType({})
"""Of a configuration without overlay, one for all: most are."""
_NONE_SEALED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Entry:
    """The state of one configuration.

    Attributes:
        record: Its newest revision; None before the first.
        overlay: The changes made at run time, secrets in plain text; None where there are none.
        effective: The content of ``record`` as it was composed, secrets in plain text; None where the configuration is
            deleted or cannot be composed.
        origins: The revision that introduced each leaf of ``overlay``, by JSON Pointer.
        sealed: The values of ``overlay`` that were sealed in the store, by JSON Pointer, as long as nothing is
            composed: they stay secret though the schema that said so may be gone.
    """

    record: Record | None = None
    overlay: JsonObject | None = None
    effective: Effective | None = None
    origins: Mapping[str, int] = field(default_factory=lambda: NO_ORIGINS)
    sealed: Mapping[str, str] = field(default_factory=lambda: _NONE_SEALED)

    @property
    def live(self) -> Record | None:
        """The newest revision, if the configuration exists."""
        return None if self.record is None or self.record.deleted else self.record

    @property
    def undecryptable(self) -> bool:
        """Whether the overlay holds sealed values that do not open, so that nothing can be composed with it."""
        return self.overlay is not None and bool(sealed_pointers(self.overlay))

    def is_older_than(self, other: "Entry") -> bool:
        """Return whether another state of the same configuration has a later revision."""
        return other.record is not None and (self.record is None or self.record.revision < other.record.revision)

    @property
    def revision(self) -> int:
        """The revision that a conditional write has to expect; 0 if the configuration does not exist."""
        return 0 if self.live is None else self.live.revision


NOTHING = Entry()
_NO_NAMES = SortedNames()


class State:
    """Committed entries, and the pending head of each configuration that a write waits for.

    Writers plan on the heads; readers see committed entries only.

    Attributes:
        active: The name of the active environment.
        epoch: Raised whenever the database went back.
        sequence: The highest place that was given to a change that readers are notified of; never falls, not even when
            the change fails.
        incomplete: Whether configurations may be missing here, because the database is damaged.
        generation: Increased when pending heads are dropped: a plan made before builds on revisions that were never
            stored.
    """

    def __init__(
        self,
        committed: Mapping[ConfigId, Entry] | None = None,
        *,
        active: str = "",
        position: Position = START,
        used_numbers: Mapping[ConfigId, int] | None = None,
        incomplete: bool = False,
    ) -> None:
        self.active = active
        self.epoch = position.epoch
        self.sequence = position.sequence
        self.incomplete = incomplete
        self.generation = 0
        # Durable entries; readers see only these.
        self._committed = dict(committed or {})
        # By environment: the services of all durable entries, and of those that exist. ``_list`` follows each change.
        self._known = _names_by_environment(self._committed)
        live = {known: entry for known, entry in self._committed.items() if entry.live}
        self._live = {environment: SortedNames() for environment in self._known} | _names_by_environment(live)
        # Submitted, not yet durable entries; the next write builds on them.
        self._pending: dict[ConfigId, Entry] = {}
        # The last number that a revision may have had, where it is higher than that of the newest one.
        self._used_numbers = dict(used_numbers or {})

    def next_sequence(self) -> int:
        """Give the next place to a change; must be called in the order in which changes are committed."""
        self.sequence += 1
        return self.sequence

    def committed(self, config_id: ConfigId) -> Entry:
        """Return the durable entry of a configuration."""
        return self._committed.get(config_id, NOTHING)

    def head(self, config_id: ConfigId) -> Entry:
        """Return the entry that is durable once every pending write is."""
        return self._pending.get(config_id) or self._committed.get(config_id, NOTHING)

    def next_revision(self, config_id: ConfigId, entry: Entry) -> int:
        """Return the number of the revision that follows an entry."""
        newest = 0 if entry.record is None else entry.record.revision
        return max(newest, self._used_numbers.get(config_id, 0)) + 1

    def is_pending(self, config_id: ConfigId) -> bool:
        """Return whether a write on this configuration waits for the disk."""
        return config_id in self._pending

    def plan(self, entries: Mapping[ConfigId, Entry]) -> None:
        """Make entries the pending heads: their write was submitted."""
        self._pending.update(entries)

    def commit(self, entries: Mapping[ConfigId, Entry]) -> None:
        """Make entries the committed ones: their write is durable."""
        self._keep(entries)
        pending = self._pending
        done = [config_id for config_id, entry in entries.items() if pending.get(config_id) is entry]
        if len(done) == len(pending):
            # After a change of all, which is nearly always alone.
            pending.clear()
            return
        for config_id in done:
            del pending[config_id]

    def refresh(self, entries: Mapping[ConfigId, Entry]) -> None:
        """Replace entries whose record is still the committed one: only what is known about its content is new."""
        self._keep(
            {
                config_id: entry
                for config_id, entry in entries.items()
                if not self.is_pending(config_id) and self.committed(config_id).record is entry.record
            }
        )

    def abort(self) -> None:
        """Drop all pending heads: their writes failed."""
        self.generation += 1
        self._pending.clear()

    def names(self, environment: str) -> list[str]:
        """Return every service of an environment that has a head, sorted."""
        committed = self._known.get(environment, _NO_NAMES)
        new = {service for known, service in self._pending if known == environment and service not in committed}
        return sorted((*committed, *new)) if new else list(committed)

    def heads(self, environment: str) -> Iterator[tuple[str, Entry]]:
        """Yield every service of an environment with its head, by name."""
        for service in self.names(environment):
            yield service, self.head(ConfigId(environment, service))

    def heads_of(self, service: str) -> dict[str, Entry]:
        """Return the heads of a service by environment, in their order."""
        found = {environment for environment, names in self._known.items() if service in names}
        found |= {environment for environment, known in self._pending if known == service}
        return {environment: self.head(ConfigId(environment, service)) for environment in sorted(found)}

    def all_heads(self) -> dict[ConfigId, Entry]:
        """Return every configuration with its head."""
        return {**self._committed, **self._pending}

    def live(self, environment: str, *, after: str = "", prefix: str = "") -> Iterator[tuple[str, Record]]:
        """Yield the committed configurations of an environment that exist, by name of the service.

        Args:
            environment: The environment.
            after: Only services whose name comes after this one.
            prefix: Only services whose name begins so.
        """
        for service in self._live.get(environment, _NO_NAMES).after(after, prefix):
            record = self._committed[ConfigId(environment, service)].live
            if record is not None:
                yield service, record

    def changed_after(self, sequence: int, *, overlap_seconds: float = 0.0) -> list[Record]:
        """Return the newest revision of each configuration that changed for readers after a place of this epoch.

        Deleted ones as well.

        Args:
            sequence: The place.
            overlap_seconds: Those as well that were made so long before the newest revision up to that place, or later;
                0 for none.
        """
        records = [entry.record for entry in self._committed.values() if entry.record is not None]
        found = [record for record in records if record.home_sequence > sequence]
        if overlap_seconds:
            known = [record for record in records if record.home_sequence <= sequence]
            since = max((record.timestamp for record in known), default=0.0) - overlap_seconds
            found += [record for record in known if record.timestamp >= since]
        return found

    def count(self, environment: str) -> int:
        """Count the configurations of an environment that exist."""
        return len(self._live.get(environment, _NO_NAMES))

    def count_heads(self, environment: str) -> int:
        """Count the configurations of an environment that exist once every pending write is durable."""
        live = self._live.get(environment, _NO_NAMES)
        pending = ((entry, known.service in live) for known, entry in self._pending.items() if known[0] == environment)
        return len(live) + sum((entry.live is not None) - is_live for entry, is_live in pending)

    def _keep(self, entries: Mapping[ConfigId, Entry]) -> None:
        """Make entries the committed ones, in one step for readers, which takes 1 µs for each."""
        committed = self._committed
        # Inline, as all of 10,000 may change, and hardly any comes or goes.
        others = [
            config_id
            for config_id, entry in entries.items()
            if (before := committed.get(config_id)) is None
            or (before.record is None or before.record.deleted) is not (entry.record is None or entry.record.deleted)
        ]
        committed.update(entries)
        for config_id in others:
            self._list(config_id)

    def _list(self, config_id: ConfigId) -> None:
        """List a configuration that is new, or came or went."""
        environment, service = config_id
        if environment not in self._known:
            self._known[environment], self._live[environment] = SortedNames(), SortedNames()
        self._known[environment].add(service)
        live = self._live[environment]
        if self._committed[config_id].live is None:
            live.discard(service)
        else:
            live.add(service)


def _names_by_environment(entries: Mapping[ConfigId, Entry]) -> dict[str, SortedNames]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for environment, service in entries:
        found[environment].append(service)
    return {environment: SortedNames(services) for environment, services in found.items()}
