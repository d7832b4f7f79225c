"""JSON values: what is decoded, what is equal, and canonical bytes."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject, decode
from aliciacfg.documents.values import MAX_VALUES
from aliciacfg.documents.yaml_reader import load
from aliciacfg.errors import InvalidRequest, TooLarge
from json_values import OBJECTS, VALUES, nested, same, thorough


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"{", b"{'a': 1}", b'{"a": 1,}', b"{} {}", b"nul",
        b"NaN", b"Infinity", b"-Infinity", b'{"a": NaN}',
        b"1e999", b'{"a": [-1e999]}', b"9" * 5000,
        b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
        b'{"a": "\xff"}', b'"\xed\xa0\x80"', rb'"\ud800"', rb'"\udc00 and more text"', rb'{"\ud800x": 1}',
        b'"a\x00b"', b'"a\nb"',
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused_as_a_bad_request(data: bytes):
    """NaN, infinity, BOM, bad UTF-8, lone surrogates and syntax errors all leave as the one foreseen error."""
    with pytest.raises(InvalidRequest):
        documents.decode(data)


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [41, 900, 5000, 200_000])
def test_a_body_nested_too_deeply_is_refused_before_anything_walks_it(bracket: bytes, levels: int):
    """Whether the decoder gives up or the depth check does, it is too_large and no RecursionError."""
    closing = b"]" if bracket == b"[" else b"}"
    with pytest.raises(TooLarge):
        documents.decode(bracket * levels + b"1" + closing * levels)


def test_the_deepest_configuration_in_two_envelopes_is_decoded():
    """The limit on bodies leaves room around the deepest configuration."""
    body = {"payload": {"payload": {"updates": [{"config": nested(32, 1)}]}}}
    assert documents.decode(json.dumps(body).encode()) == body


def test_of_duplicate_keys_the_last_wins():
    """At every level."""
    assert documents.decode(b'{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}') == {"a": 3, "b": {"c": 2}}


@pytest.mark.parametrize(
    ("data", "expected"),
    [(rb'"\ud83d\ude00"', "😀"), (b'"\xf0\x9f\x98\x80"', "😀"), (rb'"\u0000"', "\0"), (b"1.0", 1.0), (b"true", True)],
)
def test_what_is_json_keeps_its_type(data: bytes, expected: Json):
    """Surrogate pairs are one character, 1.0 stays a float until it is normalised."""
    assert same(documents.decode(data), expected)


@pytest.mark.parametrize("data", [b"null", b"[]", b'[{"a": 1}]', b'"{}"', b"0", b"false"])
def test_where_an_object_is_expected_nothing_else_is_decoded(data: bytes):
    """Another value is refused with its type; it never counts as an empty object."""
    with pytest.raises(InvalidRequest, match="not a JSON object"):
        documents.decode_object(data)
    assert documents.decode_object(b'{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (True, 1, False), (False, 0, False), (None, False, False), ("1", 1, False), (0, None, False), ("", None, False),
        ([], {}, False), ({}, None, False), ([1, 2], [2, 1], False), ({"a": True}, {"a": 1}, False),
        ("é", "e\u0301", False),
        ({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"d": 3, "c": 2}], "a": 1}, True), (2**64 - 1, 2**64 - 1, True),
        (0.1, 0.1, True), (2**53, 2**53 + 1, False),
    ],
)  # fmt: skip
def test_equality_is_typed_as_json_is(left: Json, right: Json, expected: bool):
    """True is not 1, the order of members does not count and that of items does, no Unicode normalisation."""
    assert documents.equal(left, right) is expected
    assert documents.equal(right, left) is expected


def test_integral_floats_are_equal_to_integers_once_normalised():
    """1.0 and 1 are the same number in a document, whatever a client's encoder writes."""
    assert documents.equal(documents.normalise({"a": [1.0]}), documents.normalise({"a": [1]}))
    assert not documents.equal(documents.normalise(1.5), documents.normalise(1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8080.0, 8080), (-3.0, -3), (-0.0, 0), (float(2**53), 2**53), (1.5, 1.5), (1e300, 1e300), (True, True),
        ({"a": [1.0, {"b": 2.0}], "c": "1.0"}, {"a": [1, {"b": 2}], "c": "1.0"}), (None, None),
    ],
)  # fmt: skip
def test_normalising_makes_integers_of_integral_floats_only(value: Json, expected: Json):
    """At any depth; not where a double no longer tells neighbouring integers apart, and never a boolean."""
    assert same(documents.normalise(value), expected)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("1.0", "1"), ("-0", "0"), ("-0.0", "0"), ("0.50", "0.5"), ("1e3", "1000"), ("1e20", "1e20"), ("1e-400", "0"),
        ("0.1000000000000000055511151231257827", "0.1"), ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740992"), ("18446744073709551615", "18446744073709551615"),
    ],
)  # fmt: skip
def test_a_number_of_a_file_is_stored_as_that_of_a_request(text: str, stored: str):
    """As docs/reference/documents.md says."""
    from_file = load(f"n: {text}\n", file="dev.yaml").value
    from_request = documents.decode(f'{{"n": {text}}}'.encode())
    for read in (from_file, from_request):
        assert documents.encode(documents.normalise(read)).decode() == f'{{"n":{stored}}}'


