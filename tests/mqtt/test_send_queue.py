"""What waits to be sent: the daemon's own messages before answers, few under way, and a bound on the rest."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.mqtt.messages import Publication, Reply
from aliciacfg.mqtt.send_queue import SendQueue
from soak import examples

KB, MB = 1024, 1024 * 1024


class Wire:
    """A queue and what left it.

    Attributes:
        sent: The topics that were handed over, in order.
        unwritten: Bytes that the socket has not taken.
        zero: How many of them at QoS 0.
        full: When it was told that no further message should be read, and that that is over.
        reliefs: How often the queue was no longer congested.
        sizes: What was acknowledged, and the reason codes.
    """

    def __init__(self, *, fast: bool = True) -> None:
        self.sent: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.refused: list[tuple[Reply, int, int]] = []
        self.full: list[bool] = []
        self._fast = fast
        self.unwritten = self.reliefs = self.zero = self._queued = 0
        self._identifiers = itertools.count(1)
        self.queue = SendQueue(
            self._transmit,
            queued_bytes=lambda: self._queued,
            unwritten_bytes=lambda: self.unwritten,
            on_size=lambda size, code: self.sizes.append((size, code)),
            on_relief=self._on_relief,
            on_full=self.full.append,
            on_refused=lambda reply, size, code: self.refused.append((reply, size, code)),
        )

    def _transmit(self, publication: Publication) -> int:
        self.sent.append(publication.topic)
        self.zero += not publication.qos
        self._queued += len(publication.payload)
        return next(self._identifiers)

    def _on_relief(self) -> None:
        self.reliefs += 1

    def answer(self, topic: str, size: int = KB, *, qos: int = 1) -> None:
        publication = Publication(topic, bytes(size), qos)
        if self._fast:
            self.queue.answer(publication, size, lambda _code: None)
        else:
            self.queue.put(publication, size, answer=True, done=lambda _code: None)

    def acknowledge(self, *identifiers: int) -> None:
        for identifier in identifiers:
            self.queue.acknowledge(identifier, 0)


def test_an_announcement_goes_ahead_of_answers_that_wait():
    """A thousand answers do not make the broker's acknowledgement of it late."""
    wire = Wire()
    for number in range(1000):
        wire.answer(str(number))
    under_way = len(wire.sent)
    assert under_way < 256
    wire.queue.put(Publication("health", b""), 10, answer=False)
    assert wire.sent[under_way:] == ["health"]
    for _ in range(256):
        wire.queue.put(Publication("update", b""), 10, answer=False)
    wire.acknowledge(*range(1, 1258))
    assert wire.sent[under_way + 1 :] == [*["update"] * 256, *(str(number) for number in range(under_way, 1000))]


def test_no_more_is_under_way_than_the_broker_takes():
    """Its Receive Maximum; QoS 0 does not count."""
    wire = Wire()
    wire.queue.receive_maximum = 2
    for number in range(4):
        wire.answer(str(number))
    wire.answer("zero", qos=0)
    assert wire.sent == ["0", "1", "zero"]
    wire.acknowledge(2, 1)
    assert wire.sent == ["0", "1", "zero", "2", "3"]


def test_large_answers_wait_for_each_other():
    """Bounded in bytes, too: at the broker, and in front of a socket that takes nothing."""
    wire = Wire()
    for number in range(4):
        wire.answer(str(number), 3 * MB)
    assert wire.sent == ["0", "1"]
    assert wire.queue.sizes_under_way == [3 * MB] * 2
    wire.unwritten = 5 * MB
    wire.acknowledge(1, 2)
    assert wire.sent == ["0", "1"]
    wire.unwritten = 0
    wire.queue.pump()
    assert wire.sent == ["0", "1", "2", "3"]


def test_too_many_answers_are_a_congestion_until_half_of_them_are_sent():
    """By number, and by bytes."""
    for size, count, under_way in ((KB, 224 + 512, 224), (MB, 5 + 8, 5)):
        wire = Wire()
        for number in range(count - 1):
            wire.answer(str(number), size)
        assert not wire.queue.congested
        wire.answer("last", size)
        assert wire.queue.congested
        acknowledged = 0
        while wire.queue.congested:
            acknowledged += 1
            wire.acknowledge(acknowledged)
        assert (acknowledged, wire.reliefs, len(wire.sent)) == (256 if size == KB else 4, 1, under_way + acknowledged)


def test_what_nobody_waits_for_is_dropped_beyond_a_bound():
    """Refusals of a flood at QoS 0; what the daemon waits for is not."""
    wire = Wire()
    wire.unwritten = 5 * MB
    for number in range(20_000):
        wire.answer(str(number), qos=0)
    wire.queue.put(Publication("update", b""), KB, answer=False, done=lambda _code: None)
    wire.unwritten = 0
    wire.queue.pump()
    assert wire.sent[0] == "update"
    assert len(wire.sent) == 1 + 8192


