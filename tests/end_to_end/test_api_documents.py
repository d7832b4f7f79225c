"""The OpenAPI and the AsyncAPI document and their page: served as they are written, with examples that are real."""

import json
from pathlib import Path

import pytest

import recording
from aliciacfg.http import openapi
from aliciacfg.mqtt import asyncapi
from daemons import Daemon
from repository import ROOT

REMEDY = "run make api-documents"


@pytest.mark.sqlite("the examples are those of a single daemon")
async def test_the_examples_are_what_a_daemon_answers(tmp_path: Path):
    """Recorded again from a real daemon on a real broker, every exchange is the same, volatile members scrubbed."""
    over_http, over_mqtt = await recording.record(tmp_path)
    assert over_http == openapi.recorded(), REMEDY
    assert over_mqtt == asyncapi.recorded(), REMEDY


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_the_daemon_serves_the_documents(shared: Daemon, name: str):
    """The same document as the file, as JSON, and not again to who has it."""
    answer = shared.http("GET", f"/{name}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == json.loads((ROOT / "docs" / name).read_text())
    assert shared.http("GET", f"/{name}", headers={"If-None-Match": answer.headers["ETag"]}).status == 304


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/docs", "text/html"), ("/docs/page.css", "text/css"), ("/docs/start.js", "text/javascript"),
        ("/docs/icon.svg", "image/svg+xml"), ("/docs/swagger-ui.css", "text/css"),
        ("/docs/swagger-ui-bundle.js", "text/javascript"),
    ],
)  # fmt: skip
def test_the_page_and_its_assets_are_served(shared: Daemon, path: str, content_type: str):
    """Each with its type, never sniffed, and not again to who has it."""
    answer = shared.http("GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Type"].partition(";")[0] == content_type
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = shared.http("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
