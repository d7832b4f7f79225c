"""Requests over MQTT: decode, call, answer; every error becomes an answer."""

from time import perf_counter

import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.api.encoding import encode_failure, encode_internal, encode_success
from aliciacfg.api.fields import MAX_REQUEST_ID_BYTES
from aliciacfg.documents import decode, type_name
from aliciacfg.errors import (
    Busy,
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
from aliciacfg.operations.service import ConfigService
from aliciacfg.operations.table import OPERATIONS, Operation, encode_answer

_log = structlog.get_logger(__name__)

_GET = topics.CONFIG + "get/"
# Health has a topic of its own.
_OPERATIONS = {operation.name: operation for operation in OPERATIONS if operation.name != "health"}
# Response topics that were found good; a client uses one or a few for all its requests.
_MAX_KNOWN_TOPICS = 4096
# What a request may hold besides a configuration of the largest size.
_REQUEST_OVERHEAD_BYTES = 16 * 1024


class Requests:
    """Answers requests; knows no connection."""

    def __init__(self, service: ConfigService, *, reply_prefixes: tuple[str, ...], max_config_bytes: int) -> None:
        """Take what it needs.

        Args:
            service: Carries the operations out.
            reply_prefixes: Where answers may go besides ``alicia/reply/``.
            max_config_bytes: The largest configuration; a request may be a little larger.
        """
        self._service = service
        self._prefixes = reply_prefixes
        self._max_bytes = max_config_bytes + _REQUEST_OVERHEAD_BYTES
        self._known: set[str] = set()
        self._reads = service.health.metrics.meter("get", "mqtt")

    def answer_at_once(self, inbound: Inbound) -> Reply | None:
        """The short path: a plain ``get`` of what is cached. None sends the request down the long one."""
        if inbound.payload or not inbound.topic.startswith(_GET):
            return None
        started = perf_counter()
        name = inbound.topic[len(_GET) :]
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
        body = encode_success(cached.body, None)
        self._reads.answered(perf_counter() - started)
        return Reply(topic, body, True, inbound.qos, inbound.correlation_data)

    def may_answer_on(self, topic: str) -> bool:
        """Whether an answer to nobody in particular may go to a topic that somebody names."""
        return self._answer_topic_problem(topic, None) is None

    def _answer_topic_problem(self, topic: str, requester: str | None) -> str | None:
        """Why an answer cannot go to a topic that a requester names; once there are rules, only to its own."""
        if self._service.authorizer.access.enforced:
            return topics.own_answer_topic_problem(topic, requester)
        return topics.answer_topic_problem(topic, self._prefixes)

    def is_request(self, inbound: Inbound) -> bool:
        """Whether a message may have to be answered."""
        return topics.parse_request(inbound.topic) is not None

    async def answer(self, inbound: Inbound) -> Reply | None:
        """The long path: any request. None where nothing has to be said."""
        request = topics.parse_request(inbound.topic)
        if request is None:
            return None
        started = perf_counter()
        operation = _OPERATIONS.get(request.operation)
        opened, problem = self._open(inbound.payload, operation)
        named = inbound.response_topic
        if named is None and isinstance(reply_to := opened.content.get("reply_to"), str):
            named = reply_to
        requester = _requester(operation, request.levels)
        why = None if named is None else self._answer_topic_problem(named, requester)
        if operation is None and (named is None or (why and self._service.authorizer.access.enforced)):
            # Other programs' messages: the bus carries more than requests under alicia/config/. Under rules their
            # answer could come to somebody whom their words name.
            return None
        topic = request.default_answer
        if named is not None and why is None:
            topic = named
        elif why is not None and problem is None:
            # Checked before anything is carried out.
            problem = Forbidden(f"The request names an answer topic that is not allowed: {why}. Nothing was done.")
        body, outcome = await self._body(inbound.topic, request, operation, opened, problem)
        wrapped = envelope.wrap(body, kind="response", destination=opened.source, depth=opened.depth)
        self._service.health.metrics.meter(request.operation, "mqtt").answered(perf_counter() - started, outcome)
        return Reply(topic, wrapped, outcome == "success", inbound.qos, inbound.correlation_data)

    async def _body(
        self,
        topic: str,
        request: topics.RequestTopic,
        operation: Operation | None,
        opened: Opened,
        problem: OperationError | None,
    ) -> tuple[bytes, Outcome]:
        """The encoded answer, and what came of it; carries the operation out unless there is a problem."""
        request_id = _request_id(opened)
        caller = Caller(_requester(operation, request.levels), "mqtt")
        try:
            if problem is not None:
                raise problem
            if operation is None:
                raise NotFound(f"There is no operation {request.operation!r}; there are: {', '.join(_OPERATIONS)}.")
            name, requester = _levels(operation, request.levels)
            proven = self._service.authorizer.bus_proves is True and requester is not None
            caller = Caller(requester, "mqtt", proven=proven)
            known = operation.fields - operation.http_only
            fields = {key: value for key, value in opened.content.items() if key in known}
            if request_id is not None:
                fields["request_id"] = request_id
            answer = await operation.run(self._service, caller, name, fields)
            return encode_answer(operation, answer, request_id), "success"
        except OperationError as error:
            _log.info("refused", transport="mqtt", topic=topic, code=error.code, message=error.message)
            if isinstance(error, Unauthorized | Forbidden):
                target = request.levels[0] if request.levels else None
                self._service.audit_log.refused(caller, request.operation, target, error)
            return encode_failure(error, request_id), error.code
        except Exception:  # noqa: BLE001 - the one boundary of this adapter: whatever happens, the requester is answered
            _log.exception("failed", transport="mqtt", topic=topic)
            return encode_internal(request_id), "internal"

    def refuse_busy(self, inbound: Inbound) -> Reply | None:
        """The answer when too many requests wait already."""
        request = topics.parse_request(inbound.topic)
        if request is None:
            return None
        named = inbound.response_topic
        topic = request.default_answer
        requester = _requester(_OPERATIONS.get(request.operation), request.levels)
        if named is not None and self._answer_topic_problem(named, requester) is None:
            topic = named
        body = encode_failure(Busy("Too many requests wait; try again in a second."), None)
        self._service.health.metrics.meter(request.operation, "mqtt").answered(0.0, "busy")
        return Reply(topic, body, False, inbound.qos, inbound.correlation_data)

    def _open(self, payload: bytes, operation: Operation | None) -> tuple[Opened, OperationError | None]:
        """The request out of its envelopes, or why it is none."""
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
    """The requester's own id as it can be echoed, else the envelope's."""
    given = opened.content.get("request_id")
    if isinstance(given, str):
        return given if len(given.encode()) <= MAX_REQUEST_ID_BYTES else None
    return opened.message_id


def _levels(operation: Operation, levels: tuple[str, ...]) -> tuple[str, str | None]:
    """The name and the requester that a topic's levels say.

    Without a requester, an operation on a service is that service's own; any other is anonymous.
    """
    expected = 0 if operation.target is None else 1
    if len(levels) not in {expected, expected + 1}:
        form = f"alicia/config/{operation.name}" + (f"/<{operation.target}>" if operation.target else "")
        raise InvalidRequest(f"The topic has the wrong number of levels; expected {form} or {form}/<requester>.")
    requester = levels[expected] if len(levels) > expected else None
    if requester is not None and not names.is_requester(requester):
        raise InvalidRequest(f"{requester[:80]!r} cannot name a requester; use the name of a service or user.")
    name = levels[0] if expected else ""
    if requester is None and operation.target == "service":
        names.check_service(name)
        requester = name
    return name, requester


def _requester(operation: Operation | None, levels: tuple[str, ...]) -> str | None:
    """Who asks, as far as the topic says it well."""
    if operation is None:
        return None
    try:
        return _levels(operation, levels)[1]
    except InvalidRequest:
        return None
