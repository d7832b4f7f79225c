"""JSON values as plain Python objects: decode, encode, compare.

A JSON value is a ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` or ``None``.
"""

import operator
import re
from typing import TypeAlias, overload

import msgspec

from aliciacfg.documents import json_syntax
from aliciacfg.errors import InvalidRequest, TooLarge

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]

MAX_DEPTH = 32
# Room for what surrounds a configuration in a body: two envelopes, the request, and a list of updates.
_WRAPPING_DEPTH = 8
_TOO_DEEP = f"The body nests too deeply; a configuration has at most {MAX_DEPTH} levels."
# A double cannot represent every integer above this (RFC 8259 §6).
_MAX_EXACT_INTEGER = 2**53

# A batch of 4 MiB could hold a million arrays, which take a second to make.
MAX_VALUES = 300_000
_UNCHANGED = frozenset((str, int, bool))
_STRING = re.compile(rb'"[^"]*"')

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="sorted")


def decode(data: bytes) -> Json:
    """Decode JSON text (RFC 8259) that a client sent.

    Args:
        data: UTF-8 bytes. Of members with the same name, the last one counts.

    Raises:
        InvalidRequest: The bytes are not UTF-8 or not JSON, or contain NaN or infinity.
        TooLarge: The value has more levels than a configuration in two envelopes may have, or more values than
            ``MAX_VALUES``.
    """
    if _has_more_values_than(data, MAX_VALUES):
        raise TooLarge(f"The body has more than {MAX_VALUES} values; send it in parts.")
    try:
        value = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body {json_syntax.explain(data)}") from error
    except RecursionError as error:
        raise TooLarge(_TOO_DEEP) from error
    # Checked here once, so that later code can recurse into the value safely.
    if _deeper_than(value, MAX_DEPTH + _WRAPPING_DEPTH):
        raise TooLarge(_TOO_DEEP)
    return value


def _has_more_values_than(data: bytes, limit: int) -> bool:
    """Return whether JSON text has more keys and values than a limit; found without decoding it."""

    def marks(text: bytes) -> int:
        return sum(text.count(mark) for mark in (b",", b":", b"[", b"{"))

    if marks(data) <= limit:
        return False
    # Strings may hold any number of these marks. Without escaped quotes, every second quote ends a string.
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"")
    return plain.count(b'"') > 2 * limit or marks(_STRING.sub(b"", plain)) > limit


def decode_object(data: bytes) -> JsonObject:
    """Decode JSON text (RFC 8259) that has to be an object.

    Raises:
        InvalidRequest: As for ``decode``, or the value is not an object.
        TooLarge: As for ``decode``.
    """
    value = decode(data)
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body is not a JSON object: found {type_name(value)}.")
    return value


def _deeper_than(value: Json, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if limit <= 0:
        return True
    inner = value.values() if isinstance(value, dict) else value
    return any(_deeper_than(item, limit - 1) for item in inner if isinstance(item, dict | list))


def encode(value: object) -> bytes:
    """Encode a JSON value or a msgspec Struct as UTF-8 JSON without spaces."""
    return _encoder.encode(value)


def canonical(value: Json) -> bytes:
    """Encode a value with sorted keys and without spaces, so that equal documents have equal bytes."""
    return _canonical_encoder.encode(value)


def repacked(value: JsonObject) -> JsonObject:
    """Return an equal object in memory of its own.

    What a parser makes lies between what it needs meanwhile, and keeps that from going back to the system: 40 MB after
    a file with 10,000 services.
    """
    return _decoder.decode(_encoder.encode(value))


def equal(left: Json, right: Json) -> bool:
    """Return whether two values are equal as JSON: ``true`` is not ``1``, and the order of members does not count."""
    if left is right:
        return True
    if type(left) is type(right) and isinstance(left, str | int):
        return left == right
    return canonical(left) == canonical(right)


def type_name(value: Json) -> str:
    """Return the JSON type of a value; integers and other numbers are both ``number``."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"


@overload
def normalise(value: JsonObject) -> JsonObject: ...
@overload
def normalise(value: Json) -> Json: ...
def normalise(value: Json) -> Json:
    """Return a value in which integral floats are integers (``8080.0`` becomes ``8080``); it shares what has none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _MAX_EXACT_INTEGER else value
    if isinstance(value, dict):
        changed = {
            key: normal
            for key, member in value.items()
            if type(member) not in _UNCHANGED and (normal := normalise(member)) is not member
        }
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        items = [item if type(item) in _UNCHANGED else normalise(item) for item in value]
        return items if any(map(operator.is_not, items, value)) else value
    return value


def may_hold(value: Json, text: bytes) -> bool:
    """Return False only if no key or string of a value contains a text, in upper or lower case.

    It takes a microsecond, a tenth of a walk, since the encoder is faster than any loop.

    Args:
        value: The value.
        text: Lower case ASCII letters, digits, colons and asterisks, which no encoder escapes, and which are the lower
            case of no other characters.
    """
    try:
        return text in encode(value).lower()
    except (UnicodeEncodeError, RecursionError):
        return True
