"""The files for Compose, and the Dockerfile, as data."""

import re
import shlex
from typing import Any

from ruamel.yaml import YAML

from repository import ROOT


def compose_file(name: str = "compose.yaml") -> dict[str, Any]:
    """Return one of the files for Compose."""
    return YAML(typ="safe").load(ROOT / name)


def interpolated(text: str, variables: dict[str, str]) -> str:
    """What Compose makes of ``${NAME:-default}`` and ``$$``."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match["name"]) or match["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}", value, text)


def settings_environment(home: dict[str, Any], variables: dict[str, str]) -> dict[str, str]:
    return {name: interpolated(value, variables) for name, value in home["environment"].items()}


def dockerfile() -> list[list[tuple[str, str]]]:
    """The instructions of each stage; comments left out, continued lines joined, defaults of ARGs put in."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[list[tuple[str, str]]] = []
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            stages.append([])
        if keyword == "ARG":
            name, _, default = rest.partition("=")
            defaults[name] = default
        elif keyword in {"USER", "COPY"}:
            rest = re.sub(r"\$\{?(\w+)\}?", lambda match: defaults[match[1]], rest)
        stages[-1].append((keyword, rest.strip()))
    return stages


def of(stage: list[tuple[str, str]], keyword: str) -> list[str]:
    return [rest for found, rest in stage if found == keyword]


def environment_of(stage: list[tuple[str, str]]) -> dict[str, str]:
    return dict(item.split("=", 1) for rest in of(stage, "ENV") for item in shlex.split(rest))