@thorough
@given(OBJECTS)
def test_normalising_copies_only_what_changes(document: JsonObject):
    """A home keeps every configuration in memory, and compares the parts that two have in common."""
    before = copy.deepcopy(document)
    normal = documents.normalise(document)
    assert same(document, before)

    def plain(value: Json) -> Json:
        if isinstance(value, dict):
            return {key: plain(member) for key, member in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value

    assert same(normal, plain(document))
    for key, member in document.items():
        assert normal[key] is member or not same(normal[key], member)


@thorough
@given(document=OBJECTS | VALUES, text=st.sampled_from(["sealed:v1:", "***", "a"]), data=st.data())
def test_a_text_that_a_value_holds_is_never_overlooked(document: Any, text: str, data: st.DataObject):
    """As key or string, in any case, beside any other characters; a value that cannot be encoded may hold anything."""
    around = data.draw(st.text(max_size=3))
    held = data.draw(st.sampled_from([text, text.upper()])) + around
    holding: list[Json] = [held, {around + held: 1}, {"a": [document, held]}, [{around: held}]]
    assert all(documents.may_hold(value, text.encode()) for value in holding)
    assert documents.may_hold(["\ud800"], text.encode())
    assert not documents.may_hold({"bcd": ["SEALE", "**", 1, None]}, text.encode()) or text == "a"


def test_no_other_characters_become_those_of_a_sealed_value():
    """The look into the encoded bytes knows no other lower case than that of ASCII."""
    known, every = set("sealed:v1*"), list(map(chr, range(0x110000)))
    lowered = {character for character, lower in zip(every, map(str.lower, every), strict=True) if lower in known}
    assert lowered == set("sealed:v1*SEALEDV")


@thorough
@given(OBJECTS)
def test_canonical_bytes_do_not_depend_on_the_order_of_members(document: JsonObject):
    """A document read back with its members reversed has the same bytes, without spaces."""

    def turned(value: Json) -> Json:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert documents.canonical(document) == documents.canonical(turned(document))
    assert json.loads(documents.canonical(document)) == document


def test_canonical_bytes_are_sorted_compact_utf_8():
    """The very bytes that checksums are made of."""
    document: JsonObject = {"b": [1, {"d": None, "c": True}], "a": "é/", "ä": 0.5}
    assert documents.canonical(document) == '{"a":"é/","b":[1,{"c":true,"d":null}],"ä":0.5}'.encode()


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "boolean"), (1, "number"), (1.5, "number"), ("", "string"), ([], "array"), ({}, "object")],
)
def test_type_names_are_those_of_json(value: Json, name: str):
    """A boolean is no number, though Python says so; integers are numbers like others."""
    assert documents.type_name(value) == name


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * MAX_VALUES + b"1]",
        b"[" + b"1," * MAX_VALUES + b"1]",
        b"[" + b'"",' * MAX_VALUES + b'""]',
        b'{"a":[' + b'{"k\\"":"\\\\"},' * (MAX_VALUES // 3) + b"1]}",
    ],
    ids=["arrays", "numbers", "strings", "members"],
)
def test_a_body_of_very_many_values_is_refused_before_it_is_decoded(body: bytes):
    """Making a million objects of a batch of 4 MiB would take a second."""
    with pytest.raises(TooLarge, match="send it in parts"):
        decode(body)


@pytest.mark.parametrize("text", [b"," * (MAX_VALUES + 1), rb"\"," * MAX_VALUES + rb"\\", b"[{:" * MAX_VALUES])
def test_what_stands_in_strings_is_no_value(text: bytes):
    """Commas and brackets in strings do not count, whatever is escaped before them."""
    assert decode(b'{"a":"' + text + b'","b":1}') == {"a": json.loads(b'"' + text + b'"'), "b": 1}
