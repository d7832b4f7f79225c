"""The OpenAPI and the AsyncAPI document: valid, complete, served as they are written, with examples that are real."""

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import jsonschema_rs
import pytest

import recording
from aliciacfg.http import openapi
from aliciacfg.http.pages import pages
from aliciacfg.http.server import HttpServer, HttpSettings
from aliciacfg.mqtt import asyncapi, topics
from aliciacfg.operations.table import BY_NAME, OPERATIONS
from api_documents import OPENAPI, closed
from repository import ROOT

ASYNCAPI = json.loads((ROOT / "docs" / "asyncapi.json").read_text())
REMEDY = "run make api-documents"


def problems(schema: dict[str, Any], value: Any, document: dict[str, Any]) -> list[str]:
    """What is wrong with a value by a schema of a document."""
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": document["components"], **schema}
    validator = jsonschema_rs.validator_for(whole, offline=True)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


def media(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every request body and answer of an OpenAPI document with its place."""
    found: dict[str, Any] = dict(document["components"]["responses"])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found[f"{method} {path}"] = operation.get("requestBody", {})
            found |= {f"{method} {path} {status}": one for status, one in operation["responses"].items()}
    for place, one in found.items():
        for kind, content in one.get("content", {}).items():
            yield f"{place} {kind}", content


def test_the_files_are_what_the_table_says():
    """docs/openapi.json and docs/asyncapi.json are what the generators write now."""
    for name, content in recording.documents().items():
        assert (ROOT / "docs" / name).read_bytes() == content, REMEDY


def test_openapi_is_valid():
    """By the OpenAPI 3.1 validator, with every operation of the table."""
    # Half a second, for this test alone.
    import openapi_spec_validator

    openapi_spec_validator.validate(OPENAPI)
    for row in OPERATIONS:
        assert row.method.lower() in OPENAPI["paths"][openapi.path_of(row)]


def test_asyncapi_is_valid():
    """By the JSON Schema of AsyncAPI 3.0.0."""
    schema = json.loads((ROOT / "tests" / "data" / "asyncapi-3.0.0.json").read_text())
    assert [error.message for error in jsonschema_rs.validator_for(schema, offline=True).iter_errors(ASYNCAPI)] == []


def test_every_reference_leads_somewhere():
    """Every $ref of both documents names a part of its own document."""
    for document in (OPENAPI, ASYNCAPI):
        for reference in set(
            re.findall(r'"\$ref":"#/(components|channels)([^"]+)"', json.dumps(document, separators=(",", ":")))
        ):
            found: Any = document
            for part in "".join(reference).split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]


def test_every_route_is_in_openapi():
    """Every route and method of the HTTP server, except those of the console and of the files of pages."""
    adapter = HttpServer(
        MagicMock(),
        HttpSettings("127.0.0.1", 0),
        published_key=dict[str, str],
        pages=pages(openapi=lambda: b"", asyncapi=lambda: b""),
    )
    documented = {
        (method.upper(), re.sub(r"\{\w+\}", "{name}", path))
        for path, item in OPENAPI["paths"].items()
        for method in item
    }
    others = ("/docs/", "/local/", "/console/")
    assert {
        (method, path)
        for method, path in adapter.routes
        if path not in {"/", "/console"} and not path.startswith(others)
    } == documented


def test_every_operation_has_a_channel_of_each_form_and_every_own_topic_has_one():
    """With and without a requester; and all that the daemon itself says or hears."""
    addresses = {channel["address"]: channel for channel in ASYNCAPI["channels"].values()}
    for row in OPERATIONS:
        if row.name != "health":
            form = f"alicia/config/{row.name}" + (f"/{{{row.target}}}" if row.target else "")
            assert {form, f"{form}/{{requester}}"} <= addresses.keys()
    whole = {value for name, value in vars(topics).items() if name.isupper() and str(value).startswith("alicia/")}
    assert {address for address in whole if not address.endswith("/")} <= addresses.keys()
    for name in topics.OWN:
        assert any(address and address.startswith(topics.CONFIG + name) for address in addresses)


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_every_operation_has_a_real_example_over_each_transport(row: Any):
    """A success of its own over HTTP and over MQTT; tests/support/recording.py asks for them.

    Its broker proves nobody, so over MQTT what needs a proof is refused.
    """
    assert [one for one in openapi.recorded() if one.operation == row.name and one.status < 300]
    channel = "health_check" if row.name == "health" else row.name
    refused = row.needs == "own"
    assert [one for one in asyncapi.recorded() if one.channel == channel and (one.answer_status == "error") == refused]


def test_every_field_is_described():
    """Every parameter and every member of a body says what it means."""
    for path, item in OPENAPI["paths"].items():
        for method, operation in item.items():
            for parameter in operation.get("parameters", []):
                assert "description" in parameter, (method, path, parameter["name"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name, schema in content["schema"].get("properties", {}).items():
                    assert "description" in json.dumps(schema), (method, path, name)


def test_every_openapi_example_fits_its_schema():
    """Answers and bodies, with schemas closed: what is undeclared would show."""
    document, count = closed(OPENAPI), 0
    for place, content in media(document):
        for name, example in content.get("examples", {}).items():
            assert problems(content["schema"], example["value"], document) == [], (place, name)
            count += 1
    assert count >= len(OPERATIONS)


def test_every_asyncapi_example_fits_its_schema():
    """Payloads bare and wrapped, with schemas closed: what is undeclared would show."""
    document, count = closed(ASYNCAPI), 0
    for message in document["components"]["messages"].values():
        kinds = message["payload"].get("anyOf", [message["payload"]])
        bare = {"anyOf": [kind for kind in kinds if kind != {"$ref": "#/components/schemas/Envelope"}]}
        for example in message.get("examples", []):
            payload = example["payload"]
            assert problems(message["payload"], payload, document) == [], (message["name"], example["name"])
            if len(kinds) > 1 and "message_id" in payload:
                assert problems(bare, payload["payload"], document) == [], (message["name"], example["name"])
            count += 1
    assert count >= len(OPERATIONS)


def test_what_needs_a_token_once_there_are_rules_says_so():
    """Every operation that can be refused for a missing one, and the metrics; nothing else."""
    for path, item in OPENAPI["paths"].items():
        for method, operation in item.items():
            named = path in {
                "/health",
                "/ready",
                "/whoami",
                "/keys/current",
                "/openapi.json",
                "/asyncapi.json",
                "/docs",
            }
            assert ("401" in operation["responses"]) is not named, (method, path)
            assert (operation.get("security") == []) is named, (method, path)


def test_every_recorded_status_is_declared():
    """Also that of an exchange whose answer is no example."""
    for one in openapi.recorded():
        item = (
            OPENAPI["paths"][openapi.path_of(BY_NAME[one.operation])] if one.operation else OPENAPI["paths"][one.path]
        )
        assert str(one.status) in item[one.method.lower()]["responses"], one


def test_no_example_shows_a_secret():
    """Passwords that the recording writes show as *** in every answer."""
    planted = "for-examples-only"
    assert planted in json.dumps(recording.FILES)
    answers = [one.answer for one in (*openapi.recorded(), *asyncapi.recorded())]
    seen = [one.payload for one in asyncapi.recorded() if one.channel in {step.channel for step in recording.SEEN}]
    assert planted not in str([answers, seen])
    assert "***" in str(answers)
