"""Requests that are malformed, too large or for something unknown are refused alike on every transport."""

import json
from typing import Any

import pytest

from aliciacfg.operations.table import BY_NAME, OPERATIONS
from builders import valid_config
from daemons import Daemon
from mqtt_clients import client
from transports import TRANSPORTS, asking, request

CONFIG = valid_config()
# What each operation about a service needs besides its name.
FIELDS: dict[str, dict[str, Any]] = {
    "get": {},
    "set": {"config": CONFIG},
    "patch": {"patch": {}},
    "unset": {"pointer": "/limits"},
    "delete": {},
    "validate": {"config": CONFIG},
    "schema": {},
    "history": {},
    "rollback": {"revision": 1},
    "explain": {},
    "compare": {"rev1": 1},
    "instances": {},
}
# Who may set a recipient is asked before anything else.
ABOUT_A_SERVICE = sorted(row.name for row in OPERATIONS if row.target == "service" and row.name != "recipient")
# These say what a service that nobody knows would have.
MADE_OF_NOTHING = {"set", "validate"}

TRICKS = [
    "..", "../prod-secrets", "..%2fprod-secrets", "%2e%2e", "....//", "/etc/passwd", "prod-secrets", "access", "base",
    "dev.yaml", "dev\x00", "dev/../prod", "dev\\..\\prod", "~root", "file:///etc/passwd", "%00", "dev%0a", ".hidden",
    "con\u2024fig", "schemas/tts_service", "keys.json",
]  # fmt: skip


