"""What the bus has to hold, and whether it was seen to."""

from aliciacfg.core.outbox import Outbox, service_subject, subject_service
from aliciacfg.model.records import Announcement


def due(outbox: Outbox) -> list[tuple[str, bytes]]:
    return [(item.subject, item.payload) for item in outbox.due()]


def test_subjects_of_services_are_told_from_others():
    """A service named like another subject does not collide with it."""
    assert subject_service(service_subject("bell")) == "bell"
    assert subject_service(service_subject("key")) == "key"
    assert service_subject("key") != "key"
    assert subject_service("key") is subject_service("environment") is None


def test_what_is_created_is_due_once_it_was_added():
    """An announcement is pending only after ``add``, so nothing is published before its revision is durable."""
    outbox = Outbox()
    item = outbox.create("a", b"1")
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (0, [], False)
    outbox.add([item])
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (1, [("a", b"1")], True)
    assert outbox.current == {"a": item}


def test_only_the_newest_of_a_subject_is_published():
    """The newest announcement is kept in any order of commits, and the subject keeps its place in the queue."""
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
    """The confirmation of a replaced announcement leaves the newest one pending."""
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
    """Each confirmed announcement is returned for one write only."""
    outbox = Outbox()
    items = [outbox.create(name, b"") for name in "ab"]
    outbox.add(items)
    for item in items:
        outbox.confirm(item)
    assert set(outbox.drain_confirmed()) == set(items)
    assert outbox.drain_confirmed() == ()


def test_what_was_confirmed_is_published_again_when_asked_for():
    """``repeat`` makes a known subject pending again and ignores an unknown one."""
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
    """After a restart, pending announcements are due, confirmed ones are not, and sequence numbers keep rising."""
    held, waiting = Announcement("a", 7, b"1", pending=False), Announcement("b", 9, b"2")
    outbox = Outbox([held, waiting])
    assert (outbox.due(), outbox.pending, outbox.changed.is_set()) == ([waiting], 1, True)
    assert outbox.current == {"a": held, "b": waiting}
    assert outbox.create("c", b"").sequence == 10
    assert not Outbox([held]).changed.is_set()


def test_strangers_cannot_be_confirmed():
    """The confirmation of an unknown subject changes nothing."""
    outbox = Outbox()
    outbox.confirm(Announcement("a", 1, b"x"))
    assert (outbox.drain_confirmed(), outbox.pending) == ((), 0)


def test_the_age_is_that_of_what_waits_longest():
    """The time counts from the first pending announcement of a subject, even if newer ones replace it."""
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
