"""JSON documents: what is decoded, compared, pointed at, merged, told apart and refused."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.documents import Bump, Change, Json, JsonObject
from aliciacfg.errors import InvalidRequest, TooLarge

# Few and awkward names, so that random documents share some.
KEYS = st.text(alphabet='ab/~0"é', max_size=2)
SCALARS = (
    st.booleans()
    | st.integers(-2, 2)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS | st.none(), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)
OBJECTS: st.SearchStrategy[Any] = st.dictionaries(KEYS, VALUES, max_size=4)
PAIRS = st.tuples(OBJECTS, OBJECTS) | OBJECTS.map(lambda one: (one, copy.deepcopy(one)))

thorough = settings(max_examples=300, deadline=None)


def same(left: object, right: object) -> bool:
    """Equal as JSON, integers apart from other numbers; by other means than the code under test."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def nested(levels: int, innermost: Json) -> Json:
    """``innermost`` inside so many objects."""
    for _ in range(levels):
        innermost = {"a": innermost}
    return innermost


def one_less(patch: JsonObject) -> Iterator[JsonObject]:
    """Every patch that says one thing less, at any depth."""
    for key, value in patch.items():
        rest = {other: kept for other, kept in patch.items() if other != key}
        yield rest
        if isinstance(value, dict):
            yield from ({**rest, key: smaller} for smaller in one_less(value))


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
    ("pointer", "tokens"),
    [
        ("", ()), ("/", ("",)), ("/a", ("a",)), ("/a/b/0", ("a", "b", "0")), ("/a~1b/c~0d", ("a/b", "c~d")),
        ("//", ("", "")), ("/~01", ("~1",)), ("/~10", ("/0",)), ("/ é%", (" é%",)),
    ],
)  # fmt: skip
def test_pointers_are_split_and_joined_as_rfc_6901_says(pointer: str, tokens: tuple[str, ...]):
    """~1 is unescaped before ~0, so ~01 is the two characters ~1; joining gives the pointer back."""
    assert documents.parse_pointer(pointer) == tokens
    assert documents.format_pointer(tokens) == pointer


@pytest.mark.parametrize("pointer", ["a", "#/a", " /a", "/~", "/a~2", "/~~0", "/a/~x"])
def test_what_is_no_pointer_is_refused(pointer: str):
    """It has to begin with a slash, and a tilde is followed by 0 or 1."""
    with pytest.raises(InvalidRequest):
        documents.parse_pointer(pointer)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", {"a": [10, {"b/c": None}], "0": "zero", "": 1}),
        ("/a/0", 10), ("/a/1/b~1c", None), ("/0", "zero"), ("/", 1),
        ("/a/2", UNSET), ("/a/-", UNSET), ("/a/-1", UNSET), ("/a/+0", UNSET), ("/a/00", UNSET), ("/a/01", UNSET),
        ("/a/\u0660", UNSET), ("/a/ 0", UNSET), ("/a/", UNSET), ("/a/0/x", UNSET), ("/0/0", UNSET), ("/b", UNSET),
        ("/a/" + "9" * 5000, UNSET),
    ],
)  # fmt: skip
def test_a_pointer_finds_its_place_or_none(pointer: str, expected: object):
    """Only plain decimal numbers index arrays (RFC 6901 §4); a null that is there is not the same as nothing."""
    document: JsonObject = {"a": [10, {"b/c": None}], "0": "zero", "": 1}
    assert documents.find(document, pointer) == expected


@thorough
@given(OBJECTS)
def test_every_string_is_walked_to_at_its_own_pointer(document: JsonObject):
    """What a pointer of the walk finds is the string, and replacing through it changes that string alone."""
    found = dict(documents.walk_strings(document))
    assert all(documents.find(document, pointer) == text for pointer, text in found.items())
    changed = documents.replace_strings(document, {pointer: f"<{text}>" for pointer, text in found.items()})
    assert dict(documents.walk_strings(changed)) == {pointer: f"<{text}>" for pointer, text in found.items()}
    assert same(documents.replace_strings(changed, found), document)


