"""What is committed and what waits for the disk on top of it."""

from typing import Any

import pytest

from aliciacfg.core.state import NOTHING, Entry, State
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Record

BELL = ConfigId("dev", "bell")


def entry(revision: int, *, service: str = "bell", deleted: bool = False, **fields: Any) -> Entry:
    record = Record(
        environment="dev",
        service=service,
        revision=revision,
        version="1.0.0",
        timestamp=0.0,
        author="test",
        cause="api",
        checksum=str(revision),
        digest="",
        config=b"{}",
        changed=[],
        restart_required=[],
        deleted=deleted,
    )
    return Entry(record, **fields)


@pytest.fixture
def state() -> State:
    return State()


def test_before_anything_there_is_nothing(state: State):
    """An unknown configuration has revision 0, nothing live and nothing pending."""
    assert state.committed(BELL) == state.head(BELL) == NOTHING
    assert (NOTHING.live, NOTHING.revision) == (None, 0)
    assert not state.is_pending(BELL)


def test_a_deleted_configuration_does_not_exist_and_remembers_its_number():
    """A deleted configuration has revision 0 for conditional writes, and its record keeps the counter."""
    gone = entry(5, deleted=True)
    assert (gone.live, gone.revision) == (None, 0)
    assert gone.record is not None
    assert gone.record.revision == 5
    assert entry(4).revision == 4


def test_writers_see_the_head_and_readers_what_is_durable(state: State):
    """A planned write counts for the next plan at once, for readers only when it is committed."""
    first, second = entry(1), entry(2)
    state.commit({BELL: first})
    state.plan({BELL: second})
    assert state.is_pending(BELL)
    assert (state.head(BELL), state.committed(BELL)) == (second, first)
    state.commit({BELL: second})
    assert not state.is_pending(BELL)
    assert state.head(BELL) is state.committed(BELL) is second


def test_an_earlier_commit_leaves_a_later_plan_on_the_head(state: State):
    """Two writes wait; the first becoming durable does not hide the second from the next plan."""
    first, second = entry(1), entry(2)
    state.plan({BELL: first})
    state.plan({BELL: second})
    state.commit({BELL: first})
    assert (state.committed(BELL), state.head(BELL)) == (first, second)
    assert state.is_pending(BELL)


def test_an_aborted_plan_leaves_what_is_durable(state: State):
    """All pending plans are dropped."""
    state.commit({BELL: entry(1)})
    state.plan({BELL: entry(2), ConfigId("dev", "lamp"): entry(1, service="lamp")})
    state.abort()
    assert state.head(BELL).revision == 1
    assert state.head(ConfigId("dev", "lamp")) == NOTHING


def test_refreshing_changes_what_a_record_is_known_to_hold_never_the_record(state: State):
    """Not while a write waits, and not where another revision became durable in between."""
    first = entry(1)
    state.commit({BELL: first})
    known = Entry(first.record, {"a": 1})
    state.refresh({BELL: known})
    assert state.committed(BELL) is known
    state.refresh({BELL: entry(1)})
    assert state.committed(BELL) is known
    state.plan({BELL: entry(2)})
    state.refresh({BELL: Entry(first.record, {"b": 2})})
    assert state.committed(BELL) is known


def test_services_are_listed_by_name_in_their_environment(state: State):
    """Heads with planned and deleted ones, live ones as committed; other environments apart."""
    state.commit({ConfigId("dev", name): entry(1, service=name) for name in ("c", "a")})
    state.commit(
        {ConfigId("dev", "b"): entry(2, service="b", deleted=True), ConfigId("prod", "z"): entry(1, service="z")}
    )
    state.plan({ConfigId("dev", "d"): entry(1, service="d")})
    assert [name for name, _ in state.heads("dev")] == ["a", "b", "c", "d"]
    assert [(name, record.service) for name, record in state.live("dev")] == [("a", "a"), ("c", "c")]
    assert (state.count("dev"), state.count("prod"), state.count("none")) == (2, 1, 0)
