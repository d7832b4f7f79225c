"""Schemas with annotations in any place, for tests that draw them."""

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "c", "a/b", "~", "0", "7", "token", "Keys"])
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "object", "array"])
REFERENCES = st.sampled_from(
    ["#", "#/$defs/a", "#/$defs/b", "#/$defs/c", "#/properties/a", "#/nowhere", "other.json", 1]
)
FLAGS = st.sampled_from([True, False])


def subschemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with a few of the keywords that count."""
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "x-sensitive": FLAGS,
            "writeOnly": FLAGS,
            "x-restart-required": FLAGS,
            "x-env": st.sampled_from(["A", "B"]),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "additionalProperties": inner,
            "items": inner,
            "$ref": REFERENCES,
        },
    )


SUBSCHEMAS: st.SearchStrategy[Any] = st.recursive(FLAGS | subschemas(FLAGS), subschemas, max_leaves=8)
SCHEMAS = st.tuples(subschemas(SUBSCHEMAS), st.dictionaries(st.sampled_from("abc"), SUBSCHEMAS, max_size=3)).map(
    lambda parts: {**parts[0], "$defs": parts[1]}
)
