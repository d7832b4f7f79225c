"""Which daemon of a home takes an edit of the files over, and when."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from aliciacfg.model.records import Replica
from aliciacfg.replicas.edit_turn import EditTurn
from aliciacfg.replicas.leadership import Leadership
from aliciacfg.replicas.presence import Presence
from aliciacfg.replicas.readiness import NOTHING_SERVES, Readiness

OTHER = Replica(replica="b.1", name="b", version="1", url="", started=1.5, format=1, files="new")


@dataclass
class Reports:
    """What the daemons reported, and still live."""

    live: list[Replica] = field(default_factory=lambda: [msgspec.structs.replace(OTHER, replica="a.1"), OTHER])


class Case:
    """A daemon that leads a home of two, with reports that the test changes."""

    def __init__(self, **other: Any) -> None:
        self.leadership = Leadership()
        self.leadership.hold(3600, asked=self.leadership.now())
        self.presence = Presence(
            name="a", replica="a.1", version="1", started=1.5, leadership=self.leadership, readiness=Readiness()
        )
        self.reports = Reports()
        self.reports.live[1] = msgspec.structs.replace(OTHER, **other)
        reports: Any = self.reports
        self.presence.registry = reports
        self.turn = EditTurn(self.presence)


async def test_the_one_that_leads_takes_over_what_all_have():
    """Its own report may be older than its files."""
    case = Case()
    assert case.turn.comes("new", "old", edited=True)
    assert not case.turn.comes("newer", "old", edited=True)
    assert not case.turn.comes("new", "new", edited=True)
    assert not case.turn.comes("", "old", edited=True)
    case.leadership.lose()
    assert not case.turn.comes("new", "old", edited=True)


async def test_files_that_nobody_edited_are_no_edit():
    """They are older than what serves, of a machine that is lost, say."""
    assert not Case().turn.comes("new", "old", edited=False)
    assert Case(edited=True).turn.comes("new", "old", edited=False)


async def test_one_that_is_alone_waits_for_nobody():
    """But one that serves its home alone has nobody to take anything over for."""
    case = Case()
    del case.reports.live[1]
    assert case.turn.comes("newer", "old", edited=True)
    case.presence.registry = None
    assert not case.turn.comes("newer", "old", edited=True)


async def test_one_that_leads_stores_again_what_another_one_misses():
    """It has it in memory."""
    assert Case(problem=NOTHING_SERVES).turn.is_missed(put_back=False)
    case = Case()
    assert not case.turn.is_missed(put_back=False)
    case.reports.live[0] = msgspec.structs.replace(OTHER, replica="a.1", problem=NOTHING_SERVES)
    assert not case.turn.is_missed(put_back=False)
    assert case.turn.is_missed(put_back=True)
    case.leadership.lose()
    assert not case.turn.is_missed(put_back=True)
