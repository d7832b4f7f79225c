"""Conditional writes: the expected revision is compared before anything is changed."""

from typing import Any

import pytest

from builders import valid_config
from daemons import Daemon, HttpAnswer
from transports import TRANSPORTS, asking, request

CONFIG = valid_config(settings={"volume": 1})
WRITES: list[tuple[str, dict[str, Any]]] = [
    ("set", {"config": {**CONFIG, "settings": {"volume": 7, "loud": True}}}),
    ("patch", {"patch": {"settings": {"volume": 7}}}),
    ("unset", {"pointer": "/settings/loud"}),
    ("rollback", {"revision": 1}),
    ("delete", {}),
]
NAMES = [name for name, _ in WRITES]


@pytest.fixture
def bell(shared: Daemon, request: pytest.FixtureRequest) -> str:
    """A service that only this test uses, at its second revision."""
    name = "bell_" + "".join(c if c.isalnum() else "_" for c in request.node.name)[-50:]
    assert request_ok(shared, "set", name, config=CONFIG)["revision"] == 1
    assert request_ok(shared, "patch", name, patch={"settings": {"loud": True}})["revision"] == 2
    return name


def request_ok(daemon: Daemon, operation: str, name: str, **fields: Any) -> dict[str, Any]:
    answer = request(daemon, operation, name, **fields)
    assert answer.status in {200, 201}, answer.body
    return answer.json


@pytest.mark.parametrize(("operation", "fields"), WRITES, ids=NAMES)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_write_is_refused_unless_the_revision_is_the_expected_one(
    shared: Daemon, bell: str, transport: str, operation: str, fields: dict[str, Any]
):
    """Lower, higher and 0 are conflicts with the current revision and checksum, and change nothing."""
    before = shared.config(bell)
    async with asking(shared, transport) as ask:
        for expected in (0, 1, 3, 2**63 - 1):
            for trial in (True, False):
                refused = await ask(operation, bell, **fields, expected_revision=expected, dry_run=trial)
                assert (refused["status"], refused["code"]) == ("error", "conflict")
                assert (refused["revision"], refused["checksum"]) == (2, before["checksum"])
        assert shared.config(bell) == before
        done = await ask(operation, bell, **fields, expected_revision=2)
        assert (done["status"], done["revision"]) == ("success", 3)


@pytest.mark.parametrize(("operation", "fields"), WRITES, ids=NAMES)
def test_headers_are_conditions_of_every_write(shared: Daemon, bell: str, operation: str, fields: dict[str, Any]):
    """If-Match holds with the ETag, the revision, a list or *; otherwise it is 412 with the current revision."""
    current = shared.http("GET", f"/config/{bell}")
    etag = current.headers["ETag"]
    stale = ('"1"', '"3"', '"0"', '"nonsense"', f"W/{etag}", 'W/"2"', '"-1"', '"9999999999999999999999"', "")
    for tag in stale:
        refused = request(shared, operation, bell, headers={"If-Match": tag}, **fields)
        assert (refused.status, refused.json["code"]) == (412, "conflict"), tag
        assert (refused.json["revision"], refused.json["checksum"]) == (2, current.json["checksum"])
    refused = request(shared, operation, bell, headers={"If-None-Match": "*"}, **fields)
    assert (refused.status, refused.json["revision"]) == (412, 2)
    assert shared.config(bell) == current.json
    for tag in (etag, '"2"', "*", f'"other", {etag}', '"1" , "2"'):
        assert request(shared, operation, bell, headers={"If-Match": tag}, dry_run=True, **fields).status == 200, tag
    assert request(shared, operation, bell, headers={"If-Match": etag}, **fields).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": '"2"', "If-None-Match": "*"},
        {"If-None-Match": '"2"'},
        {"If-None-Match": "W/*"},
    ],
    ids=str,
)
def test_meaningless_conditions_are_refused(shared: Daemon, bell: str, headers: dict[str, str]):
    """Two conditions, or a tag in If-None-Match, are 400."""
    refused = request(shared, "patch", bell, headers=headers, patch={"settings": {"volume": 9}})
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    assert shared.config(bell)["revision"] == 2


def test_a_field_and_a_header_exclude_each_other(shared: Daemon, bell: str):
    """A condition is sent once."""
    refused = request(shared, "delete", bell, headers={"If-Match": '"2"'}, expected_revision=2)
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("operation", "name", "fields"),
    [("batch", "", {"updates": [{"service": "x", "patch": {}}]}), ("activate", "dev", {}), ("reload", "", {})],
    ids=["batch", "activate", "reload"],
)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_operations_on_several_configurations_take_no_condition(
    shared: Daemon, operation: str, name: str, fields: dict[str, Any], header: str
):
    """A condition that cannot be compared is refused, not ignored."""
    refused = request(shared, operation, name, headers={header: "*"}, **fields)
    assert (refused.status, refused.json["code"]) == (400, "invalid_request")
    assert "omit If-Match" in refused.json["message"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/config/voice_router?environment=moon", 404),
        ("/config/voice_router?environment=a%20b", 400),
        ("/config/history", 400),
        ("/config/-", 400),
        ("/config/voice_router?dry_run=perhaps", 400),
        ("/config/voice_router?unknown=1", 400),
    ],
)
def test_every_other_mistake_is_reported_before_a_condition(shared: Daemon, path: str, status: int):
    """RFC 9110 §13.2.1: with every condition the status is that of the request without one."""
    for headers in ({"If-Match": '"9"'}, {"If-None-Match": "*"}, {}):
        assert shared.http("PATCH", path, {"settings": {}}, headers=headers).status == status


