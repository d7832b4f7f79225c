"""The shape that a configuration may have."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from json_values import OBJECTS, nested, thorough


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


def nodes(value: Any) -> int:
    """Members and items at every level."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return len(inner) + sum(map(nodes, inner))


@thorough
@given(document=OBJECTS, limit=st.integers(0, 20))
def test_a_document_has_too_many_nodes_exactly_if_it_has_more_than_allowed(document: JsonObject, limit: int):
    """And the place that is named is an object or array of it."""
    place = documents.excess_nodes(document, limit)
    assert (place is None) == (nodes(document) <= limit)
    assert place is None or isinstance(documents.find(document, place), dict | list)
