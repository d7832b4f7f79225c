"""JSON Merge Patch (RFC 7396): apply a patch, derive one from two documents, remove a place from one."""

from typing import overload

from aliciacfg.documents.values import Json, JsonObject, equal


@overload
def merge(target: Json, patch: JsonObject) -> JsonObject: ...
@overload
def merge(target: Json, patch: Json) -> Json: ...
def merge(target: Json, patch: Json) -> Json:
    """Apply a merge patch (RFC 7396 §2): objects merge, ``null`` removes, everything else replaces.

    Args:
        target: The value to change; as the target of an object, anything but an object counts as ``{}``.
        patch: The patch; if it is an object, so is the result.
    """
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
    """Return the smallest merge patch that turns ``base`` into ``wanted``.

    ``wanted`` must not contain ``null`` members, which RFC 7396 cannot express.
    """
    patch: JsonObject = {key: None for key in base if key not in wanted}
    for key, value in wanted.items():
        if key not in base:
            patch[key] = value
            continue
        old = base[key]
        if value is old:
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            inner = difference(old, value)
            if inner:
                patch[key] = inner
        elif not equal(old, value):
            patch[key] = value
    return patch


def without(patch: JsonObject, tokens: tuple[str, ...]) -> JsonObject:
    """Return a copy of a merge patch without the member at a place.

    Objects that the removal leaves empty are removed too, so that the patch does not create them.

    Args:
        patch: The merge patch.
        tokens: The unescaped reference tokens of the place; if empty, the result is ``{}``.
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