def test_strings_are_replaced_as_values_never_as_names():
    """A member whose name equals a secret stays as it is."""
    document: JsonObject = {"x": "x", "l": ["x", {"x": 1}]}
    assert documents.replace_strings(document, {"/x": "new", "/l/0": "item"}) == {"x": "new", "l": ["item", {"x": 1}]}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_follows_the_examples_of_rfc_7396(target: Json, patch: Json, result: Json):
    """All of Appendix A, and the arguments stay what they were."""
    before = copy.deepcopy((target, patch))
    assert same(documents.merge(target, patch), result)
    assert (target, patch) == before


@thorough
@given(PAIRS)
@example(({"a": [1]}, {"a": {}}))
@example(({"a": {"b": 1}}, {"a": {}}))
@example(({"a": 1}, {"a": True}))
@example(({"a": None}, {"a": {}}))
def test_the_difference_leads_from_one_document_to_the_other(pair: tuple[JsonObject, JsonObject]):
    """merge(base, difference(base, wanted)) is wanted, JSON types included."""
    base, wanted = pair
    before = copy.deepcopy(pair)
    assert same(documents.merge(base, documents.difference(base, wanted)), wanted)
    assert pair == before


@thorough
@given(PAIRS)
def test_the_difference_says_nothing_that_could_be_left_out(pair: tuple[JsonObject, JsonObject]):
    """Without any one of its members, at any depth, the patch no longer leads to the wanted document."""
    base, wanted = pair
    for smaller in one_less(documents.difference(base, wanted)):
        assert not same(documents.merge(base, smaller), wanted)


@thorough
@given(OBJECTS)
def test_a_document_does_not_differ_from_itself(document: JsonObject):
    """The difference and the list of changes are empty."""
    assert documents.difference(document, copy.deepcopy(document)) == {}
    assert list(documents.changes(document, copy.deepcopy(document))) == []


@pytest.mark.parametrize(
    ("patch", "pointer", "expected"),
    [
        ({"a": 1, "b": 2}, "/a", {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, "/a/b", {"a": {"c": 2}}),
        ({"a": {"b": {"c": 1}}, "d": 1}, "/a/b/c", {"d": 1}),
        ({"a": {"b": None}}, "/a/b", {}),
        ({"a": {"b": 1}}, "/a", {}),
        ({"a/b": {"~": 1}, "c": 1}, "/a~1b/~0", {"c": 1}),
        ({"a": 1}, "/b", {"a": 1}),
        ({"a": 1}, "/a/b", {"a": 1}),
        ({"a": [1, 2]}, "/a/0", {"a": [1, 2]}),
        ({"a": {}, "b": 1}, "/a/x", {"a": {}, "b": 1}),
        ({"a": 1}, "", {}),
        ({}, "/a", {}),
    ],
)
def test_without_drops_one_place_and_what_it_leaves_empty(patch: JsonObject, pointer: str, expected: JsonObject):
    """What the patch did not say there stays as it is: arrays are whole, an empty object somebody wrote remains."""
    before = copy.deepcopy(patch)
    assert documents.without(patch, documents.parse_pointer(pointer)) == expected
    assert patch == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 2}, [("/a", "patch")]),
        ({"a": 1}, {"a": 1.5}, [("/a", "patch")]),
        ({"a": 1}, {}, [("/a", "major")]),
        ({}, {"a": 1}, [("/a", "minor")]),
        ({"a": 1}, {"a": "1"}, [("/a", "major")]),
        ({"a": 1}, {"a": True}, [("/a", "major")]),
        ({"a": {"b": 1}}, {"a": [1]}, [("/a", "major")]),
        ({"a": 1}, {"a": {}}, [("/a", "major")]),
        ({"a": [1]}, {"a": ["x", 2]}, [("/a", "patch")]),
        ({"a": {"b": 1, "c": {"d": 2}}}, {}, [("/a/b", "major"), ("/a/c/d", "major")]),
        ({}, {"a": {"b": {}, "c/d": 1}}, [("/a/b", "minor"), ("/a/c~1d", "minor")]),
        ({"a": {"b": 1}}, {"a": {}}, [("/a/b", "major")]),
        ({"a": {}}, {"a": {"b": 1}}, [("/a/b", "minor")]),
        ({"x": 1, "y": 1, "z": 1}, {"w": 1, "x": 2, "z": 1}, [("/x", "patch"), ("/y", "major"), ("/w", "minor")]),
    ],
)
def test_changes_name_leaves_and_what_they_mean(old: JsonObject, new: JsonObject, expected: list[tuple[str, Bump]]):
    """Gone or of another type is major, new is minor, another value is patch; arrays are leaves."""
    assert list(documents.changes(old, new)) == [Change(*change) for change in expected]


