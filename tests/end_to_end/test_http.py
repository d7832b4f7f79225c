"""The operations over HTTP, with a real daemon and a real socket."""

import asyncio
import json
import socket
import urllib.parse
from typing import Any

import pytest

from aliciacfg.sealing.boxes import PublicKey
from daemons import Daemon, HttpAnswer
from repository import SERVICES


def test_a_current_etag_is_answered_with_304(shared: Daemon):
    """If-None-Match with the current ETag gives 304 without a body, with another one the document."""
    first = shared.http("GET", "/config/voice_router")
    etag = first.headers["ETag"]
    again = shared.http("GET", "/config/voice_router", headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert shared.http("GET", "/config/voice_router", headers={"If-None-Match": '"other"'}).status == 200
    assert shared.http("GET", "/config/stt_service").headers["ETag"] != etag


def test_the_etag_changes_with_the_revision(shared: Daemon):
    """A write returns the ETag of the next get."""
    before = shared.http("GET", "/config/discovery_service").headers["ETag"]
    written = shared.http("PATCH", "/config/discovery_service", {"settings": {"scan_timeout_seconds": 21}})
    assert written.status == 200
    assert written.headers["ETag"] == shared.http("GET", "/config/discovery_service").headers["ETag"] != before


def test_if_match_guards_a_write(shared: Daemon):
    """A write succeeds with the current ETag, the current revision in quotes, or *; anything else is 412."""
    path = "/config/ha_bridge"

    def patch(seconds: int, if_match: str) -> HttpAnswer:
        return shared.http(
            "PATCH", path, {"settings": {"discovery_interval_seconds": seconds}}, headers={"If-Match": if_match}
        )

    current = shared.http("GET", path)
    assert patch(61, current.headers["ETag"]).status == 200
    stale = patch(62, current.headers["ETag"])
    assert (stale.status, stale.json["code"]) == (412, "conflict")
    assert stale.json["revision"] == current.json["revision"] + 1
    assert stale.json["checksum"] == shared.config("ha_bridge")["checksum"]
    assert patch(62, f'"{current.json["revision"] + 1}"').status == 200
    assert patch(63, f'"{current.json["revision"] + 1}"').status == 412
    assert patch(63, "*").status == 200
    assert patch(64, '"nonsense"').status == 412


def test_if_none_match_star_means_must_not_exist(shared: Daemon):
    """PUT with If-None-Match: * creates a configuration once; If-Match: * requires that it exists."""
    document = {**shared.config("voice_router")["config"]}
    document["service_name"] = "new_service"
    document["mqtt_config"] = {**document["mqtt_config"], "password": "fresh-password"}
    assert shared.http("PUT", "/config/new_service", document, headers={"If-Match": "*"}).status == 412
    created = shared.http("PUT", "/config/new_service", document, headers={"If-None-Match": "*"})
    assert (created.status, created.json["revision"]) == (201, 1)
    again = shared.http("PUT", "/config/new_service", document, headers={"If-None-Match": "*"})
    assert (again.status, again.json["revision"]) == (412, 1)
    gone = shared.http("DELETE", "/config/new_service")
    assert (gone.status, gone.json["remains"], gone.json["revision"]) == (200, False, 2)
    assert shared.http("GET", "/config/new_service").status == 404


def test_expected_revision_conflicts_with_409(shared: Daemon):
    """As a query parameter, a condition that fails is 409 with the current revision."""
    current = shared.config("sonos_service")
    answer = shared.http("PATCH", "/config/sonos_service?expected_revision=999", {"limits": {"x": 1}})
    assert answer.status == 409
    assert answer.json["revision"] == current["revision"]
    assert answer.json["checksum"] == current["checksum"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing/here", None, 404, "not_found"),
        ("GET", "/nothing", None, 404, "not_found"),
        ("POST", "/configs", {}, 405, "invalid_request"),
        ("GET", "/config/nobody", None, 404, "not_found"),
        ("GET", "/config/a%20b", None, 400, "invalid_request"),
        ("GET", "/config/..%2Fetc", None, 400, "invalid_request"),
        ("GET", "/config/%00", None, 400, "invalid_request"),
        ("GET", "/config/voice_router?environment=nowhere", None, 404, "not_found"),
        ("GET", "/config/voice_router?environment=..", None, 400, "invalid_request"),
        ("GET", "/config/voice_router?revision=99", None, 404, "not_found"),
        ("GET", "/config/voice_router?revision=zero", None, 400, "invalid_request"),
        ("GET", "/config/voice_router?frob=1", None, 400, "invalid_request"),
        ("GET", "/config/voice_router?revision=1&revision=1", None, 400, "invalid_request"),
        ("GET", "/configs?limit=0", None, 400, "invalid_request"),
        ("PUT", "/config/voice_router", [1], 400, "invalid_request"),
        ("PUT", "/config/voice_router", {"settings": {"max_sessions": "ten"}}, 422, "validation_failed"),
        ("POST", "/config/voice_router/unset", {"pointer": "limits"}, 400, "invalid_request"),
        ("POST", "/config/voice_router/unset", {"pointer": "/limits", "frob": 1}, 400, "invalid_request"),
        ("POST", "/config/voice_router/unset", {}, 400, "invalid_request"),
        ("POST", "/config/validate", {"config": {}}, 400, "invalid_request"),
        ("GET", "/config/schema/nobody", None, 404, "not_found"),
        ("DELETE", "/config/nobody", None, 404, "not_found"),
    ],
)
def test_every_refusal_is_the_error_object_with_its_status(
    shared: Daemon, method: str, path: str, body: object, status: int, code: str
):
    """For unknown routes and methods too: JSON with a code and a message."""
    answer = shared.http(method, path, body)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.json["status"] == "error"
    assert answer.json["message"]
    assert answer.headers["Content-Type"].startswith("application/json")


