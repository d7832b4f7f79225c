"""JSON Schemas of services: what is refused, what is found wrong, and what annotations say."""

from typing import Any

import jsonschema_rs
import pytest

from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from builders import valid_config
from support import ROOT, SERVICES

SECRET = "planted-secret-8f21"
VALID = valid_config(
    service_name="bell",
    version="1.0.0",
    environment="dev",
    mqtt_config={"username": "bell", "password": SECRET},
)


def settings(**properties: Any) -> dict[str, Any]:
    """A schema whose settings have these properties."""
    return {"type": "object", "properties": {"settings": {"type": "object", "properties": properties}}}


def document(**values: Any) -> dict[str, Any]:
    return {**VALID, "settings": values}


def compiled(schema: Any) -> ServiceSchema:
    return ServiceSchema(schema, title="bell")


def found(schema: Any) -> dict[str, str]:
    """What is wrong with a schema: message by pointer."""
    return {problem.pointer: problem.message for problem in schema_problems(schema, title="bell")}


def problems(schema: dict[str, Any], **values: Any) -> dict[str, str]:
    """What a schema finds wrong with settings: message by pointer."""
    return {problem.pointer: problem.message for problem in compiled(schema).problems(document(**values))}


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


EVERYTHING = settings(
    text={"type": "string", "minLength": 3, "maxLength": 5},
    pattern={"type": "string", "pattern": "^a+$"},
    count={"type": "integer", "minimum": 1, "maximum": 5},
    ratio={"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    even={"multipleOf": 2},
    items={"type": "array", "minItems": 2, "maxItems": 3},
    unique={"uniqueItems": True},
    contains={"contains": {"type": "string"}},
    members={"type": "object", "minProperties": 2, "maxProperties": 3},
    names={"propertyNames": {"maxLength": 2}},
    closed={"properties": {"a": {}}, "additionalProperties": False},
    evaluated={"properties": {"a": {}}, "unevaluatedProperties": False},
    required={"required": ["a/b", "c"]},
    dependent={"dependentRequired": {"a": ["b"]}},
    conditional={"if": {"required": ["a"]}, "then": {"required": ["b"]}},
    choice={"enum": ["x", None, True, 3]},
    constant={"const": "x"},
    never=False,
    address={"format": "ipv4"},
    any={"anyOf": [{"type": "string"}, {"type": "null"}]},
    one={"oneOf": [{"type": "string"}, {"type": "null"}]},
    both={"oneOf": [{"type": "integer"}, {"minimum": 0}]},
    negated={"not": {"type": "integer"}},
    first={"prefixItems": [{"type": "string"}]},
    rest={"prefixItems": [{}], "unevaluatedItems": False},
    tuple={"prefixItems": [{}], "items": False},
    union={"type": ["string", "array"]},
    deep={"items": {"properties": {"x/y": {"type": "integer"}}}},
)


@pytest.mark.parametrize(
    ("name", "value", "pointer", "expected"),
    [
        ("text", "ab", "", "at least 3"),
        ("text", "abcdef", "", "at most 5"),
        ("text", 7, "", "found 7; expected a string"),
        ("pattern", "b", "", "^a+$"),
        ("count", 0, "", "at least 1"),
        ("count", 6, "", "at most 5"),
        ("count", 1.5, "", "an integer"),
        ("count", True, "", "found true"),
        ("count", "x" * 500, "", "found 'xxx"),
        ("ratio", 0, "", "more than 0"),
        ("ratio", 1, "", "less than 1"),
        ("even", 3, "", "multiple of 2"),
        ("items", [1], "", "at least 2 items"),
        ("items", [1, 2, 3, 4], "", "at most 3 items"),
        ("items", {}, "", "found an object; expected an array"),
        # A password one level too high is no secret by its place; it is not quoted all the same.
        ("items", "hunter2", "", "found a string; expected an array"),
        ("members", "hunter2", "", "found a string; expected an object"),
        ("unique", [1, 1], "", "all differ"),
        ("contains", [1], "", "contains"),
        ("members", {"a": 1}, "", "at least 2 members"),
        ("members", {"a": 1, "b": 2, "c": 3, "d": 4}, "", "at most 3 members"),
        ("names", {"long": 1}, "", "propertyNames"),
        ("closed", {"a": 1, "b/c": 2}, "/b~1c", "not a known member"),
        ("evaluated", {"a": 1, "b": 2}, "/b", "not a known member"),
        ("required", {"c": 1}, "/a~1b", "is missing"),
        ("dependent", {"a": 1}, "/b", "is missing"),
        ("conditional", {"a": 1}, "/b", "is missing"),
        ("choice", "y", "", "one of 'x', null, true, 3"),
        ("constant", "y", "", "expected 'x'"),
        ("never", 1, "", "must not be present"),
        ("address", "300.1.1.1", "", "ipv4"),
        ("any", 1, "", "anyOf"),
        ("one", 1, "", "oneOf"),
        ("both", 1, "", "exactly one"),
        ("negated", 1, "", "not"),
        ("first", [1], "/0", "a string"),
        ("rest", [1, 2], "", "unevaluatedItems"),
        ("tuple", [1, 2], "/1", "must not be present"),
        ("union", 1, "", "found 1; expected a string or an array"),
        ("deep", [{}, {"x/y": "z"}], "/1/x~1y", "an integer"),
    ],
)
def test_each_keyword_is_told_in_our_own_words(name: str, value: object, pointer: str, expected: str):
    """One problem, at the place itself (a missing or unknown member's own), that says what was expected."""
    ((place, message),) = problems(EVERYTHING, **{name: value}).items()
    assert place == f"/settings/{name}{pointer}"
    assert expected in message
    assert len(message) < 200


def test_a_refusal_lists_all_problems_of_both_schemas():
    """The base contract's and the service's own, in the order of their places, each once."""
    schema = compiled(
        {
            "required": ["settings", "service_name"],
            "properties": {
                "mqtt_config": {
                    "required": ["password"],
                    "properties": {"port": {"type": "integer", "maximum": 65535}},
                },
                "settings": {"required": ["a", "b"], "properties": {"c": {"type": "integer"}}},
            },
        },
    )
    broken = {"version": 1, "environment": "dev", "mqtt_config": {"port": 70000}, "settings": {"c": "x"}}
    assert [problem.pointer for problem in schema.problems(broken)] == [
        "/api_config",
        "/mqtt_config/host",
        "/mqtt_config/password",
        "/mqtt_config/port",
        "/mqtt_config/username",
        "/service_name",
        "/settings/a",
        "/settings/b",
        "/settings/c",
        "/version",
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"minLength": 100}, {"maxLength": 2}, {"pattern": "^x$"}, {"enum": ["a"]}, {"const": "a"}, {"format": "ipv4"},
        {"not": {"type": "string"}}, {"anyOf": [{"maxLength": 1}, {"const": "b"}]}, {"oneOf": [{}, {}]},
        {"if": True, "then": {"maxLength": 1}}, {"allOf": [{"maxLength": 1}]},
    ],
)  # fmt: skip
def test_no_problem_quotes_a_secret(rule: dict[str, Any]):
    """Whatever keyword a secret breaks, by its mark or by its name, the text says only that it is a secret."""
    schema = settings(
        marked={"type": "string", "x-sensitive": True, **rule},
        api_key=rule,
        hidden={"type": "string", "writeOnly": True, **rule},
        tokens={"items": rule, "additionalProperties": rule},
    )
    values = {"marked": SECRET, "api_key": SECRET, "hidden": SECRET, "tokens": [SECRET, {"a": SECRET}]}
    told = problems(schema, **values)
    assert {"/settings/marked", "/settings/api_key", "/settings/hidden", "/settings/tokens/0"} <= told.keys()
    assert SECRET not in str(told)
    assert problems(settings(plain=rule), plain="public-value")["/settings/plain"].startswith("found 'public-value'")


