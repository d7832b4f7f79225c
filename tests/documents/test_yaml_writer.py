"""YAML that is written: every parser of YAML 1.1 and 1.2 reads the same value."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliciacfg.documents import yaml_reader, yaml_writer
from soak import examples
from yaml_readers import TEXTS, readers, same

NUMBERS = [0, -1, 2**63, -(2**63), 1.5, -0.25, 1e16, 1e22, 1e-7, 1.5e300, 5e-324, True, False]
ANY_TEXT = st.sampled_from(TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("value", [*TEXTS, *NUMBERS], ids=repr)
def test_a_value_is_the_same_for_every_reader_of_yaml(value: Any, version: str):
    """As a document, a member, a name and an item: texts stay texts, numbers numbers, in YAML 1.1 and 1.2."""
    document: dict[str, Any] = {"a": value, "b": [value, [value], {"c": value}], "d": {"e": {"f": value}}}
    if isinstance(value, str):
        document[value] = {value: [value]}
    for whole in (document, value, [value]):
        text = yaml_writer.dump(whole)
        loaded = readers()[version].load(text)
        assert same(loaded, whole), text
        assert type(loaded) is type(whole)


@settings(deadline=None)
@given(VALUES)
def test_blocks_are_the_same_value_for_every_reader_of_yaml(value: Any):
    """Long arrays, and arrays of objects, have an item a line."""
    text = yaml_writer.dump_blocks(value)
    for reader in readers().values():
        assert same(reader.load(text), value), text


def test_arrays_are_blocks_where_that_is_easier_to_read():
    """An item of an array begins beside its dash; short arrays of scalars stay on their line."""
    value: Any = {"short": [1, "a"], "long": ["x" * 40, "y" * 40], "of": [{"a": 1, "b": {"c": [{}]}}, [[{"d": 2}], []]]}
    assert yaml_writer.dump_blocks(value).splitlines() == [
        "short: [1, a]",
        "long:",
        f"  - {'x' * 40}",
        f"  - {'y' * 40}",
        "of:",
        "  - a: 1",
        "    b:",
        "      c:",
        "        - {}",
        "  - - - d: 2",
        "    - []",
    ]


@examples(60)
@given(VALUES)
def test_any_value_is_the_same_for_every_reader_of_yaml(value: Any):
    """Whatever the nesting; by two other parsers and by the project's own."""
    text = yaml_writer.dump(value)
    for reader in readers().values():
        assert same(reader.load(text), value), text
    if isinstance(value, dict) and None not in value.values():
        assert same(yaml_reader.load(text, file="x").value, value)
