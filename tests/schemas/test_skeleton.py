"""A schema to begin with: it accepts what it was made of, and says what is secret."""

from typing import Any

import pytest

from aliciacfg.documents import find, yaml_reader
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.skeleton import schema_skeleton


def schema_of(text: str) -> dict[str, Any]:
    """The schema in a text, which has no problem."""
    schema = yaml_reader.load(text, file="schemas/bell.yaml").value
    assert isinstance(schema, dict)
    assert schema_problems(schema, title="bell") == []
    return schema


def test_each_setting_gets_its_type_and_variable():
    """Those of nested ones come from all names on the way."""
    settings = {"on": True, "count": 3, "share": 0.5, "room": "hall", "tags": ["a"], "tone": {"hertz": 440}}
    described = find(schema_of(schema_skeleton("bell", settings)), "/properties/settings/properties")
    assert described == {
        "on": {"type": "boolean", "x-env": "ON"},
        "count": {"type": "number", "x-env": "COUNT"},
        "share": {"type": "number", "x-env": "SHARE"},
        "room": {"type": "string", "x-env": "ROOM"},
        "tags": {"type": "array", "x-env": "TAGS"},
        "tone": {"type": "object", "properties": {"hertz": {"type": "number", "x-env": "TONE_HERTZ"}}},
    }


def test_secrets_are_marked_and_given_names_are_kept():
    """As a file of variables had them."""
    text = schema_skeleton("bell", {"url": "u", "a b": 1}, secrets=["/url"], variables={"/url": "DATABASE_URL"})
    described = find(schema_of(text), "/properties/settings/properties")
    assert described == {
        "url": {"type": "string", "x-env": "DATABASE_URL", "x-sensitive": True},
        "a b": {"type": "number", "x-env": "A_B"},
    }


@pytest.mark.parametrize("name", ["path", "ld_preload", "2nd"])
def test_a_variable_that_no_configuration_may_set_is_left_out(name: str):
    """Or that cannot be one."""
    described = find(schema_of(schema_skeleton("bell", {name: "x"})), "/properties/settings/properties")
    assert described == {name: {"type": "string"}}


def test_without_settings_there_is_one_to_learn_from():
    """And the comments are below it, where further ones go."""
    text = schema_skeleton("bell", {}, teach=True)
    described = find(schema_of(text), "/properties/settings/properties")
    assert isinstance(described, dict)
    assert list(described) == ["log_level"]
    assert text.endswith("shown as ***)\n")
