"""Differences between two documents, rated by what they mean to readers."""

import pytest
from hypothesis import given
from msgspec import UNSET

from aliciacfg import documents
from aliciacfg.documents import Bump, Change, JsonObject
from json_values import PAIRS, same, thorough


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


@given(PAIRS)
def test_of_a_first_document_each_leaf_is_new(pair: tuple[JsonObject, JsonObject]):
    """In the same order: whoever knows that there was none before need not compare."""
    document = {"service_name": "bell", **pair[1]}
    new = [change.pointer for change in documents.changes({}, document)]
    assert new == [pointer for pointer, _ in documents.leaves(document)]
