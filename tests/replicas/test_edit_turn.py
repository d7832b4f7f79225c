"""Which daemon of a home loads files that changed, and when."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from aliciacfg.model.records import Replica
from aliciacfg.replicas.edit_turn import EditTurn
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import Readiness

LEADER = Replica(replica="a.1", name="a", version="1", url="", started=1.5, format=1, files="old", leads=True)


@dataclass
class Known:
    """What the daemons reported."""

    leader: Replica | None = LEADER


@dataclass
class Case:
    """A daemon that follows another one, with files and a clock that the test changes."""

    reports: Known = field(default_factory=Known)
    reported: str = "old"
    now: float = 100.0
    on_disk: str = "old"

    def __post_init__(self) -> None:
        self.leadership = Leadership()
        self.presence = Presence(
            name="b",
            replica="b.1",
            version="1",
            started=1.5,
            leadership=self.leadership,
            readiness=Readiness(),
            files=lambda: self.reported,
        )
        reports: Any = self.reports
        self.presence.registry = reports
        self.turn = EditTurn(self.presence, lambda: self.on_disk, clock=lambda: self.now)

    def leader_has(self, files: str) -> None:
        self.reports.leader = msgspec.structs.replace(LEADER, files=files)


async def test_a_daemon_that_follows_waits_until_the_leader_has_the_same_files():
    """However old the reports of either are."""
    case = Case(on_disk="new")
    assert not await case.turn.comes()
    case.reported = "new"
    assert not await case.turn.comes()
    case.leader_has("new")
    assert await case.turn.comes()


async def test_files_that_only_one_machine_has_are_told_after_a_while():
    """An edit that takes its time to reach all machines is not."""
    case = Case(on_disk="new", reported="new")
    assert not await case.turn.comes()
    assert case.turn.soon
    case.now += 11
    assert not await case.turn.comes()
    assert not case.turn.soon


async def test_a_daemon_that_leads_or_is_alone_waits_for_nobody():
    """Also where nobody leads at present, one that follows waits."""
    case = Case(on_disk="new", reported="new")
    case.reports.leader = None
    assert not await case.turn.comes()
    case.leadership.hold(3600, asked=case.leadership.now())
    assert await case.turn.comes()
    alone = Case(on_disk="new")
    alone.presence.registry = None
    assert await alone.turn.comes()