def test_must_not_exist_yet(shared: Daemon):
    """If-None-Match: * and expected_revision 0 create once; a deleted configuration does not exist."""
    name = "created_bell"
    not_yet = {"If-None-Match": "*"}
    assert request(shared, "set", name, headers={"If-Match": "*"}, config=CONFIG).status == 412
    assert request(shared, "set", name, headers={"If-Match": '"1"'}, config=CONFIG).status == 412
    assert request(shared, "set", name, headers=not_yet, config=CONFIG, dry_run=True).status == 200
    assert request(shared, "set", name, headers=not_yet, config=CONFIG).status == 201
    assert request(shared, "set", name, headers=not_yet, config=CONFIG).status == 412
    assert request(shared, "set", name, config=CONFIG, expected_revision=0).status == 409
    assert request(shared, "delete", name, headers={"If-Match": '"1"'}).status == 200
    assert request(shared, "rollback", name, headers={"If-Match": "*"}, revision=1).status == 412
    back = request(shared, "rollback", name, headers=not_yet, revision=1)
    assert (back.status, back.json["revision"]) == (201, 3)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_protected_environment_requires_the_expected_revision(shared: Daemon, transport: str):
    """A write without it is a conflict that says what to send; reads, and dry runs with it, work as elsewhere."""
    name = "protected_bell_" + transport[-1]
    async with asking(shared, transport) as ask:

        async def prod(operation: str, **fields: Any) -> dict[str, Any]:
            return await ask(operation, name, environment="prod", **fields)

        refused = await prod("set", config=CONFIG)
        assert (refused["code"], refused["revision"], refused["checksum"]) == ("conflict", 0, "")
        assert "protected" in refused["message"]
        assert "expected_revision 0" in refused["message"]
        assert (await prod("set", config=CONFIG, expected_revision=0))["revision"] == 1
        assert (await prod("patch", patch={"settings": {"loud": True}}, expected_revision=1))["revision"] == 2
        for operation, fields in WRITES:
            for trial in (True, False):
                refused = await prod(operation, **fields, dry_run=trial)
                assert (refused.get("code"), refused["revision"]) == ("conflict", 2), operation
                assert "expected_revision 2" in refused["message"]
            assert (await prod(operation, **fields, expected_revision=2, dry_run=True))["status"] == "success"
        updates = [{"service": name, "patch": {"settings": {"volume": 3}}}]
        batch = await ask("batch", environment="prod", updates=updates)
        assert [result["code"] for result in batch["results"]] == ["conflict"]
        assert (await ask("batch", environment="prod", updates=updates, atomic=True))["code"] == "conflict"
        updates[0]["expected_revision"] = 2
        assert (await ask("batch", environment="prod", updates=updates, atomic=True))["applied"] == 1
        assert (await prod("get"))["revision"] == 3
        assert (await prod("delete", expected_revision=3))["remains"] is False


def test_a_condition_header_meets_a_protected_environment(shared: Daemon):
    """If-None-Match: * for the first revision, If-Match with the revision or * for the next."""
    name = "protected_bell_header"

    def prod(operation: str, headers: dict[str, str], **fields: Any) -> HttpAnswer:
        return request(shared, operation, name, headers=headers, environment="prod", **fields)

    assert prod("set", {}, config=CONFIG).status == 409
    assert prod("set", {"If-None-Match": "*"}, config=CONFIG).status == 201
    assert prod("patch", {"If-Match": '"1"'}, patch={"settings": {"volume": 2}}).status == 200
    assert prod("patch", {"If-Match": "*"}, patch={"settings": {"volume": 3}}).status == 200
    assert prod("delete", {"If-Match": "*"}).status == 200


def test_a_trial_run_gives_no_etag_and_a_revisions_etag_is_its_own(shared: Daemon):
    """What never was cannot be a condition; and a condition said twice is refused."""
    dry = shared.http("PATCH", "/config/stt_service?dry_run=true", {"limits": {"n": 1}})
    assert "ETag" not in dry.headers
    document = shared.config("voice_router")["config"] | {"service_name": "brand_new"}
    document["mqtt_config"]["password"] = "fresh"
    assert shared.http("PUT", "/config/brand_new?dry_run=true", document).status == 200
    twice = shared.http(
        "PATCH", "/config/stt_service?expected_revision=77", {"limits": {"n": 1}}, headers={"If-Match": '"1"'}
    )
    assert twice.status == 400
    contradicting = shared.http(
        "POST", "/config/stt_service/unset?dry_run=true", {"pointer": "/limits/n", "dry_run": False}
    )
    assert contradicting.status == 400
