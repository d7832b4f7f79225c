"""Dashboard and alert rules ask for metrics that the daemon has, and the guide says what to do about each alert."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from aliciacfg.errors import ErrorCode
from aliciacfg.model.records import DriftKind
from exposition import series
from inprocess import core
from repository import ROOT

DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
# Prometheus itself adds these.
OF_THE_SCRAPE = {"instance", "job"}
# A test compares them with the code.
ALERTS = re.findall(r"^\| `(\w+)", (ROOT / "docs" / "reference" / "alerts.md").read_text(), re.MULTILINE)
LABEL_VALUES = {"outcome": {"success", *get_args(ErrorCode)}, "kind": {*ALERTS, *get_args(DriftKind)}}


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana" / "aliciacfg.json").read_text())


def rules() -> list[dict[str, Any]]:
    (group,) = YAML(typ="safe").load(DEPLOY / "prometheus" / "aliciacfg.rules.yml")["groups"]
    return group["rules"]


def expressions(document: Any) -> Iterator[str]:
    """Every query, wherever it stands."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in {"expr", "query"} and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(document, list):
        for item in document:
            yield from expressions(item)


QUERIES = [query for query in [*expressions(dashboard()), *expressions(rules())] if query != "prometheus"]


@pytest.fixture
async def exposed(tmp_path: Path) -> dict[str, set[str]]:
    """The labels of every series that ``/metrics`` has after a request or two, by name."""
    async with core(tmp_path, {"environments/dev.yaml": {"services": {"bell": {}}}}) as made:
        made.parts.service.health.metrics.meter("get", "mqtt").answered(0.1)
        made.parts.service.health.metrics.accessed("bell")
        made.parts.alerts.raise_("open_access", "everybody")
        text, _ = await made.parts.service.health.exposition("")
    found: dict[str, set[str]] = {"up": set()}
    for name, labels in series(text):
        found.setdefault(name, set()).update(label for label, _ in labels)
    return found


async def test_every_query_is_about_a_metric_that_exists(exposed: dict[str, set[str]]):
    """Names, labels, and the values of outcomes and kinds; and every metric of the daemon is in some query."""
    asked = set[str]()
    for query in QUERIES:
        names = re.findall(r"\b(?:up\b|(?:aliciacfg|process)_\w+)", query)
        assert names, query
        assert set(names) <= exposed.keys(), query
        labels = OF_THE_SCRAPE.union(*(exposed[name] for name in names))
        for label, value in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"", query):
            assert label in labels, query
            if label in LABEL_VALUES:
                assert set(value.split("|")) <= LABEL_VALUES[label], query
        for grouped in re.findall(r"\bby \(([^)]*)\)", query):
            assert set(grouped.split(", ")) <= labels, query
        asked.update(names)
    own = {name for name in exposed if name.startswith("aliciacfg_")}
    assert {re.sub("_(sum|count)$", "_bucket", name) for name in own} == {
        name for name in asked if name.startswith("aliciacfg_")
    }


def test_each_alert_is_told_and_has_its_remedy():
    """A severity, a summary and a description; its runbook is a heading of the guide, and no heading is left over."""
    headings = re.findall(r"^### (\w+)$", GUIDE, re.MULTILINE)
    assert [rule["alert"] for rule in rules()] == headings
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        notes = rule["annotations"]
        assert notes["runbook"] == f"docs/how-to/monitoring.md#{rule['alert'].lower()}"
        assert notes["summary"]
        assert notes["description"].endswith(".")


def test_the_dashboard_can_be_loaded_anywhere():
    """Its data source is a variable, and ids and places of the panels do not overlap."""
    made = dashboard()
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert made["templating"]["list"][0]["type"] == "datasource"
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in made["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert all(panel["description"] and panel["targets"] for panel in panels)
