"""Where requests and reports of services arrive: answered at once, begun in their turn, or refused."""

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from aliciacfg.errors import Busy, InvalidRequest, OperationError, TooLarge
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.admission import Admission, Job
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.messages import Inbound, Reply
from aliciacfg.mqtt.outgoing import Outgoing
from aliciacfg.mqtt.requests import BusRequest, Requests

_log = structlog.get_logger(__name__)


class Inbox:
    """Takes what programs send to the daemon, over all connections.

    Attributes:
        learn: Called with each plain ``get`` that was answered from the cache, and its answer.
    """

    def __init__(self, requests: Requests, admission: Admission, outgoing: Outgoing, *, max_packet_bytes: int) -> None:
        """Take nothing yet.

        Args:
            requests: Answers requests.
            admission: Begins what takes longer than an answer from the cache.
            outgoing: Publishes answers.
            max_packet_bytes: The largest MQTT packet that is read.
        """
        self._requests = requests
        self._admission = admission
        self._outgoing = outgoing
        self._max_packet_bytes = max_packet_bytes
        self._log_limit = LogLimit()
        self.learn: Callable[[Inbound, Reply], None] = lambda _inbound, _reply: None

    def answer_at_once(self, inbound: Inbound) -> bool:
        """Answer a plain ``get`` from the cache; return False for everything else, and while others wait before it."""
        answer_topic = _answer_topic(inbound)
        if inbound.retained or inbound.oversized or not self._admission.is_free(answer_topic, answer_topic):
            return False
        reply = self._requests.answer_at_once(inbound)
        if reply is None:
            return False
        self._outgoing.answer(reply)
        self.learn(inbound, reply)
        return True

    def submit(self, inbound: Inbound, work: Callable[[Inbound], Coroutine[Any, Any, None]], *, name: str) -> bool:
        """Have a message worked on that is answered by nothing; return whether the broker may forget it."""
        if inbound.oversized:
            _log.warning("message_too_large", topic=inbound.topic, bytes=inbound.oversized)
            return True

        def refuse(error: Busy) -> None:
            _log.warning("message_dropped", topic=inbound.topic, reason=error.message)

        job = Job(inbound, _answer_topic(inbound), lambda: work(inbound), refuse, writes=True, name=name)
        return self._admission.submit(job)

    def receive_request(self, inbound: Inbound) -> bool:
        """Admit or refuse a request; return whether the broker may forget it."""
        request = self._requests.parse(inbound)
        if request is None:
            return True
        if inbound.retained:
            self._on_retained_request(request)
            return True
        if inbound.oversized:
            size, limit = inbound.oversized, self._max_packet_bytes
            self._refuse(request, TooLarge(f"The request is a packet of {size} bytes; at most {limit} are allowed."))
            return True
        writes = request.operation is not None and request.operation.writes
        answer_topic = _answer_topic(inbound)
        job = Job(
            inbound,
            answer_topic,
            lambda: self._answer(request),
            lambda error: self._refuse(request, error),
            writes=writes,
            name="request over MQTT",
            # The changes of a program are made in the order in which it sent them, wherever their answers go.
            sender=(request.requester or "") if writes else answer_topic,
        )
        return self._admission.submit(job)

    def _on_retained_request(self, request: BusRequest) -> None:
        """Ignore a request that was retained by mistake: the broker delivers it again at every connect.

        One that comes live is refused, so that its sender learns why nothing happens.
        """
        inbound = request.inbound
        # Another program's message is no request, and may well be retained.
        if request.operation is not None and self._log_limit.allows():
            _log.warning("retained_request_ignored", topic=inbound.topic, remedy="publish requests without retain")
        if self._admission.opened:
            error = InvalidRequest(
                "The request was published with the retain flag, so it is not carried out: the broker would deliver it "
                "again at every connect. Publish it without, and clear the retained message by an empty retained one."
            )
            self._refuse(request, error)

    def _refuse(self, request: BusRequest, error: OperationError) -> None:
        reply = self._requests.refuse(request, error)
        if reply is not None:
            self._outgoing.answer(reply)

    async def _answer(self, request: BusRequest) -> None:
        reply = await self._requests.answer(request)
        if reply is not None:
            self._outgoing.answer(reply)


def _answer_topic(inbound: Inbound) -> str:
    """Return where the answer to a request is expected to go, as far as that is known without its payload."""
    return inbound.response_topic or topics.default_answer_topic(inbound.topic)
