"""What the bus has to hold, and whether it was seen to."""

import msgspec

from aliciacfg.api.bus_messages import EnvironmentMessage
from aliciacfg.core.message_ids import MessageIds
from aliciacfg.core.outbox import Outbox, service_subject, subject_service
from aliciacfg.model.records import Announcement
from aliciacfg.sealing.boxes import Keyring

IDS = MessageIds(Keyring.ephemeral())
OTHERS = MessageIds(Keyring.ephemeral())


def made(subject: str, sequence: int, ids: MessageIds = IDS) -> Announcement:
    """An announcement as an outbox makes it."""
    message = EnvironmentMessage(message_id="", epoch=1, sequence=sequence, environment="dev")
    return Outbox(message_ids=ids).announce(subject, message)


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
    outbox = Outbox(message_ids=IDS)
    item = made("a", 1)
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (0, [], False)
    outbox.add([item])
    assert (outbox.pending, due(outbox), outbox.changed.is_set()) == (1, [("a", item.payload)], True)
    assert outbox.current == {"a": item}


def test_only_the_newest_of_a_subject_is_published():
    """The newest announcement is kept in any order of commits, and the subject keeps its place in the queue."""
    outbox = Outbox(message_ids=IDS)
    old, other, new = made("a", 1), made("b", 2), made("a", 3)
    outbox.add([old])
    outbox.add([other])
    outbox.add([new])
    assert due(outbox) == [("a", new.payload), ("b", other.payload)]
    outbox.add([old])
    assert due(outbox) == [("a", new.payload), ("b", other.payload)]
    assert outbox.is_pending(new)
    assert not outbox.is_pending(old)


def test_a_confirmation_of_an_older_one_does_not_count_for_the_newer():
    """The confirmation of a replaced announcement leaves the newest one pending."""
    outbox = Outbox(message_ids=IDS)
    old, new = made("a", 1), made("a", 2)
    outbox.add([old])
    outbox.add([new])
    outbox.confirm(old)
    assert (outbox.pending, outbox.drain_confirmed(100)) == (1, ())
    outbox.confirm(new)
    assert outbox.pending == 0
    assert outbox.drain_confirmed(100) == (new,)


def test_confirmations_are_taken_once():
    """Each confirmed announcement is returned for one write only."""
    outbox = Outbox(message_ids=IDS)
    items = [made(name, 1) for name in "ab"]
    outbox.add(items)
    for item in items:
        outbox.confirm(item)
    assert set(outbox.drain_confirmed(100)) == set(items)
    assert outbox.drain_confirmed(100) == ()


def test_the_confirmation_of_one_that_was_replaced_since_is_not_stored():
    """Its row in the store is that of the newer one by now."""
    outbox = Outbox(message_ids=IDS)
    outbox.add([made("a", 1)])
    outbox.confirm(made("a", 1))
    outbox.add([made("a", 2)])
    assert outbox.drain_confirmed(100) == ()


def test_what_was_confirmed_is_published_again_when_asked_for():
    """``repeat`` makes a known subject pending again and ignores an unknown one."""
    outbox = Outbox(message_ids=IDS)
    item = made("a", 1)
    outbox.add([item])
    outbox.confirm(item)
    outbox.changed.clear()
    outbox.repeat("unknown")
    assert (outbox.pending, outbox.changed.is_set()) == (0, False)
    outbox.repeat("a")
    assert (outbox.pending, outbox.changed.is_set()) == (1, True)
    assert outbox.due() == [item]


def test_a_start_goes_on_where_the_last_run_ended():
    """After a restart, pending announcements are due, and confirmed ones are not."""
    held, waiting = msgspec.structs.replace(made("a", 7), pending=False), made("b", 9)
    outbox = Outbox([held, waiting], message_ids=IDS)
    assert (outbox.due(), outbox.pending, outbox.changed.is_set()) == ([waiting], 1, True)
    assert outbox.current == {"a": held, "b": waiting}
    assert not Outbox([held], message_ids=IDS).changed.is_set()


def test_strangers_cannot_be_confirmed():
    """The confirmation of an unknown subject changes nothing."""
    outbox = Outbox(message_ids=IDS)
    outbox.confirm(Announcement("a", 1, b"x"))
    assert (outbox.drain_confirmed(100), outbox.pending) == ((), 0)


def test_the_age_is_that_of_what_waits_longest():
    """The time counts from the first pending announcement of a subject, even if newer ones replace it."""
    now = 100.0
    outbox = Outbox([made("a", 1)], message_ids=IDS, clock=lambda: now)
    now += 2
    first = made("b", 2)
    outbox.add([first])
    newer = made("a", 3)
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


def test_a_message_is_ours_by_its_id_and_only_on_its_own_topic():
    """A message of an earlier run is ours, however old; one byte changed, another subject or other keys make it not."""
    outbox = Outbox(message_ids=IDS)
    payload = made("a", 7).payload
    assert outbox.is_ours("a", payload)
    assert not outbox.is_ours("b", payload)
    assert not outbox.is_ours("a", payload.replace(b"dev", b"dex"))
    assert not outbox.is_ours("a", payload.replace(b'"sequence":7', b'"sequence":8'))
    assert not outbox.is_ours("a", payload + b" ")
    assert not outbox.is_ours("a", made("a", 7, OTHERS).payload)
    for foreign in (b"", b"\xff", b"{}", b'{"message_id":"', payload[:20], b"[" * 5000):
        assert not outbox.is_ours("a", foreign)


def test_a_stored_message_that_no_outbox_made_is_not_published():
    """A row that was edited, or comes from before messages had such ids, is left out and known as what was held."""
    outbox = Outbox([Announcement("a", 7, b"{}"), made("b", 8, OTHERS), made("c", 9)], message_ids=IDS)
    assert list(outbox.current) == ["c"]
    assert (outbox.unsigned("a"), outbox.unsigned("c"), outbox.unsigned("d")) == (b"{}", b"", b"")


def test_what_was_added_comes_before_what_waits():
    """One change is told before the rest of many, and one that is to be told again, too; each is listed once."""
    outbox = Outbox([made(name, number) for number, name in enumerate("abc", 1)], message_ids=IDS)
    assert [item.subject for item in outbox.due()] == ["a", "b", "c"]
    outbox.add([made("b", 4), made("d", 5)])
    assert [item.subject for item in outbox.added()] == ["b", "d"]
    assert outbox.added() == []
    outbox.add([made("c", 6)])
    outbox.repeat("a")
    assert [item.subject for item in outbox.due()] == ["c", "a", "b", "d"]
    outbox.add([made("a", 7)])
    outbox.confirm(made("a", 7))
    assert outbox.added() == []
