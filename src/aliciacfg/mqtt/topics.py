"""The topics of the bus, and those that an answer may go to."""

import unicodedata
from functools import lru_cache

import msgspec

from aliciacfg.bus.topic_names import (
    ALERT,
    APPLIED,
    CONFIG,
    DEVICE_DEREGISTERED,
    DEVICE_REGISTERED,
    DEVICES,
    DEVICES_ANSWER,
    ENVIRONMENT,
    HEALTH,
    HEALTH_CHECK,
    KEY,
    REGISTER,
    REPLY,
    UNREGISTER,
    UPDATE,
)
from aliciacfg.core import outbox
from aliciacfg.model import names

__all__ = [
    "ALERT",
    "APPLIED",
    "CONFIG",
    "DEVICES",
    "DEVICES_ANSWER",
    "DEVICE_DEREGISTERED",
    "DEVICE_REGISTERED",
    "DEVICE_REGISTRY",
    "ENVIRONMENT",
    "HEALTH",
    "HEALTH_CHECK",
    "KEY",
    "OWN",
    "REGISTER",
    "REPLY",
    "UNREGISTER",
    "UPDATE",
    "RequestTopic",
    "answer_topic_problem",
    "default_answer_topic",
    "is_publishable",
    "own_answer_topic_problem",
    "parse_request",
    "subject_topic",
    "topic_subject",
]

# The levels after alicia/config/ on which the daemon publishes or services report; none is an operation.
OWN = frozenset({"update", "alert", "applied", "environment", "key"})

# Where the home's device registry answers and announces.
DEVICE_REGISTRY = (DEVICES_ANSWER, DEVICE_REGISTERED, DEVICE_DEREGISTERED)

# MQTT allows 65,535 bytes; Mosquitto drops a *publisher* whose topic has some 200 levels or control characters.
_MAX_TOPIC_BYTES = 1024
_MAX_LEVELS = 32
_MOSQUITTO_LEVELS = 200


class RequestTopic(msgspec.Struct, frozen=True):
    """The parts of a request's topic.

    Attributes:
        operation: The level after ``alicia/config/``.
        levels: The levels after it.
        default_answer: Where the answer goes unless the request names another topic.
    """

    operation: str
    levels: tuple[str, ...]
    default_answer: str


def parse_request(topic: str) -> RequestTopic | None:
    """Return the parts of a request's topic, or None for any other topic."""
    if not topic.startswith(CONFIG):
        return None
    rest = topic.removeprefix(CONFIG)
    operation, *levels = rest.split("/")
    if operation in OWN:
        return None
    return RequestTopic(operation, tuple(levels), default_answer_topic(topic))


def default_answer_topic(topic: str) -> str:
    """Return where the answer goes to a request on a topic that names no other one."""
    return REPLY + topic.removeprefix(CONFIG)


# Clients use one topic, or a few, for all their answers; and a refusal has to be cheap.
@lru_cache(maxsize=4096)
def answer_topic_problem(topic: str, prefixes: tuple[str, ...]) -> str | None:
    """Return why an answer cannot go to a topic that a request names, or None if it can.

    The daemon is no publish proxy: a program that may ask it must not make it publish elsewhere.

    Args:
        topic: From the Response Topic or ``reply_to``; anything at all.
        prefixes: Where answers may go besides ``alicia/reply/``.
    """
    if not topic.startswith((REPLY, *prefixes)):
        allowed = ", ".join((REPLY, *prefixes))
        return f"answers go to topics that begin with {allowed}"
    return _form_problem(topic)


def own_answer_topic_problem(topic: str, requester: str | None) -> str | None:
    """Return the same where there are access rules: an answer must not go among another requester's answers.

    Args:
        topic: From the Response Topic or ``reply_to``; anything at all.
        requester: Who asks; None is anonymous, and answered on the default topic only.
    """
    if requester is None:
        return "an answer to a request without a requester goes to its default topic"
    if not topic.startswith(own := f"{REPLY}{requester}/"):
        return f"answers to {requester} go to topics that begin with {own}"
    return _form_problem(topic)


def _form_problem(topic: str) -> str | None:
    if "+" in topic or "#" in topic:
        return "an answer topic has no wildcards"
    if not topic.isprintable() or "\ufffe" in topic or "\uffff" in topic:
        return "an answer topic has no control characters"
    try:
        size = len(topic.encode())
    except UnicodeEncodeError:
        return "an answer topic is UTF-8"
    if size > _MAX_TOPIC_BYTES or topic.count("/") >= _MAX_LEVELS:
        return f"an answer topic has at most {_MAX_TOPIC_BYTES} bytes and {_MAX_LEVELS} levels"
    return None


def is_publishable(topic: str) -> bool:
    """Return whether a broker accepts a publication on a topic; Mosquitto disconnects who publishes on another one."""
    controls = any(unicodedata.category(character) in {"Cc", "Cs", "Cn"} for character in topic)
    return not controls and topic.count("/") < _MOSQUITTO_LEVELS


def subject_topic(subject: str) -> str:
    """Return the topic of a subject's retained message."""
    service = outbox.subject_service(subject)
    if service is not None:
        return UPDATE + service
    return {outbox.ENVIRONMENT: ENVIRONMENT, outbox.KEY: KEY}[subject]


def topic_subject(topic: str) -> str | None:
    """Return the subject whose retained message has this topic; None if there is none."""
    if topic.startswith(UPDATE):
        service = topic.removeprefix(UPDATE)
        return None if names.service_problem(service) else outbox.service_subject(service)
    return {ENVIRONMENT: outbox.ENVIRONMENT, KEY: outbox.KEY}.get(topic)
