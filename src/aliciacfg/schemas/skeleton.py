"""A schema to begin with, for a service whose settings are known."""

import re
from collections.abc import Collection, Mapping

from aliciacfg.documents import Json, JsonObject, escape, yaml_writer
from aliciacfg.model.variables import takes_over

_HEAD = """\
# Describes the configuration of {service} in JSON Schema 2020-12. Narrow what is accepted (minimum, maximum, enum,
# pattern), give defaults, and say in "description" what a value does. `aliciacfg check` finds mistakes.
# "number" accepts 21 and 21.5; where only whole numbers are meant, write "integer".
"""
_LESSON = """\
      # Further settings, for example:
      # poll_seconds:
      #   type: integer
      #   minimum: 1
      #   default: 30
      #   description: How often the sensor is asked.
      #   x-env: POLL_SECONDS           (the variable in which `aliciacfg exec` hands it to a program)
      #   x-restart-required: true      (the program reads it only when it starts)
      #   x-home-assistant: true        (it appears in Home Assistant, if that is turned on)
      # api_key:
      #   type: string
      #   x-sensitive: true             (a secret: sealed where it is stored, shown as ***)
"""
# Something has to stand where the lesson does.
_FIRST: JsonObject = {"log_level": "info"}
_TYPES: dict[type, str] = {
    bool: "boolean",
    # 21 may be 21.5 tomorrow.
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_NAME = re.compile(r"[^A-Za-z0-9]+")


def schema_skeleton(
    service: str,
    settings: JsonObject,
    *,
    secrets: Collection[str] = (),
    variables: Mapping[str, str] | None = None,
    prefix: str = "",
    teach: bool = False,
) -> str:
    """Return the text of a schema file that accepts settings, with the types that they have.

    Args:
        service: The service.
        settings: Its settings.
        secrets: JSON Pointers, in the settings, of the strings that are secrets.
        variables: Environment variables by JSON Pointer in the settings; made of the names where one is left out.
        prefix: How the variables begin that are made of names.
        teach: Say in comments how to describe further settings.
    """
    properties = _properties(settings or _FIRST, "", secrets, variables or {}, prefix)
    schema: JsonObject = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": service,
        "version": "1.0.0",
        "type": "object",
        "properties": {"settings": {"type": "object", "properties": properties}},
    }
    return _HEAD.format(service=service) + yaml_writer.dump(schema) + (_LESSON if teach else "")


def _properties(
    settings: JsonObject, pointer: str, secrets: Collection[str], variables: Mapping[str, str], prefix: str
) -> JsonObject:
    found: JsonObject = {}
    for name, value in settings.items():
        place = f"{pointer}/{escape(name)}"
        node: JsonObject = {"type": _TYPES.get(type(value), "string")}
        if isinstance(value, dict):
            node["properties"] = _properties(value, place, secrets, variables, prefix)
        else:
            variable = variables.get(place) or prefix + _variable(place)
            if _VARIABLE.fullmatch(variable) and not takes_over(variable):
                node["x-env"] = variable
        if place in secrets:
            node["x-sensitive"] = True
        found[name] = node
    return found


def _variable(pointer: str) -> str:
    return _NO_NAME.sub("_", pointer.strip("/")).upper()


def type_of(value: Json) -> str:
    """Return the name of a value's type in JSON Schema."""
    return "null" if value is None else _TYPES[type(value)]
