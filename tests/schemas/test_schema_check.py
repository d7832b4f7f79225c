"""What is wrong with a schema of a service, before anything is validated with it."""

from typing import Any

import pytest

from service_schemas import compiled, found, settings

ANNOTATED = {"type": "string", "x-sensitive": True}


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"allOf": [{"properties": {"a": ANNOTATED}}]}, "/allOf/0/properties/a/x-sensitive"),
        ({"if": {"properties": {"a": ANNOTATED}}}, "/if/properties/a/x-sensitive"),
        ({"then": {"properties": {"a": {"x-restart-required": True}}}}, "/then/properties/a/x-restart-required"),
        ({"else": {"x-env": "A"}}, "/else/x-env"),
        ({"not": {"writeOnly": True}}, "/not/writeOnly"),
        (settings(a={"anyOf": [ANNOTATED, {"type": "null"}]}), "/properties/settings/properties/a/anyOf/0/x-sensitive"),
        (settings(a={"oneOf": [ANNOTATED]}), "/properties/settings/properties/a/oneOf/0/x-sensitive"),
        (settings(a={"prefixItems": [ANNOTATED]}), "/properties/settings/properties/a/prefixItems/0/x-sensitive"),
        (settings(a={"contains": ANNOTATED}), "/properties/settings/properties/a/contains/x-sensitive"),
        ({"patternProperties": {"^a/": ANNOTATED}}, "/patternProperties/^a~1/x-sensitive"),
        ({"dependentSchemas": {"a": {"properties": {"b": ANNOTATED}}}}, "/dependentSchemas/a/properties/b/x-sensitive"),
        ({"unevaluatedProperties": ANNOTATED}, "/unevaluatedProperties/x-sensitive"),
        ({"propertyNames": {"items": ANNOTATED}}, "/propertyNames/items/x-sensitive"),
    ],
)
def test_annotations_that_would_silently_not_apply_are_refused(schema: dict[str, Any], pointer: str):
    """Below allOf, if, anyOf and the like a mark would leave a secret in the open, so it is refused where it is."""
    assert list(found(schema)) == [pointer]


@pytest.mark.parametrize(
    "definition",
    [
        ANNOTATED,
        {"type": "object", "properties": {"b": ANNOTATED}},
        {"type": "array", "items": {"properties": {"b": {"x-env": "B"}}}},
        {"$ref": "#/$defs/further"},
        {"properties": {"b": {"$ref": "#/$defs/further"}}},
    ],
)
def test_a_reference_cannot_carry_annotations_where_they_do_not_count(definition: dict[str, Any]):
    """From allOf the $ref is refused wherever the annotation is behind it; from properties the same $ref is fine."""
    definitions = {"marked": definition, "further": {"$ref": "#/$defs/last"}, "last": ANNOTATED}
    reference = {"$ref": "#/$defs/marked"}
    assert list(found({"$defs": definitions, "allOf": [reference]})) == ["/allOf/0/$ref"]
    assert found({"$defs": definitions, **settings(a=reference)}) == {}


def test_a_recursive_reference_without_annotations_may_stand_anywhere():
    """The search for annotations behind it ends."""
    node = {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}
    assert found({"$defs": {"node": node}, "allOf": [{"$ref": "#/$defs/node"}], "anyOf": [{"$ref": "#"}]}) == {}


@pytest.mark.parametrize(
    "reference",
    [
        "http://example.com/s.json",
        "file:///etc/passwd",
        "other.json#/a",
        "#anchor",
        "#/$defs/missing",
        "$defs/a",
        "",
        5,
    ],
)
def test_only_local_references_that_lead_somewhere_are_taken(reference: object):
    """Nothing is fetched, and no reference dangles."""
    schema = settings(a={"$ref": reference}) | {"$defs": {"a": {"type": "string", "$anchor": "anchor"}}}
    assert list(found(schema)) == ["/properties/settings/properties/a/$ref"]


@pytest.mark.parametrize("keyword", ["$dynamicRef", "$recursiveRef"])
def test_references_that_depend_on_the_way_are_not_supported(keyword: str):
    """Whether annotations count behind them could not be said."""
    assert list(found(settings(a={keyword: "#/$defs/a"}))) == [f"/properties/settings/properties/a/{keyword}"]


