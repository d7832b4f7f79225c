"""Services of one environment whose HTTP interfaces listen at one port: on one machine, the second one cannot."""

from collections.abc import Iterator

from aliciacfg import documents
from aliciacfg.errors import SourceProblem
from aliciacfg.sources.layers import Environment, Sources

_PORT = "/api_config/port"
_HOST = "/api_config/host"
# Every address of a machine.
_ANY = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with


def same_ports(sources: Sources, *, only: str | None = None) -> list[SourceProblem]:
    """Return a warning for each service whose port another service has already, at the line of its port.

    Args:
        sources: The parsed files.
        only: The environment to look at; None for all.
    """
    found: dict[SourceProblem, None] = {}
    for name, environment in sources.environments.items():
        if only in (None, name) and not environment.problems:
            found.update(dict.fromkeys(_in_environment(environment)))
    return sorted(found, key=lambda problem: (problem.file, problem.line or 0))


def _in_environment(environment: Environment) -> Iterator[SourceProblem]:
    taken: dict[int, list[tuple[str, str]]] = {}
    for service in sorted(environment.services):
        port, host = (_value(environment, service, pointer) for pointer in (_PORT, _HOST))
        if not isinstance(port, int) or isinstance(port, bool) or port == 0:
            continue
        address = host if isinstance(host, str) else ""
        others = taken.setdefault(port, [])
        meets = next((name for name, at in others if at == address or not _ANY.isdisjoint({at, address})), None)
        if meets is not None:
            file, line = environment.locate(service, _PORT)
            message = f"{service} and {meets} have one port, {port}; on one machine only one of them can listen there"
            yield SourceProblem(file, line, message, f"/services/{documents.escape(service)}{_PORT}")
        others.append((service, address))


def _value(environment: Environment, service: str, pointer: str) -> documents.Json:
    for layer in reversed(environment.layers(service)):
        value = documents.find(layer.patch, pointer)
        if isinstance(value, int | str):
            return value
    return None
