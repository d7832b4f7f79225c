"""The names in environment files that are probably misspelt: no schema knows them, but one that is nearly the same."""

from collections.abc import Iterator

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
        yield from _in_layer(layer, sources.fallback)
    for service in environment.services:
        for layer in environment.own_layers(service):
            yield from _in_layer(layer, sources.schema(service))


def _in_layer(layer: Layer, schema: ServiceSchema) -> Iterator[SourceProblem]:
    for pointer, meant in suggestions(schema.tree, schema.unknown(layer.patch)).items():
        name = meant.rpartition("/")[2]
        message = f"no schema knows this name; did you mean {name}? If it is meant, add it to the schema"
        yield SourceProblem(layer.file, layer.line(pointer), message, layer.prefix + pointer)
