"""What is committed and what waits for the disk on top of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_page_begins_at_its_cursor(state: State):
    """Only names after the cursor, and only those with the prefix."""
    state.commit({ConfigId("dev", name): entry(1, service=name) for name in ("lamp_b", "lamp_a", "bell", "lamps")})
    assert [name for name, _ in state.live("dev", after="lamp_a")] == ["lamp_b", "lamps"]
    assert [name for name, _ in state.live("dev", after="bell", prefix="lamp_")] == ["lamp_a", "lamp_b"]
    assert list(state.live("dev", after="lamps")) == []


def test_pending_writes_count_before_they_are_durable(state: State):
    """There is no room for a service that another write adds, and room again for one that another write ends."""
    state.commit({ConfigId("dev", name): entry(1, service=name) for name in ("a", "b")})
    state.plan({ConfigId("dev", "c"): entry(1, service="c"), ConfigId("prod", "a"): entry(1)})
    assert (state.count("dev"), state.count_heads("dev")) == (2, 3)
    state.plan({ConfigId("dev", "a"): entry(2, service="a", deleted=True)})
    assert state.count_heads("dev") == 2
    state.abort()
    assert state.count_heads("dev") == 2
    assert state.heads_of("a") == {"dev": state.committed(ConfigId("dev", "a"))}


names = st.sampled_from(["a", "b", "c", "d"])
environments = st.sampled_from(["dev", "prod"])


@given(st.lists(st.tuples(st.sampled_from(["plan", "commit", "abort"]), environments, names, st.booleans())))
def test_what_is_indexed_is_what_a_look_at_everything_finds(steps: list[tuple[str, str, str, bool]]):
    """Lists, counts and heads equal those made from all entries, after any writes, ends and failures."""
    state = State()
    planned: list[dict[ConfigId, Entry]] = []
    for number, (step, environment, service, deleted) in enumerate(steps):
        if step == "plan":
            planned.append({ConfigId(environment, service): entry(number + 1, service=service, deleted=deleted)})
            state.plan(planned[-1])
        elif step == "commit" and planned:
            state.commit(planned.pop(0))
        elif step == "abort":
            planned.clear()
            state.abort()
        everything = state.all_heads()
        for name in ("dev", "prod"):
            heads = {
                known.service: head
                for known, head in sorted(everything.items(), key=lambda item: item[0])
                if known.environment == name
            }
            assert list(state.heads(name)) == list(heads.items())
            assert state.count_heads(name) == sum(head.live is not None for head in heads.values())
            served = [known for known in heads if state.committed(ConfigId(name, known)).live]
            assert [known for known, _ in state.live(name)] == served
            assert state.count(name) == len(served)
        for known in ("a", "b", "c", "d"):
            assert state.heads_of(known) == {
                place: head
                for (place, own), head in sorted(everything.items(), key=lambda item: item[0])
                if own == known
            }
