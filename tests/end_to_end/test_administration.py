"""Administrators: tokens, recipients, the audit; through the daemon's socket, over HTTP, and while none runs."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from aliciacfg.access import tokens
from aliciacfg.sealing.boxes import PrivateKey, seal_for
from callers import bearing, token, token_by_command
from commands import aliciacfg, typed
from daemons import Daemon, HttpAnswer, files_under
from machine import wait_until
from mqtt_clients import client

# The services of its daemons.
HOME_SERVICES = ("ai_service", "stt_service", "tts_service", "voice_router")

SECRET = "planted-administered-51d0"
PASSWORD = "/mqtt_config/password"


def ask(daemon: Daemon, bearer: str | None, method: str, path: str, body: object = None, **headers: str) -> HttpAnswer:
    sent = headers if bearer is None else {"Authorization": f"Bearer {bearer}", **headers}
    return daemon.http(method, path, body, sent)


def test_the_first_token_closes_the_house(daemon: Daemon):
    """Operations that were open need a token or a rule afterwards; public pages stay open."""
    assert daemon.http("GET", "/config/tts_service").status == 200
    admin = token_by_command(daemon, "operator", "--role", "admin")
    for path in ("/health", "/ready", "/openapi.json", "/asyncapi.json", "/docs", "/keys/current"):
        assert daemon.http("GET", path).status == 200, path
    for path in ("/config/tts_service", "/configs", "/audit", "/drift", "/metrics", "/environments"):
        refused = daemon.http("GET", path)
        assert (refused.status, refused.json["code"]) == (401, "unauthorized"), path
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert ask(daemon, admin, "GET", path).status == 200, path
    own = token_by_command(daemon, "tts_service")
    assert ask(daemon, own, "GET", "/config/tts_service").status == 200
    assert ask(daemon, own, "GET", "/config/stt_service").status == 403
    assert ask(daemon, own, "PATCH", "/config/tts_service", {"limits": {"x": 1}}).status == 403
    assert [item["service"] for item in ask(daemon, own, "GET", "/configs").json["configs"]] == ["tts_service"]
    writer = token_by_command(daemon, "panel", "--role", "writer")
    assert ask(daemon, writer, "PATCH", "/config/tts_service", {"limits": {"x": 1}}).status == 200
    assert ask(daemon, writer, "POST", "/reload", {}).status == 403


def test_nobody_closes_a_home_by_accident(make_daemon: Callable[..., Daemon]):
    """The first token asks at a terminal, and is refused in a script unless it administers; later ones ask nothing."""
    daemon = make_daemon().keep_services("tts_service").start()
    refused = aliciacfg(daemon, "token", "create", "ann", "--role", "reader")
    assert refused.returncode == 5
    assert "This is the first token." in refused.stderr
    assert "aliciacfg token create NAME --role admin. Or go on with --yes" in refused.stderr
    seen = typed(daemon, "token", "create", "ann", "--role", "reader", keys="n\n")
    assert "Make one that may change everything first" in " ".join(seen.split())
    assert "Go on? [y/N]" in seen
    assert json.loads(aliciacfg(daemon, "token", "list").stdout) == []
    assert daemon.http("GET", "/configs").status == 200
    made = aliciacfg(daemon, "token", "create", "operator", "--role", "admin")
    assert (made.returncode, made.stdout[:5]) == (0, "acfg_")
    assert "This is the first token." in made.stderr
    assert daemon.http("GET", "/configs").status == 401
    later = aliciacfg(daemon, "token", "create", "ann", "--role", "reader")
    assert later.returncode == 0
    assert "first" not in later.stderr
    over_mqtt = aliciacfg(daemon, "patch", "tts_service", "{}")
    assert "`ALICIACFG_TOKEN=… aliciacfg --http URL …`" in over_mqtt.stderr
    # A health check names nobody, so it gets no answer of its own; the daemon publishes its health.
    health = aliciacfg(daemon, "--broker", f"127.0.0.1:{daemon.broker_port}", "health")
    assert json.loads(health.stdout)["instance"] == daemon.name_file.read_text().strip()
    over_http = aliciacfg(daemon, "get", "tts_service", http=True)
    assert "set ALICIACFG_TOKEN to a token" in over_http.stderr


def test_a_token_is_revoked_by_its_name_too(daemon: Daemon):
    """If only one is in force; what ``-o name`` prints is what ``revoke`` takes."""
    for _ in range(2):
        token(daemon, "panel", role="reader")
    first, second = aliciacfg(daemon, "token", "list", "-o", "name").stdout.split()
    several = aliciacfg(daemon, "token", "revoke", "panel")
    assert several.returncode == 5
    assert first in several.stderr
    assert second in several.stderr
    assert aliciacfg(daemon, "token", "revoke", first).returncode == 0
    assert aliciacfg(daemon, "token", "revoke", "panel", "-o", "name").stdout == f"{second}\n"
    assert aliciacfg(daemon, "token", "revoke", "panel").returncode == 3


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "x",
        "acfg_",
        "acfg_000000000000_" + "A" * 43,
        "acfg_" + "0" * 300,
        "Bearer",
        "ä€😀",
        "acfg_000000000000_" + "é" * 43,
    ],
)
def test_what_is_no_token_is_refused_and_not_read_out(shared: Daemon, presented: str):
    """Malformed, unknown, or of another form: 401, whatever the operation, in the open house too."""
    header = f"Bearer {presented}".encode().decode("latin-1")
    refused = shared.http("GET", "/config/tts_service", headers={"Authorization": header})
    assert refused.status == 401
    assert len(presented) < 9 or presented.encode() not in refused.body
    assert shared.http("GET", "/config/tts_service", headers={"Authorization": "Basic dXNlcjpwYXNz"}).status == 401


def test_a_token_ends_when_it_is_revoked_or_its_time_is_over(daemon: Daemon):
    """Immediately and over restarts; neither its text nor its digest is shown anywhere."""
    kept, gone = token(daemon, "panel", role="reader"), token(daemon, "panel", role="reader")
    short = token_by_command(daemon, "guest", "--role", "reader", "--expires", "1s")
    listed = json.loads(aliciacfg(daemon, "token", "list").stdout)
    assert {item["name"] for item in listed} == {"panel", "guest"}
    assert not {kept, gone, short} & set(json.dumps(listed).split('"'))
    assert "digest" not in json.dumps(listed)
    assert aliciacfg(daemon, "token", "revoke", gone.split("_")[1]).returncode == 0
    assert ask(daemon, gone, "GET", "/configs").status == 401
    wait_until(lambda: ask(daemon, short, "GET", "/configs").status == 401, why="its time is over")
    assert ask(daemon, kept, "GET", "/configs").status == 200
    daemon.stop()
    daemon.start()
    assert [ask(daemon, each, "GET", "/configs").status for each in (kept, gone, short)] == [200, 401, 401]
    assert aliciacfg(daemon, "token", "revoke", "0" * 12).returncode == 3


def test_tokens_are_made_while_no_daemon_runs(make_daemon: Callable[..., Daemon]):
    """In a fresh data directory too, and without moving the active environment."""
    daemon = make_daemon(environ={"ENVIRONMENT": "dev"})
    admin = token_by_command(daemon, "operator", "--role", "admin", "--expires", "90d")
    daemon.start()
    assert daemon.http("GET", "/configs").status == 401
    assert ask(daemon, admin, "GET", "/configs").status == 200
    assert ask(daemon, admin, "POST", "/config/tts_service/unset", {"pointer": ""}).json["environment"] == "dev"
    entries = ask(daemon, admin, "GET", "/audit").json["entries"]
    assert ("token_create", "local") in {(entry["operation"], entry["where"]) for entry in entries}


def test_local_operations_are_not_on_the_network(daemon: Daemon):
    """Neither open nor with an administrator's token: only through the socket in the data directory."""
    admin = token(daemon, "operator", role="admin")
    for operation in ("token_create", "token_list", "keys_show", "keys_rotate", "broker_passwords"):
        for bearer in (None, admin):
            assert ask(daemon, bearer, "POST", f"/local/{operation}", {}).status == 404, operation
    assert (daemon.data / "admin.sock").stat().st_mode & 0o077 == 0


