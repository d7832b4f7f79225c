"""Authorization across the whole daemon: no caller gains rights, values or an account that the rules do not give.

SECURITY.md says what is protected against whom.
"""

import socket
from collections.abc import Callable

from callers import RULES, bearing, token
from commands import aliciacfg
from daemons import Daemon
from machine import SECONDS

# The services of its daemons.
HOME_SERVICES = ("tts_service", "voice_router")


def test_no_writer_makes_himself_a_person_of_the_rules(make_daemon: Callable[..., Daemon]):
    """A configuration under an administrator's name would bring its password along."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [dashboard]\n")
    daemon.start()
    writer = bearing(daemon, token(daemon, "panel", role="writer"))
    document = writer("GET", "/config/voice_router").json["config"]
    for name in ("operator", "dashboard"):
        mine = {**document, "service_name": name, "mqtt_config": {**document["mqtt_config"], "password": "chosen"}}
        refused = writer("PUT", f"/config/{name}", mine)
        assert (refused.status, refused.json["code"]) == (403, "forbidden"), refused.body
    # Nor one that a file may name some day, with a password that he knows; with the files' own he may.
    later = {**mine, "service_name": "newone", "mqtt_config": {**mine["mqtt_config"], "username": "newone"}}
    assert writer("PUT", "/config/newone", later).status == 403
    later["mqtt_config"]["password"] = "alicia-dev-only"
    assert writer("PUT", "/config/newone", later).status == 201


def test_a_writer_of_a_service_does_not_become_it(make_daemon: Callable[..., Daemon]):
    """Its account at the broker is its own and administrators': by no operation does a writer change it."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(
        "services:\n  tts_service:\n    write: {allowed_services: [voice_router, tts_service]}\nadmins: [operator]\n"
    )
    daemon.start()
    router, own, admin = (bearing(daemon, token(daemon, name)) for name in ("voice_router", "tts_service", "operator"))
    path = "/config/tts_service"
    assert router("PATCH", path, {"limits": {"x": 1}}).status == 200
    for change in ({"password": "known"}, {"username": "voice_router"}, {"host": "elsewhere"}, {"port": 1884}):
        refused = router("PATCH", path, {"mqtt_config": change})
        assert (refused.status, "broker login" in refused.json["message"]) == (403, True), refused.body
    document = router("GET", path).json["config"]
    document["mqtt_config"]["password"] = "known"
    assert router("PUT", path, document).status == 403
    assert router("PATCH", f"{path}?dry_run=true", {"mqtt_config": {"password": "known"}}).status == 403
    update = {"service": "tts_service", "patch": {"mqtt_config": {"password": "known"}}}
    answered = router("POST", "/configs/batch", {"updates": [update]}).json
    assert (answered["applied"], answered["results"][0]["code"]) == (0, "forbidden")
    # Where it has no configuration yet, that of the files counts, though they lack the password.
    staging = router("PATCH", f"{path}?environment=staging", {"mqtt_config": {"password": "known"}})
    assert staging.status in {403, 422}, staging.body
    assert admin("GET", f"{path}?environment=staging").status == 404
    # The service itself may, and an administrator; what would put it back to what the writer knows is refused again.
    assert own("PATCH", path, {"mqtt_config": {"password": "its own"}}).status == 200
    assert admin("PATCH", path, {"mqtt_config": {"password": "an administrator's"}}).status == 200
    for method, place, body in (
        ("POST", f"{path}/rollback", {"revision": 2}),
        ("POST", f"{path}/unset", {"pointer": "/mqtt_config"}),
        ("DELETE", path, None),
    ):
        assert router(method, place, body).status == 403, place
    # Left as it is, redacted, it is no change.
    document = router("GET", path).json["config"]
    assert router("PUT", path, {**document, "limits": {**document["limits"], "y": 1}}).status == 200
    entries = admin("GET", "/audit?limit=1000").json["entries"]
    refused = [entry for entry in entries if (entry["who"], entry["outcome"]) == ("voice_router", "refused")]
    assert {"patch", "set", "batch", "rollback", "unset", "delete"} <= {entry["operation"] for entry in refused}


def test_a_token_that_ends_while_it_waits_gets_nothing(make_daemon: Callable[..., Daemon]):
    """A token revoked during a long poll is refused when the configuration changes."""
    secret = "planted-after-revocation"
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(
        "services:\n  tts_service: {secrets: plaintext}\nadmins: [operator]\n"
    )
    daemon.start()
    text = token(daemon, "tts_service")
    admin, own = bearing(daemon, token(daemon, "operator")), bearing(daemon, text)
    etag = own("GET", "/config/tts_service").headers["ETag"]
    host, port = daemon.url.removeprefix("http://").split(":")
    head = [
        "GET /config/tts_service?wait_seconds=10 HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {text}",
        f"If-None-Match: {etag}", "Connection: close", "", "",
    ]  # fmt: skip
    with socket.create_connection((host, int(port)), SECONDS) as poll:
        poll.sendall("\r\n".join(head).encode())
        # What came after it was answered, so that it waits.
        assert daemon.http("GET", "/health").status == 200
        assert aliciacfg(daemon, "token", "revoke", text.split("_")[1]).returncode == 0
        assert admin("PATCH", "/config/tts_service", {"settings": {"azure_speech_key": secret}}).status == 200
        answer = b""
        while part := poll.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert secret.encode() not in answer


def test_health_tells_nobodys_values(daemon: Daemon):
    """Everyone may know what is wrong in which line; the value, and a name of no schema, are in the file alone."""
    place = "/services/tts_service/limits/requests_per_minute"
    edited = aliciacfg(daemon, "file", "set", "environments/dev.yaml", place, '"private-value"', "--force")
    assert edited.returncode == 0
    refused = daemon.http("POST", "/reload")
    assert (refused.status, b"environments/dev.yaml:" in refused.body) == (422, True), refused.body
    health = daemon.http("GET", "/health")
    assert "validation_failed" in health.json["alerts"]
    for told in (refused.body, health.body):
        assert b"private-value" not in told
        assert b"requests_per_minute" not in told
