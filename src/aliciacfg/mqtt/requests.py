"""Requests over MQTT: decode, call, answer; every error becomes an answer."""

from time import perf_counter

import msgspec
import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import encode_failure, encode_internal
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.core.cache import CachedAnswer
from aliciacfg.documents import decode, type_name
from aliciacfg.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    OperationError,
    TooLarge,
    Unauthorized,
)
from aliciacfg.model import names
from aliciacfg.monitoring.metrics import Outcome
from aliciacfg.mqtt import envelope, topics
from aliciacfg.mqtt.envelope import Opened
from aliciacfg.mqtt.messages import Inbound, Reply
from aliciacfg.mqtt.topics import RequestTopic
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import OPERATIONS, Operation, encode_answer

_log = structlog.get_logger(__name__)

_GET = topics.CONFIG + "get/"
# Health has a topic of its own.
_OPERATIONS = {operation.name: operation for operation in OPERATIONS if operation.name != "health"}
# The fields that each operation reads; others are ignored, since programs of the bus add their own.
_FIELDS = {name: operation.fields - operation.http_only for name, operation in _OPERATIONS.items()}
# The payloads of a request without fields.
_NO_FIELDS = (b"", b"{}")
# A client uses one response topic, or a few, for all its requests.
_MAX_KNOWN_TOPICS = 4096
# What a request may hold besides a configuration of the largest size.
_REQUEST_OVERHEAD_BYTES = 16 * 1024


class BusRequest(msgspec.Struct, frozen=True):
    """A request whose topic was parsed.

    Attributes:
        inbound: The message.
        topic: The topic's levels.
        operation: What is asked for; None if there is no such operation.
        target: The service or environment that it is about; empty if it is about everything.
        requester: Who asks, as the topic names it; None is anonymous.
        problem: Why the topic names neither target nor requester well.
    """

    inbound: Inbound
    topic: RequestTopic
    operation: Operation | None
    target: str = ""
    requester: str | None = None
    problem: InvalidRequest | None = None