@pytest.mark.parametrize("rule", [{"type": "integer"}, {"type": "null"}, False, {"maxProperties": 0}, {"maxItems": 0}])
@pytest.mark.parametrize("value", [{"password": SECRET}, [{"token": SECRET}], {"a": [{"b_key": SECRET}]}])
def test_no_problem_quotes_what_holds_a_secret(rule: Any, value: object):
    """A whole object or array that should not be there is not printed either."""
    assert SECRET not in str(problems(settings(a=rule), a=value))


@pytest.mark.parametrize("password", [31415926, 3.1415926])
def test_no_problem_quotes_what_stands_in_the_place_of_a_secret(password: object):
    """A password of digits that somebody forgot to quote is no string, and a secret all the same."""
    broken = {**VALID, "mqtt_config": {"host": "h", "port": 1, "username": "u", "password": password}}
    (problem,) = compiled(None).problems(broken)
    assert problem.pointer == "/mqtt_config/password"
    assert str(password).lower() not in problem.message


def test_each_unknown_member_of_a_closed_object_is_a_problem_of_its_own():
    """With its own pointer, as one alone has."""
    assert set(problems(EVERYTHING, closed={"b": 1, "c/d": 2})) == {"/settings/closed/b", "/settings/closed/c~1d"}


def secrets(schema: dict[str, Any] | None, **values: Any) -> set[str]:
    """The pointers of secrets below settings."""
    found = compiled(schema).secrets(document(**values))
    assert found.pop("/mqtt_config/password") == SECRET
    return {pointer.removeprefix("/settings") for pointer in found}


