"""Redactions that a writer sends back: which secret of the current configuration each of them stands for."""

from collections.abc import Iterable

from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED
from aliciacfg.sealing.boxes import is_sealed, resembles_sealed

REDACTED_IN_FILE = (
    f"found {REDACTED}, which stands for a secret in answers and is none itself; write the secret, or seal it with "
    "`aliciacfg seal`, or remove the line"
)


STAND_IN_IN_MIGRATION = (
    f"found {REDACTED} or a sealed value, which a migration cannot add; leave the secret out, and set it afterwards"
)


def stand_ins(document: Json) -> list[str]:
    """Return the JSON Pointers at which a document has ``***`` alone, or a value that is or resembles a sealed one."""
    return [
        pointer
        for pointer, value in documents.walk_strings(document)
        if value.strip() == REDACTED or is_sealed(value) or resembles_sealed(value, at_secret=True)
    ]


def exact_redactions(document: Json) -> list[str]:
    """Return the JSON Pointers of the strings of a document that are ``***`` and nothing else."""
    if not documents.may_hold(document, REDACTED.encode()):
        return []
    return documents.pointers_of(document, REDACTED)


def redacted_pointers(document: Json) -> list[str]:
    """Return the JSON Pointers at which a document has ``***`` alone."""
    if not documents.may_hold(document, REDACTED.encode()):
        return []
    return [pointer for pointer, value in documents.walk_strings(document) if value.strip() == REDACTED]


def redaction_sources(pointers: Iterable[str], wanted: JsonObject, shown: JsonObject) -> dict[str, str | None]:
    """Return, for each redaction in a document, the pointer in the current document of the secret it stands for.

    Args:
        pointers: JSON Pointers of the redactions in ``wanted``.
        wanted: The document that a writer sends.
        shown: The current document, redacted as the writer has seen it.
    """
    arrays = _ArrayIndex()
    return {pointer: _redacted_source(pointer, wanted, shown, arrays) for pointer in pointers}


class _ArrayIndex:
    """An index of the items of arrays, made once for each array because an array may contain thousands of secrets."""

    def __init__(self) -> None:
        self._indexed: dict[int, tuple[list[Json], dict[bytes, list[int]]]] = {}

    def indices(self, array: list[Json], item: Json) -> list[int]:
        """Return the indices of the items of an array that are equal to an item."""
        # The index keeps a reference to the array, so that no other array gets its id.
        _, index = self._indexed.get(id(array)) or self._add(array)
        return index.get(_canonical(item), [])

    def _add(self, array: list[Json]) -> tuple[list[Json], dict[bytes, list[int]]]:
        index: dict[bytes, list[int]] = {}
        for number, item in enumerate(array):
            index.setdefault(_canonical(item), []).append(number)
        self._indexed[id(array)] = array, index
        return array, index


def _canonical(item: Json) -> bytes:
    return documents.canonical(documents.normalise(item))


def _redacted_source(pointer: str, wanted: JsonObject, shown: JsonObject, arrays: _ArrayIndex) -> str | None:
    """Return the pointer of the secret for one redaction; arguments as for ``redaction_sources``.

    In an array the index is not enough, because the writer may have added, removed or moved items. There a redaction
    stands for the secret in the item of the current array that matches the whole item (see ``_matching_index``).
    """
    here: Json | UnsetType = wanted
    source = ""
    for token in documents.parse_pointer(pointer):
        step = documents.escape(token)
        if isinstance(here, list):
            there = documents.find(shown, source)
            found = _matching_index(here, there, int(token), arrays) if isinstance(there, list) else None
            if found is None:
                return None
            step = str(found)
        if isinstance(here, UnsetType):
            return None
        here = documents.find(here, f"/{documents.escape(token)}")
        source += f"/{step}"
    return source


def _matching_index(wanted: list[Json], shown: list[Json], index: int, arrays: _ArrayIndex) -> int | None:
    """Return the index of the item of the shown array that an item of the wanted array was before; None if unclear.

    It is the one equal item; otherwise, if no item was added or removed, the item at the same index, unless that item
    was moved.
    """
    same_length = len(wanted) == len(shown)
    if same_length and documents.equal(wanted[index], shown[index]):
        return index
    matches = arrays.indices(shown, wanted[index])
    if len(matches) == 1:
        return matches[0]
    moved_away = bool(arrays.indices(wanted, shown[index])) if index < len(shown) else True
    return index if same_length and not matches and not moved_away else None