class Requests:
    """Answers requests; knows no connection.

    A message is first offered to ``answer_at_once``; what that does not answer is parsed once, and then answered or
    refused as busy.
    """

    def __init__(self, service: ConfigService, *, reply_prefixes: tuple[str, ...], max_config_bytes: int) -> None:
        """Answer the requests to a service.

        Args:
            service: Carries the operations out.
            reply_prefixes: Where answers may go besides ``alicia/reply/``.
            max_config_bytes: The largest configuration; a request may be a little larger.
        """
        self._service = service
        self._prefixes = reply_prefixes
        self._max_bytes = max_config_bytes + _REQUEST_OVERHEAD_BYTES
        # Response topics that were found allowed while there were no rules.
        self._known: set[str] = set()
        self._reads = service.health.metrics.meter("get", "mqtt")

    def answer_at_once(self, inbound: Inbound) -> Reply | None:
        """Answer a plain ``get`` of a cached configuration; None leaves the message to ``parse`` and ``answer``."""
        if inbound.payload not in _NO_FIELDS or not inbound.topic.startswith(_GET):
            return None
        started = perf_counter()
        name = self.name_of(inbound)
        topic = inbound.response_topic
        if topic is None:
            topic = f"{topics.REPLY}get/{name}"
        elif self._service.authorizer.access.enforced:
            # A service may always read its own; answers to it go below its own name.
            if topics.own_answer_topic_problem(topic, name) is not None:
                return None
        elif topic not in self._known:
            if not self.may_answer_on(topic):
                return None
            if len(self._known) >= _MAX_KNOWN_TOPICS:
                self._known.clear()
            self._known.add(topic)
        cached = self._service.reads.cached_get(name)
        if cached is None:
            return None
        self._reads.answered(perf_counter() - started)
        return Reply(topic, cached.plain, True, inbound.qos, inbound.correlation_data)

    @staticmethod
    def name_of(inbound: Inbound) -> str:
        """Return whose configuration a message asks for that ``answer_at_once`` has answered."""
        return inbound.topic[len(_GET) :]

    @property
    def rules(self) -> object:
        """By what it is decided where a plain ``get`` is answered; when rules change it is another object."""
        return self._service.authorizer.access

    def cached(self, name: str) -> CachedAnswer | None:
        """Return the cached answer to a plain ``get``, uncounted; None if it has to be made first."""
        return self._service.reads.peek_get(name)

    def count(self, name: str, times: int, seconds: float) -> None:
        """Count plain gets that were answered with what ``cached`` returned, each in so many seconds."""
        self._service.reads.count_gets(name, times)
        self._reads.answered(seconds, times=times)

    def may_answer_on(self, topic: str) -> bool:
        """Return whether an answer to an anonymous request may go to a topic that the request names."""
        return self._answer_topic_problem(topic, None) is None

    def parse(self, inbound: Inbound) -> BusRequest | None:
        """Return a message as a request, or None if its topic is not a request's."""
        topic = topics.parse_request(inbound.topic)
        if topic is None:
            return None
        operation = _OPERATIONS.get(topic.operation)
        if operation is None:
            return BusRequest(inbound, topic, None)
        try:
            target, requester = _target_and_requester(operation, topic.levels)
        except InvalidRequest as error:
            return BusRequest(inbound, topic, operation, problem=error)
        return BusRequest(inbound, topic, operation, target, requester)

    async def answer(self, request: BusRequest) -> Reply | None:
        """Carry a request out; return the answer, or None where none is due."""
        started = perf_counter()
        opened, problem = self._open(request)
        named = request.inbound.response_topic
        if named is None and isinstance(reply_to := opened.content.get("reply_to"), str):
            named = reply_to
        topic, refusal = self._answer_topic(request, named)
        if topic is None:
            return None
        if refusal is not None and problem is None:
            # Checked before anything is carried out.
            problem = Forbidden(f"The request names an answer topic that is not allowed: {refusal}. Nothing was done.")
        body, outcome = await self._body(request, opened, problem or request.problem)
        # Its traceback refers to this call: a circle would keep the message until Python looks for circles.
        del problem
        wrapped = envelope.wrap(body, kind="response", destination=opened.source, depth=opened.depth)
        self._service.health.metrics.meter(request.topic.operation, "mqtt").answered(perf_counter() - started, outcome)
        inbound = request.inbound
        return Reply(
            topic,
            wrapped,
            outcome == "success",
            inbound.qos,
            inbound.correlation_data,
            request_id=_request_id(opened),
            destination=opened.source,
            depth=opened.depth,
        )

    def refuse(self, request: BusRequest, error: OperationError) -> Reply | None:
        """Return the answer to a request that is refused unread, or None where none is due.

        The payload is not decoded, so an answer topic that is named there does not count.
        """
        topic, _ = self._answer_topic(request, request.inbound.response_topic)
        if topic is None:
            return None
        self._service.health.metrics.meter(request.topic.operation, "mqtt").answered(0.0, error.code)
        inbound = request.inbound
        return Reply(topic, encode_failure(error, None), False, inbound.qos, inbound.correlation_data)

    def _answer_topic(self, request: BusRequest, named: str | None) -> tuple[str | None, str | None]:
        """Return where to answer, and why not on the topic that the request names.

        Args:
            request: The request.
            named: The answer topic that it names.

        Returns:
            No topic for other programs' messages: the bus carries more than requests under ``alicia/config/``. Under
            rules a message that is no operation's is answered on an allowed topic only, since the default topic could
            be that of a requester whom its words happen to name.
        """
        refusal = None if named is None else self._answer_topic_problem(named, request.requester)
        if request.operation is None and (
            named is None or (refusal is not None and self._service.authorizer.access.enforced)
        ):
            return None, None
        if named is None or refusal is not None:
            return request.topic.default_answer, refusal
        return named, None

    def _answer_topic_problem(self, topic: str, requester: str | None) -> str | None:
        """Return why an answer cannot go to a topic that a request names; under rules, only to the requester's own."""
        if self._service.authorizer.access.enforced:
            return topics.own_answer_topic_problem(topic, requester)
        return topics.answer_topic_problem(topic, self._prefixes)

    async def _body(self, request: BusRequest, opened: Opened, problem: OperationError | None) -> tuple[bytes, Outcome]:
        """Carry a request out unless there is a problem; return the encoded answer, and the outcome."""
        operation, requester = request.operation, request.requester
        request_id = _request_id(opened)
        proven = requester is not None and self._service.authorizer.bus_proves is True
        caller = Caller(requester, "mqtt", proven=proven)
        if problem is not None:
            # Not raised, as that would make such a circle, too.
            return self._refused(request, caller, problem, request_id)
        try:
            if operation is None:
                name = request.topic.operation
                raise NotFound(f"There is no operation {name!r}; there are: {', '.join(_OPERATIONS)}.")
            known = _FIELDS[operation.name]
            fields = {key: value for key, value in opened.content.items() if key in known}
            if request_id is not None:
                fields["request_id"] = request_id
            answer = await operation.run(self._service, caller, request.target, fields)
            return encode_answer(operation, answer, request_id), "success"
        except OperationError as error:
            return self._refused(request, caller, error, request_id)
        except Exception:  # noqa: BLE001 - the one boundary of this adapter: in every case the request is answered
            _log.exception("failed", transport="mqtt", topic=request.inbound.topic)
            return encode_internal(request_id), "internal"

    def _refused(
        self, request: BusRequest, caller: Caller, error: OperationError, request_id: str | None
    ) -> tuple[bytes, Outcome]:
        """Note that a request was refused; return the encoded answer, and the outcome."""
        topic = request.inbound.topic
        _log.info("refused", transport="mqtt", topic=topic, code=error.code, message=error.logged_message)
        if isinstance(error, Unauthorized | Forbidden):
            levels = request.topic.levels
            self._service.audit_log.record_refusal(
                caller, request.topic.operation, levels[0] if levels else None, error
            )
        return encode_failure(error, request_id), error.code

    def _open(self, request: BusRequest) -> tuple[Opened, OperationError | None]:
        """Return the payload out of its envelopes, and why it is not a request's."""
        payload, operation = request.inbound.payload, request.operation
        if not payload:
            return Opened({}), None
        limit = self._max_bytes
        if operation is not None and operation.max_bytes is not None:
            limit = operation.max_bytes + _REQUEST_OVERHEAD_BYTES
        if len(payload) > limit:
            problem = TooLarge(f"The request is {len(payload)} bytes; at most {limit} are allowed.")
            return Opened({}), problem
        try:
            message = decode(payload)
        except OperationError as error:
            return Opened({}), error
        if not isinstance(message, dict):
            problem = InvalidRequest(f"The payload is {type_name(message)}; send a JSON object, or nothing.")
            return Opened({}), problem
        return envelope.open_message(message), None


def _request_id(opened: Opened) -> str | None:
    """Return the request's own id if it can be echoed, else the envelope's."""
    given = opened.content.get("request_id")
    if isinstance(given, str):
        return given if len(given.encode()) <= MAX_REQUEST_ID_BYTES else None
    return opened.message_id


def _target_and_requester(operation: Operation, levels: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the service or environment and the requester that a topic names.

    Without a requester, an operation on a service is that service's own; any other is anonymous.

    Raises:
        InvalidRequest: The number of levels is wrong, or a name is malformed or reserved.
    """
    expected = 0 if operation.target is None else 1
    if len(levels) not in {expected, expected + 1}:
        form = f"alicia/config/{operation.name}" + (f"/<{operation.target}>" if operation.target else "")
        raise InvalidRequest(f"The topic has the wrong number of levels; expected {form} or {form}/<requester>.")
    requester = levels[expected] if len(levels) > expected else None
    if requester is not None and not names.is_caller_name(requester):
        raise InvalidRequest(f"{requester[:80]!r} cannot name a requester; use the name of a service or user.")
    target = levels[0] if expected else ""
    if requester is None and operation.target == "service":
        names.check_service(target)
        requester = target
    return target, requester
