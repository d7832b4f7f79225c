"""Merge patches: applied, derived from two documents, and shortened."""

import copy
from collections.abc import Iterator

import pytest
from hypothesis import example, given

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from json_values import OBJECTS, PAIRS, same, thorough


def one_less(patch: JsonObject) -> Iterator[JsonObject]:
    """Every patch that says one thing less, at any depth."""
    for key, value in patch.items():
        rest = {other: kept for other, kept in patch.items() if other != key}
        yield rest
        if isinstance(value, dict):
            yield from ({**rest, key: smaller} for smaller in one_less(value))


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
