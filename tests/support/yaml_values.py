"""Random values for YAML files, and what the reader makes of a text."""

import json

import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from aliciacfg.documents import Json
from aliciacfg.documents.yaml_reader import load
from aliciacfg.errors import SourceError

NOWHERE: dict[str, str] = {}
# Every BMP character, and some beyond; half surrogates cannot be in UTF-8.
STRINGS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(["", " ", "null", "1", "1.5", "yes", "<<", "a: b", "a #b", "- x", "${X}", "$${X}", "${", "\x85"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    STRINGS,
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(STRINGS, VALUES, max_size=5)


def value(text: str, variables: dict[str, str] | None = None) -> Json:
    return load(text, file="dev.yaml", variables=variables).value


def told(text: str, variables: dict[str, str] | None = None) -> str:
    """What whoever may read the file is told about it."""
    with pytest.raises(SourceError) as refused:
        load(text, file="dev.yaml", variables=variables)
    return "\n".join(str(replace(found, message=found.in_full or found.message)) for found in refused.value.problems)


def same(left: Json, right: Json) -> bool:
    """Equal in JSON types, in the kinds of numbers and in the order of members."""
    return json.dumps(left) == json.dumps(right)
