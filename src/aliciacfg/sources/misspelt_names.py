"""The names in environment files that are probably misspelt: no schema knows them, but one that is nearly the same."""

from collections.abc import Iterator, Mapping

from aliciacfg.errors import SourceProblem
from aliciacfg.schemas.near_misses import suggestions
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.layers import Environment, Layer, Sources


def misspelt_names(sources: Sources, *, only: str | None = None) -> list[SourceProblem]:
    """Return a warning for each name that is probably misspelt.

    Args:
        sources: The parsed files.
        only: The environment to look at; None for all.
    """
    found: dict[SourceProblem, None] = {}
    for name, environment in sources.environments.items():
        if only in (None, name):
            found.update(dict.fromkeys(_in_environment(sources, environment)))
    return sorted(found, key=lambda problem: (problem.file, problem.line or 0))


def _in_environment(sources: Sources, environment: Environment) -> Iterator[SourceProblem]:
    for layer in environment.default_layers:
        # What only one service knows may stand in the defaults of all.
        yield from _problems(layer, _suggested(layer, sources.fallback))
    # By schema and places: of 10,000 services, most have the same places.
    known: dict[tuple[int, int], Mapping[str, str]] = {}
    for service in environment.services:
        schema = sources.schema(service)
        for layer in environment.own_layers(service):
            shape = (id(schema), id(layer.lines.shape(service)))
            if shape not in known:
                known[shape] = _suggested(layer, schema)
            described = None if service in sources.schemas else service
            yield from _problems(layer, known[shape], undescribed=described)


def _suggested(layer: Layer, schema: ServiceSchema) -> Mapping[str, str]:
    return suggestions(schema.tree, schema.unknown(layer.patch))


def _problems(layer: Layer, suggested: Mapping[str, str], *, undescribed: str | None = None) -> Iterator[SourceProblem]:
    """Yield a warning for each suggestion; ``undescribed`` names a service that has no schema of its own."""
    add = "add it to the schema" if undescribed is None else f"describe it in schemas/{undescribed}.yaml"
    for pointer, meant in suggested.items():
        around, _, name = meant.rpartition("/")
        name = name if around == pointer.rpartition("/")[0] else meant
        message = f"no schema knows this name; did you mean {name}? If it is meant, {add}"
        yield SourceProblem(layer.file, layer.line(pointer), message, layer.prefix + pointer)
