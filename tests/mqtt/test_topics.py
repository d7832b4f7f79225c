"""Topics: what is a request, where answers may go; and the envelope around messages."""

import pytest

from aliciacfg.core import outbox
from aliciacfg.mqtt import topics


@pytest.mark.parametrize(
    "topic",
    [
        "alicia/reply/x", "alicia/reply/bell/1234", "alicia/reply/" + "/".join("x" * 30), "alicia/reply/a b",
        "alicia/reply/é", "alicia/reply/😀", "alicia/reply/$SYS", "alicia/reply/" + "x" * 1000, "alicia/reply/../x",
    ],
)  # fmt: skip
def test_answers_may_go_below_the_reply_tree(topic: str):
    """Any depth and any printable characters within reason."""
    assert topics.answer_topic_problem(topic, ()) is None


@pytest.mark.parametrize(
    "topic",
    [
        "", " ", "/", "alicia/reply", "alicia/replyx/a", "alicia/", "Alicia/reply/x",
        "/alicia/reply/x", " alicia/reply/x",
        "alicia/config/update/bell", "alicia/config/get/bell", "alicia/system/health/config_service",
        "$SYS/broker/load",
        "$share/g/alicia/reply/x", "other/reply/x", "homeassistant/switch/config",
    ],
)  # fmt: skip
def test_answers_go_nowhere_else(topic: str):
    """The daemon is no publish proxy: it publishes no answer in its own tree, nor in another program's."""
    problem = topics.answer_topic_problem(topic, ())
    assert problem is not None
    assert "alicia/reply/" in problem


@pytest.mark.parametrize(
    "last",
    [
        "#", "+", "+/x", "a#", "a+b", "x/#", "\0", "a\0b", "\n", "\t", "\x1f", "\x7f", "\x80", "\x9f", "\ud800",
        "\ufffe", "\uffff", "\U0001fffe", "\u2028", "\ufdd0", "/".join("x" * 31), "/" * 250, "x" * 1100, "é" * 600,
    ],
)  # fmt: skip
def test_what_would_make_the_broker_drop_the_daemon_is_refused(last: str):
    """Wildcards, control characters, non-characters, lone surrogates, too many levels and bytes."""
    assert topics.answer_topic_problem(f"alicia/reply/{last}", ()) is not None
    assert topics.answer_topic_problem(f"more/replies/{last}", ("more/replies/",)) is not None


def test_further_prefixes_are_allowed_beside_the_reply_tree():
    """Only what begins with them; the refusal lists what is allowed."""
    prefixes = ("bridge/replies/", "x/")
    for topic in ("bridge/replies/1", "x/1", "alicia/reply/1"):
        assert topics.answer_topic_problem(topic, prefixes) is None
    for topic in ("bridge/replies", "bridge/other", "y/x/1"):
        problem = topics.answer_topic_problem(topic, prefixes)
        assert problem is not None
        assert "bridge/replies/" in problem


def test_with_access_rules_an_answer_stays_with_its_requester():
    """Below its own level of the reply tree and nowhere else; an anonymous request names no topic at all."""
    for good in ("alicia/reply/bell/1", "alicia/reply/bell/a/b", "alicia/reply/bell/"):
        assert topics.own_answer_topic_problem(good, "bell") is None
        assert topics.own_answer_topic_problem(good, None) is not None
    for bad in (
        "alicia/reply/bell", "alicia/reply/belly/1", "alicia/reply/door/1", "alicia/reply/get/bell", "alicia/reply/1",
        "bell/1", "alicia/config/update/bell", "", "alicia/reply/bell/#", "alicia/reply/bell/+", "alicia/reply/bell/\0",
        "alicia/reply/bell/" + "x" * 1100,
    ):  # fmt: skip
        assert topics.own_answer_topic_problem(bad, "bell") is not None, bad


@pytest.mark.parametrize(
    ("topic", "operation", "levels", "answer"),
    [
        ("alicia/config/get/bell", "get", ("bell",), "alicia/reply/get/bell"),
        ("alicia/config/get/bell/lamp", "get", ("bell", "lamp"), "alicia/reply/get/bell/lamp"),
        ("alicia/config/list", "list", (), "alicia/reply/list"),
        ("alicia/config/unheard/of", "unheard", ("of",), "alicia/reply/unheard/of"),
        ("alicia/config/get/", "get", ("",), "alicia/reply/get/"),
    ],
)
def test_a_request_is_taken_apart(topic: str, operation: str, levels: tuple[str, ...], answer: str):
    """Operation, what follows it, and the mirrored topic under alicia/reply/ for the answer."""
    assert topics.parse_request(topic) == topics.RequestTopic(operation, levels, answer)


@pytest.mark.parametrize(
    "topic",
    [
        "alicia/config/update/bell", "alicia/config/alert/tamper", "alicia/config/applied/bell", "alicia/config/key",
        "alicia/config/environment", "alicia/config", "alicia/reply/get/bell", "alicia/system/health/check", "", "get",
    ],
)  # fmt: skip
def test_what_the_daemon_says_itself_is_no_request(topic: str):
    """Its own messages come back on its own subscription, and must not be answered."""
    assert topics.parse_request(topic) is None


def test_a_default_answer_never_leaves_the_reply_tree():
    """Whatever the request's topic is."""
    for rest in ("get/bell", "", "a/../..", "x" * 500):
        request = topics.parse_request(f"alicia/config/{rest}")
        assert request is not None
        assert topics.answer_topic_problem(request.default_answer, ()) is None


def test_subjects_and_retained_topics_lead_to_each_other():
    """In both directions, for services, the environment and the key."""
    for subject, topic in (
        (outbox.service_subject("bell"), "alicia/config/update/bell"),
        (outbox.service_subject("key"), "alicia/config/update/key"),
        (outbox.ENVIRONMENT, "alicia/config/environment"),
        (outbox.KEY, "alicia/config/key"),
    ):
        assert topics.subject_topic(subject) == topic
        assert topics.topic_subject(topic) == subject


@pytest.mark.parametrize("name", ["", "a/b", "get", "#", "a b", "x" * 65])
def test_a_name_that_no_service_can_have_is_no_subject(name: str):
    """A message of another program under update/ does not make a service."""
    assert topics.topic_subject(f"alicia/config/update/{name}") is None
