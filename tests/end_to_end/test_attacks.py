"""Attacks that need several parts to fail; those on one part are beside its other tests.

SECURITY.md says what is protected against whom.
"""

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.access import tokens
from aliciacfg.sealing.boxes import PrivateKey
from certificates import Authority
from support import ROOT, SECONDS, Broker, Client, Daemon, HttpAnswer, aliciacfg, client, free_port, wait_until

RULES = "services:\n  tts_service:\n    write: {allowed_services: [voice_router]}\nadmins: [operator]\n"
PASSWORD = "/mqtt_config/password"
# Longer than the daemon waits between two looks at whether the access list is in force.
PROBE_SECONDS = 45.0


def token(daemon: Daemon, name: str, *arguments: str) -> str:
    done = aliciacfg(daemon, "token", "create", name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearing(daemon: Daemon, text: str) -> Callable[..., HttpAnswer]:
    """Requests with a token."""

    def ask(method: str, path: str, body: object = None) -> HttpAnswer:
        return daemon.http(method, path, body, {"Authorization": f"Bearer {text}"})

    return ask


async def default_answer(mqtt: Client, topic: str, payload: dict[str, Any]) -> dict[str, Any]:
    """What comes on the topic that nobody has to name."""
    reply = f"alicia/reply/{topic}"
    await mqtt.subscribe(reply)
    await mqtt.publish(f"alicia/config/{topic}", payload)
    return (await mqtt.until(reply)).json


# A broker that proves nothing


async def test_on_a_broker_without_the_list_nobody_is_believed(
    make_daemon: Callable[..., Daemon], broker: Broker, tmp_path: Path
):
    """Once rules exist: no name writes or sees more than a stranger, an alert stands; with the list it all works."""
    files = tmp_path / "access"
    daemon = make_daemon(environ={"MQTT_PASSWORD": "of the daemon"})
    (daemon.environments / "access.yaml").write_text(RULES)
    await asyncio.to_thread(daemon.start)
    assert "acl_missing" in daemon.http("GET", "/health").json["alerts"]
    admin = bearing(daemon, token(daemon, "operator"))
    key = PrivateKey.generate()
    assert admin("PUT", "/config/tts_service/recipient", {"public_key": str(key.public)}).status == 200
    before = admin("GET", "/config/tts_service").json["revision"]
    async with client(daemon.broker_port) as mqtt:
        for who in ("voice_router", "operator", "tts_service"):
            refused = await default_answer(mqtt, f"patch/tts_service/{who}", {"patch": {"limits": {"x": 1}}})
            assert refused["code"] in {"unauthorized", "forbidden"}, who
            for topic, fields in (("delete/tts_service", {}), ("unset/tts_service", {"pointer": "/limits"})):
                assert (await default_answer(mqtt, f"{topic}/{who}", fields))["status"] == "error", (topic, who)
        for topic in ("reload/operator", "activate/staging/operator", "audit/operator", "batch/operator"):
            assert (await default_answer(mqtt, topic, {"updates": []}))["status"] == "error", topic
        # The service cannot prove who it is either: it is shown what is retained for everybody to see.
        seen = await default_answer(mqtt, "get/tts_service/tts_service", {})
        topic = "alicia/config/update/tts_service"
        assert seen["config"] == (await mqtt.retained(topic))[topic].json["config"]
        box = seen["config"]["mqtt_config"]["password"]
        assert key.open(box, service="tts_service", environment="dev", pointer=PASSWORD) == "alicia-dev-only"
    assert admin("GET", "/config/tts_service").json["revision"] == before
    # The broker is given what it needs, and comes back.
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", str(files))
    assert done.returncode == 0, done.stderr
    await asyncio.to_thread(broker.stop)
    broker.config = f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n"
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(
        wait_until,
        lambda: not daemon.http("GET", "/health").json["alerts"],
        seconds=PROBE_SECONDS,
        why="the list is in force",
    )
    secret = await asyncio.to_thread(own_password, daemon, "voice_router")
    async with client(daemon.broker_port, username="voice_router", password=secret) as mqtt:
        done = await default_answer(mqtt, "patch/tts_service/voice_router", {"patch": {"limits": {"x": 1}}})
        assert done["changed"] == ["/limits/x"]


def own_password(daemon: Daemon, service: str) -> str:
    """From the file that ``aliciacfg setup`` made."""
    lines = iter((daemon.environments / "dev-secrets.yaml").read_text().splitlines())
    assert f"  {service}:" in lines
    return next(line for line in lines if "password:" in line).partition(": ")[2].strip('"')


# Registration


async def test_a_registration_brings_neither_key_nor_schema_nor_settings(daemon: Daemon):
    """Whatever else it says, in whatever envelope: no secret is sealed to its key, no mark taken away, nothing set."""
    before = daemon.config("tts_service")
    schema = daemon.http("GET", "/config/schema/tts_service").json
    key = PrivateKey.generate()
    message: dict[str, Any] = {
        "service_name": "tts_service",
        "public_key": str(key.public),
        "recipient": str(key.public),
        "schema": {"properties": {"mqtt_config": {"properties": {"password": {"x-sensitive": False}}}}},
        "config": {"limits": {"x": 1}},
        "patch": {"limits": {"x": 1}},
        "settings": {"x": 1},
    }
    topic = "alicia/config/update/tts_service"
    async with client(daemon.broker_port) as mqtt:
        held = (await mqtt.retained(topic))[topic]
        await mqtt.subscribe(topic)
        assert (await mqtt.next()).payload == held.payload
        for _ in range(3):
            await mqtt.publish("alicia/system/discovery/register", message)
            assert (await mqtt.next()).payload == held.payload
            message = {"message_id": "m", "source": "tts_service", "payload": message}
    assert daemon.config("tts_service") == before
    assert daemon.http("GET", "/config/schema/tts_service").json == schema


async def test_a_registration_of_a_name_that_means_something_else_makes_nothing(daemon: Daemon):
    """Of a path, a filter or a reserved word; one that is a name, sent after them, is all that comes of them."""
    before = {item["service"] for item in daemon.http("GET", "/configs?limit=1000").json["configs"]}
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/update/+")
        for name in ("../tts_service", "tts_service/+", "get", "#", "a" * 65, "", "reply", "newone"):
            await mqtt.publish("alicia/system/discovery/register", {"service_name": name})
        await mqtt.until("alicia/config/update/newone")
    assert {item["service"] for item in daemon.http("GET", "/configs?limit=1000").json["configs"]} == before | {
        "newone"
    }


# Guessing


async def test_guesses_in_one_environment_tell_nothing_of_anothers_secret(make_daemon: Callable[..., Daemon]):
    """Whoever may write dev plants guesses there: compare, checksums and ETags look the same for right and wrong."""
    secret = "planted-prod-4c1d"
    daemon = make_daemon()
    example = (ROOT / "environments" / "staging-secrets.yaml.example").read_text()
    secrets = "\n".join(line.split("#")[0] for line in example.splitlines()).replace("${", "x{")
    (daemon.environments / "staging-secrets.yaml").write_text(secrets)
    place = "/services/tts_service/settings/azure_speech_key"
    done = await asyncio.to_thread(
        aliciacfg, daemon, "file", "set", "environments/staging-secrets.yaml", place, json.dumps(secret)
    )
    assert done.returncode == 0, done.stderr
    (daemon.environments / "access.yaml").write_text(
        "services: {tts_service: {write: {allowed_services: [mallory]}}}\nusers: [mallory]\nadmins: [operator]\n"
    )
    await asyncio.to_thread(daemon.start)
    mallory, admin = (bearing(daemon, token(daemon, name)) for name in ("mallory", "operator"))
    seen: list[Any] = []
    for guess in ("planted-prod-0000", secret):
        written = mallory("PATCH", "/config/tts_service", {"settings": {"azure_speech_key": guess}})
        assert written.status == 200, written.body
        compared = mallory("GET", "/config/compare/tts_service?env1=dev&env2=staging")
        assert secret.encode() not in compared.body
        found = compared.json
        seen.append({key: found[key] for key in ("equal", "changed", "only_in_env1", "only_in_env2", "secrets")})
        there = mallory("GET", "/config/tts_service?environment=staging")
        here = mallory("GET", "/config/tts_service")
        assert there.json["checksum"] != here.json["checksum"]
        assert there.headers["ETag"] != here.headers["ETag"]
    assert seen[0] == seen[1]
    assert "/settings/azure_speech_key" in seen[0]["secrets"]
    # An administrator is told: the comparison could tell.
    told = admin("GET", "/config/compare/tts_service?env1=dev&env2=staging").json
    mallory("PATCH", "/config/tts_service", {"settings": {"azure_speech_key": "planted-prod-0000"}})
    assert admin("GET", "/config/compare/tts_service?env1=dev&env2=staging").json["changed"] != told["changed"]


# The daemon's environment


async def test_a_writer_cannot_read_the_daemons_environment(make_daemon: Callable[..., Daemon]):
    """${…} stays as written in whatever is sent, over both transports, through batch, rollback and a restart."""
    planted = "planted-environment-6a2f"
    daemon = make_daemon(environ={"PLANTED": planted, "ALICIACFG_LOG_LEVEL": "debug"})
    text = "${PLANTED} ${PLANTED:-x} $${PLANTED} ${MQTT_PASSWORD}"
    await asyncio.to_thread(daemon.start)
    patch = {"settings": {"note": text, "${PLANTED}": "${PLANTED}", "deep": [{"x": "${PLANTED}"}]}}
    seen: list[bytes] = []

    def look() -> None:
        answer = daemon.http("GET", "/config/tts_service")
        assert answer.json["config"]["settings"] | patch["settings"] == answer.json["config"]["settings"]
        seen.append(answer.body)

    seen.append(daemon.http("PATCH", "/config/tts_service", patch).body)
    look()
    async with client(daemon.broker_port) as mqtt:
        for topic, payload in (
            ("patch/tts_service", {"patch": {"limits": {"x": 1}}, "comment": text}),
            ("batch", {"updates": [{"service": "tts_service", "patch": patch}], "comment": text}),
            ("rollback/tts_service", {"revision": 2, "comment": text}),
            ("validate/tts_service", {"config": {"service_name": text, "limits": {"x": text}}}),
            ("patch/tts_service", {"patch": {"limits": {"x": text}}}),
            ("get/tts_service", {"environment": text}),
            ("unset/tts_service", {"pointer": f"/{text}"}),
        ):
            seen.append((await mqtt.ask(f"alicia/config/{topic}", payload)).payload)
        look()
        seen += [message.payload for message in (await mqtt.retained("alicia/#")).values()]
    for path in ("/config/tts_service/explain", "/config/tts_service/history", "/config/tts_service?format=env"):
        seen.append(daemon.http("GET", path).body)
    assert daemon.http("POST", "/reload").status == 200
    look()
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)
    look()
    seen.append(daemon.log.read_bytes())
    assert not [content for content in seen if planted.encode() in content]


