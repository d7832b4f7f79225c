"""Values of settings as states of Home Assistant, and its commands as values."""

import math
import re
from typing import TypeGuard

from aliciacfg.documents import Json
from aliciacfg.errors import InvalidRequest
from aliciacfg.home_assistant.entities import MAX_STATE_CHARACTERS, Entity, label

ON, OFF = "ON", "OFF"
PRESS = "PRESS"

MAX_COMMAND_BYTES = 4096
"""The largest payload of a command: Home Assistant sends one value."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?", re.ASCII)


def on_or_off(on: object) -> str:
    """Return the state of something that is on or off."""
    return ON if on else OFF


def to_state(entity: Entity, value: Json) -> Json:
    """Return what an entity shows for a value; None if Home Assistant cannot show it."""
    match entity.platform:
        case "switch" | "binary_sensor":
            return on_or_off(value) if isinstance(value, bool) else None
        case "select":
            return next((shown for shown, choice in entity.options if _same(choice, value)), None)
        case "number":
            # Outside of the range it would log an error at each message.
            return value if _is_number(value) and entity.minimum <= value <= entity.maximum else None
        case "sensor":
            if value == "None":
                # What a template writes for no value at all.
                return label(value)
            if isinstance(value, str):
                return value if len(value) <= MAX_STATE_CHARACTERS else value[: MAX_STATE_CHARACTERS - 1] + "…"
            return value if _is_number(value) else label(value)


def from_command(entity: Entity, payload: bytes) -> Json:
    """Return the value that a command sets.

    Raises:
        InvalidRequest: It is none that this entity has.
    """
    text = _text(payload)
    match entity.platform:
        case "switch":
            if text in {ON, OFF}:
                return text == ON
            raise InvalidRequest(f"{entity.name}: found {_shown(text)}; expected {ON} or {OFF}.")
        case "select":
            for shown, choice in entity.options:
                if shown == text:
                    return choice
            labels = ", ".join(shown for shown, _ in entity.options)
            raise InvalidRequest(f"{entity.name}: found {_shown(text)}; expected one of {labels}.")
        case "number":
            number = _number(text)
            if number is None or (entity.integer and number != math.floor(number)):
                kind = "a whole number" if entity.integer else "a number"
                raise InvalidRequest(f"{entity.name}: found {_shown(text)}; expected {kind}.")
            return int(number) if number == math.floor(number) else number
        case _:
            raise InvalidRequest(f"{entity.name} is read-only.")


def _text(payload: bytes) -> str:
    """Return the payload of a command as text.

    Raises:
        InvalidRequest: It is too large, or not UTF-8.
    """
    if len(payload) > MAX_COMMAND_BYTES:
        raise InvalidRequest(f"The command has {len(payload)} bytes; at most {MAX_COMMAND_BYTES} are allowed.")
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The command is not UTF-8.") from None


def _number(text: str) -> float | None:
    if _NUMBER.fullmatch(text) is None:
        return None
    # Home Assistant sends whole numbers without a point; as an integer it keeps all its digits.
    number = int(text) if text.lstrip("+-").isdigit() else float(text)
    return number if math.isfinite(number) else None


def _is_number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(choice: Json, value: Json) -> bool:
    """Return whether two scalars are the same in JSON, where ``true`` is not ``1``."""
    return isinstance(choice, bool) is isinstance(value, bool) and choice == value


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_STATE_CHARACTERS else text[:MAX_STATE_CHARACTERS] + "…")
