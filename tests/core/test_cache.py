"""Encoded answers kept for a time."""

from aliciacfg.core.cache import AnswerCache

KEY = ("dev", "bell")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def put(cache: AnswerCache, body: bytes = b"{}") -> None:
    cache.put(KEY, body=body, etag="e", revision=1, checksum="c")


def test_an_entry_serves_until_its_time_is_over():
    """A moment before the end it is there, at the end it is not."""
    clock = Clock()
    cache = AnswerCache(ttl_seconds=300, clock=clock)
    put(cache)
    clock.now += 299.9
    assert cache.get(KEY) is not None
    clock.now += 0.1
    assert cache.get(KEY) is None


def test_writing_through_replaces_and_renews():
    """The newest answer is served, for its whole time from then on."""
    clock = Clock()
    cache = AnswerCache(ttl_seconds=300, clock=clock)
    put(cache, b"old")
    clock.now += 200
    put(cache, b"new")
    clock.now += 200
    found = cache.get(KEY)
    assert found is not None
    assert found.body == b"new"
    assert (found.etag, found.revision, found.checksum) == ("e", 1, "c")


def test_environments_are_apart_and_entries_can_be_discarded():
    """One service in two environments is two entries; discarding what is not there is no error."""
    cache = AnswerCache(ttl_seconds=300, clock=Clock())
    put(cache)
    assert cache.get(("prod", "bell")) is None
    cache.discard(("prod", "bell"))
    assert cache.get(KEY) is not None
    cache.discard(KEY)
    assert cache.get(KEY) is None


def test_without_a_time_nothing_is_kept():
    """A time of 0 turns caching off; the answer is made all the same."""
    cache = AnswerCache(ttl_seconds=0, clock=Clock())
    assert cache.put(KEY, body=b"x", etag="e", revision=1, checksum="c").body == b"x"
    assert cache.get(KEY) is None


def test_the_hit_rate_counts_look_ups():
    """A number from 0 to 1, also before the first; a stale entry is a miss."""
    clock = Clock()
    cache = AnswerCache(ttl_seconds=10, clock=clock)
    assert cache.hit_rate == 0
    cache.get(KEY)
    put(cache)
    for _ in range(3):
        cache.get(KEY)
    assert cache.hit_rate == 0.75
    clock.now += 10
    cache.get(KEY)
    assert cache.hit_rate == 0.6


def test_a_hit_is_counted_and_a_miss_left_to_the_look_up_after_it():
    """Whoever finds nothing asks again by get, and the one read is one miss."""
    cache = AnswerCache(ttl_seconds=10, clock=Clock())
    assert cache.hit(KEY) is None
    assert cache.get(KEY) is None
    put(cache)
    assert cache.hit(KEY) is not None
    assert (cache.hits, cache.misses) == (1, 1)