def test_while_many_answers_wait_for_the_socket_no_message_is_to_be_read():
    """By number and by bytes; only answers at QoS 0 count, which wait for no acknowledgement that would be read."""
    for size, count in ((KB, 2048), (MB, 16)):
        wire = Wire()
        wire.unwritten = 5 * MB
        for number in range(count - 1):
            wire.answer("flood", size, qos=0)
            if number < 1000:
                wire.answer("other", 1)
        assert not wire.full
        wire.answer("flood", size, qos=0)
        assert wire.full == [True]
        wire.unwritten = 0
        wire.queue.pump()
        assert wire.full == [True, False]
        assert wire.zero == count


def test_the_reason_of_an_acknowledgement_is_passed_on():
    """Once; an acknowledgement of an unknown packet is ignored."""
    wire = Wire()
    codes: list[int] = []
    wire.queue.put(Publication("update", b"x"), 9, answer=False, done=codes.append)
    for _ in range(2):
        wire.queue.acknowledge(1, 0x95)
    assert codes == [0x95]
    assert wire.sizes == [(9, 0x95)]


def test_the_only_answer_of_a_client_goes_ahead_of_the_many_of_another_one():
    """At once, as long as few clients do so; the answers of one client keep their order."""
    wire = Wire()
    for _ in range(1000):
        wire.answer("flood")
    under_way = len(wire.sent)
    assert wire.queue.congested_for("flood")
    assert not wire.queue.congested_for("other")
    wire.answer("other", 1)
    wire.answer("other", 2)
    assert wire.sent[under_way:] == ["other"]
    assert wire.queue.congested_for("other")
    for number in range(600):
        wire.answer(f"{number}")
    assert wire.queue.congested_for("another")
    wire.acknowledge(*range(1, under_way))
    assert wire.sent.count("flood") == under_way


def test_answers_of_one_topic_keep_their_order():
    """Also where the first of them goes ahead of those for other topics."""
    wire = Wire()
    wire.queue.receive_maximum = 1
    wire.answer("first")
    for size in range(1, 6):
        wire.answer("many", size)
    for identifier in range(1, 7):
        wire.acknowledge(identifier)
    assert [size for size, _ in wire.sizes] == [KB, 1, 2, 3, 4, 5]


def test_beyond_a_bound_answers_wait_for_no_acknowledgement():
    """Acknowledgements come behind the requests of a flood: without a bound, refusals would fill the memory."""
    wire = Wire()
    for _ in range(10_000):
        wire.answer("flood")
    assert wire.zero == len(wire.sent) - 192
    assert 10_000 - len(wire.sent) == 2048
    wire.acknowledge(*range(1, 20_000))
    assert len(wire.sent) == 10_000
    assert not wire.queue.waits


STEPS = st.one_of(
    st.tuples(st.just("answer"), st.integers(1, 3), st.sampled_from(["a", "b", "c"]), st.integers(0, 1)),
    st.tuples(st.just("own"), st.just(1), st.just("update"), st.just(1)),
    st.tuples(st.just("acknowledge"), st.integers(1, 12), st.just(""), st.just(0)),
    st.tuples(st.just("socket"), st.sampled_from([0, 5 * MB]), st.just(""), st.just(0)),
)


@examples(60)
@given(steps=st.lists(STEPS, max_size=60), receive_maximum=st.integers(1, 6))
def test_an_answer_is_sent_as_anything_else_that_waits_its_turn(
    steps: list[tuple[str, int, str, int]], receive_maximum: int
):
    """The short way sends the same in the same order, whatever waits, is acknowledged, or not taken by the socket."""
    wires = Wire(), Wire(fast=False)
    for wire in wires:
        wire.queue.receive_maximum = receive_maximum
        for what, number, topic, qos in steps:
            match what:
                case "answer":
                    wire.answer(topic, number, qos=qos)
                case "own":
                    wire.queue.put(Publication(topic, b""), number, answer=False)
                case "acknowledge":
                    wire.acknowledge(number)
                case _:
                    wire.unwritten = number
                    wire.queue.pump()
    first, second = wires
    assert first.sent == second.sent
    assert first.sizes == second.sizes
    assert sorted(first.queue.sizes_under_way) == sorted(second.queue.sizes_under_way)
    assert first.queue.waits == second.queue.waits
    assert [first.queue.congested_for(topic) for topic in "abc"] == [second.queue.congested_for(t) for t in "abc"]
