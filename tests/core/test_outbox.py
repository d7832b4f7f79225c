"""What the bus has to hold, and whether it was seen to."""

from aliciacfg.core.outbox import Outbox, service_subject, subject_service
from aliciacfg.model.records import Announcement


def due(outbox: Outbox) -> list[tuple[str, bytes]]:
    return [(item.subject, item.payload) for item in outbox.due()]


def test_subjects_of_services_are_told_from_others():
    """A service may be called like another subject."""
    assert subject_service(service_subject("bell")) == "bell"
    assert subject_service(service_subject("key")) == "key"
    assert service_subject("key") != "key"
    assert subject_service("key") is subject_service("environment") is None


def test_what_is_created_is_due_once_it_was_added():
    """Created is not committed: nothing is published before its revision is durable."""
    outbox = Outbox()
    item = outbox.create("a", b"1")
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (0, [], False)
    outbox.add([item])
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (1, [("a", b"1")], True)
    assert outbox.current == {"a": item}


def test_only_the_newest_of_a_subject_is_published():
    """Whatever the order in which commits are told; the subject keeps its place in the queue."""
    outbox = Outbox()
    old, other, new = outbox.create("a", b"1"), outbox.create("b", b"2"), outbox.create("a", b"3")
    outbox.add([old])
    outbox.add([other])
    outbox.add([new])
    assert due(outbox) == [("a", b"3"), ("b", b"2")]
    outbox.add([old])
    assert due(outbox) == [("a", b"3"), ("b", b"2")]
    assert outbox.is_pending(new)
    assert not outbox.is_pending(old)


def test_a_confirmation_of_an_older_one_does_not_count_for_the_newer():
    """An echo that was overtaken leaves the newest pending."""
    outbox = Outbox()
    old, new = outbox.create("a", b"1"), outbox.create("a", b"2")
    outbox.add([old])
    outbox.add([new])
    outbox.confirm(old)
    assert (outbox.pending, outbox.drain_confirmed()) == (1, ())
    outbox.confirm(new)
    assert outbox.pending == 0
    assert outbox.drain_confirmed() == (new,)


def test_confirmations_are_taken_once():
    """Each is written down with one write."""
    outbox = Outbox()
    items = [outbox.create(name, b"") for name in "ab"]
    outbox.add(items)
    for item in items:
        outbox.confirm(item)
    assert set(outbox.drain_confirmed()) == set(items)
    assert outbox.drain_confirmed() == ()


def test_what_was_confirmed_is_published_again_when_asked_for():
    """A repaired message; what nobody knows cannot be repeated."""
    outbox = Outbox()
    item = outbox.create("a", b"1")
    outbox.add([item])
    outbox.confirm(item)
    outbox.changed.clear()
    outbox.repeat("unknown")
    assert (outbox.pending, outbox.changed.is_set()) == (0, False)
    outbox.repeat("a")
    assert (outbox.pending, outbox.changed.is_set()) == (1, True)
    assert outbox.due() == [item]


def test_a_start_goes_on_where_the_last_run_ended():
    """Pending rows are due at once, confirmed ones are held, and numbers go on rising."""
    held, waiting = Announcement("a", 7, b"1", pending=False), Announcement("b", 9, b"2")
    outbox = Outbox([held, waiting])
    assert (outbox.due(), outbox.pending, outbox.changed.is_set()) == ([waiting], 1, True)
    assert outbox.current == {"a": held, "b": waiting}
    assert outbox.create("c", b"").sequence == 10
    assert not Outbox([held]).changed.is_set()


def test_strangers_cannot_be_confirmed():
    """A message on a subject that has none here changes nothing."""
    outbox = Outbox()
    outbox.confirm(Announcement("a", 1, b"x"))
    assert (outbox.drain_confirmed(), outbox.pending) == ((), 0)


def test_the_age_is_that_of_what_waits_longest():
    """From when a subject fell behind until it was confirmed, however often it changed meanwhile."""
    now = 100.0
    outbox = Outbox([Announcement("a", 1, b"1")], clock=lambda: now)
    now += 2
    first = outbox.create("b", b"2")
    outbox.add([first])
    newer = outbox.create("a", b"3")
    outbox.add([newer])
    now += 3
    assert outbox.oldest_seconds == 5
    outbox.confirm(newer)
    assert outbox.oldest_seconds == 3
    outbox.confirm(first)
    assert outbox.oldest_seconds == 0
    outbox.repeat("a")
    now += 1
    assert outbox.oldest_seconds == 1
