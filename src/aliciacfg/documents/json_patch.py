"""JSON Patch (RFC 6902)."""

from typing import Any, cast

import jsonpatch
from msgspec import UnsetType

from aliciacfg.documents.pointers import find, parse_pointer
from aliciacfg.documents.values import Json, JsonObject, equal, type_name
from aliciacfg.errors import InvalidRequest


def json_patch(old: JsonObject, new: JsonObject) -> list[JsonObject]:
    """Return a JSON Patch (RFC 6902) that turns ``old`` into ``new``."""
    return jsonpatch.make_patch(old, new).patch


def json_patch_problem(operations: Json) -> str | None:
    """Return why a value is not a JSON Patch (RFC 6902 §3, §4), or None if it is one."""
    if not isinstance(operations, list):
        return f"found {type_name(operations)}; expected a list of operations"
    found = ((number, operation_problem(operation)) for number, operation in enumerate(operations))
    return next((f"operation {number}: {problem}" for number, problem in found if problem), None)


def operation_problem(operation: Json) -> str | None:
    """Return why a value is not an operation of a JSON Patch (RFC 6902 §4), or None if it is one.

    The text does not quote the value.
    """
    if not isinstance(operation, dict):
        return f"found {type_name(operation)}; expected an object"
    if operation.get("op") not in _OPERATIONS:
        return f"'op' is none of {', '.join(_OPERATIONS)}"
    try:
        # The library raises one of these errors for anything that is not an operation. Their texts quote it.
        (known,) = jsonpatch.JsonPatch([cast("Any", operation)]).patch
    except _JSON_PATCH_ERRORS:
        return f"{operation['op']} has no 'path', a JSON Pointer"
    if known["op"] in _WITH_VALUE and "value" not in known:
        return f"{known['op']} has no value"
    if known["op"] not in _WITH_FROM:
        return None
    # The library checks "from" only when it applies the operation.
    if not isinstance(known.get("from"), str):
        return f"{known['op']} has no 'from', a JSON Pointer"
    try:
        parse_pointer(known["from"])
    except InvalidRequest as error:
        return error.message
    return None


def apply_json_patch(document: Json, operations: list[JsonObject]) -> Json:
    """Return a copy of a document with a JSON Patch (RFC 6902) applied, all of it or none.

    Raises:
        InvalidRequest: The operations are not a JSON Patch, or one does not apply; the message names it.
    """
    if problem := json_patch_problem(list(operations)):
        raise InvalidRequest(f"This is not a JSON Patch: {problem}.")
    for number, operation in enumerate(operations):
        try:
            if operation["op"] == "test" and not _holds(document, operation):
                raise jsonpatch.JsonPatchTestFailed
            document = jsonpatch.apply_patch(document, [operation])
        except _JSON_PATCH_ERRORS as error:
            # The texts of the library quote the operation and the document.
            why = "the value is different" if isinstance(error, AssertionError) else "its place does not exist"
            raise InvalidRequest(f"Operation {number} of the JSON Patch does not apply: {why}.") from error
    return document


def _holds(document: Json, operation: JsonObject) -> bool:
    """Return whether a ``test`` holds by JSON's rules; the library compares as Python does, where ``true`` is ``1``."""
    found = find(document, str(operation["path"]))
    return isinstance(found, UnsetType) or equal(found, operation["value"])


_OPERATIONS = ("add", "remove", "replace", "move", "copy", "test")
_WITH_VALUE = frozenset({"add", "replace", "test"})
_WITH_FROM = frozenset({"move", "copy"})
_JSON_PATCH_ERRORS = (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, KeyError, ValueError)
