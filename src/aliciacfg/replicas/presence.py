"""What a daemon is among those that serve its home: what it reports of itself, and how it sees the others."""

from collections.abc import Callable, Sequence
from typing import Protocol

from aliciacfg.model.records import Replica
from aliciacfg.replicas.format_rise import FormatRise
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.readiness import FILES_REFUSED, LAGGING, MAX_LAG_SECONDS, NOTHING_SERVES, Readiness
from aliciacfg.replicas.registry import Registry, ReplicaState
from aliciacfg.storage.store import SharedHome


class FilesOfReplica(Protocol):
    """The files of a daemon among several, beside those that serve the home."""

    @property
    def own_digest(self) -> str:
        """The digest of the files on its disk; empty if they cannot be read."""
        ...

    @property
    def digest(self) -> str:
        """The digest of what serves."""
        ...

    @property
    def edited(self) -> bool:
        """Whether the files on its disk were changed since that serves."""
        ...

    @property
    def differing(self) -> Sequence[str]:
        """The names of files that differ from what serves, once that is no edit on its way."""
        ...

    @property
    def composes(self) -> bool:
        """Whether it composes from any files."""
        ...

    @property
    def refused(self) -> bool:
        """Whether it cannot use those that other daemons put in force."""
        ...


class Presence:
    """One daemon of a home, which may be the only one.

    Attributes:
        replica: Its id.
        name: Its name, for people.
        leadership: Whether it leads.
        readiness: Whether it may take requests.
        registry: What all daemons of the home report; None for a daemon that serves its home alone.
        format_rise: Says when the format of the database rises; None likewise.
        connected: Returns whether it reaches the broker; set once that is known.
        url: Where it listens for HTTP; set once it does.
        files: What it has on its disk, and what serves.
    """

    def __init__(
        self,
        *,
        name: str,
        replica: str,
        version: str,
        started: float,
        leadership: Leadership,
        readiness: Readiness,
        behind_seconds: Callable[[], float] = lambda: 0.0,
        commit: Callable[[], int] = lambda: 0,
        files: FilesOfReplica | None = None,
    ) -> None:
        """Describe a daemon that serves its home alone, until ``share`` is called.

        Args:
            name: Its name, for people.
            replica: Its id.
            version: The version of its program.
            started: When it started, in Unix seconds.
            leadership: Whether it leads.
            readiness: Whether it may take requests.
            behind_seconds: Returns for how many seconds its memory may lack what others committed.
            commit: Returns the number of the last transaction that its memory follows.
            files: What it has on its disk, and what serves; None if it serves its home alone.
        """
        self.name = name
        self.leadership = leadership
        self.readiness = readiness
        self.registry: Registry | None = None
        self.format_rise: FormatRise | None = None
        self.connected: Callable[[], bool] = lambda: True
        self.url = ""
        self.files = files
        self.behind_seconds = behind_seconds
        self.replica = replica
        self._version = version
        self._started = started
        self._commit = commit
        self._shared: SharedHome | None = None

    def share(self, shared: SharedHome, registry: Registry, format_rise: FormatRise) -> None:
        """Note that other daemons may serve the home as well.

        Args:
            shared: What the daemons know of each other.
            registry: Reports ``describe``.
            format_rise: Raises the format of the database.
        """
        self._shared = shared
        self.registry = registry
        self.format_rise = format_rise

    def describe(self) -> Replica:
        """Return what it reports of itself."""
        return Replica(
            replica=self.replica,
            name=self.name,
            version=self._version,
            url=self.url,
            started=self._started,
            format=0 if self._shared is None else self._shared.format,
            files="" if self.files is None else self.files.own_digest,
            edited=self.files is not None and self.files.edited,
            differing="" if self.files is None else "\n".join(self.files.differing),
            commit=self._commit(),
            lag=self.behind_seconds(),
            problem=self.problem,
            connected=self.connected(),
            leads=self.leadership.leading,
        )

    @property
    def fault(self) -> str:
        """Why it is not ready at this moment; empty if it is."""
        if self.behind_seconds() > MAX_LAG_SECONDS:
            return LAGGING
        if self.files is not None and not self.files.composes:
            return NOTHING_SERVES
        return FILES_REFUSED if self.files is not None and self.files.refused else ""

    @property
    def problem(self) -> str:
        """Why it is not ready for its part of the home's requests; empty if it is."""
        # Also before the next look of ``ReadinessCheck``.
        return self.fault or self.readiness.problem

    @property
    def known(self) -> list[Replica]:
        """All daemons of the home as of the last second, those that are gone included."""
        rows = [] if self.registry is None else self.registry.rows
        return rows or [self.describe()]

    @property
    def with_other_files(self) -> list[Replica]:
        """The daemons that live and have other files than those that serve; none if all have the same ones."""
        live = [] if self.registry is None or self.files is None else self.registry.live
        digest = "" if self.files is None else self.files.digest
        return [row for row in live if row.files != digest] if len({row.files for row in live}) > 1 else []

    def replicas(self) -> list[Replica]:
        """Return all daemons of the home, as they were reported a second ago.

        Raises:
            Unavailable: The reports cannot be read at present.
        """
        return [self.describe()] if self.registry is None else self.registry.read()

    def state(self, row: Replica) -> ReplicaState:
        """Return how a daemon of the home is."""
        if self.registry is not None:
            return self.registry.state(row)
        return "not_ready" if row.problem else "ready"

    @property
    def behind(self) -> int:
        """The number of transactions that its memory did not hold when it last reported."""
        own = None if self.registry is None else self.registry.own
        return 0 if own is None else own.behind

    @property
    def leader_changes(self) -> int:
        """How often another daemon of the home began to lead."""
        return 0 if self.registry is None else self.registry.leader_changes

    @property
    def another_leads(self) -> bool:
        """Whether another daemon of the home led a second ago; an earlier run on this data directory is none."""
        leader = None if self.registry is None else self.registry.leader
        return leader is not None and leader.replica.partition(".")[0] != self.replica.partition(".")[0]

    @property
    def another_connected(self) -> bool:
        """Whether another daemon of the home was connected to the broker when it last reported, about a second ago."""
        live = [] if self.registry is None else self.registry.live
        return any(row.connected and row.replica != self.replica for row in live)

    @property
    def troubled(self) -> bool:
        """Whether the home lacks a daemon that it had, or a leader."""
        return self.registry is not None and (self.registry.leaderless or bool(self.registry.gone))