@pytest.mark.parametrize("name", ["password", "Secret", "apikey", "KEYS", "token_path", "my-PassWord-2", "monkey"])
def test_where_the_schema_is_silent_names_decide(name: str):
    """password, secret, key and token, whatever the case and wherever in the name."""
    assert secrets(None, **{name: "x"}) == {f"/{name}"}
    assert secrets(settings(**{name: {"type": "string"}}), **{name: "x"}) == {f"/{name}"}


def test_names_count_at_any_depth_and_only_for_strings():
    """Everything below such a name is secret, in arrays too; numbers, booleans and null never are."""
    values = {
        "tokens": [{"inner": "a", "size": 5}, "b", ["c"], 4000, True, None],
        "max_tokens": 4000,
        "list": [{"api_key": "d", "name": "plain"}],
        "plain": {"deep": "e"},
        "a/b_secret": {"~": "f"},
    }
    expected = {"/tokens/0/inner", "/tokens/1", "/tokens/2/0", "/list/0/api_key", "/a~1b_secret/~0"}
    assert secrets(None, **values) == expected


def test_the_schema_decides_where_it_says_something():
    """A mark makes a plain name secret, its absence by false makes a suspicious name plain."""
    schema = settings(
        plain={"type": "string", "x-sensitive": True},
        hidden={"type": "string", "writeOnly": True},
        shown={"type": "string", "writeOnly": False},
        encryption_key_path={"type": "string", "x-sensitive": False},
        api_key={"type": "string", "x-sensitive": True},
    )
    values = dict.fromkeys(("plain", "hidden", "shown", "encryption_key_path", "api_key", "other_key"), "x")
    assert secrets(schema, **values) == {"/plain", "/hidden", "/api_key", "/other_key"}


def test_marks_count_in_items_additional_properties_and_references():
    """At any depth, through a chain of local references with siblings, and through a reference to itself."""
    schema = settings(
        list={"items": {"type": "string", "x-sensitive": True}},
        table={"items": {"properties": {"pin": {"type": "string", "x-sensitive": True}}}},
        map={"properties": {"known": {}}, "additionalProperties": {"type": "string", "x-sensitive": True}},
        chain={"$ref": "#/$defs/first"},
        beside={"$ref": "#/$defs/text", "x-sensitive": True},
        tree={"$ref": "#/$defs/node"},
    ) | {
        "$defs": {
            "first": {"$ref": "#/$defs/second", "description": "beside a reference"},
            "second": {"$ref": "#/$defs/with~1slash"},
            "with/slash": {"type": "string", "x-sensitive": True},
            "text": {"type": "string"},
            "node": {
                "properties": {
                    "pin": {"type": "string", "x-sensitive": True},
                    "name": {"type": "string"},
                    "children": {"items": {"$ref": "#/$defs/node"}},
                }
            },
        }
    }
    assert found(schema) == {}
    values = {
        "list": ["a", "b"],
        "table": [{"pin": "c", "name": "n"}],
        "map": {"known": "n", "other": "d"},
        "chain": "e",
        "beside": "f",
        "tree": {"pin": "g", "name": "n", "children": [{"children": [{"pin": "h", "name": "n"}]}]},
    }
    assert secrets(schema, **values) == {
        "/list/0",
        "/list/1",
        "/table/0/pin",
        "/map/other",
        "/chain",
        "/beside",
        "/tree/pin",
        "/tree/children/0/children/0/pin",
    }


