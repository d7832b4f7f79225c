"""JSON Schemas of services: secrets, restarts, defaults and what no schema describes."""

from typing import Any

import jsonschema_rs
import pytest

from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from repository import ROOT, SERVICES
from service_schemas import SECRET, VALID, compiled, document, found, settings


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


@pytest.mark.parametrize(
    "pointer", ["/settings/group/a", "/settings/group/unknown", "/settings/list", "/settings/referring"]
)
def test_restart_required_of_a_whole_covers_its_parts(pointer: str):
    """A mark on an object means everything in it; one on the items of an array means the array, which is a leaf."""
    schema = settings(
        group={"type": "object", "x-restart-required": True, "properties": {"a": {"type": "integer"}}},
        list={"items": {"type": "string", "x-restart-required": True}},
        referring={"items": {"$ref": "#/$defs/item"}},
    ) | {"$defs": {"item": {"type": "string", "x-restart-required": True}}}
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
    """Its place is reported, and it does not end the loading of all files."""
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
