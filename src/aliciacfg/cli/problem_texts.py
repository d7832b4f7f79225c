"""The problems of files and documents as lines for people: what many services have in common once."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from aliciacfg.documents import escape
from aliciacfg.errors import Problem

_MISSING = "is missing; this member is required"
_MANY = 3


class _Common(NamedTuple):
    """What services can have in common: the place in a configuration, and what is wrong there."""

    pointer: str
    text: str


def lines(problems: Iterable[Problem]) -> list[str]:
    """Return a line for each problem, or for all services that have the same one at the same place."""
    alike: dict[_Common, dict[str, None]] = {}
    services: dict[_Common, set[str]] = {}
    for problem in problems:
        line = _line(problem)
        common = _in_service(problem) or _Common("", line)
        alike.setdefault(common, {})[line] = None
        if not isinstance(problem.service, UnsetType):
            services.setdefault(common, set()).add(problem.service)
    written: list[str] = []
    for common, texts in alike.items():
        count = len(services.get(common, ()))
        if count < _MANY:
            written += texts
        elif common.text == _MISSING:
            written.append(f"{count} services lack {common.pointer}")
        else:
            written.append(f"{count} services: {common.pointer or '(document)'}: {common.text}")
    return written


def missing_in(problems: Iterable[Problem]) -> Mapping[str, set[str]]:
    """Return the JSON Pointers of required members that are missing, by service, as far as problems name it."""
    found: dict[str, set[str]] = {}
    for problem in problems:
        common = _in_service(problem)
        if common is not None and common.text.startswith(_MISSING) and not isinstance(problem.service, UnsetType):
            found.setdefault(problem.service, set()).add(common.pointer)
    return found


def _in_service(problem: Problem) -> _Common | None:
    """Return a problem without its file, line and service; None if it is not one of a service's configuration."""
    if isinstance(problem.service, UnsetType):
        return None
    pointer = problem.pointer.removeprefix(f"/services/{escape(problem.service)}")
    said = f"{_place(problem)}: {problem.service} {pointer or '(document)'}: "
    return _Common(pointer, problem.message.removeprefix(said))


def _place(problem: Problem) -> str:
    return f"{problem.file}" if problem.line is UNSET else f"{problem.file}:{problem.line}"


def _line(problem: Problem) -> str:
    """Return the place and the message of a problem; the message of a problem of a file has the place already."""
    if problem.file is UNSET or (problem.pointer and problem.line is UNSET and problem.service is UNSET):
        return f"{problem.pointer or '(document)'}: {problem.message}"
    return problem.message
