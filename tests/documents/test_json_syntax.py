"""Where and why a text is not JSON."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import json_syntax
from aliciacfg.errors import InvalidRequest


def told(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        documents.decode(data)
    return refused.value.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a":"\\ud800"}', "half of a surrogate pair at byte 6"),
        (b'{"a": "ok", "b":"x\\udc00y"}', "half of a surrogate pair at byte 18"),
        (b'{"a":"\\ud83d\\ude00\\ud83d"}', "half of a surrogate pair at byte 18"),
        (b'{"a":"\\ud83d \\ude00"}', "half of a surrogate pair at byte 6"),
        ('{"é":"\\ud800"}'.encode(), "half of a surrogate pair at byte 7"),
        (b'{"\\udfff":1}', "half of a surrogate pair at byte 2"),
        (b'{"a":"\\\\ud800",}', "expecting property name enclosed in double quotes at byte 15"),
        (b'{"a":1, "b" "\\ud800"}', "expecting ':' delimiter at byte 12"),
        (b'{"a":1,}', "at byte 7"),
        ('{"ü":tru}'.encode(), "expecting value at byte 6"),
        (b'{"a":"\xff"}', "is not UTF-8: byte 6 is invalid"),
        (b'{"abc":"d\xe9"}', "is not UTF-8: byte 9 is invalid"),
        (b'{"first": "long", "second": [1, 2, "\xc3("]}', "is not UTF-8: byte 36 is invalid"),
        (b'{"\xff":1}', "is not UTF-8: byte 2 is invalid"),
        (b"\xff", "is not UTF-8: byte 0 is invalid"),
        (b"\xef\xbb\xbf{}", "a byte order mark begins at byte 0. Send the value without it."),
        (b'{"a":"\\x"}', "at byte 6"),
        (b'{"a":"\\u12"}', "at byte 7"),
        (b'{"a":"\x01"}', "invalid control character at byte 6"),
        (b'"abc', "unterminated string at byte 0"),
        (b'{"a":NaN}', "it has NaN or infinity"),
        (b'{"a":1e999}', "a number is beyond the range of a double"),
        (b"", "expecting value at byte 0"),
        (b'{"a":1}x', "extra data at byte 7"),
        (b"1" * 5000 + b"x", "not JSON"),
    ],
)
def test_the_fault_is_named_with_its_byte_and_its_remedy(data: bytes, words: str):
    """The offset counts from 0 in the bytes that were sent, wherever in the value the fault is."""
    message = told(data)
    assert words in message
    assert any(remedy in message for remedy in ("Send ", "Write "))


@given(st.text(max_size=20), st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5"]), st.text(max_size=20))
def test_the_first_byte_that_is_not_utf_8_is_named(before: str, wrong: bytes, after: str):
    """Whatever stands before and after it."""
    head = b'{"k": ["x", ' + documents.encode(before)[:-1]
    assert f"byte {len(head)} is invalid" in told(head + wrong + documents.encode(after)[1:] + b"]}")


@given(st.binary(max_size=40))
def test_every_text_that_is_not_json_has_a_fault(data: bytes):
    """Bytes of any kind are decoded or refused with a reason."""
    with contextlib.suppress(InvalidRequest):
        documents.decode(data)
        return
    assert json_syntax.explain(data).startswith(("is not JSON: ", "is not UTF-8: "))
