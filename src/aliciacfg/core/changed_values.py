"""The old and the new value of each place that a write changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.api.answers import ValueChange
from aliciacfg.core.state import Entry
from aliciacfg.core.views import redacted_content
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED

_MAX_PLACES = 100
_MAX_VALUE_BYTES = 1024


@dataclass(slots=True)
class ChangedValues:
    """What an answer says about the values that a write changed.

    Attributes:
        values: The old and the new value by JSON Pointer, secrets as ``***``.
        left_out: How many changed places are not in ``values``, because they are too many or their values too long.
    """

    values: dict[str, ValueChange] = field(default_factory=dict[str, ValueChange])
    left_out: int = 0


def changed_values(before: Entry, shown: JsonObject, pointers: Iterable[str]) -> ChangedValues:
    """Return the values of the places that a write changed; none if it created the configuration.

    Args:
        before: The entry before the write.
        shown: The configuration after it, its secrets redacted.
        pointers: The JSON Pointers of the places.
    """
    found = ChangedValues()
    if before.live is None:
        return found
    # Only what is shown is redacted: a whole document takes ten times as long.
    old, secrets = (
        (before.effective.document, before.effective.secrets)
        if before.effective is not None
        else (redacted_content(before), {})
    )
    for pointer in pointers:
        change = ValueChange(
            old=_redacted(documents.find(old, pointer), pointer, secrets), new=documents.find(shown, pointer)
        )
        if len(found.values) == _MAX_PLACES or not (_is_short(change.old) and _is_short(change.new)):
            found.left_out += 1
        else:
            found.values[pointer] = change
    return found


def _redacted(value: Json | UnsetType, pointer: str, secrets: Mapping[str, str]) -> Json | UnsetType:
    """Return the value of a place of a document without the secrets of the document."""
    if isinstance(value, str):
        return REDACTED if pointer in secrets else value
    if not isinstance(value, dict | list):
        return value
    inside = {place.removeprefix(pointer): REDACTED for place in secrets if place.startswith(f"{pointer}/")}
    return documents.replace_strings(value, inside) if inside else value


def _is_short(value: Json | UnsetType) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_VALUE_BYTES
    return not isinstance(value, dict | list) or len(documents.encode(value)) <= _MAX_VALUE_BYTES
