"""Which settings of a configuration become entities of Home Assistant, and of which platform."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from aliciacfg.documents import Json, JsonObject, encode, format_pointer
from aliciacfg.home_assistant import identifiers
from aliciacfg.schemas.entity_marks import MIN_STEP, SHOWN, EntityMark, is_address
from aliciacfg.schemas.schema_tree import Node

Platform = Literal["switch", "number", "select", "sensor", "binary_sensor"]
Features = Literal["marked", "all"]
"""Which feature flags appear: those that the schema marks, or all."""

CONTROLS: frozenset[Platform] = frozenset({"switch", "number", "select"})
MAX_STATE_CHARACTERS = 255
"""The longest state that Home Assistant takes."""

# Home Assistant holds numbers as floating point.
_MAX_NUMBER = 2**53
_STEPS = 100
_MAX_OPTIONS = 100
# Members of the base contract that group settings and say nothing about one.
_GROUPS = frozenset({"settings", "features", "limits"})
# As the names of settings end with their unit (schemas/README.md), longest first.
_UNITS: Mapping[str, str] = {
    "milliseconds": "ms", "seconds": "s", "minutes": "min", "hours": "h", "days": "d", "percent": "%",
    "bytes": "B", "celsius": "°C", "hz": "Hz", "db": "dB", "ms": "ms",
}  # fmt: skip


class Entity(msgspec.Struct, frozen=True):
    """A setting in Home Assistant.

    Attributes:
        id: Its identifier in its device.
        tokens: The names that lead to its value in the configuration.
        platform: What it is there.
        name: Its name.
        slug: What its default entity id says after the name of the service.
        icon: Its icon, if the schema names one.
        unit: The unit of a number, if it has one.
        minimum: The lowest value of a number; of a ``number`` only.
        maximum: The highest one.
        step: The step of a ``number``.
        options: Label and value of each choice of a ``select``.
        integer: Whether a ``number`` is a whole one.
    """

    id: str
    tokens: tuple[str, ...]
    platform: Platform
    name: str
    slug: str
    icon: str | None = None
    unit: str | None = None
    minimum: float = 0
    maximum: float = 0
    step: float = 1
    options: tuple[tuple[str, Json], ...] = ()
    integer: bool = False

    @property
    def writable(self) -> bool:
        """Whether it takes commands."""
        return self.platform in CONTROLS

    @property
    def pointer(self) -> str:
        """The JSON Pointer of its value."""
        return format_pointer(self.tokens)


class _Setting(msgspec.Struct, frozen=True):
    """A value that appears, with what the schema says of it."""

    tokens: tuple[str, ...]
    key: str
    value: bool | float | str
    mark: EntityMark
    schemas: list[JsonObject]


def entities_of(
    tree: Node, document: JsonObject, *, secrets: Collection[str], features: Features, writable: bool
) -> list[Entity]:
    """Return the entities of a configuration, in its order.

    Args:
        tree: The service's schemas.
        document: The configuration.
        secrets: The JSON Pointers of its secrets.
        features: Which feature flags appear.
        writable: Whether Home Assistant may change the configuration; if not, everything is read-only.
    """
    found = [
        setting
        for setting in _settings(tree, document, (), features=features, named=False)
        if format_pointer(setting.tokens) not in secrets
    ]
    names = _names([setting.mark.name or _title(setting.key) for setting in found], found)
    return [_entity(setting, name, writable=writable) for setting, name in zip(found, names, strict=True)]


def _settings(
    node: Node, members: JsonObject, above: tuple[str, ...], *, features: Features, named: bool
) -> Iterator[_Setting]:
    """Yield the values that appear. What is in an array has no lasting place, so it never does."""
    for key, value in members.items():
        inner, sensitive = node.member(key)
        tokens = (*above, key)
        if isinstance(value, dict):
            yield from _settings(inner, value, tokens, features=features, named=named or sensitive)
        elif isinstance(value, bool | int | float | str):
            mark = inner.entity
            if mark is None and features == "all" and above == ("features",) and isinstance(value, bool):
                mark = SHOWN
            # A flag is no secret, with any name.
            hidden = not isinstance(value, bool) and inner.is_hidden(value, named=named or sensitive)
            if mark is not None and mark.shown and not hidden and not is_address(tokens):
                yield _Setting(tokens, key, value, mark, inner.schemas)


def _names(names: Sequence[str], settings: Sequence[_Setting]) -> list[str]:
    """Return the names of entities; those that would be the same say in what they are, or else are the whole place."""
    counts = Counter(names)
    within = [
        name if counts[name] == 1 or len(setting.tokens) == 1 else f"{identifiers.title(setting.tokens[-2])}: {name}"
        for name, setting in zip(names, settings, strict=True)
    ]
    counts = Counter(within)
    return [
        name if counts[name] == 1 else identifiers.printable("/".join(setting.tokens))
        for name, setting in zip(within, settings, strict=True)
    ]


def _entity(setting: _Setting, name: str, *, writable: bool) -> Entity:
    mark, rules = setting.mark, _Rules.of(setting.schemas)
    tokens = setting.tokens[1:] if setting.tokens[0] in _GROUPS and len(setting.tokens) > 1 else setting.tokens
    entity = Entity(
        id=identifiers.encode(*setting.tokens),
        tokens=setting.tokens,
        platform="sensor",
        name=name,
        slug=identifiers.slug(*tokens),
        icon=mark.icon,
    )
    change = msgspec.structs.replace
    controls = writable and not mark.read_only
    if isinstance(setting.value, bool):
        return change(entity, platform="switch" if controls else "binary_sensor")
    if controls and rules.choices and len(options := _options(rules.choices)) == len(rules.choices):
        return change(entity, platform="select", options=options)
    if isinstance(setting.value, str):
        return entity
    entity = change(entity, unit=mark.unit or _unit(setting.key))
    if not (controls and rules.is_range):
        return entity
    return change(
        entity,
        platform="number",
        minimum=rules.minimum,
        maximum=rules.maximum,
        step=mark.step or rules.step,
        integer=rules.integer,
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the subschemas of a place say of its values.

    Attributes:
        choices: The values of an enumeration; none where there is no enumeration.
        minimum: The lowest number.
        maximum: The highest one.
        integer: Whether numbers are whole ones.
        multiple: What numbers are a multiple of; 0 where nothing says it.
    """

    choices: tuple[Json, ...]
    minimum: float
    maximum: float
    integer: bool
    multiple: float

    @classmethod
    def of(cls, schemas: Sequence[JsonObject]) -> "_Rules":
        """Return the rules that hold if all of some subschemas do."""
        enumerations = [found for schema in schemas if isinstance(found := schema.get("enum"), list)]
        choices = (
            [value for value in enumerations[0] if all(value in other for other in enumerations[1:])]
            if (enumerations)
            else []
        )
        lowest = [*_numbers(schemas, "minimum"), *_numbers(schemas, "exclusiveMinimum")]
        highest = [*_numbers(schemas, "maximum"), *_numbers(schemas, "exclusiveMaximum")]
        return cls(
            choices=tuple(choices),
            minimum=max(lowest, default=-math.inf),
            maximum=min(highest, default=math.inf),
            integer=any(schema.get("type") == "integer" for schema in schemas),
            multiple=max(_numbers(schemas, "multipleOf"), default=0),
        )

    @property
    def is_range(self) -> bool:
        """Whether a ``number`` can show the values."""
        return -_MAX_NUMBER <= self.minimum < self.maximum <= _MAX_NUMBER

    @property
    def step(self) -> float:
        """The step between two values that people choose from."""
        if self.multiple >= MIN_STEP:
            return self.multiple
        if self.integer:
            return 1
        wanted = (self.maximum - self.minimum) / _STEPS
        # The logarithm of a very small range, divided, would be that of 0.
        return MIN_STEP if wanted <= MIN_STEP else 10.0 ** math.floor(math.log10(wanted))


