"""JSON documents: limits, RFC 6901 pointers, RFC 7396 merge patches, canonical bytes, differences.

Everything here is a pure function on plain JSON values (``dict``, ``list``, ``str``, ``int``, ``float``,
``bool``, ``None``). Nothing changes its arguments, and results may share structure with them.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast

import jsonpatch
import msgspec
from msgspec import UNSET, UnsetType

from aliciacfg.errors import InvalidRequest, Problem, TooLarge

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonObject: TypeAlias = dict[str, Json]
Bump = Literal["major", "minor", "patch"]

MAX_DEPTH = 32
# Two envelopes, the request, and a list of updates around a configuration.
_WRAPPING_DEPTH = 8
_TOO_DEEP = f"The body nests too deeply; a configuration has at most {MAX_DEPTH} levels."
_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)
# Beyond it a double no longer tells neighbouring integers apart (RFC 8259 §6).
_MAX_EXACT_INTEGER = 2**53
# RFC 6901 §4 has no leading zeros; no array here has more items than ten digits count.
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="sorted")


def decode(data: bytes) -> Json:
    """Decode JSON text (RFC 8259) sent by a requester.

    Args:
        data: UTF-8 bytes. Of duplicate keys the last wins.

    Raises:
        InvalidRequest: It is not JSON, holds NaN or infinity, or is not UTF-8.
        TooLarge: It nests deeper than any configuration in its envelopes may.
    """
    try:
        value = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"The body is not JSON: {error}. Send one JSON value encoded as UTF-8.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start} is invalid.") from error
    except RecursionError as error:
        raise TooLarge(_TOO_DEEP) from error
    # Whatever walks the value later may then recurse.
    if _deeper_than(value, MAX_DEPTH + _WRAPPING_DEPTH):
        raise TooLarge(_TOO_DEEP)
    return value


def _deeper_than(value: Json, limit: int) -> bool:
    if isinstance(value, dict):
        return limit <= 0 or any(_deeper_than(member, limit - 1) for member in value.values())
    if isinstance(value, list):
        return limit <= 0 or any(_deeper_than(item, limit - 1) for item in value)
    return False


def encode(value: object) -> bytes:
    """Encode a JSON value or a msgspec Struct as compact UTF-8 JSON."""
    return _encoder.encode(value)


def canonical(value: Json) -> bytes:
    """Encode with sorted keys and no spaces, so that equal documents have equal bytes."""
    return _canonical_encoder.encode(value)


def equal(left: Json, right: Json) -> bool:
    """JSON-typed equality: ``true`` is not ``1``, the order of members does not count."""
    return left is right or canonical(left) == canonical(right)


def type_name(value: Json) -> str:
    """The JSON type of a value; integers and other numbers are both ``number``."""
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


def escape(token: str) -> str:
    """Escape one reference token (RFC 6901 §3)."""
    return token.replace("~", "~0").replace("/", "~1")


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """Split a JSON Pointer into its unescaped reference tokens.

    Raises:
        InvalidRequest: It does not begin with ``/`` (the empty pointer is the whole document), or holds a
            ``~`` that is neither ``~0`` nor ``~1``.
    """
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise InvalidRequest(
            f"The pointer {pointer!r} does not begin with '/'; write for example /limits/max_sessions."
        )
    tokens: list[str] = []
    for raw in pointer[1:].split("/"):
        if "~" in raw.replace("~0", "").replace("~1", ""):
            raise InvalidRequest(f"The pointer {pointer!r} holds a '~' that is neither '~0' nor '~1'.")
        tokens.append(raw.replace("~1", "/").replace("~0", "~"))
    return tuple(tokens)


def format_pointer(tokens: tuple[str | int, ...] | list[str | int]) -> str:
    """Join reference tokens into a JSON Pointer."""
    return "".join(f"/{escape(str(token))}" for token in tokens)


def find(value: Json, pointer: str) -> Json | UnsetType:
    """The value at a pointer, or ``UNSET`` where there is none."""
    for token in parse_pointer(pointer):
        if isinstance(value, dict):
            if token not in value:
                return UNSET
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return UNSET
    return value


def has(value: Json, pointer: str) -> bool:
    """Whether there is a value at a pointer."""
    return not isinstance(find(value, pointer), UnsetType)


def walk_strings(value: Json, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(pointer, string)`` for every string value at any depth."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from walk_strings(member, f"{pointer}/{escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk_strings(item, f"{pointer}/{index}")


def replace_strings(value: Json, replacements: Mapping[str, str], pointer: str = "") -> Json:
    """A copy in which the string at each pointer of ``replacements`` is another one."""
    if isinstance(value, str):
        return replacements.get(pointer, value)
    if isinstance(value, dict):
        return {key: replace_strings(member, replacements, f"{pointer}/{escape(key)}") for key, member in value.items()}
    if isinstance(value, list):
        return [replace_strings(item, replacements, f"{pointer}/{index}") for index, item in enumerate(value)]
    return value


def normalise(value: Json) -> Json:
    """A copy in which integral floats are integers (``8080.0`` becomes ``8080``)."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT_INTEGER:
        return int(value)
    if isinstance(value, dict):
        return {key: normalise(member) for key, member in value.items()}
    if isinstance(value, list):
        return [normalise(item) for item in value]
    return value