def test_an_unknown_key_in_a_body_is_refused_by_name(shared: Daemon):
    """The message has the misspelled name and the known ones."""
    answer = shared.http("POST", "/config/voice_router/unset", {"pointer": "/limits/x", "expected_revison": 1})
    assert "expected_revison" in answer.json["message"]
    assert "expected_revision" in answer.json["message"]


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
        (b'{"limits": {"a": 1}}', "application/merge-patch+json", 200),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"a": "' + b"x" * 300_000 + b'"}', "application/json", 413),
    ],
)
def test_bodies_are_json_of_a_limited_size(shared: Daemon, raw: bytes, content_type: str, status: int):
    """Other media types are 415, broken JSON is 400, too much is 413."""
    answer = shared.http("PATCH", "/config/grok_integration", raw=raw, headers={"Content-Type": content_type})
    assert answer.status == status, answer.body


def test_a_chunked_body_is_refused_at_its_limit(shared: Daemon):
    """Without a Content-Length the limit is enforced while reading."""
    host, port = shared.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(
            f"PUT /config/tts_service HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        head = b""
        try:
            for _ in range(8):
                connection.sendall(chunk)
        except OSError:
            pass
        head = connection.recv(4096)
    assert b" 413 " in head.split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:8026"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8026"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_web_page_of_another_site_cannot_drive_the_daemon(shared: Daemon, headers: dict[str, str], status: int):
    """Another Origin or an unknown Host (DNS rebinding) is 403; loopback names are accepted."""
    answer = shared.http("GET", "/config/voice_router", headers=headers)
    assert answer.status == status
    if status == 403:
        assert answer.json["code"] == "forbidden"


def test_the_daemons_own_origin_is_accepted(shared: Daemon):
    """So the page at /docs can send requests."""
    assert shared.http("GET", "/config/voice_router", headers={"Origin": shared.url}).status == 200


def test_list_schema_validate_environments_and_ready_answer(shared: Daemon):
    """The operations that read have the documented fields."""
    configs = shared.http("GET", "/configs?limit=1000").json["configs"]
    assert [item["service"] for item in configs if item["service"] in SERVICES] == SERVICES
    schema = shared.http("GET", "/config/schema/voice_router").json
    assert schema["version"] == "1.0.0"
    assert "mqtt_config" in json.dumps(schema["schema"])
    body: dict[str, Any] = {"service": "voice_router", "config": {"limits": {"a": "b"}, "frob": True}}
    checked = shared.http("POST", "/config/validate", body)
    assert (checked.status, checked.json["valid"]) == (200, False)
    assert {"/limits/a", "/settings"} <= {problem["pointer"] for problem in checked.json["problems"]}
    body["config"] = shared.config("voice_router")["config"]
    assert shared.http("POST", "/config/validate", body).json == {
        "status": "success",
        "request_id": None,
        "valid": True,
        "problems": [],
    }
    environments = shared.http("GET", "/environments").json
    assert environments["active"] == "dev"
    by_name = {item["name"]: item for item in environments["environments"]}
    assert set(by_name) == {"dev", "staging", "prod"}
    assert by_name["dev"]["problems"] == []
    assert by_name["prod"]["protected"]
    assert by_name["prod"]["problems"], "without its secrets prod cannot be activated, and says why"
    assert shared.http("GET", "/ready").json["ready"] is True


def test_the_public_key_is_published(shared: Daemon):
    """The same key as on the bus, with its id, and nothing private."""
    answer = shared.http("GET", "/keys/current")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert PublicKey.from_published(answer.json).key_id == answer.json["key_id"]
    assert answer.json.keys() == {"key_id", "public_key"}
    assert shared.http("PUT", "/keys/current", {}).status == 405


def test_a_refusal_echoes_the_request_id_too(shared: Daemon):
    """From the query or the body; an id that is too long is not echoed."""
    for body in ({"pointer": 5, "request_id": "abc"}, {"pointer": "/a", "request_id": "abc"}):
        assert shared.http("POST", "/config/nobody/unset", body).json["request_id"] == "abc"
    assert shared.http("GET", "/config/nobody?request_id=" + "x" * 65).json["request_id"] is None
    assert shared.http("POST", "/config/nobody/unset", {"request_id": "x" * 65}).json["request_id"] is None


def test_a_malformed_request_is_refused_before_its_condition(shared: Daemon):
    """RFC 9110 §13.2.1: a condition counts only where the request would succeed without it."""
    answer = shared.http("POST", "/config/voice_router/unset", {"pointer": 5}, {"If-Match": '"999"'})
    assert answer.status == 400
    assert shared.http("POST", "/config/voice_router/unset", {"pointer": "/a"}, {"If-Match": '"999"'}).status == 412


def test_the_longest_comment_fits_into_a_query(shared: Daemon):
    """1,024 characters of four bytes are 12 KiB as a query parameter."""
    comment = urllib.parse.quote("\N{HOUSE BUILDING}" * 1024)
    answer = shared.http("PATCH", f"/config/voice_router?dry_run=true&comment={comment}", {})
    assert answer.status == 200


def test_request_id_is_echoed_and_limited(shared: Daemon):
    """As a query parameter it is echoed in successes and errors."""
    assert shared.config("voice_router", "?request_id=abc")["request_id"] == "abc"
    assert shared.http("GET", "/config/nobody?request_id=abc").json["request_id"] == "abc"
    assert shared.http("GET", "/config/voice_router?request_id=" + "x" * 65).status == 400


def test_an_old_revision_can_be_read(shared: Daemon):
    """With the content that it had then."""
    shared.http("PATCH", "/config/discovery_service", {"limits": {"old": 1}})
    shared.http("PATCH", "/config/discovery_service", {"limits": {"old": 2}})
    now = shared.config("discovery_service")
    assert now["config"]["limits"]["old"] == 2
    before = shared.config("discovery_service", f"?revision={now['revision'] - 1}")
    assert before["config"]["limits"]["old"] == 1
    assert before["revision"] == now["revision"] - 1


def test_if_checksum_saves_sending_the_document(shared: Daemon):
    """A get with the current checksum returns only that nothing changed."""
    now = shared.config("event_scheduler")
    same = shared.config("event_scheduler", f"?if_checksum={now['checksum']}")
    assert same["unchanged"] is True
    assert "config" not in same
    assert "config" in shared.config("event_scheduler", "?if_checksum=0")


async def test_slow_clients_do_not_delay_others(shared: Daemon):
    """Fifty connections with incomplete requests are open meanwhile."""
    host, port = shared.url.removeprefix("http://").split(":")
    slow = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
    for _, writer in slow:
        writer.write(b"GET /config/voice_router HTTP/1.1\r\nHost: ")
    try:
        answer = await asyncio.to_thread(shared.http, "GET", "/config/voice_router")
        assert answer.status == 200
    finally:
        for _, writer in slow:
            writer.close()
            await writer.wait_closed()


def test_the_root_is_the_console_and_a_refusal_names_the_documentation(shared: Daemon):
    """A person who has only the address finds the console there, and for a wrong path where the operations are."""
    answer = shared.http("GET", "/")
    assert b"<title>aliciacfg</title>" in answer.body
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'"
    )
    assert "GET /docs" in shared.http("GET", "/nothing").json["message"]
