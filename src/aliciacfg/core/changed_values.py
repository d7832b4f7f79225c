"""The old and the new value of each place that a change changed: of one configuration, or of several at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UnsetType

from aliciacfg import documents
from aliciacfg.api.answers.changes import ValueChange
from aliciacfg.core.composer import Effective
from aliciacfg.core.state import Entry
from aliciacfg.core.views import redacted_content
from aliciacfg.documents import Json, JsonObject
from aliciacfg.model.redaction import REDACTED
from aliciacfg.schemas.service_schema import ServiceSchema

_MAX_PLACES = 100
_MAX_VALUE_BYTES = 1024
# The answer to an activation has to fit into a packet, and some brokers take no more than 128 KiB.
_MAX_BYTES_OF_ALL = 64 * 1024
_SCALAR_BYTES = 8
# {"old":"","new":""} and what is around it.
_FRAME_BYTES = 25


@dataclass(frozen=True, slots=True)
class Content:
    """What a change puts in place of a configuration.

    Attributes:
        document: The configuration, without ``version``.
        secrets: The JSON Pointers of its secrets, with any values; they are not shown.
        schema: Says which values of the configuration before count as secret from now on; None if unknown.
    """

    document: JsonObject
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    schema: ServiceSchema | None = None

    @classmethod
    def of(cls, effective: Effective) -> "Content":
        """Return what was composed."""
        return cls(effective.document, effective.secrets, effective.schema)

    @classmethod
    def of_entry(cls, entry: Entry) -> "Content":
        """Return the content of an entry, which need not be one that can be composed."""
        return cls(redacted_content(entry)) if entry.effective is None else cls.of(entry.effective)


@dataclass(slots=True)
class ChangedValues:
    """What an answer says about the values that a change of one configuration changed.

    Attributes:
        values: The old and the new value by JSON Pointer, secrets as ``***``.
        left_out: How many changed places are not in ``values``, because they are too many or their values too long.
    """

    values: dict[str, ValueChange] = field(default_factory=dict[str, ValueChange])
    left_out: int = 0


@dataclass(slots=True)
class _Room:
    """How many bytes further pointers and values may take; 0 once something did not fit."""

    bytes: int = _MAX_BYTES_OF_ALL


@dataclass(slots=True)
class ChangesByName:
    """What an answer says about the values that a change of several configurations changed.

    Attributes:
        values: By service, or by environment: the old and the new value by JSON Pointer, secrets as ``***``.
        left_out: By the same names: how many changed places are not in ``values``.
        added: The names whose configuration did not exist before; none of their values are in ``values``.
        removed: The names whose configuration exists no longer; none of their values either.
    """

    values: dict[str, dict[str, ValueChange]] = field(default_factory=dict[str, dict[str, ValueChange]])
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    added: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    _room: _Room = field(default_factory=_Room)

    def add(self, name: str, before: Entry, after: Entry | Content, pointers: Sequence[str]) -> None:
        """Add the change of one configuration.

        Args:
            name: The service, or the environment.
            before: The entry before the change.
            after: The entry after it, or what it would be.
            pointers: The JSON Pointers of the changed places.
        """
        if before.live is None:
            self.added.append(name)
            return
        if isinstance(after, Entry):
            if after.live is None:
                self.removed.append(name)
                return
            after = Content.of_entry(after)
        # Of 10,000 services most are only counted.
        found = (
            _changed_values(before, after, pointers, self._room)
            if self._room.bytes
            else ChangedValues(left_out=len(pointers))
        )
        if found.values:
            self.values[name] = found.values
        if found.left_out:
            self.left_out[name] = found.left_out


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentResult:
    """What a change of the configurations of an environment changes.

    Attributes:
        changed: The services that get another configuration.
        restart_required: Those of them that apply it only at a restart.
        difference: JSON Patch by service, of a dry run.
        values: What the changed places held and hold, by service.
    """

    changed: list[str] = field(default_factory=list[str])
    restart_required: list[str] = field(default_factory=list[str])
    difference: dict[str, list[JsonObject]] = field(default_factory=dict[str, list[JsonObject]])
    values: ChangesByName = field(default_factory=ChangesByName)


def changed_values(before: Entry, after: Content, pointers: Iterable[str]) -> ChangedValues:
    """Return the values of the places that a change changed; none if it created the configuration.

    Args:
        before: The entry before the change.
        after: The configuration after it.
        pointers: The JSON Pointers of the places.
    """
    return ChangedValues() if before.live is None else _changed_values(before, after, pointers, _Room())


def _changed_values(before: Entry, after: Content, pointers: Iterable[str], room: _Room) -> ChangedValues:
    found = ChangedValues()
    # Only what is shown is redacted: a whole document takes ten times as long.
    old = Content.of_entry(before)
    hidden, schema = old.secrets, None if after.schema is old.schema else after.schema
    if schema is not None:
        # The load of a schema that makes a value a secret must not be what shows it.
        hidden = {**hidden, **schema.secrets(old.document)}
    for pointer in pointers:
        value = documents.find(old.document, pointer)
        if schema is not None and not isinstance(value, UnsetType) and schema.expects_secret(pointer):
            # A number as well.
            value = REDACTED
        change = ValueChange(
            old=_redacted(value, pointer, hidden),
            new=_redacted(documents.find(after.document, pointer), pointer, after.secrets),
        )
        sizes = _size(change.old), _size(change.new)
        if len(found.values) == _MAX_PLACES or max(sizes) > _MAX_VALUE_BYTES:
            found.left_out += 1
            continue
        size = len(pointer) + sum(sizes) + _FRAME_BYTES
        if size > room.bytes:
            room.bytes = 0
            found.left_out += 1
            continue
        room.bytes -= size
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


def _size(value: Json | UnsetType) -> int:
    """Return about how many bytes a value takes."""
    if isinstance(value, str):
        return len(value)
    return len(documents.encode(value)) if isinstance(value, dict | list) else _SCALAR_BYTES