def shape_problems(value: Json, pointer: str = "", depth: int = 1) -> Iterator[Problem]:
    """Yield what no configuration may hold: too many levels, ``null`` members, NaN, integers beyond 64 bits.

    Args:
        value: A value decoded from JSON or YAML.
        pointer: Where ``value`` stands in its document.
        depth: The level of ``value``; the document itself is level 1.
    """
    if depth > MAX_DEPTH:
        yield Problem(pointer, f"found level {depth}; at most {MAX_DEPTH} levels are allowed")
    elif isinstance(value, dict):
        for key, member in value.items():
            place = f"{pointer}/{escape(key)}"
            if member is None:
                yield Problem(place, "found null; leave the member out instead")
            else:
                yield from shape_problems(member, place, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from shape_problems(item, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(pointer, "found NaN or infinity; expected a finite number")
    elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        yield Problem(pointer, "found an integer beyond 64 bits; write it as a string")


def merge(target: Json, patch: Json) -> Json:
    """Apply a merge patch (RFC 7396 §2): objects merge, ``null`` removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result: JsonObject = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def difference(base: JsonObject, wanted: JsonObject) -> JsonObject:
    """The smallest merge patch that turns ``base`` into ``wanted``.

    ``wanted`` must hold no ``null`` members: RFC 7396 cannot express them.
    """
    patch: JsonObject = {key: None for key in base if key not in wanted}
    for key, value in wanted.items():
        if key not in base:
            patch[key] = value
            continue
        old = base[key]
        if isinstance(old, dict) and isinstance(value, dict):
            inner = difference(old, value)
            if inner:
                patch[key] = inner
        elif not equal(old, value):
            patch[key] = value
    return patch


def without(patch: JsonObject, tokens: tuple[str, ...]) -> JsonObject:
    """A copy of a merge patch that no longer says anything at a pointer's tokens.

    Objects left empty by the removal go too, so that the patch does not create them.
    """
    if not tokens:
        return {}
    head, rest = tokens[0], tokens[1:]
    if head not in patch:
        return patch
    inner = patch[head]
    if not rest:
        return {key: value for key, value in patch.items() if key != head}
    if not isinstance(inner, dict):
        return patch
    smaller = without(inner, rest)
    if smaller is inner:
        return patch
    if smaller:
        return {**patch, head: smaller}
    return {key: value for key, value in patch.items() if key != head}


def leaves(value: Json, pointer: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every leaf with its JSON Pointer, in document order; arrays are leaves, and so are empty objects."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            yield from leaves(member, f"{pointer}/{escape(key)}")
    else:
        yield pointer, value


class Change(msgspec.Struct, frozen=True):
    """One leaf that differs between two documents.

    Attributes:
        pointer: JSON Pointer of the leaf; arrays are leaves, and so are empty objects.
        bump: What the change means to a reader: ``major`` if the key is gone or has another JSON type,
            ``minor`` if it is new, ``patch`` if its value differs.
    """

    pointer: str
    bump: Bump


def changes(old: Json, new: Json, pointer: str = "") -> Iterator[Change]:
    """Yield every leaf that differs between two documents, in document order."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in old.items():
            place = f"{pointer}/{escape(key)}"
            if key in new:
                yield from changes(value, new[key], place)
            else:
                yield from (Change(leaf, "major") for leaf, _ in leaves(value, place))
        for key, value in new.items():
            if key not in old:
                yield from (Change(leaf, "minor") for leaf, _ in leaves(value, f"{pointer}/{escape(key)}"))
    elif type_name(old) != type_name(new):
        yield Change(pointer, "major")
    elif not equal(old, new):
        yield Change(pointer, "patch")


def json_patch(old: JsonObject, new: JsonObject) -> list[JsonObject]:
    """The JSON Patch (RFC 6902) that turns ``old`` into ``new``."""
    return jsonpatch.make_patch(old, new).patch


def json_patch_problem(operations: Json) -> str | None:
    """Why a value is no JSON Patch (RFC 6902 §3, §4), or None if it is one."""
    if not isinstance(operations, list):
        return f"found {type_name(operations)}; expected a list of operations"
    found = ((number, operation_problem(operation)) for number, operation in enumerate(operations))
    return next((f"operation {number}: {problem}" for number, problem in found if problem), None)


def operation_problem(operation: Json) -> str | None:
    """Why a value is no operation of a JSON Patch (RFC 6902 §4), or None if it is one."""
    try:
        # Whatever it is: that it may be something else is what is found out.
        (known,) = jsonpatch.JsonPatch([cast("Any", operation)]).patch
    except _JSON_PATCH_ERRORS as error:
        return str(error)
    if known["op"] in _WITH_VALUE and "value" not in known:
        return f"{known['op']} has no value"
    if known["op"] not in _WITH_FROM:
        return None
    # At this the library looks only when it applies it.
    if not isinstance(known.get("from"), str):
        return f"{known['op']} has no 'from', a JSON Pointer"
    try:
        parse_pointer(known["from"])
    except InvalidRequest as error:
        return error.message
    return None


def apply_json_patch(document: Json, operations: list[JsonObject]) -> Json:
    """A copy of a document with a JSON Patch (RFC 6902) applied, all of it or none.

    Raises:
        InvalidRequest: It is no JSON Patch, or does not apply; says which operation.
    """
    if problem := json_patch_problem(list(operations)):
        raise InvalidRequest(f"This is no JSON Patch: {problem}.")
    for number, operation in enumerate(operations):
        try:
            if operation["op"] == "test" and not _holds(document, operation):
                raise jsonpatch.JsonPatchTestFailed("the value is another one")
            document = jsonpatch.apply_patch(document, [operation])
        except _JSON_PATCH_ERRORS as error:
            raise InvalidRequest(f"Operation {number} of the JSON Patch does not apply: {error}.") from error
    return document


def _holds(document: Json, operation: JsonObject) -> bool:
    """Whether a ``test`` holds as JSON has it: the library compares as Python does, where ``true`` is ``1``."""
    found = find(document, str(operation["path"]))
    return isinstance(found, UnsetType) or equal(found, operation["value"])


_WITH_VALUE = frozenset({"add", "replace", "test"})
_WITH_FROM = frozenset({"move", "copy"})
_JSON_PATCH_ERRORS = (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError, ValueError)