# Retained topics that others write


async def test_what_the_daemon_says_about_itself_is_put_right(daemon: Daemon):
    """A replaced sealing key or environment is told as tampering, and replaced again by the right one."""
    mallory = PrivateKey.generate().public
    forged = json.dumps({"key_id": mallory.key_id, "public_key": str(mallory), "environment": "attic"}).encode()
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/config/alert/tamper")
        for topic, payload in product(("alicia/config/key", "alicia/config/environment"), (forged, b"")):
            right = (await mqtt.retained(topic))[topic].payload
            await mqtt.publish(topic, payload, retain=True)
            alert = (await mqtt.until("alicia/config/alert/tamper")).json
            assert topic in alert["message"]
            end = time.monotonic() + SECONDS
            while topic not in (found := await mqtt.retained(topic)) or found[topic].payload != right:
                assert time.monotonic() < end


# The database


def test_a_token_put_into_the_database_opens_nothing(make_daemon: Callable[..., Daemon]):
    """Nor does a right that somebody added to his own, or a recipient whose key he changed; all of it is told."""
    daemon = make_daemon().start()
    key, forged = PrivateKey.generate(), tokens.generate()
    own, revoked = token(daemon, "tts_service"), token(daemon, "operator", "--role", "admin")
    admin = token(daemon, "operator", "--role", "admin")
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
        assert (refused.status, "not as it was written" in refused.json["message"]) == (401, True), refused.body
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


