"""The log of changes: what a reader who goes on after a place is told, also where other daemons change the state."""

import dataclasses
from typing import Any

from aliciacfg.api.events import ChangeEvent
from aliciacfg.core.change_log import ChangeLog
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Position, Record

CONTEXT = ChangeContext("tester", "api")


def record(service: str, sequence: int, **fields: Any) -> Record:
    given: dict[str, Any] = {
        "environment": "dev", "service": service, "revision": sequence, "version": "1.0.0", "author": "tester",
        "timestamp": 1000.0 + sequence, "cause": "api", "checksum": "c", "digest": "", "changed": ["/x"],
        "restart_required": [], "breaking": False, "comment": None, "deleted": False, "home_sequence": sequence,
        "config": b"{}", **fields,
    }  # fmt: skip
    return Record(**given)


@dataclasses.dataclass
class Home:
    """A state, and a log of what is committed to it."""

    shared: bool = False
    capacity: int = 8

    def __post_init__(self) -> None:
        self.state = State(active="dev")
        self.log = ChangeLog(self.state, shared=self.shared, capacity=self.capacity)

    def commit(self, *records: Record, sequence: int = 0) -> None:
        """A plan with these revisions, as another daemon or this one made it; ``sequence`` if it tells more."""
        plan = Plan(self.state, CONTEXT)
        plan.records += records
        plan.sequence = sequence or max(item.home_sequence for item in records)
        entries = {ConfigId(item.environment, item.service): Entry(item) for item in records}
        self.state.commit(entries)
        self.log.on_commit(plan)

    def after(self, sequence: int) -> list[tuple[str, int]] | None:
        """The changes that a reader is told who goes on after a place; None if the log does not have them."""
        number = self.log.number_after(Position(1, sequence))
        return None if number is None else told(self.log, number)


def told(log: ChangeLog, number: int = 0) -> list[tuple[str, int]]:
    """Service and sequence of the changes from a number on."""
    found = log.after(number)
    assert found is not None
    events = [item.event for item in found]
    return [(event.service, event.sequence) for event in events if isinstance(event, ChangeEvent)]


def test_a_reader_goes_on_after_what_it_knows():
    """After a change, after a message that was none, and after what another daemon has and this one has not yet."""
    home = Home()
    home.commit(record("bell", 1))
    home.commit(record("lamp", 2), sequence=4)
    home.commit(record("bell", 5))
    assert [home.after(sequence) for sequence in (0, 1, 2, 3, 4, 5, 9)] == [
        [("bell", 1), ("lamp", 2), ("bell", 5)],
        [("lamp", 2), ("bell", 5)],
        [("bell", 5)],
        [("bell", 5)],
        [("bell", 5)],
        [],
        [],
    ]


def test_only_another_daemon_of_the_home_can_be_ahead():
    """What a reader knows beyond the last change of the only daemon is of another home."""
    for shared in (False, True):
        home = Home(shared=shared)
        home.commit(record("bell", 3))
        assert home.log.may_know(Position(1, 3))
        assert home.log.may_know(Position(1, 4)) is shared


def test_only_so_many_changes_are_kept():
    """Whether they come one by one, or very many at a time."""
    home = Home(capacity=2)
    for sequence in (1, 2, 3):
        home.commit(record("bell", sequence))
    assert home.after(0) is None
    assert home.after(1) == [("bell", 2), ("bell", 3)]
    home.commit(*(record(f"s{sequence}", sequence) for sequence in range(4, 9)))
    assert home.after(5) is None
    assert home.after(6) == [("s7", 7), ("s8", 8)]
    assert home.log.after(home.log.end - 3) is None


def test_a_change_with_a_lower_place_is_not_missed():
    """Another daemon planned it before it knew of the last ones: whoever knows these has not seen it."""
    home = Home(shared=True)
    for item in (record("bell", 1), record("bell", 2), record("bell", 3), record("lamp", 2), record("siren", 4)):
        home.commit(item)
    # The place up to which everything is known does not fall.
    found = home.log.after(0)
    assert found is not None
    assert [item.place.sequence for item in found] == [1, 2, 3, 3, 4]
    for place in (2, 3):
        after = home.after(place)
        assert after is not None
        assert ("lamp", 2) in after
    assert home.after(4) == [("siren", 4)]


def test_what_the_log_does_not_have_is_told_by_the_newest_revisions():
    """Those with a lower place, which were made at about the same time, as well where daemons share a database."""
    for shared, expected in ((False, ["siren"]), (True, ["lamp", "bell", "siren"])):
        home = Home(shared=shared, capacity=1)
        home.commit(record("old", 1, timestamp=900.0))
        home.commit(record("bell", 3))
        home.commit(record("lamp", 2))
        home.commit(record("siren", 4))
        home.commit(record("siren", 5))
        assert home.after(3) is None
        found = home.log.newest_since(Position(1, 3), 10)
        assert found is not None
        assert [event.service for event in found] == expected
        assert all(event.coalesced for event in found)
        assert home.log.newest_since(Position(1, 0), 2) is None


def test_long_lists_of_places_are_cut():
    """In number and in length; how many there are is told."""
    home = Home()
    home.commit(record("bell", 1, changed=[f"/{number}" for number in range(500)]))
    home.commit(record("bell", 2, changed=["/short", "/" + "x" * 100_000]))
    found = home.log.after(0)
    assert found is not None
    many, long = [item.event for item in found]
    assert isinstance(many, ChangeEvent)
    assert isinstance(long, ChangeEvent)
    assert (len(many.changed), many.changed_count) == (100, 500)
    assert (long.changed, long.changed_count) == (["/short"], 2)
