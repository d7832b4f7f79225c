"""Services that environment files probably do not mean as they say: a misspelt name makes another service."""

from collections.abc import Callable, Collection, Iterator

from aliciacfg.errors import SourceProblem
from aliciacfg.schemas.near_misses import near_miss
from aliciacfg.sources.broker_accounts import only_in_secrets
from aliciacfg.sources.layers import BASE, Environment, Sources, is_secrets_file

# Comparing two names takes some microseconds; all pairs of 10,000 services would take minutes.
_MAX_PAIRS = 50_000
MAX_OTHERS = 500


def unclear_services(
    sources: Sources, *, only: str | None = None, serves: Callable[[str], bool] = lambda _: False
) -> list[SourceProblem]:
    """Return a warning for each service whose name is probably misspelt, and for each schema that no service has.

    Args:
        sources: The parsed files.
        only: The environment to look at; None for all.
        serves: Whether a service that no file names exists all the same: it was made at run time.
    """
    found: dict[SourceProblem, None] = {}
    for name, environment in sources.environments.items():
        if only in (None, name) and not environment.problems:
            found.update(dict.fromkeys(_misspelt(sources, environment)))
            found.update(dict.fromkeys(_only_in_secrets(environment)))
    found.update(dict.fromkeys(_unused_schemas(sources, serves)))
    return sorted(found, key=lambda problem: (problem.file, problem.line or 0))


def looks_like(name: str, others: Collection[str]) -> str | None:
    """Return which of other services a name is probably a misspelling of; None too if there are very many."""
    return near_miss(name, others) if len(others) <= MAX_OTHERS else None


def _misspelt(sources: Sources, environment: Environment) -> Iterator[SourceProblem]:
    """Yield the services without a schema that look like one with a schema, or like one of base.yaml."""
    base = {name for file in environment.files if file.file.endswith(f"/{BASE}.yaml") for name in file.services}
    undescribed = environment.services - sources.schemas.keys()
    unused = sources.schemas.keys() - environment.services
    for names, known in ((undescribed, unused), (undescribed - base, base)):
        if len(names) * len(known) > _MAX_PAIRS:
            continue
        for name in sorted(names):
            if meant := near_miss(name, known):
                file, line = environment.locate(name, "")
                message = f"no schema describes the service {name}; did you mean {meant}?"
                yield SourceProblem(file, line, message, f"/services/{name}")


def _only_in_secrets(environment: Environment) -> Iterator[SourceProblem]:
    left = only_in_secrets(environment)
    others = environment.services.difference(left)
    for name in left if len(left) * len(others) <= _MAX_PAIRS else ():
        file = next(file for file in environment.files if name in file.services and is_secrets_file(file.file))
        meant = near_miss(name, others)
        remedy = f"is it {meant} elsewhere?" if meant else "remove it here, or name it in another file as well"
        message = f"only this file of secrets names the service {name}, so it has nothing else; {remedy}"
        yield SourceProblem(file.file, file.lines.get(f"/services/{name}"), message, f"/services/{name}")


def _unused_schemas(sources: Sources, serves: Callable[[str], bool]) -> Iterator[SourceProblem]:
    named = {name for environment in sources.environments.values() for name in environment.draft.services}
    unused = sorted(name for name in sources.schemas.keys() - named if not serves(name))
    undescribed = named - sources.schemas.keys()
    for name in unused:
        meant = near_miss(name, undescribed) if len(unused) * len(undescribed) <= _MAX_PAIRS else None
        remedy = f"{meant} looks like it" if meant else "correct its name there, or remove this schema"
        message = f"no environment file names the service {name}; {remedy}"
        yield SourceProblem(_schema_file(sources, name), None, message)


def _schema_file(sources: Sources, service: str) -> str:
    """Return the name of a service's schema file, relative to the home."""
    names = [f"schemas/{service}.yaml", f"schemas/{service}.json"]
    return next((name for name in names if name in sources.files), names[0])