def test_every_operation_about_a_service_is_tried_here():
    """The table and this file agree on which these are."""
    assert sorted(FIELDS) == ABOUT_A_SERVICE


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_service_is_not_found(shared: Daemon, transport: str):
    """By every operation that is about one; each names it."""
    async with asking(shared, transport) as ask:
        for operation in sorted(FIELDS.keys() - MADE_OF_NOTHING):
            answer = await ask(operation, "nobody_at_all", **FIELDS[operation])
            assert (answer["status"], answer.get("code")) == ("error", "not_found"), operation
            assert "nobody_at_all" in answer["message"], operation


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_environment_is_not_found(shared: Daemon, transport: str):
    """By every operation that takes one, also where the service is unknown, too; it is named, with those there are."""
    async with asking(shared, transport) as ask:
        for operation in ABOUT_A_SERVICE:
            for name in ("voice_router", "nobody_at_all"):
                answer = await ask(operation, name, environment="moon", **FIELDS[operation])
                assert answer.get("code") == "not_found", operation
                assert "'moon'" in answer["message"], operation
                assert "staging" in answer["message"], operation
        for operation, fields in (("list", {}), ("batch", {"updates": [{"service": "voice_router", "patch": {}}]})):
            answer = await ask(operation, environment="moon", **fields)
            assert answer.get("code") == "not_found", operation
        assert (await ask("activate", "moon"))["code"] == "not_found"
        for sides in ({"env1": "moon"}, {"env1": "dev", "env2": "moon"}):
            assert (await ask("compare", "voice_router", **sides))["code"] == "not_found"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_name_that_cannot_be_is_no_request(shared: Daemon, transport: str):
    """Of a service or an environment; a reserved word is none either."""
    async with asking(shared, transport) as ask:
        for operation in ABOUT_A_SERVICE:
            for name in ("-bell", "x" * 65, "reply", "history", "bell!"):
                answer = await ask(operation, name, **FIELDS[operation])
                assert answer.get("code") == "invalid_request", (operation, name)
            answer = await ask(operation, "voice_router", environment="base", **FIELDS[operation])
            assert answer.get("code") == "invalid_request", operation
        for name in ("base", "access", "dev-secrets", "-dev", "x" * 65):
            assert (await ask("activate", name))["code"] == "invalid_request", name


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_revision_is_not_found(shared: Daemon, transport: str):
    """By every operation that takes one; a number that cannot be one is no request."""
    asked = (("get", "revision"), ("rollback", "revision"), ("compare", "rev1"), ("compare", "rev2"))
    async with asking(shared, transport) as ask:
        for operation, field in asked:
            answer = await ask(operation, "voice_router", **{field: 4711})
            assert answer.get("code") == "not_found", operation
            assert "4711" in answer["message"], operation
            for wrong in (0, -1, 2**63, "one"):
                answer = await ask(operation, "voice_router", **{field: wrong})
                assert answer.get("code") == "invalid_request", (operation, wrong)
                assert field in answer["message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("pointer", ["settings", "/a~2", "/~", "#/settings", " /settings"])
async def test_a_malformed_pointer_is_no_request(shared: Daemon, transport: str, pointer: str):
    """RFC 6901, also of a service that is not there."""
    async with asking(shared, transport) as ask:
        for name in ("voice_router", "nobody_at_all"):
            answer = await ask("unset", name, pointer=pointer)
            assert answer["code"] == "invalid_request"
            assert repr(pointer) in answer["message"]


def test_an_unknown_member_of_an_update_is_named_over_http(shared: Daemon):
    """Every one of them, by its pointer; nothing of the batch is done."""
    before = shared.config("voice_router")
    updates = [
        {"service": "voice_router", "patch": {"limits": {"bad_input": 1}}},
        {"service": "voice_router", "patch": {}, "expected": 1, "a/b": 2},
        {"service": "voice_router", "patch": {}, "environment": "dev"},
    ]
    answer = request(shared, "batch", updates=updates, unknown=1)
    assert (answer.status, answer.json["code"]) == (400, "invalid_request")
    assert [problem["pointer"] for problem in answer.json["problems"]] == [
        "/unknown",
        "/updates/1/a~1b",
        "/updates/1/expected",
        "/updates/2/environment",
    ]
    assert shared.config("voice_router") == before


async def test_an_unknown_member_of_an_update_is_ignored_over_mqtt(shared: Daemon):
    """The bus adds its own to every message."""
    assert request(shared, "set", "bus_bell", config=CONFIG).status == 201
    async with client(shared.broker_port) as mqtt:
        updates = [{"service": "bus_bell", "patch": {"limits": {"bus": 1}}, "event_id": "x", "priority": "normal"}]
        answer = (await mqtt.ask("alicia/config/batch", {"updates": updates, "scheduled_time": 5, "source": "s"})).json
    assert (answer["applied"], answer["failed"]) == (1, 0)
    assert shared.config("bus_bell")["config"]["limits"] == {"bus": 1}


LIMITED = sorted(
    row.name for row in OPERATIONS if row.max_bytes is None and row.body != "none" and row.name != "recipient"
)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("operation", LIMITED)
async def test_a_request_is_a_little_larger_than_a_configuration_at_most(
    shared: Daemon, transport: str, operation: str
):
    """Only a batch may be longer; every other body over the limit is too large, whatever it says."""
    row = BY_NAME[operation]
    name = {"service": "voice_router", "environment": "dev", None: ""}[row.target]
    filler: dict[str, Any] = {"filler": "x" * 300_000}
    fields = {row.body: filler} if row.body in {"config", "patch"} else filler
    async with asking(shared, transport) as ask:
        answer = await ask(operation, name, **fields)
        assert (answer["status"], answer["code"]) == ("error", "too_large")
    assert request(shared, operation, name, **fields).status == 413


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_batch_over_its_limits_is_too_large(shared: Daemon, transport: str):
    """More than 100 updates, more than 4 MiB, by a little and by much; up to there it is carried out.

    Over MQTT a packet of the home has at most 2 MiB, its answer as well.
    """
    one = {"service": "sonos_service", "patch": {"limits": {"batched": 1}}}
    long = {"service": "sonos_service", "patch": {"settings": {"filler": "x" * 200_000}}}
    before = shared.config("sonos_service")
    async with asking(shared, transport) as ask:
        too_long, fitting = (([long] * 21, [long] * 25), 20) if transport == "http" else ((), 4)
        for updates in ([one] * 101, [one] * 5000, *too_long):
            answer = await ask("batch", updates=updates)
            assert (answer["status"], answer["code"]) == ("error", "too_large"), len(updates)
        assert shared.config("sonos_service") == before
        trial = await ask("batch", updates=[one] * 100, dry_run=True)
        assert trial["applied"] == 100
        trial = await ask("batch", updates=[long] * fitting, dry_run=True)
        assert (trial["applied"], trial["failed"]) == (fitting, 0)


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("list", {"limit": 0}),
        ("list", {"limit": 1001}),
        ("history", {"limit": 0}),
        ("history", {"limit": 1001}),
        ("history", {"before": 0}),
        ("history", {"before": 2**63}),
        ("compare", {}),
        ("batch", {"updates": []}),
        ("batch", {}),
        ("batch", {"updates": [{"patch": {}}]}),
        ("rollback", {}),
        ("unset", {}),
        ("reload", {"migrate": "yes"}),
        ("activate", {"dry_run": "yes"}),
    ],
    ids=str,
)
async def test_what_is_missing_or_out_of_range_is_no_request(shared: Daemon, operation: str, fields: dict[str, Any]):
    """The same code and message on every transport, in query, body and payload."""
    name = {"service": "voice_router", "environment": "dev", None: ""}[BY_NAME[operation].target]
    found: list[Any] = []
    for transport in TRANSPORTS:
        async with asking(shared, transport) as ask:
            found.append(await ask(operation, name, **fields))
    assert {answer["code"] for answer in found} == {"invalid_request"}
    assert found[0] == found[1] == found[2]