def test_a_service_cannot_unmark_a_secret_of_the_contract():
    """Where the two schemas differ, sensitive wins."""
    unmarked = {"type": "string", "x-sensitive": False}
    schema = {"properties": {"mqtt_config": {"properties": {"password": unmarked}}}}
    assert found(schema) == {}
    assert compiled(schema).secrets(VALID) == {"/mqtt_config/password": SECRET}


@pytest.mark.parametrize("rule", [{"type": "integer", "writeOnly": True}, {"$ref": "#/$defs/n", "x-sensitive": True}])
def test_no_mark_is_taken_that_cannot_apply(rule: dict[str, Any]):
    """A number marked secret would be stored and shown in the open."""
    assert found({"$defs": {"n": {"type": "integer"}}, **settings(pin=rule)}) != {}


def test_restart_required_picks_the_marked_among_changed_places():
    """Through references and additionalProperties, whether the document has the place or not."""
    schema = compiled(
        settings(
            hard={"type": "string", "x-restart-required": True},
            soft={"type": "string"},
            false={"x-restart-required": False},
            refers={"$ref": "#/$defs/hard"},
            map={"additionalProperties": {"x-restart-required": True}},
            **{"a/b": {"x-restart-required": True}},
        )
        | {"$defs": {"hard": {"x-restart-required": True}}},
    )
    marked = ["/settings/hard", "/settings/refers", "/settings/map/any", "/settings/a~1b"]
    others = ["/settings/soft", "/settings/false", "/settings/unknown", "/settings", "/limits/x", ""]
    assert schema.restart_required([*marked, *others]) == marked


@pytest.mark.parametrize("pointer", ["/settings/group/a", "/settings/group/unknown", "/settings/list"])
def test_restart_required_of_a_whole_covers_its_parts(pointer: str):
    """A mark on an object means everything in it; one on the items of an array means the array, which is a leaf."""
    schema = settings(
        group={"type": "object", "x-restart-required": True, "properties": {"a": {"type": "integer"}}},
        list={"items": {"type": "string", "x-restart-required": True}},
    )
    assert found(schema) == {}
    assert compiled(schema).restart_required([pointer]) == [pointer]


def test_members_that_no_schema_describes_are_listed_for_warnings():
    """The outermost only, in closed and open objects alike; where any name is described none is unknown."""
    schema = settings(
        known={"type": "object", "properties": {"a": {}}},
        map={"type": "object", "additionalProperties": {"type": "integer"}},
        list={"items": {"properties": {"a": {}}}},
        anything={"type": "object"},
    )
    values = {
        "known": {"a": {"free": 1}, "tpyo": {"inner": 1}},
        "map": {"x": 1},
        "list": [{"a": 1, "b": 2}],
        "anything": {"goes": 1},
        "nwe": {"whole": {"tree": 1}},
    }
    surprised = {**document(**values), "extra": 1, "features": {"f": True}, "limits": {"l": 1}}
    assert sorted(compiled(schema).unknown(surprised)) == [
        "/extra",
        "/settings/known/tpyo",
        "/settings/list/0/b",
        "/settings/nwe",
    ]


def test_without_a_schema_of_its_own_a_service_is_not_warned_about_its_settings():
    """Nothing describes them, so nothing in them is unexpected; a typing error in the contract's part is."""
    base = compiled(None)
    mistyped = {"host": "h", "port": 1, "username": "u", "password": "p", "tls": True}
    assert base.unknown({**VALID, "mqtt_config": mistyped}) == ["/mqtt_config/tls"]
    assert "/settings/a" not in base.unknown(document(a={"b": 1}))


