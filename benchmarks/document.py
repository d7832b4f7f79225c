"""docs/performance.md: the figures of one run, with machine and versions."""

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from document_parts import Document
from processes import ROOT
from report import Row, Section, judged, table_of, told
from rounds import Rounds
from scene import Scene, versions

FILE = ROOT / "docs" / "performance.md"
_INTRODUCTION = (
    "Written by `make bench`; [benchmarks/README.md](../benchmarks/README.md) says how it is measured. Only ratios "
    "carry over to another machine: broker, daemon and load generator share the processors here."
)
_VERDICTS = (
    "*within the spread*: the median misses the goal by less than the rounds differ among themselves. A value is the "
    "median of the rounds, with their quartiles."
)
_PACKAGES = ("aiohttp", "aiomqtt", "mqtt5", "msgspec", "paho-mqtt", "uvloop")


def title(rounds: Rounds, scene: Scene) -> str:
    """Return one line that says what was measured."""
    effort = rounds.effort
    return (
        f"aliciacfg with {len(scene.services)} services and an answer of {scene.http_document.stat().st_size:,} bytes, "
        f"{rounds.count} interleaved rounds of {effort.seconds:g} s."
    )


def write(rounds: Rounds, heading: str) -> None:
    """Write the document; sections that this run has not measured stay as they are."""
    measured = Document.parsed("\n".join(_text(rounds, heading)) + "\n")
    written = Document.parsed(FILE.read_text()).with_later(measured) if FILE.exists() else measured
    FILE.write_text(written.text())


def _text(rounds: Rounds, heading: str) -> list[str]:
    goals = judged(rounds.sections)
    met = sum(verdict == "met" for _, _, _, verdict in goals)
    text = [
        "# Performance",
        "",
        _INTRODUCTION,
        "",
        heading,
        "",
        *_table(("", ""), _machine()),
        "",
        "## Goals",
        "",
        f"{met} of {len(goals)} met. {_VERDICTS}",
        "",
        *_table(
            ("measured", "goal", "reached (quartiles)", ""),
            [
                (_place(rounds.sections, row), goal.text, told(goal, reached), verdict)
                for row, goal, reached, verdict in goals
            ],
        ),
    ]
    for section in rounds.sections:
        text += ["", f"## {section.title}", "", section.text, ""]
        text += _table(*table_of(section))
    return text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _place(sections: Sequence[Section], row: Row) -> str:
    """Return the name of a row with that of its section."""
    section = next(section for section in sections if any(row is other for other in section.rows))
    return f"{section.title}: {row.name}"


def machine() -> str:
    """Return on what machine this runs."""
    return f"{_processor()}, {os.cpu_count()} processors, {platform.system()} {platform.machine()}"


def _machine() -> list[tuple[str, str]]:
    packages = {name: metadata.version(name) for name in _PACKAGES if _installed(name)}
    return [
        ("machine", machine()),
        ("Python", f"{platform.python_version()}, {_listed(packages)}"),
        ("programs", _listed(versions())),
    ]


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _installed(name: str) -> bool:
    return any(metadata.distributions(name=name))


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else platform.processor()
