"""The base contract: one source for the Structs and the JSON Schema, and schemas out of Structs."""

import copy
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from aliciacfg.documents import find, normalise
from aliciacfg.schemas.base_contract import BaseContract, struct_schema
from aliciacfg.schemas.schema_check import schema_problems
from aliciacfg.schemas.service_schema import ServiceSchema
from builders import valid_config

VALID = valid_config(service_name="a", version="1.0.0", environment="dev", mqtt_config={"password": "p"})
BASE = ServiceSchema(None, title="base")


def changed(path: str, value: object) -> dict[str, Any]:
    """The valid document with one place set, or dropped by ``...``."""
    document = copy.deepcopy(VALID)
    *parents, last = path.split("/")
    inner = document
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("service_name", "other"), ("mqtt_config/port", 1), ("mqtt_config/port", 65535), ("api_config/port", 8080.0),
        ("mqtt_config/keepalive", 0), ("mqtt_config/keepalive", 65535), ("mqtt_config/tls_enabled", True),
        ("features", {}), ("features", {"a": True, "b": False}), ("limits", {"a": 1, "b": 1.5, "c": -3}),
        ("api_config/extra", {"anything": [1]}), ("settings", {"a": 1}), ("unknown", "x"),
        ("api_config/host", "x" * 255), ("mqtt_config", ...), ("api_config", ...),
    ],
)  # fmt: skip
def test_documents_that_meet_the_contract(path: str, value: object):
    """The Structs and the JSON Schema made of them both take it; unknown members are ignored."""
    document = normalise(changed(path, value))
    assert isinstance(document, dict)
    assert BASE.findings(document) == []
    msgspec.convert(document, BaseContract)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("service_name", ...), ("version", ...), ("environment", ...), ("mqtt_config", None), ("api_config", None),
        ("mqtt_config/host", ...), ("mqtt_config/port", ...), ("mqtt_config/username", ...),
        ("mqtt_config/password", ...), ("api_config/host", ...), ("api_config/port", ...),
        ("mqtt_config/host", ""), ("mqtt_config/host", "x" * 256),
        ("mqtt_config/port", 0), ("mqtt_config/port", 65536), ("mqtt_config/port", "1883"), ("mqtt_config/port", 1.5),
        ("mqtt_config/port", True), ("mqtt_config/username", ""), ("mqtt_config/password", ""), ("service_name", 1),
        ("mqtt_config/password", 12345), ("mqtt_config/tls_enabled", "yes"), ("mqtt_config/tls_enabled", 1),
        ("mqtt_config/keepalive", -1), ("mqtt_config/keepalive", 65536), ("mqtt_config", []), ("api_config", "h"),
        ("features", {"a": 1}), ("features", ["a"]), ("limits", {"a": "1"}), ("limits", {"a": True}), ("limits", []),
        ("settings", "x"), ("settings", [1]), ("settings", 5), ("settings", True),
        ("version", 1.5), ("environment", None),
    ],
)  # fmt: skip
def test_documents_that_break_the_contract(path: str, value: object):
    """The Structs and the JSON Schema both refuse it, and the problem is at the very place."""
    document = changed(path, value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, BaseContract)
    (problem,) = BASE.findings(document)
    assert problem.pointer == f"/{path}" or problem.pointer.startswith(f"/{path}/")


def test_the_contract_has_the_defaults_it_promises():
    """TLS off, keepalive 60, and no features or limits."""
    assert BASE.defaults == {"mqtt_config": {"tls_enabled": False, "keepalive": 60}, "features": {}, "limits": {}}


def test_the_password_is_the_secret_of_the_contract():
    """It is marked, and nothing else of the contract is."""
    assert BASE.secrets(VALID) == {"/mqtt_config/password": "p"}


class Tone(msgspec.Struct, frozen=True):
    hertz: Annotated[int, Meta(ge=20, le=20_000)] = 440


class Bell(msgspec.Struct, frozen=True):
    ring_seconds: Annotated[int, Meta(ge=1, description="How long the bell rings.")]
    tone: Tone = Tone()
    pin: Annotated[str, Meta(extra_json_schema={"x-sensitive": True})] | msgspec.UnsetType = msgspec.UNSET


def test_a_struct_becomes_a_schema_that_is_taken():
    """Its constraints, nested Structs, defaults and annotations count under settings."""
    exported = struct_schema(Bell)
    assert schema_problems(exported, title="bell") == []
    schema = ServiceSchema(exported, title="bell")
    document = {**VALID, "settings": {"ring_seconds": 0, "tone": {"hertz": 5}, "pin": "0000"}}
    assert [problem.pointer for problem in schema.findings(document)] == [
        "/settings/ring_seconds",
        "/settings/tone/hertz",
    ]
    assert [problem.pointer for problem in schema.findings(VALID)] == ["/settings"]
    assert schema.defaults["settings"] == {"tone": {"hertz": 440}}
    assert schema.secrets(document) == {"/mqtt_config/password": "p", "/settings/pin": "0000"}


def test_the_exported_schema_says_its_version_and_name():
    """What a schema file needs: the dialect, a title, a semantic version."""
    exported = struct_schema(Bell)
    assert (exported["title"], exported["version"]) == ("Bell", "1.0.0")
    assert find(exported, "/$schema") == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("what", [int, "Bell", Bell(1), None, dict])
def test_only_a_struct_can_be_exported(what: object):
    """Anything else is a TypeError, which the command line turns into a message."""
    with pytest.raises(TypeError, match="Struct"):
        struct_schema(what)
