"""The document that an edit of a YAML file has to result in, computed on values apart from the text."""

import math
from collections.abc import Sequence

from aliciacfg.documents.values import MAX_DEPTH, Json
from aliciacfg.documents.yaml_reader import fits
from aliciacfg.documents.yaml_syntax import SURROGATE, TOO_DEEP

HALF_A_PAIR = "found half a surrogate pair; expected text that UTF-8 can encode"


def value_at(value: Json, tokens: Sequence[str]) -> Json:
    """Return the value at tokens that are known to lead to one."""
    for token in tokens:
        if isinstance(value, list):
            value = value[int(token)]
        elif isinstance(value, dict):
            value = value[token]
    return value


def with_value(document: Json, tokens: Sequence[str], value: Json) -> Json:
    """Return a copy of a document with a value set; a mapping on the way that is missing or null is added.

    Raises:
        TypeError: A scalar is in the way.
    """
    if not tokens:
        return value
    token, *rest = tokens
    match document:
        case list():
            index = int(token)
            return [*document[:index], with_value(document[index], rest, value), *document[index + 1 :]]
        case dict():
            return {**document, token: with_value(document.get(token), rest, value)}
        case None:
            return {token: with_value(None, rest, value)}
        case _:
            raise TypeError("a scalar has no members")


def without_child(container: Json, token: str) -> Json:
    """Return a copy of an object without a member, or of an array without an item.

    Raises:
        TypeError: It is neither.
    """
    match container:
        case list():
            return [*container[: int(token)], *container[int(token) + 1 :]]
        case dict():
            return {key: member for key, member in container.items() if key != token}
        case _:
            raise TypeError("a scalar has no members")


def escape_variables(value: Json, level: int) -> Json:
    """Return a copy of a value in whose strings ``${`` is escaped.

    Args:
        value: The value.
        level: Its level in the document; the document itself is level 1.

    Raises:
        ValueError: A YAML file cannot hold the value. The message says why and does not contain the value.
    """
    if isinstance(value, dict | list) and level > MAX_DEPTH:
        raise ValueError(TOO_DEEP)
    if isinstance(value, dict):
        return {_encodable(key): escape_variables(member, level + 1) for key, member in value.items()}
    if isinstance(value, list):
        return [escape_variables(item, level + 1) for item in value]
    if isinstance(value, str):
        return _encodable(value).replace("${", "$${")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("found NaN or infinity; expected a number")
    if isinstance(value, int) and not fits(value):
        raise ValueError("found an integer beyond 64 bits; write it as a string")
    return value


def _encodable(text: str) -> str:
    if SURROGATE.search(text):
        raise ValueError(HALF_A_PAIR)
    return text
