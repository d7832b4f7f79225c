"""The annotation ``x-home-assistant``: which settings appear in Home Assistant, and how.

    x-home-assistant: true
    x-home-assistant: {name: Wake word, icon: "mdi:microphone", unit: s, step: 0.5, read_only: true}

``false`` leaves a feature flag out where all of them appear. A secret, an address, a port and a user name never appear,
even if a schema says otherwise, because every user of the home's dashboard would see them.
"""

import math
import re
from collections.abc import Sequence

import msgspec

from aliciacfg.documents import Json, JsonObject, type_name

HOME_ASSISTANT = "x-home-assistant"

_FIELDS = "name, icon, unit, step and read_only"
# As Home Assistant wants it: the name of a set of icons, and one of its icons.
_ICON = re.compile(r"[a-z0-9_-]+:[a-z0-9_-]+")
_MAX_TEXT = 64
# The smallest step that Home Assistant takes.
MIN_STEP = 0.001
# Where the base contract has the addresses of broker and API.
_ADDRESSES = frozenset({"mqtt_config", "api_config"})
_ADDRESS_NAME = re.compile(
    r"(?:^|[_.-])(?:host|hosts|hostname|port|ports|url|urls|uri|address|addresses|ip|endpoint|user|username)(?:$|[_.-])",
    re.IGNORECASE,
)
_SHOWN_TYPES = ("boolean", "integer", "number", "string")


class EntityMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a schema says of a setting in Home Assistant.

    Attributes:
        name: Its name there; None for one that is made of the key.
        icon: Such as ``mdi:microphone``.
        unit: The unit of a number; None for the one that the key's name ends with.
        step: The step of a number; None for one that fits its range.
        read_only: Whether it is shown and cannot be changed.
        shown: Whether it appears at all.
    """

    name: str | None = None
    icon: str | None = None
    unit: str | None = None
    step: float | None = None
    read_only: bool = False
    shown: bool = True


SHOWN = EntityMark()
_HIDDEN = EntityMark(shown=False)


def parse_mark(value: Json) -> EntityMark | None:
    """Return the mark that an annotation makes; None for one that ``mark_problem`` has something against."""
    if isinstance(value, bool):
        return SHOWN if value else _HIDDEN
    if not isinstance(value, dict) or "shown" in value:
        return None
    try:
        return msgspec.convert(value, EntityMark)
    except msgspec.ValidationError:
        return None


def mark_problem(value: Json) -> str | None:
    """Return why an annotation is not a mark, or None."""
    if not isinstance(value, bool | dict):
        return f"found {type_name(value)}; expected true, false or an object with {_FIELDS}"
    mark = parse_mark(value)
    if mark is None:
        return f"expected true, false or an object with {_FIELDS}: texts, step a number, read_only true or false"
    for field, text in (("name", mark.name), ("unit", mark.unit)):
        if text is not None and not (0 < len(text.strip()) <= _MAX_TEXT and text.isprintable()):
            return f"expected {field} to be 1 to {_MAX_TEXT} printable characters"
    if mark.icon is not None and _ICON.fullmatch(mark.icon) is None:
        return "expected icon to be an icon of Home Assistant, such as mdi:microphone"
    if mark.step is not None and not (math.isfinite(mark.step) and mark.step >= MIN_STEP):
        return f"expected step to be a number of at least {MIN_STEP}, the smallest that Home Assistant takes"
    return None


def type_problem(schemas: Sequence[JsonObject]) -> str | None:
    """Return why a place that some subschemas describe cannot appear, or None."""
    said = [schema["type"] for schema in schemas if "type" in schema]
    types = [kind for kinds in said for kind in (kinds if isinstance(kinds, list) else [kinds])]
    if any(kind in _SHOWN_TYPES for kind in types) or (not types and any("enum" in schema for schema in schemas)):
        return None
    return "only a boolean, a number or a string can appear in Home Assistant; put the annotation beside its type"


def is_address(tokens: Sequence[str]) -> bool:
    """Return whether the names on the way to a place say that it is an address, a port or a user's name."""
    return bool(tokens) and (tokens[0] in _ADDRESSES or _ADDRESS_NAME.search(tokens[-1]) is not None)
