"""The envelope around messages of the bus."""

import json
from typing import Any

import pytest

from aliciacfg.mqtt import envelope

CONTENT: dict[str, Any] = {"config": {"a": 1}, "request_id": "r"}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_answer_is_wrapped_as_its_request_was(depth: int):
    """Bare, once or twice wrapped: the content comes out, with the depth that the answer needs."""
    wrapped = json.loads(envelope.wrap(json.dumps(CONTENT).encode(), kind="response", destination="bell", depth=depth))
    opened = envelope.open_message(wrapped)
    assert (opened.content, opened.depth) == (CONTENT, depth)
    assert (opened.message_id is None) == (depth == 0)
    for _ in range(depth):
        assert (wrapped["source"], wrapped["destination"], wrapped["message_type"]) == (
            "config_service",
            "bell",
            "response",
        )
        wrapped = wrapped["payload"]
    assert wrapped == CONTENT


def test_each_envelope_has_an_id_of_its_own():
    """Also within each other: programs of the home drop what they have seen."""
    outer = json.loads(envelope.wrap(b"{}", depth=2))
    again = json.loads(envelope.wrap(b"{}", depth=2))
    assert len({message["message_id"] for message in (outer, outer["payload"], again, again["payload"])}) == 4


def test_an_envelope_tells_who_and_what():
    """The id and the source of the outermost one."""
    opened = envelope.open_message({"message_id": "m", "source": "bell", "payload": {"payload": CONTENT}})
    assert opened == envelope.Opened(CONTENT, 2, "m", "bell")


@pytest.mark.parametrize(
    ("message", "content", "depth", "message_id"),
    [
        ({}, {}, 0, None),
        (CONTENT, CONTENT, 0, None),
        ({"message_id": "m"}, {"message_id": "m"}, 0, None),
        ({"payload": CONTENT}, {"payload": CONTENT}, 0, None),
        ({"message_id": "m", "payload": [1]}, {"message_id": "m", "payload": [1]}, 0, None),
        ({"message_id": "m", "payload": None}, {"message_id": "m", "payload": None}, 0, None),
        ({"message_id": "m", "payload": {}}, {}, 1, "m"),
        ({"message_id": "m", "payload": {"payload": "x"}}, {"payload": "x"}, 1, "m"),
        ({"message_id": "m", "payload": {"payload": {"payload": CONTENT}}}, {"payload": CONTENT}, 2, "m"),
        ({"message_id": 5, "payload": CONTENT}, CONTENT, 1, None),
        ({"message_id": None, "payload": CONTENT}, CONTENT, 1, None),
        ({"message_id": "x" * 65, "payload": CONTENT}, CONTENT, 1, None),
        ({"message_id": "é" * 33, "payload": CONTENT}, CONTENT, 1, None),
    ],
)
def test_odd_messages_are_opened_as_far_as_they_are_envelopes(
    message: dict[str, Any], content: dict[str, Any], depth: int, message_id: str | None
):
    """An envelope has a message_id and an object payload; an id that cannot be echoed is ignored."""
    opened = envelope.open_message(message)
    assert (opened.content, opened.depth, opened.message_id) == (content, depth, message_id)


@pytest.mark.parametrize("source", [None, 5, ["x"], {}])
def test_an_odd_source_is_ignored(source: object):
    """The answer is then addressed to all programs, as is usual on the bus."""
    message: dict[str, Any] = {"message_id": "m", "source": source, "payload": {}}
    assert envelope.open_message(message).source == "broadcast"