@thorough
@given(PAIRS)
def test_changes_are_found_exactly_where_documents_differ(pair: tuple[JsonObject, JsonObject]):
    """Each names a place where they really differ, with the bump the two values there need; none is missing."""
    old, new = pair
    changes = list(documents.changes(old, new))
    assert (changes == []) == same(old, new)
    for change in changes:
        before, after = documents.find(old, change.pointer), documents.find(new, change.pointer)
        assert before is UNSET or after is UNSET or not same(before, after)
        if before is UNSET:
            assert change.bump == "minor"
        elif after is UNSET or documents.type_name(before) != documents.type_name(after):
            assert change.bump == "major"
        else:
            assert change.bump == "patch"


@thorough
@given(PAIRS)
def test_the_json_patch_leads_from_one_document_to_the_other(pair: tuple[JsonObject, JsonObject]):
    """Applied by its own standard (RFC 6902) it gives the new document, JSON types included."""
    old, new = (documents.normalise(one) for one in pair)
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert same(jsonpatch.apply_patch(old, documents.json_patch(old, new)), new)


@pytest.mark.parametrize("innermost", [{}, [], {"b": 1}])
def test_a_configuration_has_at_most_32_levels(innermost: Json):
    """One object or array more than 32 within each other is named with its pointer."""
    assert list(documents.shape_problems(nested(30, innermost))) == []
    (problem,) = documents.shape_problems(nested(32, innermost))
    assert problem.pointer == "/a" * 32
    assert "32" in problem.message


@pytest.mark.parametrize("innermost", [{}, []])
def test_the_last_of_the_32_levels_may_be_used(innermost: Json):
    """Exactly 32 objects or arrays within each other are no problem."""
    assert list(documents.shape_problems(nested(31, innermost))) == []


def test_any_depth_is_told_without_overflow():
    """What somehow came in 100,000 levels deep is one problem, not a RecursionError."""
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]
    assert [problem.pointer for problem in documents.shape_problems({"a": deep})] == ["/a" + "/0" * 31]


def test_null_may_stand_in_arrays_and_not_as_a_member():
    """A merge patch could not express a null member; every one is listed, also inside arrays."""
    document: JsonObject = {"a": None, "b": [None, {"c/d": None, "e": 1}], "f": {"g": None}}
    assert [problem.pointer for problem in documents.shape_problems(document)] == ["/a", "/b/1/c~1d", "/f/g"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, 10**30])
def test_numbers_that_json_readers_cannot_hold_are_problems(value: float):
    """NaN, infinity and integers beyond 64 bits are named where they stand, in arrays too."""
    assert [problem.pointer for problem in documents.shape_problems({"a": [0, value]})] == ["/a/1"]


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1e308, -0.0, True, "", [], {}])
def test_everything_else_is_a_shape_a_configuration_may_have(value: Json):
    """The limits themselves are allowed."""
    assert list(documents.shape_problems({"a": [value], "b": value})) == []