def test_an_id_inside_a_schema_is_refused():
    """It would change what every $ref below it means."""
    assert list(found(settings(a={"$id": "urn:x"}))) == ["/properties/settings/properties/a/$id"]


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"type": "integer", "x-sensitive": True}, "x-sensitive"),
        ({"type": "object", "x-sensitive": False}, "x-sensitive"),
        ({"type": ["string", "null"], "x-sensitive": True}, "x-sensitive"),
        ({"x-sensitive": True}, "x-sensitive"),
        ({"type": "string", "x-sensitive": "yes"}, "x-sensitive"),
        ({"type": "string", "x-sensitive": None}, "x-sensitive"),
        ({"x-restart-required": 1}, "x-restart-required"),
        ({"writeOnly": "true"}, "writeOnly"),
        ({"x-env": ""}, "x-env"),
        ({"x-env": "1A"}, "x-env"),
        ({"x-env": "A-B"}, "x-env"),
        ({"x-env": "A=B"}, "x-env"),
        ({"x-env": True}, "x-env"),
        ({"x-env": "LD_PRELOAD"}, "x-env"),
        ({"x-env": "PATH"}, "x-env"),
        ({"x-env": "BASH_ENV"}, "x-env"),
    ],
)
def test_annotations_have_to_be_well_formed(annotations: dict[str, Any], name: str):
    """Only a string can be sensitive, flags are true or false, variables have names a shell takes."""
    assert list(found(settings(a=annotations))) == [f"/properties/settings/properties/a/{name}"]


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (settings(a={"type": "strin"}), "/properties/settings/properties/a/type"),
        ({"properties": []}, "/properties"),
        ({"required": "a"}, "/required"),
        (settings(a={"minimum": "1"}), "/properties/settings/properties/a/minimum"),
        (settings(a={"type": "string", "pattern": "("}), "/properties/settings/properties/a/pattern"),
        (settings(a={"enum": 1}), "/properties/settings/properties/a/enum"),
    ],
)
def test_what_the_meta_schema_refuses_is_told_where_it_is(schema: dict[str, Any], pointer: str):
    """A typing error in a keyword does not pass as a schema that allows everything."""
    ((place, message),) = found(schema).items()
    assert place == pointer
    assert "JSON Schema 2020-12" in message


@pytest.mark.parametrize("schema", [None, True, [], "x", 5])
def test_a_schema_is_an_object(schema: object):
    """The booleans that JSON Schema allows would describe nothing."""
    assert list(found(schema)) == [""]


@pytest.mark.parametrize("version", [1.0, 1, "1.0", "", None, "v1.0.0"])
def test_the_version_of_a_schema_is_semantic(version: object):
    """1.0 without quotes is a number in YAML; the message says to quote it."""
    ((pointer, message),) = found({"version": version}).items()
    assert pointer == "/version"
    assert "quotes" in message
    assert compiled({"version": "2.1.0"}).version == "2.1.0"
    assert compiled({}).version == compiled(None).version == "1.0.0"


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (settings(a={"type": "integer", "default": "x"}), "/settings/a"),
        (settings(a={"type": "integer", "minimum": 1, "default": 0}), "/settings/a"),
        (settings(a={"enum": ["b"], "default": "c"}), "/settings/a"),
        (settings(a={"type": "array", "items": {"type": "string"}, "default": ["x", 1]}), "/settings/a/1"),
        (settings(a={"$ref": "#/$defs/p"}) | {"$defs": {"p": {"type": "integer", "default": "x"}}}, "/settings/a"),
        ({"properties": {"mqtt_config": {"properties": {"port": {"default": 0}}}}}, "/mqtt_config/port"),
    ],
)
def test_a_default_that_its_own_schema_refuses_is_a_problem(schema: dict[str, Any], pointer: str):
    """Also one that only the base contract refuses; members that are merely missing are no fault of a default."""
    ((place, message),) = found({**schema, "required": ["settings", "other"]}).items()
    assert place == pointer
    assert message.startswith("the default is invalid")


def test_all_that_is_wrong_with_annotations_and_references_is_told_at_once():
    """Whoever corrects a schema sees the whole list."""
    schema = {
        **settings(a={"type": "integer", "x-sensitive": True}, b={"$ref": "http://x/"}, c={"x-env": "a b"}),
        "allOf": [{"properties": {"d": ANNOTATED}}],
        "version": "1",
    }
    assert len(found(schema)) == 5