def test_defaults_come_from_every_depth_and_the_service_beats_the_contract():
    """Nested properties, references with siblings, false and zero and empty values; none where nothing says so."""
    schema = settings(
        count={"type": "integer", "default": 0},
        flag={"type": "boolean", "default": False},
        text={"type": "string", "default": ""},
        list={"type": "array", "default": []},
        group={"type": "object", "properties": {"deep": {"properties": {"a": {"default": 1}}}, "no_default": {}}},
        whole={"type": "object", "default": {"x": 1}, "properties": {"y": {"default": 2}}},
        refers={"$ref": "#/$defs/port"},
        overrides={"$ref": "#/$defs/port", "default": 9},
        tree={"$ref": "#/$defs/node"},
        ratio={"type": "number", "default": 1.0},
        empty={"type": "object", "properties": {"z": {"type": "string"}}},
    )
    schema["properties"]["mqtt_config"] = {"properties": {"keepalive": {"default": 30}}}
    schema["$defs"] = {
        "port": {"type": "integer", "default": 1},
        "node": {"properties": {"weight": {"default": 5}, "child": {"$ref": "#/$defs/node"}}},
    }
    assert found(schema) == {}
    assert compiled(schema).defaults == {
        "mqtt_config": {"tls_enabled": False, "keepalive": 30},
        "features": {},
        "limits": {},
        "settings": {
            "count": 0,
            "flag": False,
            "text": "",
            "list": [],
            "group": {"deep": {"a": 1}},
            "whole": {"x": 1},
            "refers": 1,
            "overrides": 9,
            "tree": {"weight": 5},
            "ratio": 1,
        },
    }


def test_defaults_are_integers_where_documents_would_have_integers():
    """1.0 in a schema and 1 in a configuration are no difference that a write would have to keep."""
    defaults = compiled(settings(ratio={"type": "number", "default": 1.0})).defaults
    assert isinstance(defaults["settings"], dict)
    assert isinstance(defaults["settings"]["ratio"], int)


@pytest.mark.parametrize(
    "rule",
    [{"anyOf": [{"required": ["host"]}, {"required": ["socket"]}]}, {"minProperties": 2}],
)
def test_defaults_need_not_be_a_whole_configuration(rule: dict[str, Any]):
    """What people still have to fill in is no fault of the defaults beside it."""
    schema = settings(retries={"type": "integer", "default": 3}, host={"type": "string"}, socket={"type": "string"})
    schema["properties"]["settings"] |= rule
    assert found(schema) == {}


@pytest.mark.parametrize("reference", ["#/$defs/a~2b", "#/$defs/~"])
def test_a_malformed_reference_is_a_problem_like_another(reference: str):
    """It is told where it stands, and does not end the loading of all files."""
    assert list(found(settings(a={"$ref": reference}))) == ["/properties/settings/properties/a/$ref"]


def test_the_given_schema_validates_as_a_whole():
    """Base contract and own schema in one allOf: each part's #/$defs means its own, and both count."""
    schema = compiled(
        settings(address={"$ref": "#/$defs/MqttConfig"})
        | {"$defs": {"MqttConfig": {"type": "string", "minLength": 2}}},
    )
    whole = jsonschema_rs.Draft202012Validator(schema.document, offline=True)
    assert whole.is_valid(document(address="ab"))
    assert not whole.is_valid(document(address="a"))
    assert not whole.is_valid({**document(address="ab"), "mqtt_config": "ab"})
    assert not whole.is_valid({"settings": {"address": "ab"}})


@pytest.mark.parametrize("service", SERVICES)
def test_the_given_schema_of_every_shipped_service_compiles(service: str):
    """As anybody would compile it who asks for it, and it refuses an empty document."""
    from aliciacfg.documents.yaml_reader import load

    own = load((ROOT / "schemas" / f"{service}.yaml").read_text(), file=service).value
    assert schema_problems(own, title=service) == []
    assert isinstance(own, dict)
    whole = jsonschema_rs.Draft202012Validator(ServiceSchema(own, title=service).document, offline=True)
    assert not whole.is_valid({})
