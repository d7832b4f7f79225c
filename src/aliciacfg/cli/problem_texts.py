"""The problems of files and documents as lines for people: what many services have in common once."""

import re
from collections.abc import Iterable, Mapping

from aliciacfg.errors import Problem

# The daemon's messages about files: `environments/base.yaml:37: voice_router /mqtt_config/password: is missing; …`
_FILE_LINE = re.compile(r"[^ ]+\.(ya?ml|json):[0-9]+: ")
_OF_SERVICE = re.compile(r"[^ ]+\.(ya?ml|json):[0-9]+: (?P<service>\S+) (?P<pointer>/\S*): (?P<text>.*)", re.DOTALL)
_MISSING = "is missing; this member is required"
_MANY = 3


def lines(problems: Iterable[Problem]) -> list[str]:
    """Return a line for each problem, or for all services that have the same one at the same place."""
    alike: dict[tuple[str, str], dict[str, None]] = {}
    services: dict[tuple[str, str], set[str]] = {}
    for problem in problems:
        match = _OF_SERVICE.fullmatch(problem.message)
        common = ("", _line(problem)) if match is None else (match["pointer"], match["text"])
        alike.setdefault(common, {})[_line(problem)] = None
        if match is not None:
            services.setdefault(common, set()).add(match["service"])
    written: list[str] = []
    for (pointer, text), texts in alike.items():
        count = len(services.get((pointer, text), ()))
        if count < _MANY:
            written += texts
        elif text == _MISSING:
            written.append(f"{count} services lack {pointer}")
        else:
            written.append(f"{count} services: {pointer}: {text}")
    return written


def missing_in(problems: Iterable[Problem]) -> Mapping[str, set[str]]:
    """Return the JSON Pointers of required members that are missing, by service, as far as messages name them."""
    found: dict[str, set[str]] = {}
    for problem in problems:
        match = _OF_SERVICE.fullmatch(problem.message)
        if match is not None and match["text"].startswith(_MISSING):
            found.setdefault(match["service"], set()).add(match["pointer"])
    return found


def _line(problem: Problem) -> str:
    """Return the place and the message of a problem; a message that begins with a file's line says the place."""
    if _FILE_LINE.match(problem.message):
        return problem.message
    return f"{problem.pointer or '(document)'}: {problem.message}"
