"""What the benchmark concludes from its figures; that it measures at all is seen by running it."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from repository import ROOT


@contextlib.contextmanager
def module_of_benchmark(name: str) -> Iterator[ModuleType]:
    """A module of the benchmark, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def report() -> Iterator[ModuleType]:
    with module_of_benchmark("report") as module:
        yield module


@pytest.fixture(scope="module")
def document_parts() -> Iterator[ModuleType]:
    with module_of_benchmark("document_parts") as module:
        yield module


def row(report: ModuleType, daemon: list[float], limit: list[float], **goal: Any) -> Any:
    made = report.Row("get", goals=(report.Goal(**goal),))
    made.runs["daemon"] = [{"per_second": value} for value in daemon]
    if limit:
        made.runs["limit"] = [{"per_second": value} for value in limit]
    return made


@pytest.mark.parametrize(
    ("daemon", "goal", "verdict"),
    [
        ([90, 90, 90], {"bound": 0.9, "beside": "limit"}, "met"),
        ([80, 85, 99], {"bound": 0.9, "beside": "limit"}, "within the spread"),
        ([80, 80, 89], {"bound": 0.9, "beside": "limit"}, "missed"),
        ([110, 150, 160], {"bound": 1.3, "beside": "limit", "at_least": False}, "within the spread"),
        ([140, 150, 160], {"bound": 1.3, "beside": "limit", "at_least": False}, "missed"),
        ([2000, 3100, 3200], {"bound": 3000}, "met"),
        ([2000], {"bound": 3000}, "missed"),
    ],
)
def test_a_goal_is_missed_only_by_more_than_the_spread(
    report: ModuleType, daemon: list[float], goal: dict[str, Any], verdict: str
):
    """The spread lies between the quartiles of the rounds; a figure of one round has none."""
    made = row(report, daemon, [100] * len(daemon), **goal)
    assert made.verdict(made.goals[0]) == verdict


def test_a_goal_beside_what_is_not_installed_is_not_judged(report: ModuleType):
    """Nor is it counted."""
    made = row(report, [90], [], bound=0.9, beside="limit")
    section = report.Section("", "", [made])
    assert made.verdict(made.goals[0]) == ""
    assert report.judged([section]) == []


def test_a_ratio_is_that_of_each_round(report: ModuleType):
    """Not that of the medians: a busy machine slows both sides of a round."""
    made = row(report, [10, 200, 300], [20, 100, 600], bound=1)
    assert made.ratio("limit") == report.Spread(median=0.5, low=0.5, high=1.25)


def test_a_section_has_no_column_without_a_figure(report: ModuleType):
    """Latencies and processor time are left out where nothing has them."""
    columns, cells = report.table_of(report.Section("", "", [row(report, [10], [20], bound=1)]))
    assert list(columns) == ["measured", "", "figure", "daemon ÷ it", "quartiles"]
    assert [list(line)[:3] for line in cells] == [["get", "daemon", "10.0/s"], ["", "limit", "20.0/s"]]


def test_the_column_of_ratios_names_the_subject(report: ModuleType):
    """In a section that is about something else than the one daemon."""
    made = report.Row("get", subject="3 daemons, PostgreSQL")
    made.runs |= {"limit": [{"per_second": 20}], made.subject: [{"per_second": 10}]}
    columns, cells = report.table_of(report.Section("", "", [made], subject="3 daemons"))
    assert "3 daemons ÷ it" in columns
    assert [line[1] for line in cells] == ["3 daemons, PostgreSQL", "limit"]


def test_the_document_is_the_sum_of_its_parts(document_parts: ModuleType):
    """Taken apart and put together, it is the same: a run of some sections changes no others."""
    text = (ROOT / "docs" / "performance.md").read_text()
    assert document_parts.Document.parsed(text).text() == text


def of_a_run(document_parts: ModuleType, machine: str = "one", python: str = "3.11.7", **sections: str) -> Any:
    goals = tuple(f"| {title}: get | rate ≥ 1 | {figure} | met |" for title, figure in sections.items())
    return document_parts.Document(
        introduction="# Performance\n\nWritten by `make bench`.",
        run="3 rounds.",
        machine=f"|  |  |\n| --- | --- |\n| machine | {machine} |\n| Python | {python}, aiohttp 3.14.5 |",
        verdicts="0 of 0 met. *within the spread*: less.",
        table="| measured | goal | reached |  |\n| --- | --- | --- | --- |",
        goals=goals,
        sections={title: f"What.\n\n{figure}" for title, figure in sections.items()},
    )


def test_a_later_run_of_some_sections_replaces_them_alone(document_parts: ModuleType):
    """Goals too; each says that it is of a later run, and where that was if it was elsewhere."""
    first = of_a_run(document_parts, **{"Start": "1 s", "MQTT": "2 s", "MQTT 3.1.1": "3 s"})
    second = first.with_later(of_a_run(document_parts, Start="4 s"))
    third = second.with_later(of_a_run(document_parts, "two", "3.12.1", MQTT="5 s"))
    assert [row.split(" | ")[2] for row in third.goals] == ["4 s", "5 s", "3 s"]
    assert third.sections == {
        "Start": "What. Measured later than the other sections.\n\n4 s",
        "MQTT": "What. Measured later than the other sections, on two, with 3.12.1.\n\n5 s",
        "MQTT 3.1.1": "What.\n\n3 s",
    }
    assert third.with_later(of_a_run(document_parts, Start="4 s")) == third
    assert "3 of 3 met. *within" in third.text()


def test_a_run_of_all_sections_replaces_the_document(document_parts: ModuleType):
    """Whatever machine it was measured on."""
    first = of_a_run(document_parts, Start="1 s", Growth="3 s")
    whole = of_a_run(document_parts, "two", Start="4 s", Growth="5 s")
    assert first.with_later(whole) == whole
