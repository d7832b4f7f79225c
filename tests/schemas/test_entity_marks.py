"""The annotation ``x-home-assistant``: what is wrong with one is told where it is."""

from typing import Any

import pytest

from aliciacfg.schemas.entity_marks import EntityMark, is_address, parse_mark
from service_schemas import document, found, problems, settings

BOOLEAN: dict[str, Any] = {"type": "boolean"}
PLACE = "/properties/settings/properties/x/x-home-assistant"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, EntityMark()),
        (False, EntityMark(shown=False)),
        ({}, EntityMark()),
        (
            {"name": "Wake word", "icon": "mdi:bell", "unit": "s", "step": 0.5, "read_only": True},
            EntityMark("Wake word", "mdi:bell", "s", 0.5, read_only=True),
        ),
    ],
)
def test_a_mark_is_read(value: Any, expected: EntityMark):
    """And a schema with it is fine."""
    assert parse_mark(value) == expected
    assert found(settings(x={**BOOLEAN, "x-home-assistant": value})) == {}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1, "expected true, false or an object"),
        ("Wake word", "expected true, false or an object"),
        ({"names": "x"}, "an object with name, icon, unit, step and read_only"),
        ({"shown": False}, "an object with name"),
        ({"step": "1"}, "step a number"),
        ({"name": ""}, "expected name to be 1 to 64"),
        ({"name": "a\nb"}, "expected name to be 1 to 64"),
        ({"unit": "x" * 65}, "expected unit to be 1 to 64"),
        ({"icon": "bell"}, "such as mdi:microphone"),
        ({"step": 0}, "at least 0.001"),
    ],
)
def test_a_malformed_mark_is_refused(value: Any, message: str):
    """With what is expected."""
    told = found(settings(x={**BOOLEAN, "x-home-assistant": value}))
    assert list(told) == [PLACE]
    assert message in told[PLACE]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (settings(api_key={"type": "string", "x-home-assistant": True}), "a secret never appears"),
        (settings(x={"type": "string", "x-sensitive": True, "x-home-assistant": True}), "a secret never appears"),
        (settings(x={"type": "string", "writeOnly": True, "x-home-assistant": True}), "a secret never appears"),
        (settings(base_url={"type": "string", "x-home-assistant": True}), "an address, a port or a user name"),
        (settings(port={"type": "integer", "x-home-assistant": True}), "an address, a port or a user name"),
        ({"properties": {"mqtt_config": {"properties": {"keepalive": {"type": "integer", "x-home-assistant": True}}}}},
         "an address, a port or a user name"),
        (settings(x={"type": "array", "x-home-assistant": True}), "only a boolean, a number or a string"),
        (settings(x={"x-home-assistant": True}), "only a boolean, a number or a string"),
        (settings(x={"type": "array", "items": {"type": "string", "x-home-assistant": True}}), "an item of an array"),
        ({"allOf": [settings(x={"type": "string", "x-home-assistant": True})]}, "an annotation applies only in"),
    ],
)  # fmt: skip
def test_what_must_not_appear_is_refused(schema: dict[str, Any], message: str):
    """Where the schema shows it; the rest is left out when a configuration is looked at."""
    (told,) = found(schema).values()
    assert message in told


def test_a_name_that_only_sounds_confidential_may_appear():
    """With the annotation that says so; numbers and flags never are secrets."""
    fine = settings(
        key_layout={"type": "string", "x-sensitive": False, "x-home-assistant": True},
        max_tokens={"type": "integer", "x-home-assistant": True},
        token_refresh={"type": "boolean", "x-home-assistant": True},
        items={"type": "boolean", "x-home-assistant": True},
        choice={"enum": [1, 2], "x-home-assistant": True},
    )
    assert found(fine) == {}
    assert (
        found({"$defs": {"flag": {**BOOLEAN, "x-home-assistant": True}}, **settings(x={"$ref": "#/$defs/flag"})}) == {}
    )


def test_a_mark_judges_no_value():
    """Nothing of it reaches the validation of a configuration."""
    assert problems(settings(x={"type": "integer", "x-home-assistant": {"step": 2}}), x=3) == {}
    assert document(x=3)["settings"] == {"x": 3}


@pytest.mark.parametrize("name", ["port", "http_port", "base_url", "host", "broker-host", "user", "ip", "Address"])
def test_names_of_addresses(name: str):
    """Also as a part of a name."""
    assert is_address(["settings", name])


@pytest.mark.parametrize("name", ["support", "portrait", "sip", "hostile", "users_online", "curl_timeout"])
def test_names_that_only_contain_such_a_word(name: str):
    """They are none."""
    assert not is_address(["settings", name])
