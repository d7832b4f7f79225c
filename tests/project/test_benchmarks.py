"""What the benchmark concludes from its figures; that it measures at all is seen by running it."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from repository import ROOT


@pytest.fixture(scope="module")
def report() -> Iterator[ModuleType]:
    """The module of the benchmark, which is no package."""
    spec = importlib.util.spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["report"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["report"]


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
