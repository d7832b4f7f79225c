"""Messages that are not the daemon's, in every way that they can be."""

import json

import pytest

from aliciacfg.client.messages import MAX_BYTES, InvalidMessage, Refusal, read_answer, read_schema, read_update

GOOD = {
    "service": "bell",
    "environment": "dev",
    "version": "1.0.0",
    "revision": 1,
    "sequence": 7,
    "epoch": 1,
    "checksum": "c",
    "config": {"settings": {}},
}


def encoded(**members: object) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **members}.items() if value is not ...}).encode()


def test_an_update_and_an_answer_are_read_alike():
    """Members that this version does not know are passed over."""
    update = read_update(encoded(changed=[], added_later={"x": 1}), "bell")
    assert update.numbers == (1, 7)
    assert read_answer(encoded(status="success"), "bell") == update
    assert read_answer(b'{"status":"error","code":"not_found","message":"no"}', "bell") == Refusal("not_found", "no")


def test_a_schema_is_read_or_refused():
    """As the operation ``schema`` answers it."""
    assert read_schema(b'{"status":"success","schema":{"type":"object"}}') == {"type": "object"}
    assert read_schema(b'{"status":"error","code":"not_found","message":"no"}') == Refusal("not_found", "no")
    for payload in (b"hello", b"{}", b'{"schema":[]}', b'{"status":"error"}'):
        with pytest.raises(InvalidMessage):
            read_schema(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b"hello",
        b"[]",
        b"null",
        b'{"config":NaN}',
        b'{"revision":1e999}',
        b"[" * 100_000,
        b'{"config":' * 50_000,
        encoded(service="lamp"),
        encoded(service=...),
        encoded(config=[]),
        encoded(epoch="1"),
        encoded(epoch=2**53),
        encoded(epoch=0),
        encoded(sequence=-1),
        encoded(sequence=1.5),
        encoded(sequence=True),
        encoded(revision=None),
        encoded(checksum="x" * MAX_BYTES),
        encoded(config={"a": [[]] * 400_000}),
    ],
)
def test_anything_else_is_refused_without_quoting_it(payload: bytes):
    """Not JSON, NaN, too deep, too large, another service, numbers beyond all order."""
    for read in (read_update, read_answer):
        with pytest.raises(InvalidMessage) as caught:
            read(payload, "bell")
        assert len(str(caught.value)) < 300
        assert "lamp" not in str(caught.value)


def test_a_refusal_without_a_reason_is_none():
    """Whoever sent it was no daemon."""
    with pytest.raises(InvalidMessage):
        read_answer(b'{"status":"error","code":5}', "bell")
