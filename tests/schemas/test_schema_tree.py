"""The compiled tree of a schema: the same as reading the schema anew for each place of a document."""

import gc
import re
import weakref
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.documents import find
from aliciacfg.schemas import schema_tree
from random_schemas import NAMES, SCHEMAS

LEAVES = st.sampled_from(["", "x", 0, 1.5, True, None])
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)


def follow(root: Any, node: Any) -> list[Any]:
    """A subschema, and whatever its references lead to."""
    found: list[Any] = []
    while isinstance(node, dict) and not any(node is known for known in found):
        found.append(node)
        node = schema_tree.resolve(root, node.get("$ref"))
    return found


def of_member(marks: list[Any], name: str) -> list[Any]:
    """Every subschema of a member: what ``properties`` says, or else ``additionalProperties``."""
    inner = [(root, node.get("properties", {}).get(name, node.get("additionalProperties"))) for root, node in marks]
    return [(root, target) for root, node in inner for target in follow(root, node)]


def of_items(marks: list[Any]) -> list[Any]:
    """Every subschema of an item."""
    return [(root, target) for root, node in marks for target in follow(root, node.get("items"))]


def has_items_only(marks: list[Any]) -> bool:
    """Whether nothing tells of members."""
    return bool(marks) and not any({"properties", "additionalProperties"} & node.keys() for _, node in marks)


def at(schemas: list[Any], pointer: str) -> list[Any]:
    """Every subschema of a place, found from the pointer alone."""
    marks = [(root, target) for root in schemas for target in follow(root, root)]
    for raw in pointer.split("/")[1:]:
        token = raw.replace("~1", "/").replace("~0", "~")
        marks = of_items(marks) if token.isdigit() and has_items_only(marks) else of_member(marks, token)
    return marks


def places(value: Any, pointer: str, marks: list[Any], *, named: bool = False) -> Iterator[tuple[str, Any, Any, bool]]:
    """Each place with its subschemas, and whether a name on the way to it sounds like a secret."""
    yield pointer, value, [node for _, node in marks], named
    if isinstance(value, dict):
        for name, member in value.items():
            place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            sounds = named or bool(re.search("password|secret|key|token", name, re.IGNORECASE))
            yield from places(member, place, of_member(marks, name), named=sounds)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, f"{pointer}/{index}", of_items(marks), named=named)


def expected(value: Any, nodes: list[Any], *, named: bool) -> tuple[bool, bool, bool]:
    """Whether a place is a secret, whether no message may quote it, and whether it is for a number."""
    said = [node["x-sensitive"] for node in nodes if "x-sensitive" in node]
    said += [True for node in nodes if node.get("writeOnly") is True]
    numeric = any(node.get("type") in ("integer", "number", "boolean") for node in nodes)
    sensitive = isinstance(value, str) and (any(said) if said else named)
    return sensitive, sensitive or (any(said) if said else named and not numeric), numeric


@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=2), documents=st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_the_tree_says_of_each_place_what_the_schema_says(schemas: list[Any], documents: list[Any]):
    """Also the second document, which meets nodes that the first one made."""
    tree = schema_tree.compile_tree(schemas)
    for document in documents:
        every = list(places(document, "", at(schemas, "")))
        walked = list(schema_tree.walk(tree, document))
        assert [(place.pointer, place.value) for place in walked] == [(place, value) for place, value, _, _ in every]
        told = [expected(value, nodes, named=named) for _, value, nodes, named in every]
        assert [place[2:] for place in walked] == told
        secrets = {place: value for (place, value, _, _), (secret, *_) in zip(every, told, strict=True) if secret}
        assert list(schema_tree.secrets(tree, document).items()) == list(secrets.items())
        assert [place for place, *_ in every if schema_tree.is_secret(tree, document, place)] == list(secrets)
        assert not schema_tree.is_secret(tree, document, "/nowhere/0")
        hidden = [place for (place, *_), (_, hidden, _) in zip(every, told, strict=True) if hidden]
        around = {place for place, *_ in every if any(f"{inner}/".startswith(f"{place}/") for inner in hidden)}
        assert {place for place, *_ in every if schema_tree.hides(tree, document, place)} == around
        assert not schema_tree.hides(tree, document, "/nowhere/0")


@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=2), document=DOCUMENTS)
def test_unknown_members_are_those_that_nothing_describes_in_an_object_whose_names_are_known(
    schemas: list[Any], document: Any
):
    described = {place: nodes for place, _, nodes, _ in places(document, "", at(schemas, ""))}
    described[""] = described[""] or [{}]
    unknown: list[str] = []
    for place in list(described)[1:]:
        parent = place.rpartition("/")[0]
        named = any("properties" in node for node in described[parent])
        if not described[place] and named and isinstance(find(document, parent), dict):
            unknown.append(place)
    assert list(schema_tree.unknown(schema_tree.compile_tree(schemas), document)) == unknown


@given(schemas=st.lists(SCHEMAS, min_size=1, max_size=2), names=st.lists(NAMES, max_size=4))
def test_a_place_has_a_node_whether_or_not_a_document_has_it(schemas: list[Any], names: list[str]):
    """Of its variable and its restarts the first and any subschema decide, as they do in order."""
    pointer = "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)
    marks = at(schemas, pointer)
    nodes = [node for _, node in marks]
    found = schema_tree.node_at(schema_tree.compile_tree(schemas), pointer)
    assert found.variable == next((node["x-env"] for node in nodes if "x-env" in node), None)
    assert found.restart_required == any(node.get("x-restart-required") is True for node in nodes)
    items = [node for _, node in of_items(marks)]
    assert found.items_need_restart == any(node.get("x-restart-required") is True for node in items)
    assert found.declared == {name for node in nodes for name in node.get("properties", {})}


def test_a_schema_that_refers_to_itself_has_few_nodes_however_deep_documents_are():
    """Or each document would add nodes that stay as long as the schema."""
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": {"additionalProperties": {"$ref": "#/$defs/tree"}}}}
    tree = schema_tree.compile_tree([schema])
    assert schema_tree.node_at(tree, "/a/b/c") is schema_tree.node_at(tree, "/d" * 30)


def test_references_that_meet_themselves_twice_stay_few():
    """Both ways to a member lead to the same subschemas, which would double at every level."""
    member = {"$ref": "#/$defs/a"}
    schema = {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b", "properties": {"x": member}}, "b": {"properties": {"x": {**member}}}},
    }
    assert schema_tree.node_at(schema_tree.compile_tree([schema]), "/x" * 200).declared == {"x"}


def test_a_tree_is_freed_without_a_look_for_cycles():
    """The collector does not look at the configurations of a large home: a tree of every load would stay for ever."""
    items, others = {"items": {"type": "string"}}, {"properties": {"b": {}}}
    schema: Any = {"properties": {"a": items}, "additionalProperties": others}
    gc.disable()
    try:
        root = schema_tree.compile_tree([schema])
        assert schema_tree.secrets(root, {"a": ["x"], "c": {"b": "y"}}) == {}
        nodes = [weakref.ref(node) for node in (root, root.member("a")[0].item(), root.child("c").member("b")[0])]
        assert all(node() is not None for node in nodes)
        del root
        assert [node() for node in nodes] == [None] * 3
    finally:
        gc.enable()