# RFC 6902, Appendix A: title, document, patch, result. A.13 is below: two members of one name are gone once decoded.
APPENDIX_A: list[tuple[str, Json, list[JsonObject], Json]] = [
    (
        "A.1 adding an object member",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    (
        "A.2 adding an array element",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    (
        "A.3 removing an object member",
        {"baz": "qux", "foo": "bar"},
        [{"op": "remove", "path": "/baz"}],
        {"foo": "bar"},
    ),
    (
        "A.4 removing an array element",
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    (
        "A.5 replacing a value",
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6 moving a value",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7 moving an array element",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8 testing a value: success",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.10 adding a nested member object",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11 ignoring unrecognized elements",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    (
        "A.14 ~ escape ordering",
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": 10}],
        {"/": 9, "~1": 10},
    ),
    (
        "A.16 adding an array value",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
]


@pytest.mark.parametrize(
    ("document", "patch", "result"), [case[1:] for case in APPENDIX_A], ids=[case[0] for case in APPENDIX_A]
)
def test_a_json_patch_is_applied_as_rfc_6902_shows(document: Json, patch: list[JsonObject], result: Json):
    """Every case of Appendix A that applies, and the arguments stay what they were."""
    before = copy.deepcopy((document, patch))
    assert same(documents.apply_json_patch(document, patch), result)
    assert (document, patch) == before


@pytest.mark.parametrize(
    ("document", "patch"),
    [
        pytest.param({"baz": "qux"}, [{"op": "test", "path": "/baz", "value": "bar"}], id="A.9 testing: error"),
        pytest.param(
            {"foo": "bar"}, [{"op": "add", "path": "/baz/bat", "value": "qux"}], id="A.12 adding to no target"
        ),
        pytest.param(
            {"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": "10"}], id="A.15 comparing strings and numbers"
        ),
    ],
)
def test_a_json_patch_is_refused_as_rfc_6902_shows(document: Json, patch: list[JsonObject]):
    """Every case of Appendix A that is an error."""
    with pytest.raises(InvalidRequest, match="Operation 0"):
        documents.apply_json_patch(document, patch)


def test_of_two_members_of_an_operation_the_last_counts():
    """A.13: a decoded operation has one ``op``, the last; as everywhere here, duplicate keys are no error."""
    patch = documents.decode(b'[{"op":"add","path":"/baz","value":"qux","op":"remove"}]')
    assert isinstance(patch, list)
    with pytest.raises(InvalidRequest, match="Operation 0"):
        documents.apply_json_patch({"foo": "bar"}, patch)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/a/01"},
        {"op": "replace", "path": "/a/00", "value": 1},
        {"op": "add", "path": "/a/01", "value": 1},
        {"op": "copy", "from": "/a/01", "path": "/b"},
        {"op": "move", "from": "/a/01", "path": "/b"},
        {"op": "test", "path": "/a/01", "value": 2},
        {"op": "remove", "path": "/a/-1"},
        {"op": "remove", "path": "/a/-"},
        {"op": "add", "path": "/a/4", "value": 1},
        {"op": "add", "path": "/a/1e0", "value": 1},
        {"op": "replace", "path": "/c", "value": 1},
        {"op": "remove", "path": "/c"},
        {"op": "move", "from": "/o", "path": "/o/p"},
        {"op": "move", "from": "/c", "path": "/d"},
        {"op": "copy", "from": "/c", "path": "/d"},
        {"op": "test", "path": "/c", "value": None},
        {"op": "test", "path": "/t", "value": 1},
        {"op": "test", "path": "/a", "value": [True, 2, 3]},
        {"op": "add", "path": "/s/x", "value": 1},
    ],
    ids=str,
)
def test_what_does_not_apply_is_refused_whole(operation: JsonObject):
    """Indices are as RFC 6901 has them, places have to exist, and nothing that came before in the patch remains."""
    document: JsonObject = {"a": [1, 2, 3], "o": {"p": {}}, "t": True, "s": "text"}
    before = copy.deepcopy(document)
    with pytest.raises(InvalidRequest, match="Operation 1"):
        documents.apply_json_patch(document, [{"op": "replace", "path": "/t", "value": True}, operation])
    assert document == before


def test_the_whole_document_can_be_replaced_and_tested():
    """The empty pointer is a place like others."""
    patch: list[JsonObject] = [{"op": "test", "path": "", "value": {"a": 1}}, {"op": "add", "path": "", "value": [2]}]
    assert documents.apply_json_patch({"a": 1}, patch) == [2]
