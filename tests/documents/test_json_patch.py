"""JSON Patches: derived, checked and applied."""

import copy

import jsonpatch
import pytest
from hypothesis import given

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.documents.json_patch import apply_json_patch, json_patch
from aliciacfg.errors import InvalidRequest
from json_values import PAIRS, same, thorough


@thorough
@given(PAIRS)
def test_the_json_patch_leads_from_one_document_to_the_other(pair: tuple[JsonObject, JsonObject]):
    """Applied by its own standard (RFC 6902) it gives the new document, JSON types included."""
    old, new = (documents.normalise(one) for one in pair)
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert same(jsonpatch.apply_patch(old, json_patch(old, new)), new)


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
    assert same(apply_json_patch(document, patch), result)
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
        apply_json_patch(document, patch)


def test_of_two_members_of_an_operation_the_last_counts():
    """A.13: a decoded operation has one ``op``, the last; as everywhere here, duplicate keys are no error."""
    patch = documents.decode(b'[{"op":"add","path":"/baz","value":"qux","op":"remove"}]')
    assert isinstance(patch, list)
    with pytest.raises(InvalidRequest, match="Operation 0"):
        apply_json_patch({"foo": "bar"}, patch)  # pyright: ignore[reportArgumentType]


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
        apply_json_patch(document, [{"op": "replace", "path": "/t", "value": True}, operation])
    assert document == before


def test_the_whole_document_can_be_replaced_and_tested():
    """The empty pointer is a place like others."""
    patch: list[JsonObject] = [{"op": "test", "path": "", "value": {"a": 1}}, {"op": "add", "path": "", "value": [2]}]
    assert apply_json_patch({"a": 1}, patch) == [2]