async def test_an_atomic_batch_has_the_status_of_its_first_refusal(shared: Daemon):
    """Over HTTP; the answers to all updates are there, over MQTT too."""
    good = {"service": "load_balancer", "patch": {"limits": {"good": 1}}}
    refusals: list[tuple[dict[str, Any], int]] = [
        ({"service": "nobody_at_all", "patch": {}}, 404),
        ({"service": "load_balancer", "patch": {}, "expected_revision": 99}, 409),
        ({"service": "load_balancer"}, 400),
        ({"service": "load_balancer", "config": {"limits": 5}}, 422),
    ]
    before = shared.config("load_balancer")
    for bad, status in refusals:
        answer = request(shared, "batch", updates=[good, bad, good], atomic=True)
        assert answer.status == status
        assert (answer.json["status"], answer.json["applied"], answer.json["failed"]) == ("error", 0, 3)
        assert {result["code"] for result in answer.json["results"]} == {answer.json["code"]}
        async with client(shared.broker_port) as mqtt:
            over_bus = await mqtt.ask("alicia/config/batch", json.dumps({"updates": [good, bad, good], "atomic": True}))
            assert over_bus.json == answer.json
    assert shared.config("load_balancer") == before


def test_numbers_beyond_all_measure_are_refused(shared: Daemon):
    """Revisions of twenty digits are a wrong request, not a failure of the shared."""
    assert shared.http("GET", f"/config/stt_service?revision={10**20}").status == 400
    huge = shared.http("PATCH", "/config/stt_service", {"limits": {}}, headers={"If-Match": '"' + "9" * 5000 + '"'})
    assert huge.status == 412


@pytest.mark.parametrize("name", TRICKS)
async def test_no_name_leads_to_another_file(shared: Daemon, name: str):
    """As service, environment and revision's place: refused, and nothing appears beside what is there."""
    files = sorted(path for path in shared.directory.rglob("*") if "broker" not in path.parts)
    async with client(shared.broker_port) as mqtt:
        for operation, fields in (
            ("get/tts_service", {"environment": name}),
            ("patch/tts_service", {"environment": name, "patch": {"limits": {"x": 1}}}),
            ("list", {"environment": name}),
            ("compare/tts_service", {"env1": "dev", "env2": name}),
            ("batch", {"updates": [{"service": name, "patch": {"limits": {"x": 1}}}], "atomic": True}),
            ("batch", {"updates": [{"service": "tts_service", "patch": {}}], "environment": name}),
        ):
            answer = (await mqtt.ask(f"alicia/config/{operation}", fields)).json
            assert answer["status"] == "error", (operation, answer)
            assert answer["code"] in {"invalid_request", "not_found"}, (operation, answer)
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    for method, path in (
        ("GET", f"/config/{quoted}"),
        ("GET", f"/config/schema/{quoted}"),
        ("GET", f"/config/tts_service?environment={quoted}"),
        ("POST", f"/environments/{quoted}/activate"),
        ("DELETE", f"/config/{quoted}"),
    ):
        answer = shared.http(method, path)
        assert answer.status in {400, 404}, (path, answer.body)
        assert b"root:" not in answer.body
    assert sorted(path for path in shared.directory.rglob("*") if "broker" not in path.parts) == files
