"""One walk over what changed finds the same as four walks over the whole document."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.schemas.test_schema_tree import NAMES, SCHEMAS

from aliciacfg import documents
from aliciacfg.schemas import inspection, schema_tree
from aliciacfg.schemas.inspection import Inspection, Inspections

LEAVES = st.sampled_from(["", "x", 0, 1.5, 2.0, -0.0, 1e300, float("inf"), 2**64, -(2**63), True, None])
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)
OBJECTS: st.SearchStrategy[Any] = st.dictionaries(NAMES, VALUES, max_size=4)
TREE = schema_tree.compile_tree([{"properties": {"password": {}, "open": {"properties": {"a": {}}}}}])


def assert_same(root: schema_tree.Node, document: Any, found: Inspection) -> None:
    """What was found is what the plain walks find, in the same order."""
    assert found.nodes == nodes(document)
    assert found.sound == (not list(documents.shape_problems(document)))
    assert documents.encode(found.document) == documents.encode(documents.normalise(document))
    assert list(found.secrets.items()) == list(schema_tree.secrets(root, document).items())
    assert found.unknown == schema_tree.unknown(root, document)


def nodes(value: Any) -> int:
    """The members and items in a value, at every level."""
    if not isinstance(value, dict | list):
        return 0
    return len(value) + sum(map(nodes, value.values() if isinstance(value, dict) else value))


@given(SCHEMAS, OBJECTS)
def test_a_document_that_nobody_saw(schema: Any, document: Any):
    """Nothing is known of it."""
    root = schema_tree.compile_tree([schema])
    assert_same(root, document, inspection.inspect(root, document))


@given(SCHEMAS, OBJECTS, st.lists(OBJECTS, max_size=4))
def test_a_document_that_is_patched(schema: Any, document: Any, patches: list[Any]):
    """What a patch leaves as it is was looked at before; what it does not is looked at again."""
    root = schema_tree.compile_tree([schema])
    known = inspection.inspect(root, document)
    for patch in patches:
        document = documents.merge(known.document, patch)
        known = inspection.inspect(root, document, known)
        assert_same(root, document, known)


@given(SCHEMAS, st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
def test_items_that_move(schema: Any, old: list[Any], new: list[Any]):
    """An item counts at the place where it is now, not where it was."""
    root = schema_tree.compile_tree([schema])
    known = inspection.inspect(root, {"a": old})
    document: Any = {"a": [*new, *reversed(old)], "b": old}
    assert_same(root, document, inspection.inspect(root, document, known))


def test_too_many_levels():
    """The deepest level that is allowed is empty."""
    document: Any = {}
    for _ in range(documents.MAX_DEPTH - 1):
        document = {"a": document}
    assert inspection.inspect(TREE, document).sound
    assert not inspection.inspect(TREE, {"a": document}).sound
    assert not inspection.inspect(TREE, {"a": [document]}).sound


def test_what_stands_as_before_is_not_looked_at_again():
    """The same object gives the very same answer; the others are new."""
    before: Any = {"open": {"a": 1}, "more": {"password": "p"}}
    known = inspection.inspect(TREE, before)
    after = inspection.inspect(TREE, documents.merge(before, {"open": {"a": 2}}), known)
    assert after.inner("more") is known.inner("more")
    assert after.inner("open") is not known.inner("open")
    assert after.secrets == {"/more/password": "p"}


def test_the_least_recently_written_is_forgotten_first():
    """What is remembered is bounded by size, not by the number of documents: long texts and names count."""
    remembered = Inspections(max_size=25_000)
    document: Any = {"a": "x" * 10_000}
    for name in ("first", "second", "first", "third"):
        remembered.of(("dev", name), TREE, dict(document))
    assert [remembered.last(("dev", name)) is not None for name in ("first", "second", "third")] == [True, False, True]
    for large in ({"b": "x" * 30_000}, {"n" * 30_000: 1}, dict.fromkeys(map(str, range(600)), 1)):
        remembered.of(("dev", "third"), TREE, document | large)
        assert [remembered.last(("dev", name)) for name in ("first", "third")] == [None, None]
        remembered.of(("dev", "third"), TREE, document)
        assert remembered.last(("dev", "third")) is not None