# Names that are paths

TRICKS = [
    "..", "../prod-secrets", "..%2fprod-secrets", "%2e%2e", "....//", "/etc/passwd", "prod-secrets", "access", "base",
    "dev.yaml", "dev\x00", "dev/../prod", "dev\\..\\prod", "~root", "file:///etc/passwd", "%00", "dev%0a", ".hidden",
    "con\u2024fig", "schemas/tts_service", "keys.json",
]  # fmt: skip


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


# Beyond loopback

ADDRESS = "10.77.0.1"


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[list[str]]:
    """A network of its own with an address beside loopback; what to put before a command that runs in it."""
    script = f"ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo ready && exec cat"
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name, path=path) is None]:
        pytest.skip(f"{', '.join(missing)} not found: there are network namespaces on Linux alone")
    # Root of a namespace of users, where it is not root of the machine.
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    holder = subprocess.Popen(
        ["unshare", *as_root, "--net", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": path},
        cwd=tmp_path,
    )
    assert holder.stdout is not None
    assert holder.stderr is not None
    ready = holder.stdout.readline() == b"ready\n"
    if not ready:
        holder.communicate()
        pytest.skip("this user may not make a network namespace")
    entering = [f"--net=/proc/{holder.pid}/ns/net"]
    if as_root:
        entering = [f"--user=/proc/{holder.pid}/ns/user", "--preserve-credentials", *entering]
    yield ["nsenter", *entering]
    holder.communicate()


def fetch(namespace: list[str], url: str, bearer: str, *headers: str) -> dict[str, Any]:
    """The answer to a get from inside the namespace, with a program of others."""
    sent = [part for header in (f"Authorization: Bearer {bearer}", *headers) for part in ("--header", header)]
    done = subprocess.run(
        [*namespace, "curl", "--silent", "--insecure", "--noproxy", "*", *sent, f"{url}/config/tts_service"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_secrets_cross_a_network_in_the_open_only_inside_tls(
    make_daemon: Callable[..., Daemon], namespace: list[str], authority: Authority, *, tls: bool
):
    """From another address than loopback: *** over HTTP, though the rules say plaintext; over HTTPS as they are."""
    secret = "planted-beyond-2e77"
    environ = {"ALICIACFG_HTTP_HOST": "0.0.0.0", "ALICIACFG_HTTP_ALLOWED_HOSTS": ADDRESS}
    if tls:
        pair = authority.issue("beyond", ADDRESS)
        environ |= {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon = make_daemon(environ=environ, before=namespace)
    (daemon.environments / "access.yaml").write_text("services:\n  tts_service: {secrets: plaintext}\n")
    (daemon.environments / "dev-secrets.yaml").write_text(
        f"services:\n  tts_service:\n    mqtt_config: {{password: {secret}}}\n"
    )
    bearer = token(daemon, "tts_service")
    daemon.spawn()
    # There is no broker in that network, so it is not READY; HTTP serves all the same.
    (listening,) = wait_until(lambda: daemon.logged("listening"), why="it listens")
    port = listening["url"].rpartition(":")[2]
    scheme = "https" if tls else "http"
    seen = {
        host: fetch(namespace, f"{scheme}://{host}:{port}", bearer)["config"]["mqtt_config"]["password"]
        for host in (ADDRESS, "127.0.0.1")
    }
    assert seen == {ADDRESS: secret if tls else "***", "127.0.0.1": secret}
    if not tls:
        # A proxy on this machine hands on to whoever asks it.
        for header in ("X-Forwarded-For: 10.0.0.1", "Forwarded: for=10.0.0.1", "Via: 1.1 p", "X-Real-IP: 10.0.0.1"):
            answer = fetch(namespace, f"{scheme}://127.0.0.1:{port}", bearer, header)
            assert answer["config"]["mqtt_config"]["password"] == "***", header
    entries = json.loads(aliciacfg(daemon, "audit", "--service", "tts_service").stdout)["entries"]
    delivered = [entry for entry in entries if entry["outcome"] == "secrets_delivered"]
    addresses = {entry["where"] for entry in delivered}
    assert addresses == {"http 127.0.0.1", *({f"http {ADDRESS}"} if tls else ())}


# Becoming somebody else


async def heard_of(mqtt: Client, *services: str) -> None:
    """Announce services, and one that the files know after them, whose update shows that all were looked at."""
    await mqtt.subscribe("alicia/config/update/device_manager")
    assert (await mqtt.next()).retained
    for name in (*services, "device_manager"):
        await mqtt.publish("alicia/system/discovery/register", {"service_name": name})
    await mqtt.next()


async def test_under_rules_nobody_comes_to_be_by_registering(make_daemon: Callable[..., Daemon]):
    """Neither an administrator, nor a user, nor anybody else whom no file names: no configuration, no account."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [dashboard]\n")
    await asyncio.to_thread(daemon.start)
    names = ("operator", "dashboard", "evil")
    async with client(daemon.broker_port) as mqtt:
        await heard_of(mqtt, *names)
    admin = bearing(daemon, token(daemon, "operator"))
    assert {admin("GET", f"/config/{name}").status for name in names} == {404}
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", "access")
    assert done.returncode == 0, done.stderr
    users = {line.partition(":")[0] for line in (daemon.directory / "access" / "passwords").read_text().splitlines()}
    assert not users & set(names)


def test_no_writer_makes_himself_a_person_of_the_rules(make_daemon: Callable[..., Daemon]):
    """A configuration under an administrator's name would bring its password along."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [dashboard]\n")
    daemon.start()
    writer = bearing(daemon, token(daemon, "panel", "--role", "writer"))
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
        assert (refused.status, "log in as tts_service" in refused.json["message"]) == (403, True), refused.body
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


async def test_nobody_takes_the_daemons_place_at_the_broker(daemon: Daemon):
    """Its client id is not made of what everybody is told: another with such a name is another session."""
    instance = daemon.http("GET", "/health").json["instance"]
    for guess in (f"config_service_{instance}", instance, "config_service"):
        async with client(daemon.broker_port, identifier=guess) as mqtt:
            await mqtt.ask("alicia/config/list")
    assert daemon.logged("broker_lost") == []
    assert len(daemon.logged("broker_connected")) == 1


async def test_requests_held_for_the_daemon_wait_until_the_broker_is_tried(make_daemon: Callable[..., Daemon]):
    """A service's write from while nobody was here is carried out, not refused as one that nobody proved."""
    daemon = make_daemon(environ={"MQTT_PASSWORD": "of the daemon"}, broker_port=free_port())
    (daemon.environments / "access.yaml").write_text(RULES)
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", "access")
    assert done.returncode == 0, done.stderr
    files = daemon.directory / "access"
    config = f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n"
    broker = Broker(daemon.directory / "broker", config=config, port=daemon.broker_port).start()
    try:
        await asyncio.to_thread(daemon.start)
        assert [alert for alert in daemon.logged("alert") if alert["kind"] == "acl_missing"] == []
        await asyncio.to_thread(daemon.stop)
        secret = own_password(daemon, "voice_router")
        async with client(daemon.broker_port, username="voice_router", password=secret) as mqtt:
            reply = "alicia/reply/patch/tts_service/voice_router"
            await mqtt.subscribe(reply)
            await mqtt.publish("alicia/config/patch/tts_service/voice_router", {"patch": {"limits": {"x": 1}}})
            await asyncio.to_thread(daemon.start)
            assert (await mqtt.until(reply)).json["changed"] == ["/limits/x"]
        await asyncio.to_thread(daemon.stop)
    finally:
        broker.stop()


def test_a_token_that_ends_while_it_waits_gets_nothing(make_daemon: Callable[..., Daemon]):
    """Revoked during a long poll, it is refused when there is something to tell."""
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


async def test_words_of_other_programs_bring_nobody_an_answer(make_daemon: Callable[..., Daemon]):
    """Under rules: what is no operation is answered on no topic but one of the requester's own."""
    daemon = make_daemon()
    (daemon.environments / "access.yaml").write_text(RULES + "users: [service]\n")
    await asyncio.to_thread(daemon.start)
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/#")
        await mqtt.publish("alicia/config/service/1", {"reply_to": "alicia/devices/lamp/command"})
        await mqtt.publish("alicia/config/get/tts_service/tts_service")
        assert (await mqtt.next()).topic == "alicia/reply/get/tts_service/tts_service"


# Files that are others


def test_no_schema_shows_what_is_elsewhere(daemon: Daemon):
    """A link to the keys is refused, and so is what would block or fill the daemon; the others are served."""

    def large(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(300 * 1024 * 1024)

    path = daemon.directory / "schemas" / "leak.yaml"
    private = json.loads((daemon.data / "keys.json").read_bytes())["keys"][0]["private"].encode()
    for make in (lambda path: path.symlink_to(daemon.data / "keys.json"), os.mkfifo, large):
        make(path)
        refused = daemon.http("POST", "/reload")
        assert refused.status == 422
        assert "schemas/leak.yaml" in refused.json["problems"][0]["message"]
        assert daemon.http("GET", "/config/tts_service").status == 200
        for place in ("/config/schema/leak", "/health", "/environments"):
            assert private not in daemon.http("GET", place).body
        path.unlink()
    assert daemon.http("POST", "/reload").status == 200


def test_a_schema_may_be_a_link_inside_its_directory(daemon: Daemon):
    """As Kubernetes mounts files: to a directory beside them that is replaced as a whole."""
    schemas = daemon.directory / "schemas"
    (schemas / "..2026").mkdir()
    (schemas / "tts_service.yaml").rename(schemas / "..2026" / "tts_service.yaml")
    (schemas / "..data").symlink_to("..2026")
    (schemas / "tts_service.yaml").symlink_to("..data/tts_service.yaml")
    assert daemon.http("POST", "/reload").status == 200


# What others may see


def test_health_tells_nobodys_values(daemon: Daemon):
    """That something is wrong is for everybody; with whose value, for those who may read it."""
    place = "/services/tts_service/limits/requests_per_minute"
    assert aliciacfg(daemon, "file", "set", "environments/dev.yaml", place, '"private-value"').returncode == 0
    refused = daemon.http("POST", "/reload")
    assert (refused.status, b"requests_per_minute" in refused.body) == (422, True), refused.body
    assert b"private-value" in refused.body
    health = daemon.http("GET", "/health")
    assert "validation_failed" in health.json["alerts"]
    assert b"private-value" not in health.body


def unmarked(daemon: Daemon, items: list[dict[str, str]]) -> None:
    """A service with secrets in an array that its schema no longer calls so."""
    schema = daemon.directory / "schemas" / "bell.yaml"
    text = (
        "properties:\n  settings:\n    properties:\n      doors:\n        items:\n          properties:\n"
        "            code: {type: string, x-sensitive: %s}\n"
    )
    schema.write_text(text % "true")
    assert daemon.http("POST", "/reload").status == 200
    document = daemon.config("voice_router")["config"] | {"service_name": "bell", "settings": {"doors": items}}
    document["mqtt_config"] |= {"username": "bell", "password": "of-the-bell"}
    assert daemon.http("PUT", "/config/bell", document).status == 201
    schema.write_text(text % "false")
    assert daemon.http("POST", "/reload").status == 200


def test_unmarked_secrets_stay_with_their_items(daemon: Daemon):
    """Moved, or with others taken out: what was a secret shows as *** wherever it stands."""
    secrets = [f"planted-door-{number}" for number in range(3)]
    unmarked(daemon, [{"name": f"door {number}", "code": code} for number, code in enumerate(secrets)])
    doors = daemon.config("bell")["config"]["settings"]["doors"]
    assert [door["code"] for door in doors] == ["***"] * 3
    # Each builds on the one before: moved, the first taken out, the last.
    for order in ([2, 0, 1], [0, 1], [1]):
        wanted = [doors[number] for number in order]
        moved = daemon.http("PATCH", "/config/bell?allow_breaking=true", {"settings": {"doors": wanted}})
        assert moved.status == 200, moved.body
        places = ("", "/explain", "/history")
        seen = [moved.body, *(daemon.http("GET", f"/config/bell{place}").body for place in places)]
        assert not [body for body in seen if b"planted-door" in body]
        assert moved.json["config"]["settings"]["doors"] == wanted


def test_explain_shows_no_secret_of_the_files(make_daemon: Callable[..., Daemon]):
    """Overridden by an open value after its mark was taken away, it still stands in the file of secrets."""
    daemon = make_daemon()
    schema = daemon.directory / "schemas" / "bell.yaml"
    text = "properties:\n  settings:\n    properties:\n      pin: {type: string, x-sensitive: %s}\n"
    schema.write_text(text % "true")
    base = daemon.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  bell: {{api_config: {{port: 8099}}}}\n")
    (daemon.environments / "dev-secrets.yaml").write_text("services: {bell: {settings: {pin: planted-pin}}}\n")
    daemon.start()
    schema.write_text(text % "false")
    assert daemon.http("POST", "/reload").status == 200
    explained = daemon.http("GET", "/config/bell/explain")
    assert (explained.status, explained.json["values"]["/settings/pin"]["value"]) == (200, "***")
    assert daemon.http("PATCH", "/config/bell", {"settings": {"pin": "open"}}).status == 200
    explained = daemon.http("GET", "/config/bell/explain")
    place = explained.json["values"]["/settings/pin"]
    assert (place["value"], place["overridden"][0]["value"]) == ("open", "***")


def test_the_daemons_own_key_is_nobodys_recipient(daemon: Daemon):
    """What was delivered once would open again as something that anybody sealed for the daemon."""
    own = daemon.http("GET", "/keys/current").json["public_key"]
    refused = aliciacfg(daemon, "recipient", "set", "tts_service", own)
    assert (refused.returncode, "the daemon's own" in refused.stderr) == (4, True)


def test_nobody_hides_what_somebody_did(daemon: Daemon):
    """Refusals of whoever does not say who he is fill neither the audit nor the room of those who do."""
    admin, guest = (
        bearing(daemon, token(daemon, name, "--role", role)) for name, role in (("a", "admin"), ("b", "service"))
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