async def test_a_service_gets_its_secrets_sealed_to_its_own_key(daemon: Daemon):
    """Retained, over MQTT and over HTTP the same box; it opens with the service's key, in its place only."""
    key = PrivateKey.generate()
    daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": SECRET}})
    etag = daemon.http("GET", "/config/tts_service").headers["ETag"]
    refused = daemon.http("PUT", "/config/tts_service/recipient", {"public_key": str(key.public)})
    assert refused.status == 401
    done = aliciacfg(daemon, "recipient", "set", "tts_service", str(key.public))
    assert (done.returncode, json.loads(done.stdout)["key_id"]) == (0, key.public.key_id), done.stderr
    answer = daemon.http("GET", "/config/tts_service")
    assert answer.headers["ETag"] != etag
    box = answer.json["config"]["mqtt_config"]["password"]
    assert key.open(box, service="tts_service", environment="dev", pointer=PASSWORD) == SECRET
    async with client(daemon.broker_port) as bus:
        topic = "alicia/config/update/tts_service"
        while (await bus.retained(topic))[topic].json["config"]["mqtt_config"]["password"] != box:
            pass
        assert (await bus.ask("alicia/config/get/tts_service")).json["config"]["mqtt_config"]["password"] == box
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)
    config = daemon.config("tts_service")["config"]
    assert config["mqtt_config"]["password"] == box
    # Get, edit, put keeps what is sealed; moved elsewhere it is refused.
    config["limits"]["more"] = 1
    kept = daemon.http("PUT", "/config/tts_service", config)
    assert (kept.status, kept.json["changed"]) == (200, ["/limits/more"]), kept.body
    new = daemon.config("tts_service")["config"]["mqtt_config"]["password"]
    assert key.open(new, service="tts_service", environment="dev", pointer=PASSWORD) == SECRET
    assert daemon.http("PATCH", "/config/tts_service", {"settings": {"note": new}}).status == 422
    assert daemon.http("PATCH", "/config/stt_service", {"mqtt_config": {"password": new}}).status == 422
    assert aliciacfg(daemon, "recipient", "unset", "tts_service").returncode == 0
    assert daemon.config("tts_service")["config"]["mqtt_config"]["password"] == "***"
    await asyncio.to_thread(daemon.stop)
    assert not [path for path in [daemon.log, *files_under(daemon.data)] if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("key", ["", "x", "AAAA", "A" * 43 + "=", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="])
def test_what_is_no_public_key_is_refused(shared: Daemon, key: str):
    """Too short, no base64, or a point of small order."""
    done = aliciacfg(shared, "recipient", "set", "tts_service", key)
    assert done.returncode == 4
    assert "public_key" in done.stderr
    assert shared.config("tts_service")["config"]["mqtt_config"]["password"] == "***"


def test_secrets_leave_in_the_open_only_where_the_operator_says_so(daemon: Daemon):
    """To the service itself, on this machine or over TLS; every time is a row of the audit."""
    daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": SECRET}})
    (daemon.environments / "access.yaml").write_text("services:\n  tts_service: {secrets: plaintext}\nadmins: [boss]\n")
    own, boss = token(daemon, "tts_service"), token(daemon, "boss")
    assert aliciacfg(daemon, "reload").returncode in {0, 6}
    wait_until(lambda: ask(daemon, own, "GET", "/config/tts_service").json.get("config", {}).get("mqtt_config", {})
               .get("password") == SECRET, why="the rule is taken over")  # fmt: skip
    opened = ask(daemon, own, "GET", "/config/tts_service")
    assert ask(daemon, own, "GET", "/config/tts_service", **{"If-None-Match": opened.headers["ETag"]}).status == 304
    for bearer in (boss, token(daemon, "x", role="admin")):
        assert ask(daemon, bearer, "GET", "/config/tts_service").json["config"]["mqtt_config"]["password"] == "***"
    rows = ask(daemon, boss, "GET", "/audit?service=tts_service").json["entries"]
    assert {row["who"] for row in rows if row["outcome"] == "secrets_delivered"} == {"tts_service"}


def test_the_audit_says_who_did_what_and_who_was_refused(daemon: Daemon):
    """Writes with the checksums before and after, refusals summed up, tokens and keys; on the verified chain."""
    admin, guest = token(daemon, "operator", role="admin"), token(daemon, "guest")
    before = ask(daemon, admin, "GET", "/config/tts_service").json["checksum"]
    written = ask(daemon, admin, "PATCH", "/config/tts_service", {"limits": {"x": 1}}).json
    for _ in range(50):
        assert ask(daemon, guest, "GET", "/config/tts_service").status == 403
        assert ask(daemon, "nonsense", "GET", "/config/tts_service").status == 401
    entries = ask(daemon, admin, "GET", "/audit?limit=1000").json["entries"]
    (patch,) = [entry for entry in entries if entry["operation"] == "patch"]
    assert (patch["who"], patch["before_checksum"], patch["after_checksum"]) == (
        "operator",
        before,
        written["checksum"],
    )
    assert patch["where"] == "http 127.0.0.1"
    refused = [entry for entry in entries if entry["outcome"] == "refused"]
    assert {entry["who"] for entry in refused} == {"guest", "anonymous (http)"}
    assert len(refused) == 2
    assert sorted(entry["sequence"] for entry in entries) == sorted({entry["sequence"] for entry in entries})
    page = ask(daemon, admin, "GET", "/audit?limit=2").json
    assert [entry["sequence"] for entry in page["entries"]] == [entries[0]["sequence"], entries[1]["sequence"]]
    assert page["next"] == entries[1]["sequence"]
    assert aliciacfg(daemon, "audit", "--limit", "3").returncode == 0
    daemon.stop()
    daemon.start()
    told: list[Any] = []
    wait_until(lambda: told.extend(daemon.logged("store_verified")) or len(told) > 1)
    assert told[-1]["broken"] == 0


def test_a_tampered_audit_row_is_found(daemon: Daemon):
    """A row changed or deleted while no daemon runs."""
    daemon.http("PATCH", "/config/tts_service", {"limits": {"x": 1}})
    daemon.stop()
    daemon.edit_database("UPDATE audit SET who = 'nobody' WHERE operation = 'patch'")
    daemon.start()
    found = wait_until(lambda: daemon.http("GET", "/drift").json["drift"], why="the chain is verified")
    assert [item["kind"] for item in found] == ["row"]
    assert "audit" in found[0]["subject"]


def schema(daemon: Daemon, mark: str) -> None:
    (daemon.directory / "schemas" / "bell.yaml").write_text(
        f"version: 1.0.0\nproperties:\n  settings:\n    properties:\n      code: {{type: string{mark}}}\n"
    )


async def test_a_schema_that_marks_a_stored_key_seals_what_is_stored(make_daemon: Callable[..., Daemon]):
    """Overlay, history and retained message at once, without a new revision; nothing of it stays in the files."""
    daemon = make_daemon()
    schema(daemon, "")
    (daemon.environments / "base.yaml").write_text(
        (daemon.environments / "base.yaml").read_text() + "\n  bell:\n    api_config: {port: 8099}\n"
    )
    await asyncio.to_thread(daemon.start)
    for code in (SECRET, f"{SECRET}-2"):
        assert daemon.http("PATCH", "/config/bell", {"settings": {"code": code}}).status == 200
    before = daemon.config("bell")
    assert before["config"]["settings"]["code"] == f"{SECRET}-2"
    schema(daemon, ", x-sensitive: true")
    assert daemon.http("POST", "/reload").status == 200
    after = daemon.config("bell")
    assert (after["revision"], after["config"]["settings"]["code"]) == (before["revision"], "***")
    assert after["checksum"] != before["checksum"]
    assert daemon.config("bell", "?revision=2")["config"]["settings"]["code"] == "***"
    async with client(daemon.broker_port) as bus:
        topic = "alicia/config/update/bell"
        while (await bus.retained(topic))[topic].json["config"]["settings"]["code"] != "***":
            pass
    # Nobody has to send it again, and going back to it works.
    assert daemon.http("POST", "/config/bell/rollback", {"revision": 2}).status == 200
    files = [path for path in files_under(daemon.data) if path.name.startswith("aliciacfg.db")]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    # A schema that takes the mark away frees only what is written afterwards.
    schema(daemon, ", x-sensitive: false")
    assert daemon.http("POST", "/reload").status == 200
    assert daemon.config("bell")["config"]["settings"]["code"] == "***"
    assert daemon.config("bell", "?revision=3")["config"]["settings"]["code"] == "***"
    assert daemon.http("PATCH", "/config/bell", {"settings": {"code": "***"}, "limits": {"a": 1}}).status == 200
    assert daemon.config("bell")["config"]["settings"]["code"] == "***"
    assert daemon.http("PATCH", "/config/bell", {"settings": {"code": "open now"}}).status == 200
    assert daemon.config("bell")["config"]["settings"]["code"] == "open now"
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)
    assert daemon.config("bell", "?revision=4")["config"]["settings"]["code"] == "***"


@pytest.mark.sqlite("its keys are in the database, wrapped: tests/storage/test_shared_keys.py")
def test_a_lost_key_concerns_only_what_it_sealed(make_daemon: Callable[..., Daemon]):
    """The daemon starts, serves the last revision of that service, and changes the others."""
    daemon = make_daemon().start()
    daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": SECRET}})
    daemon.stop()
    file = daemon.data / "keys.json"
    content = json.loads(file.read_bytes())
    fresh, old = PrivateKey.generate(), content["keys"][0]["private"]
    content["keys"] = [{"key_id": fresh.public.key_id, "private": fresh.reveal()}]
    content["current"] = fresh.public.key_id
    file.write_text(json.dumps(content))
    daemon.start()
    health = daemon.http("GET", "/health").json
    assert "undecryptable:dev" in health["alerts"]
    assert daemon.config("tts_service")["config"]["mqtt_config"]["password"] == "***"
    assert daemon.http("PATCH", "/config/stt_service", {"limits": {"x": 1}}).status == 200
    refused = aliciacfg(daemon, "acl", "--passwords")
    assert (refused.returncode, "tts_service" in refused.stderr) == (4, True)
    # Brought back while the daemon runs, it opens at once what it sealed.
    assert aliciacfg(daemon, "keys", "add", stdin=old).returncode == 0
    assert "undecryptable:dev" not in daemon.http("GET", "/health").json["alerts"]
    assert daemon.http("PATCH", "/config/tts_service", {"limits": {"x": 1}}).json["changed"] == ["/limits/x"]
    assert aliciacfg(daemon, "acl", "--passwords").returncode == 0


def test_a_file_sealed_with_a_lost_key_concerns_only_its_service(make_daemon: Callable[..., Daemon]):
    """The other services of the environment go on, and can be changed."""
    daemon = make_daemon().start()
    lost = PrivateKey.generate()
    box = seal_for(lost.public, SECRET, service="tts_service")
    secrets = daemon.environments / "dev-secrets.yaml"
    secrets.write_text(f"services:\n  tts_service:\n    mqtt_config: {{password: '{box}'}}\n")
    assert daemon.http("POST", "/reload").status == 200
    assert "undecryptable:dev" in daemon.http("GET", "/health").json["alerts"]
    assert daemon.config("tts_service")["revision"] == 1
    assert daemon.http("PATCH", "/config/stt_service", {"limits": {"x": 1}}).status == 200
    daemon.stop()
    daemon.start()
    assert daemon.config("stt_service")["revision"] == 2


def test_the_access_list_and_the_passwords_are_printed(daemon: Daemon):
    """From the files and the store; a password appears only as Mosquitto keeps it, and the audit says so."""
    acl = aliciacfg(daemon, "acl")
    assert acl.returncode == 0, acl.stderr
    assert "user voice_router\n" in acl.stdout
    passwords = aliciacfg(daemon, "acl", "--passwords")
    assert passwords.returncode == 0, passwords.stderr
    assert len(passwords.stdout.splitlines()) == len(HOME_SERVICES)
    assert all(":$7$" in line for line in passwords.stdout.splitlines())
    entries = daemon.http("GET", "/audit?limit=1000").json["entries"]
    assert sum(entry["outcome"] == "secrets_delivered" for entry in entries) == len(HOME_SERVICES)


@pytest.mark.sqlite("edits the file; tests/storage/test_verifier.py edits both")
def test_a_token_put_into_the_database_opens_nothing(make_daemon: Callable[..., Daemon]):
    """Nor does a token whose role was raised or a recipient whose key was replaced; each is reported as drift."""
    daemon = make_daemon().start()
    key, forged = PrivateKey.generate(), tokens.generate()
    own, revoked = token(daemon, "tts_service"), token(daemon, "operator", role="admin")
    admin = token(daemon, "operator", role="admin")
    done = aliciacfg(daemon, "recipient", "set", "stt_service", str(key.public))
    assert done.returncode == 0, done.stderr
    assert aliciacfg(daemon, "token", "revoke", revoked.split("_")[1]).returncode == 0
    daemon.stop()
    made = tokens.token(forged, name="operator", role="admin", now=1.0)
    with closing(sqlite3.connect(daemon.data / "aliciacfg.db")) as database:
        columns = "token_id, digest, name, role, created"
        database.execute(
            f"INSERT INTO tokens ({columns}, mac) SELECT ?, ?, ?, ?, ?, mac FROM tokens LIMIT 1",
            (made.token_id, made.digest, made.name, made.role, made.created),
        )
        database.execute("UPDATE tokens SET role = 'admin' WHERE name = 'tts_service'")
        database.execute("UPDATE tokens SET revoked = NULL WHERE token_id = ?", (revoked.split("_")[1],))
        database.execute("UPDATE recipients SET public_key = ?", (str(PrivateKey.generate().public),))
        database.commit()
    daemon.start()
    for text in (forged, own, revoked):
        refused = bearing(daemon, text)("GET", "/config/tts_service")
        assert (refused.status, "was changed in the database" in refused.json["message"]) == (401, True), refused.body
    ask = bearing(daemon, admin)
    assert ask("GET", "/config/stt_service").json["config"]["mqtt_config"]["password"] == "***"
    found = wait_until(lambda: ask("GET", "/drift").json["drift"], why="the rows are compared")
    subjects = {item["subject"] for item in found}
    assert {f"tokens/{text.split('_')[1]}" for text in (forged, own, revoked)} < subjects
    assert "recipients/stt_service" in subjects
    listed = json.loads(aliciacfg(daemon, "token", "list").stdout)
    assert {item["token_id"]: item["confirmed"] for item in listed} == {
        **{text.split("_")[1]: False for text in (forged, own, revoked)},
        admin.split("_")[1]: True,
    }
    # Taken back, it is as it was written again, and no alert stands for it.
    assert aliciacfg(daemon, "token", "revoke", forged.split("_")[1]).returncode == 0
    assert bearing(daemon, forged)("GET", "/configs").status == 401


def test_the_daemons_own_key_is_nobodys_recipient(shared: Daemon):
    """A delivered secret would open again as a value that anyone sealed for the daemon."""
    own = shared.http("GET", "/keys/current").json["public_key"]
    refused = aliciacfg(shared, "recipient", "set", "tts_service", own)
    assert (refused.returncode, "a key of the daemon" in refused.stderr) == (4, True)


def test_nobody_hides_what_somebody_did(daemon: Daemon):
    """Refusals of anonymous callers neither fill the audit log nor displace those of identified callers."""
    admin, guest = (
        bearing(daemon, token(daemon, name, role=role)) for name, role in (("a", "admin"), ("b", "service"))
    )
    for number in range(600):
        assert daemon.http("GET", f"/config/q{number}").status == 401
    for service in ("ai_service", "tts_service"):
        assert guest("GET", f"/config/{service}").status == 403

    def refusals() -> list[dict[str, Any]]:
        entries = admin("GET", "/audit?limit=1000").json["entries"]
        return [entry for entry in entries if entry["outcome"] == "refused"]

    def of_somebody() -> bool:
        return {entry["service"] for entry in refusals() if entry["who"] == "b"} == {"ai_service", "tts_service"}

    wait_until(of_somebody, why="the audit is written")
    assert len([entry for entry in refusals() if entry["who"] != "b"]) < 5
