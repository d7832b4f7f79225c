"""JSON Merge Patch (RFC 7396): apply, derive, shorten."""

from typing import overload

from aliciacfg.documents.values import Json, JsonObject, equal


@overload
def merge(target: Json, patch: JsonObject) -> JsonObject: ...
@overload
def merge(target: Json, patch: Json) -> Json: ...
def merge(target: Json, patch: Json) -> Json:
    """Apply a merge patch (RFC 7396 §2): objects merge, ``null`` removes, everything else replaces.

    A patch that is an object always makes an object; a target that is none counts as an empty one (RFC 7396 §2).
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
