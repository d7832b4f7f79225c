"""A lane of its own for plain gets: from the bytes of a request to those of its answer, a whole read at a time.

What the bytes of a request ask for depends on nothing else, so it is remembered, but for the packet identifier and the
Correlation Data, which change: a ``_Route``. Requests that follow it are compared with its bytes instead of parsed, and
their answers put together from pieces that were encoded before. What is the same for all that one read brings is asked
once: whether anything waits, the rules, the cache, the time, the counters. A get at QoS 1 with its acknowledgement took
19 µs of the processor on the way through ``Inbox`` and ``Connection.answer``, of which the system takes 6, and takes 9
here.

The lane does what that way does, byte for byte, or nothing: a message that is no plain get, or would have to wait, be
refused or be rendered, it leaves where it is. What it remembers holds as long as

- the rules are the same object (``Requests.rules``): by them answer topics are allowed;
- the cache has an answer of the same length; the answer itself is taken from there for each run.

Both are looked at once for each run, within which nothing else can happen, however the requests of several clients
alternate in it. Between runs no answer is held: that the cache forgets what changed or is not read any more, and how
much it holds, is true here, too. At most ``_MAX_ROUTES`` are remembered, then all are forgotten; each takes a plain get
to be learned again.
"""

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from aliciacfg.mqtt import packets
from aliciacfg.mqtt.identifiers import MAX_IDENTIFIER, Identifiers
from aliciacfg.mqtt.messages import Inbound, Publication, Reply
from aliciacfg.mqtt.send_queue import MAX_UNDER_WAY_BYTES, QuickAnswer, SendQueue

if TYPE_CHECKING:
    # It brings all operations along, and commands only connect.
    from aliciacfg.mqtt.requests import Requests

_MAX_ROUTES = 1024
_PUBACK = 0x40
_PUBACK_HEAD = b"\x40\x02"
_PUBACK_BYTES = 4
# A PUBLISH at QoS 0 and QoS 1 without flags.
_PUBLISHES = (0x30, 0x32)
_AT_LEAST_ONCE = 0x32
_NO_IDENTIFIER = b"\0\0"
# A topic and properties that are longer are parsed each time. From where on a length has more than one byte.
_MAX_TOPIC = 1024
_TWO_BYTES = 1 << 7
_THREE_BYTES = 1 << 14
# Empty, or an object without fields.
_MAX_PAYLOAD = 2
_RESPONSE_TOPIC = 0x08
_CORRELATION_DATA = 0x09


class Limit(Protocol):
    """The largest packet that may be sent: a ``PacketLimit``.

    Attributes:
        bytes: How large that is.
    """

    bytes: int

    def accepted(self, size: int) -> None:
        """Note that the broker acknowledged a packet."""
        ...


class _Route:
    """A request but for its packet identifier and Correlation Data, and its answer.

    Attributes:
        head: The packet's bytes before the identifier; at QoS 0 all before the Correlation Data.
        middle: Those between the two; empty at QoS 0.
        middle_at: Where they begin.
        data_at: Where the Correlation Data begins, and where it ends ``tail_at``.
        tail: The payload.
        size: Of the packet.
        name: Whose configuration is asked for.
        topic: Where the answer goes.
        qos: Of both.
        has_data: Whether there is Correlation Data.
        payload: The answer's, in a run.
        payload_bytes: How long that was last time; the next three were made of it.
        answer_head: The answer's bytes before the identifier; at QoS 0 all before the Correlation Data.
        answer_middle: Those between the two; empty at QoS 0.
        answer_size: Of its packet.
        ready: Whether it is so far in this run that it can be answered.
        count: How often it was answered in this run.
    """

    __slots__ = (
        "answer_head", "answer_middle", "answer_size", "count", "data_at", "has_data", "head", "middle", "middle_at",
        "name", "payload", "payload_bytes", "qos", "ready", "size", "tail", "tail_at", "topic",
    )  # fmt: skip

    def __init__(self, inbound: Inbound, properties: bytes, name: str, topic: str) -> None:
        self.name, self.topic, self.qos = name, topic, inbound.qos
        data = inbound.correlation_data
        self.has_data = data is not None
        whole = packets.publish_head(
            Publication(inbound.topic, inbound.payload, inbound.qos, False, properties), inbound.identifier
        )
        self.tail = inbound.payload
        self.tail_at = len(whole)
        self.size = len(whole) + len(self.tail)
        self.data_at = len(whole) - len(data or b"")
        # The length of the properties is in one byte: longer ones are not learned.
        properties_at = len(whole) - len(properties) - 1
        self.middle_at = properties_at if inbound.qos else self.data_at
        self.middle = whole[self.middle_at : self.data_at]
        self.head = whole[: properties_at - 2] if inbound.qos else whole[: self.data_at]
        self.payload_bytes: int | None = None
        self.answer_head = self.answer_middle = self.payload = b""
        self.answer_size = self.count = 0
        self.ready = False

    @property
    def key(self) -> bytes:
        """What distinguishes the request from others: all of it that does not change."""
        return self.head + self.middle + self.tail

    def prepare(self, payload: bytes) -> None:
        """Take an answer, and encode what all answers of its length have in common."""
        self.payload = payload
        if len(payload) == self.payload_bytes:
            return
        self.payload_bytes = len(payload)
        data = bytes(self.tail_at - self.data_at) if self.has_data else None
        properties = packets.reply_properties(True, data)
        head = packets.publish_head(Publication(self.topic, payload, self.qos, False, properties), 0)
        data_at = len(head) - len(data or b"")
        if self.qos:
            middle_at = len(head) - len(properties) - len(packets.variable_integer(len(properties)))
            self.answer_head, self.answer_middle = head[: middle_at - 2], head[middle_at:data_at]
        else:
            self.answer_head, self.answer_middle = head[:data_at], b""
        self.answer_size = len(head) + len(payload)

    def end(self) -> None:
        """Let go of the answer at the end of a run."""
        self.payload, self.ready, self.count = b"", False, 0


