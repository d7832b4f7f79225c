"""What waits to be sent on one connection: the daemon's own messages before answers, and few at a time under way.

A broker acknowledges in the order of sending, so what is handed over to it cannot be overtaken. Few packets are under
way at a time; the others wait here, where an announcement goes ahead of a thousand answers.
"""

import time
from collections import deque
from collections.abc import Callable

import structlog

from aliciacfg.mqtt.messages import Publication

_log = structlog.get_logger(__name__)

# One round trip's worth of answers on a fast network.
_MAX_UNDER_WAY = 256
_MAX_UNDER_WAY_BYTES = 4 * 1024 * 1024
# From here on no further request is begun, until half of it has been sent.
_CONGESTED_COUNT = 512
_CONGESTED_BYTES = 8 * 1024 * 1024
_RECENT_SECONDS = 2.0
_MAX_RECENT = 64
# Beyond these the newest message is dropped, unless its publisher waits for the acknowledgement. Only refusals of
# requests that the broker does not hold back (QoS 0), and alerts, come in such numbers.
_MAX_WAITING = 8192
_MAX_WAITING_BYTES = 64 * 1024 * 1024

Done = Callable[[int], None]
"""Called with the reason code of the acknowledgement (MQTT 5 §3.4.2.1); 0 is success, always so on MQTT 3.1.1."""


class Sending:
    """A publication in the queue.

    Attributes:
        size: Of its packet, in bytes.
        mark: How many bytes have to leave the socket until the whole packet has; None while it waits in the queue.
    """

    __slots__ = ("done", "mark", "publication", "size")

    def __init__(self, publication: Publication, size: int, done: Done | None) -> None:
        self.publication = publication
        self.size = size
        self.done = done
        self.mark: int | None = None


class SendQueue:
    """The publications of one connection, from the daemon's decision to the broker's acknowledgement.

    Attributes:
        receive_maximum: How many publications at QoS 1 the broker takes at a time (MQTT 5 §3.2.2.3.3).
    """

    def __init__(
        self,
        transmit: Callable[[Publication], int],
        *,
        queued_bytes: Callable[[], int],
        unwritten_bytes: Callable[[], int],
        on_relief: Callable[[], None],
    ) -> None:
        """Make an empty queue.

        Args:
            transmit: Hands a publication to the library; returns its packet identifier.
            queued_bytes: How many bytes were handed to the library so far.
            unwritten_bytes: How many of them the socket has not taken yet.
            on_relief: Called when the queue is no longer congested.
        """
        self._transmit = transmit
        self._queued_bytes = queued_bytes
        self._unwritten_bytes = unwritten_bytes
        self.receive_maximum = _MAX_UNDER_WAY
        self._on_relief = on_relief
        self._own: deque[Sending] = deque()
        self._answers: deque[Sending] = deque()
        self._answer_bytes = 0
        self._waiting_bytes = 0
        # By packet identifier.
        self._under_way: dict[int, Sending] = {}
        self._under_way_bytes = 0
        # Of QoS 0: when they were sent, and their sizes.
        self._recent: deque[tuple[float, int]] = deque(maxlen=_MAX_RECENT)
        self._congested = False
        self._dropped = 0

    @property
    def congested(self) -> bool:
        """Whether so many answers wait that no further request should be begun."""
        return self._congested

    @property
    def waits(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._own or self._answers)

    @property
    def sizes_under_way(self) -> list[int]:
        """The sizes of the packets that were sent and not acknowledged; at QoS 0, of those that were sent lately."""
        since = time.monotonic() - _RECENT_SECONDS
        return [
            *(sending.size for sending in self._under_way.values()),
            *(size for sent_at, size in self._recent if sent_at > since),
        ]

    def put(self, publication: Publication, size: int, *, answer: bool, done: Done | None = None) -> Sending:
        """Send a publication as soon as it is its turn.

        Args:
            publication: What to send.
            size: Of its packet, in bytes.
            answer: Whether it is the answer to a request; such a publication is sent after the daemon's own ones.
            done: Called with the acknowledgement; never called at QoS 0.
        """
        sending = Sending(publication, size, done)
        droppable = answer or done is None
        waiting = self._answers if answer else self._own
        if not waiting and self._has_room(publication.qos):
            self._send(sending)
        elif droppable and (len(waiting) >= _MAX_WAITING or self._waiting_bytes + size > _MAX_WAITING_BYTES):
            self._drop(publication.topic)
        else:
            waiting.append(sending)
            self._waiting_bytes += size
            self._answer_bytes += size if answer else 0
            if len(self._answers) >= _CONGESTED_COUNT or self._answer_bytes >= _CONGESTED_BYTES:
                self._congested = True
        return sending

    def size_of(self, identifier: int) -> int | None:
        """Return the size of a packet that is under way; None for an unknown packet identifier."""
        sending = self._under_way.get(identifier)
        return None if sending is None else sending.size

    def acknowledge(self, identifier: int, code: int) -> None:
        """Note an acknowledgement, and send what waited for it."""
        sending = self._under_way.pop(identifier, None)
        if sending is None:
            return
        self._under_way_bytes -= sending.size
        if sending.done is not None:
            sending.done(code)
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        for waiting in (self._own, self._answers):
            while waiting and self._has_room(waiting[0].publication.qos):
                sending = waiting.popleft()
                self._waiting_bytes -= sending.size
                if waiting is self._answers:
                    self._answer_bytes -= sending.size
                self._send(sending)
        if (
            self._congested
            and len(self._answers) <= _CONGESTED_COUNT // 2
            and self._answer_bytes <= _CONGESTED_BYTES // 2
        ):
            self._congested = False
            self._on_relief()

    def _has_room(self, qos: int) -> bool:
        if self._unwritten_bytes() > _MAX_UNDER_WAY_BYTES:
            return False
        if not qos:
            return True
        few = len(self._under_way) < min(_MAX_UNDER_WAY, self.receive_maximum)
        return few and self._under_way_bytes <= _MAX_UNDER_WAY_BYTES

    def _send(self, sending: Sending) -> None:
        identifier = self._transmit(sending.publication)
        sending.mark = self._queued_bytes()
        if sending.publication.qos:
            self._under_way[identifier] = sending
            self._under_way_bytes += sending.size
        else:
            self._recent.append((time.monotonic(), sending.size))

    def _drop(self, topic: str) -> None:
        self._dropped += 1
        # At 1, 2, 4, 8 …: a flood must not fill the log, too.
        if self._dropped & (self._dropped - 1) == 0:
            _log.warning("message_dropped", topic=topic, count=self._dropped, reason="too many messages wait")