def _numbers(schemas: Sequence[JsonObject], keyword: str) -> list[float]:
    found = [schema.get(keyword) for schema in schemas]
    return [value for value in found if isinstance(value, int | float) and not isinstance(value, bool)]


def _options(choices: Sequence[Json]) -> tuple[tuple[str, Json], ...]:
    """Return label and value of each choice; fewer than there are if Home Assistant cannot show them all.

    Then two would look the same, one is no scalar, or one is longer than a state.
    """
    labels = {label(value): value for value in choices if value is None or isinstance(value, bool | int | float | str)}
    shown = {text: value for text, value in labels.items() if len(text) <= MAX_STATE_CHARACTERS}
    return tuple(shown.items()) if len(shown) <= _MAX_OPTIONS else ()


def label(value: Json) -> str:
    """Return how a choice is shown: a text as it is, unless Home Assistant takes it for something else."""
    if not isinstance(value, str):
        return encode(value).decode()
    # ``none`` is no state there, and an empty text is ignored.
    return f"({value})" if not value.strip() or value.strip().lower() == "none" else value


def _unit(name: str) -> str | None:
    return next((unit for ending, unit in _UNITS.items() if name.endswith(f"_{ending}")), None)


def _title(name: str) -> str:
    """Return the name of an entity, without the unit that stands beside its value."""
    ending = next((ending for ending in _UNITS if name.endswith(f"_{ending}")), "")
    return identifiers.title(name.removesuffix(f"_{ending}") if ending else name)
