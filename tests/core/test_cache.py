"""Encoded answers: made from the committed record, dropped when it is no longer what readers see."""

import json

import pytest

from aliciacfg.core import cache
from aliciacfg.core.cache import AnswerCache, CachedAnswer
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import Entry, State
from aliciacfg.core.views import Views
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Recipient, Record
from aliciacfg.sealing.boxes import Keyring, PrivateKey

BELL, SIREN = ConfigId("dev", "bell"), ConfigId("dev", "siren")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(config_id: ConfigId, revision: int = 1, *, deleted: bool = False) -> Record:
    return Record(
        environment=config_id.environment, service=config_id.service, revision=revision, version="1.0.0",
        timestamp=1.0, author="tester", cause="api", checksum=f"c{revision}", digest="", changed=[],
        restart_required=[], config=b'{"version":"1.0.0","n":%d}' % revision, deleted=deleted,
    )  # fmt: skip


class Home:
    """A state with two configurations, and a cache over it."""

    def __init__(self, *, ttl_seconds: float = 300, max_bytes: int = 10_000) -> None:
        self.clock = Clock()
        self.state = State({BELL: Entry(record(BELL)), SIREN: Entry(record(SIREN))}, active="dev")
        self.views = Views(Keyring.ephemeral(), self.state, {})
        self.cache = AnswerCache(self.state, self.views, ttl_seconds=ttl_seconds, max_bytes=max_bytes, clock=self.clock)

    def find(self, config_id: ConfigId = BELL) -> CachedAnswer:
        found = self.cache.find(config_id)
        assert found is not None
        return found

    def commit(self, plan: Plan) -> None:
        """What ``Commits`` does when a plan is durable."""
        self.state.commit(plan.entries)
        self.views.on_commit(plan)
        self.cache.on_commit(plan)

    def plan(self) -> Plan:
        return Plan(self.state, ChangeContext("tester", "api"))


def test_an_answer_is_rendered_once_and_found_until_its_time_is_over():
    """An entry is reused until it expires, and then rendered again from memory."""
    home = Home()
    first = home.find()
    fields = json.loads(first.body)
    assert fields["config"] == {"version": "1.0.0", "n": 1}
    assert json.loads(first.plain) == {"status": "success", "request_id": None, **fields}
    assert (first.revision, first.checksum) == (1, "c1")
    home.clock.now += 299.9
    assert home.find() is first
    home.clock.now += 0.1
    assert home.find() is not first
    assert home.find().body == first.body


def test_a_commit_drops_what_it_changes_and_nothing_else():
    """The next read has the new revision; the other configuration keeps its entry."""
    home = Home()
    home.find()
    other = home.find(SIREN)
    plan = home.plan()
    plan.entries[BELL] = Entry(record(BELL, 2))
    home.commit(plan)
    assert home.find().revision == 2
    assert home.find(SIREN) is other


def test_a_deleted_configuration_has_no_answer():
    """A deleted configuration has no cached answer."""
    home = Home()
    home.find()
    plan = home.plan()
    plan.entries[BELL] = Entry(record(BELL, 2, deleted=True))
    home.commit(plan)
    assert home.cache.find(BELL) is None
    assert home.cache.find(ConfigId("prod", "bell")) is None


def test_another_recipient_key_changes_the_etag_at_once():
    """The change of a recipient key replaces the cached answer, although the revision stays."""
    home = Home()
    before, other = home.find(), home.find(SIREN)
    plan = home.plan()
    plan.recipients.append(Recipient("bell", str(PrivateKey.generate().public)))
    home.commit(plan)
    assert home.find().etag != before.etag
    assert home.find(SIREN) is other


def test_without_a_time_to_live_nothing_is_kept():
    """A lifetime of 0 turns off the cache, and answers are still rendered."""
    home = Home(ttl_seconds=0)
    assert home.find() is not home.find()
    assert (home.cache.hits, home.cache.misses) == (0, 2)


def test_the_hit_rate_counts_look_ups():
    """A number from 0 to 1, also before the first; an expired entry is a miss, an unknown service is neither."""
    home = Home(ttl_seconds=10)
    assert home.cache.hit_rate == 0
    for _ in range(4):
        home.find()
    home.cache.find(ConfigId("dev", "nothing"))
    assert home.cache.hit_rate == 0.75
    home.clock.now += 10
    home.find()
    assert home.cache.hit_rate == 0.6


def kept(home: Home, config_id: ConfigId) -> bool:
    misses = home.cache.misses
    home.find(config_id)
    return home.cache.misses == misses


def test_entries_are_bounded_in_bytes():
    """The oldest one makes room; an answer larger than the whole budget is given, but not kept."""
    size = len(Home().find(BELL).plain) + len(Home().find(SIREN).plain)
    home = Home(max_bytes=size)
    home.find(BELL)
    home.find(SIREN)
    assert kept(home, BELL)
    assert kept(home, SIREN)
    home = Home(max_bytes=size - 1)
    home.find(BELL)
    home.find(SIREN)
    assert kept(home, SIREN)
    assert not kept(home, BELL)
    assert not kept(Home(max_bytes=1), BELL)


def test_what_commits_drop_leaves_its_bytes_to_others():
    """However often revisions follow one another, the current ones are kept."""
    home = Home(max_bytes=3 * len(Home().find().plain))
    for revision in range(2, 20):
        home.find(BELL)
        plan = home.plan()
        plan.entries[BELL] = Entry(record(BELL, revision))
        home.commit(plan)
    home.find(BELL)
    home.find(SIREN)
    assert kept(home, BELL)
    assert kept(home, SIREN)


def test_expired_entries_are_dropped_although_nobody_reads_them():
    """At the next answer that is kept; until then they do not count as hits."""
    home = Home(ttl_seconds=10)
    home.find(BELL)
    home.clock.now += 10
    siren = home.find(SIREN)
    assert home.cache.bytes == len(siren.plain)


def test_a_part_is_encoded_once_and_dropped_with_its_entry():
    """It is the whole answer with only the value at the pointer; a commit drops it."""
    home = Home()
    found = home.find()
    part = home.cache.part(BELL, found, "/n")
    assert part is not None
    assert json.loads(part) == {**json.loads(found.plain), "config": 1}
    assert home.cache.part(BELL, found, "/n") is part
    assert home.cache.part(BELL, found, "/nothing") is None
    assert home.cache.bytes == len(found.plain) + len(part)
    plan = home.plan()
    plan.entries[BELL] = Entry(record(BELL, 2))
    home.commit(plan)
    assert home.cache.bytes == 0
    changed = home.cache.part(BELL, home.find(), "/n")
    assert changed is not None
    assert json.loads(changed)["config"] == 2


def test_parts_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """In number for each entry, and in bytes together with the entries; what is not kept is answered all the same."""
    monkeypatch.setattr(cache, "_MAX_PARTS", 1)
    home = Home()
    found = home.find()
    kept, other = home.cache.part(BELL, found, "/n"), home.cache.part(BELL, found, "/version")
    assert other is not None
    assert list(found.parts.values()) == [kept]
    small = Home(max_bytes=len(found.plain) + 10)
    found = small.find()
    assert small.cache.part(BELL, found, "/n") == kept
    assert small.cache.bytes == 0
    assert small.find() is not found


def test_a_part_of_an_answer_that_was_dropped_is_not_kept():
    """It would count as bytes that no entry holds."""
    home = Home()
    found = home.find()
    home.cache.clear()
    assert home.cache.part(BELL, found, "/n") is not None
    assert (found.parts, home.cache.bytes) == ({}, 0)