class GetLane:
    """Answers plain gets, and takes the acknowledgements of these answers, on one connection."""

    def __init__(
        self,
        requests: "Requests",
        queue: SendQueue,
        limit: Limit,
        *,
        is_free: Callable[[], bool],
        on_delivered: Callable[[int], None],
    ) -> None:
        """Make a lane that has learned nothing.

        Args:
            requests: Decides what is answered, and where.
            queue: Sends the other answers of this connection.
            limit: The largest packet that may be sent.
            is_free: Returns whether reads may be answered at once: none waits.
            on_delivered: Called with the number of requests that were answered.
        """
        self._requests = requests
        self._queue = queue
        self._limit = limit
        self._is_free = is_free
        self._on_delivered = on_delivered
        self._rules = requests.rules
        # What was learned: by the fields of a message, and by all of its bytes that do not change.
        self._learned: set[tuple[object, ...]] = set()
        self._routes: dict[bytes, _Route] = {}
        self._last: _Route | None = None
        # Those of the present run, in the order in which they came.
        self._ready: list[_Route] = []

    def learn(self, inbound: Inbound, reply: Reply) -> None:
        """Remember a request that was answered from the cache just now."""
        data = inbound.correlation_data
        what = (
            inbound.topic,
            inbound.response_topic,
            None if data is None else len(data),
            inbound.qos,
            inbound.payload,
        )
        if what in self._learned:
            return
        if self._rules is not self._requests.rules or len(self._learned) >= _MAX_ROUTES:
            self._forget()
        self._learned.add(what)
        properties = packets.request_properties(inbound.response_topic, data)
        if len(properties) < _TWO_BYTES and len(inbound.topic) < _MAX_TOPIC:
            route = _Route(inbound, properties, self._requests.name_of(inbound), reply.topic)
            self._routes[route.key] = route

    def _forget(self) -> None:
        self._rules = self._requests.rules
        self._learned.clear()
        self._routes.clear()
        self._last = None

    def run(  # noqa: C901, PLR0912, PLR0915 - flat: each call more would be 0.1 of 2 µs
        self, buffer: bytes, position: int, most: int, identifiers: Identifiers, output: list[bytes]
    ) -> tuple[int, int, int]:
        """Handle packets from a position on, up to the first that is not for the lane.

        Args:
            buffer: What was received.
            position: Where a packet begins in it.
            most: How many packets to handle.
            identifiers: Of the connection.
            output: Gets what is to be sent.

        Returns:
            Where it has come to, how many packets it handled, and how many bytes are to be sent.
        """
        room = self._queue.room_at_once()
        if room is None or not self._is_free():
            return position, 0, 0
        room_count, room_bytes, under_way_bytes = room
        started = perf_counter()
        under_way, used, last = self._queue.under_way, identifiers.used, identifiers.last
        begun, end, left = position, len(buffer), most
        route: _Route | None = None
        size = 0
        acknowledged: list[QuickAnswer] = []
        while left and position + _PUBACK_BYTES <= end:
            if buffer[position] == _PUBACK:
                identifier = buffer[position + 2] << 8 | buffer[position + 3]
                answer = under_way.get(identifier)
                if not isinstance(answer, QuickAnswer) or buffer[position + 1] != _PUBACK_BYTES - 2:
                    break
                del under_way[identifier]
                used.discard(identifier)
                acknowledged.append(answer)
                under_way_bytes -= answer.size
                room_count += 1
                position += _PUBACK_BYTES
                left -= 1
                continue
            if route is None or not (
                buffer.startswith(route.head, position)
                and buffer.startswith(route.middle, position + route.middle_at)
                and buffer.startswith(route.tail, position + route.tail_at)
            ):
                route = self._route(buffer, position, route)
                if route is None:
                    break
            after = position + route.size
            if after > end or size > room_bytes:
                break
            payload = route.payload
            data = buffer[position + route.data_at : position + route.tail_at]
            if route.qos:
                identified = buffer[position + route.middle_at - 2 : position + route.middle_at]
                if room_count <= 0 or under_way_bytes > MAX_UNDER_WAY_BYTES or identified == _NO_IDENTIFIER:
                    break
                last = last % MAX_IDENTIFIER + 1
                while last in used:
                    last = last % MAX_IDENTIFIER + 1
                used.add(last)
                under_way[last] = QuickAnswer(route.topic, payload, data if route.has_data else None, route.answer_size)
                under_way_bytes += route.answer_size
                room_count -= 1
                output += (
                    route.answer_head, last.to_bytes(2, "big"), route.answer_middle, data, payload,
                    _PUBACK_HEAD, identified,
                )  # fmt: skip
                size += route.answer_size + _PUBACK_BYTES
            else:
                output += (route.answer_head, data, payload)
                size += route.answer_size
            route.count += 1
            position = after
            left -= 1
        identifiers.last = last
        if self._ready:
            # First, as one of these may have been acknowledged, too.
            self._end(len(acknowledged), perf_counter() - started)
        if position > begun:
            self._queue.note_acknowledged(acknowledged, under_way_bytes)
            if acknowledged:
                self._limit.accepted(max([answer.size for answer in acknowledged]))
        return position, most - left, size

    def _route(self, buffer: bytes, position: int, other: _Route | None) -> _Route | None:
        """Return the route of the packet at a position, ready for this run; None if the lane cannot answer it now.

        Args:
            buffer: What was received.
            position: Where the packet begins.
            other: One that it is known not to be.
        """
        found = self._last if other is None else None
        if found is None or not (
            buffer.startswith(found.head, position)
            and buffer.startswith(found.middle, position + found.middle_at)
            and buffer.startswith(found.tail, position + found.tail_at)
        ):
            found = self._routes.get(_key(buffer, position))
        if found is None:
            return None
        self._last = found
        if found.ready:
            return found
        if self._rules is not self._requests.rules:
            self._forget()
            return None
        cached = self._requests.cached(found.name)
        if cached is None:
            return None
        found.prepare(cached.plain)
        self._ready.append(found)
        found.ready = found.answer_size <= self._limit.bytes
        return found if found.ready else None

    def _end(self, acknowledged: int, seconds: float) -> None:
        """Count the answers of a run, and let go of them.

        Args:
            acknowledged: How many acknowledgements it handled besides.
            seconds: How long it took.
        """
        ready = self._ready
        total = sum([route.count for route in ready])
        for route in ready:
            if route.count:
                self._requests.count(route.name, route.count, seconds / (total + acknowledged))
                self._queue.note_sent(route.topic, route.qos, route.answer_size, route.count)
            route.end()
        ready.clear()
        if total:
            self._on_delivered(total)


def _key(buffer: bytes, position: int) -> bytes:
    """Return the key of the ``_Route`` of the packet at a position; empty if there can be none."""
    try:
        first, length, start = buffer[position], buffer[position + 1], position + 2
        if length >= _TWO_BYTES:
            length, start = length % _TWO_BYTES + buffer[start] * _TWO_BYTES, start + 1
        if first not in _PUBLISHES or length >= _THREE_BYTES:
            return b""
        end = start + length
        topic_end = start + 2 + (buffer[start] << 8 | buffer[start + 1])
        properties = topic_end + 2 if first == _AT_LEAST_ONCE else topic_end
        tail_at = properties + 1 + buffer[properties]
        at = properties + 1
        if at < tail_at and buffer[at] == _RESPONSE_TOPIC:
            at += 3 + (buffer[at + 1] << 8 | buffer[at + 2])
        if at < tail_at and buffer[at] == _CORRELATION_DATA:
            at += 3
    except IndexError:
        return b""
    if not at <= tail_at <= end <= tail_at + _MAX_PAYLOAD:
        return b""
    return buffer[position:topic_end] + buffer[properties:at] + buffer[tail_at:end]
