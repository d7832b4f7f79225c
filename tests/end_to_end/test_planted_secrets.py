"""Secrets are planted wherever one can come in, and searched for in everything that comes out or is left behind.

What is no secret by its place is not planted: names, pointers, hosts and numbers are told as they were sent.

One home is lived in for a while: under an access list, at debug level, with every operation over both transports, the
commands, wrong input, rotation of keys, kill -9. Each test then searches one kind of artefact.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import sqlite3
import stat
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aliciacfg.operations.table import OPERATIONS
from aliciacfg.sealing.boxes import PrivateKey, PublicKey, seal_for
from aliciacfg.settings import resolve
from aliciacfg.storage.home_keys import load_keys
from brokers import Broker
from commands import aliciacfg
from daemons import DATABASES, Daemon, files_under
from machine import SECONDS
from mqtt_clients import Client, client
from secret_forms import forms

# The first test lives in the home for as long as many others take together.
pytestmark = pytest.mark.timeout(300)

PLANTED = {
    name: f"planted-{name}-{digest}"
    for name, digest in (
        ("variable", "0c2d77b1"), ("file", "91bc03aa"), ("sealed-in-file", "7f3a55de"), ("broken-file", "4e6f18c0"),
        ("old-file", "b7d29e44"), ("mqtt", "a1c94f02"), ("http", "3388dd5e"), ("array", "f00d1c61"),
        ("batch", "68e2b7aa"), ("box", "d4d4a990"), ("trial", "5b1f2e3c"), ("refused", "c0ffee12"),
        ("validated", "1ab3d9e7"), ("misspelt", "e5e8f6a0"), ("no-json", "2d3c4b5a"),
        ("wrong-header", "77aa66bb"), ("in-query", "0f1e2d3c"), ("operator", "31415926"), ("daemon", "27182818"),
        ("cli", "16180339"),
    )
}  # fmt: skip
# What whoever sent it has sent, in the open, where the broker passes it on; never what the daemon says.
REQUESTS = re.compile(r"alicia/config/(?!update/|alert/|environment$|key$)")
OBSERVER = "observer"
SERVICES = (
    "ai_service", "tts_service", "stt_service", "ha_bridge", "grok_integration", "sonos_service", "security_gateway",
    "load_balancer",
)  # fmt: skip

FORMS = {name: forms(secret) for name, secret in PLANTED.items()}


@dataclass
class Lived:
    """A home that every operation and command was tried on.

    Attributes:
        artefacts: What came out or was left behind, by kind and name.
        sent: What was sent on the bus, for the control.
        extra: More secrets, made on the way: tokens, passwords, private keys.
    """

    daemon: Daemon
    broker: Broker
    secrets: Path
    artefacts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    def keep(self, kind: str, name: str, content: bytes | str) -> None:
        found = self.artefacts.setdefault(kind, {})
        found[f"{name} #{len(found)}"] = content.encode() if isinstance(content, str) else content

    def cli(self, *arguments: str, stdin: str = "", keeps: bool = True) -> subprocess.CompletedProcess[str]:
        environ = {
            "XDG_CONFIG_HOME": str(self.daemon.directory / "config"),
            "ALICIACFG_TOKEN": self.extra.get("admin", ""),
        }
        done = aliciacfg(self.daemon, *arguments, stdin=stdin, environ=environ)
        if keeps:
            self.keep("commands", " ".join(arguments[:3]), done.stdout)
        self.keep("commands", f"{' '.join(arguments[:3])} (errors)", done.stderr)
        return done

    def http(self, method: str, path: str, body: object = None, **options: Any) -> int:
        headers = {"Authorization": f"Bearer {self.extra['admin']}"} | options.pop("headers", {})
        answer = self.daemon.http(method, path, body, headers, **options)
        self.keep("answers", f"{method} {path[:60]}", answer.body)
        self.keep("answers", f"{method} {path[:60]} (headers)", json.dumps(answer.headers))
        return answer.status

    def leave(self, name: str) -> None:
        """What lies on the disk now, and what a backup of it would hold."""
        for path in files_under(self.daemon.data):
            if path.name not in {self.daemon.key_file.name, "admin.token", "mqtt.password"} and not stat.S_ISSOCK(
                path.stat().st_mode
            ):
                self.keep("disk", f"{name}: {path.name}", path.read_bytes())
        if DATABASES.server is not None:
            tables = self.daemon.stored_rows()
            values = [value for rows in tables.values() for row in rows for value in row.values()]
            content = b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)
            self.keep("disk", f"{name}: tables", content)
            return
        copy = self.daemon.directory / "backup.db"
        with sqlite3.connect(self.daemon.data / "aliciacfg.db") as source, sqlite3.connect(copy) as target:
            source.backup(target)
        source.close()
        target.close()
        self.keep("disk", f"{name}: backup", copy.read_bytes())
        copy.unlink()


def secrets_text(**services: str) -> str:
    return "services:\n" + "".join(f"  {name}:\n    {text}\n" for name, text in services.items())


def prepare(lived: Lived) -> None:
    """Files, the broker's and the daemon's own, before anything runs."""
    daemon = lived.daemon
    (daemon.environments / "access.yaml").write_text(
        "services:\n  tts_service: {secrets: plaintext}\nadmins: [operator, home_assistant]\nusers: [observer]\n"
    )
    lived.secrets.write_text(
        secrets_text(
            stt_service="mqtt_config: {password: '${PLANTED_VARIABLE}'}",
            ha_bridge=f"settings: {{ha_token: {PLANTED['file']}}}",
            grok_integration=f"settings: {{grok_api_key: {PLANTED['sealed-in-file']}}}",
            sonos_service=f"mqtt_config: {{password: {PLANTED['old-file']}}}",
        )
    )
    (daemon.directory / "mqtt.password").write_text(PLANTED["daemon"])
    for user in ("operator", OBSERVER):
        done = lived.cli("setup", "access", "--user", user, stdin=PLANTED["operator"])
        assert done.returncode == 0, done.stderr
    access = daemon.directory / "access" / "acl"
    access.write_text(
        re.sub(rf"^user {OBSERVER}\n", f"user {OBSERVER}\ntopic read #\n", access.read_text(), flags=re.MULTILINE)
    )
    for name in ("acl", "passwords"):
        lived.keep("disk", f"broker's {name}", (daemon.directory / "access" / name).read_bytes())
    lived.broker.start()
    daemon.start()
    lived.extra["admin"] = lived.cli("token", "create", "operator", "--role", "admin", keeps=False).stdout.strip()
    lived.extra["tts"] = lived.cli("token", "create", "tts_service", "--expires", "1d", keeps=False).stdout.strip()
    assert (daemon.data / "admin.token").exists()


def writes(box: str) -> list[tuple[str, dict[str, Any]]]:
    """Requests that bring secrets, good and bad, by operation and target."""
    return [
        ("patch/ai_service", {"patch": {"mqtt_config": {"password": PLANTED["mqtt"]}}}),
        ("patch/ai_service", {"patch": {"settings": {"api_tokens": [{"inner": PLANTED["array"]}, PLANTED["array"]]}}}),
        ("patch/ai_service", {"patch": {"settings": {"grok_api_key": PLANTED["trial"]}}, "dry_run": True}),
        ("patch/ai_service", {"patch": {"settings": {"openai_api_key": box}}}),
        ("patch/ai_service", {"patch": {"mqtt_config": {"password": PLANTED["refused"], "port": "x"}}}),
        ("patch/ai_service", {"patch": {"mqtt_config": {"password": [PLANTED["refused"]]}}}),
        ("patch/ai_service", {"patch": {"mqtt_config": {"password": {"x": PLANTED["refused"]}}}}),
        ("patch/security_gateway", {"patch": {"settings": {"jwt_secret": PLANTED["refused"][:12]}}}),
        ("validate/ai_service", {"config": {"mqtt_config": {"password": PLANTED["validated"]}}}),
        ("patch/ai_service", {"pacth": {"mqtt_config": {"password": PLANTED["misspelt"]}}}),
        ("set/ai_service", {"config": PLANTED["misspelt"]}),
        ("set/ai_service", {"config": [PLANTED["misspelt"]], "expected_revision": PLANTED["misspelt"]}),
        (
            "batch",
            {
                "updates": [
                    {"service": "tts_service", "patch": {"mqtt_config": {"password": PLANTED["batch"]}}},
                    {"service": "tts_service", "patch": {"mqtt_config": {"password": PLANTED["batch"], "port": {}}}},
                    {"service": "nobody", "config": {"mqtt_config": {"password": PLANTED["batch"]}}},
                ]
            },
        ),
        ("unset/ai_service", {"pointer": "/settings/nothing"}),
        ("rollback/ai_service", {"revision": 2}),
        ("recipient/stt_service", {"public_key": PLANTED["misspelt"]}),
    ]


READS: list[tuple[str, dict[str, Any]]] = [
    *((f"{name}/ai_service", {}) for name in ("get", "schema", "history", "explain", "instances")),
    ("get/ai_service", {"revision": 2}),
    ("compare/ai_service", {"env1": "dev", "rev1": 1}),
    ("compare/ai_service", {"env1": "dev", "env2": "staging"}),
    ("list", {"include": "config"}), ("environments", {}), ("drift", {}), ("audit", {"limit": 1000}), ("replicas", {}),
    ("activate/prod", {}), ("activate/prod", {"dry_run": True}), ("reload", {}), ("reload", {"dry_run": True}),
]  # fmt: skip


async def over_mqtt(lived: Lived, box: str) -> None:
    """Send every operation over the bus, and malformed payloads."""
    async with client(lived.broker.port, username="operator", password=PLANTED["operator"]) as mqtt:
        await mqtt.subscribe("alicia/reply/operator/#", "alicia/reply/+/operator", "alicia/reply/+/+/operator")

        async def ask(request: str, payload: dict[str, Any] | bytes) -> None:
            topic = f"alicia/config/{request}/operator"
            await mqtt.publish(topic, payload, ResponseTopic="alicia/reply/operator/1", CorrelationData=b"1")
            lived.keep("answers", f"mqtt {request}", (await mqtt.next()).payload)

        for request, payload in [*writes(box), *READS]:
            await ask(request, payload)
        await ask("patch/ai_service", f'{{"patch": {{"mqtt_config": {{"password": "{PLANTED["no-json"]}"'.encode())
        await ask("patch/ai_service", f'"{PLANTED["no-json"]}"'.encode() + b"\xff")
        registration = {"service_name": "ai_service", "password": PLANTED["misspelt"]}
        await mqtt.publish("alicia/system/discovery/register", {"payload": registration})
        applied = {"instance": "1", "revision": 1, "checksum": "x", "status": "rejected", "error": "no reason"}
        await mqtt.publish("alicia/config/applied/ai_service", applied)


def over_http(lived: Lived, box: str) -> None:
    """The same over HTTP, and every page that needs no token."""
    http = lived.http
    password = {"mqtt_config": {"password": PLANTED["http"]}}
    assert http("PATCH", "/config/stt_service", password) == 200
    document = lived.daemon.http(
        "GET", "/config/stt_service", headers={"Authorization": f"Bearer {lived.extra['admin']}"}
    ).json["config"]
    document["mqtt_config"]["password"] = PLANTED["http"]
    document["settings"]["more_tokens"] = [PLANTED["array"]]
    assert http("PUT", "/config/stt_service", document) == 200
    assert http("PUT", "/config/stt_service", {**document, "limits": PLANTED["http"]}) == 422
    for _, payload in writes(box):
        for member in ("patch", "config", "updates"):
            if member in payload:
                http("PATCH", "/config/ai_service", payload[member])
                http("POST", "/config/validate", {"service": "ai_service", "config": payload[member]})
                http("POST", "/configs/batch", payload)
    http("PATCH", "/config/ai_service", raw=f'{{"mqtt_config": {{"password": "{PLANTED["no-json"]}"'.encode())
    http("PATCH", "/config/ai_service", raw=f'"{PLANTED["no-json"]}'.encode() + b"\xff")
    query = urllib.parse.quote(PLANTED["in-query"])
    for path in (f"/config/ai_service?token={query}", f"/configs?password={query}&limit=1"):
        http("GET", path)
    for header in (f"Bearer {PLANTED['wrong-header']}", f"Basic {PLANTED['wrong-header']}", PLANTED["wrong-header"]):
        http("GET", "/config/ai_service", headers={"Authorization": header})
    http("GET", "/config/ai_service", headers={"If-Match": PLANTED["wrong-header"], "Origin": "http://evil.example"})
    http("PATCH", "/config/ai_service", {}, headers={"If-Match": PLANTED["wrong-header"]})
    http("PATCH", "/config/ai_service", {}, headers={"Content-Type": PLANTED["wrong-header"]})
    for path in (
        "/health", "/ready", "/metrics", "/openapi.json", "/asyncapi.json", "/docs", "/keys/current", "/drift",
        "/audit", "/configs?include=config", "/configs?include=status", "/whoami", "/alerts", "/tokens",
        "/environments", "/config/ai_service?format=env",
        "/config/ai_service?format=yaml",
        "/config/ai_service?pointer=/mqtt_config/password", "/config/ai_service/explain", "/config/ai_service/history",
        "/config/ai_service?revision=2", "/config/compare/ai_service?env1=dev&env2=staging",
    ):  # fmt: skip
        http("GET", path)


def by_command(lived: Lived) -> None:
    """What a person does at the daemon's machine."""
    cli, url = lived.cli, ("--http", lived.daemon.url)
    cli(*url, "patch", "load_balancer", json.dumps({"mqtt_config": {"password": PLANTED["cli"]}}))
    cli(*url, "patch", "load_balancer", json.dumps({"mqtt_config": {"password": [PLANTED["cli"]]}}))
    cli(*url, "patch", "load_balancer", "-", stdin=f"mqtt_config: {{password: {PLANTED['cli']}, port: x}}")
    cli(*url, "patch", "load_balancer", "-", stdin=f"mqtt_config: {{password: {PLANTED['cli']}")
    cli(*url, "seal", "--service", "load_balancer", "-e", "dev", stdin=PLANTED["cli"])
    for arguments in (
        ("get", "load_balancer"), ("get", "load_balancer", "--answer"), ("explain", "load_balancer"),
        ("history", "load_balancer"), ("diff", "load_balancer", "--rev", "1"), ("list",), ("environments",),
        ("drift",), ("validate", "load_balancer", json.dumps({"mqtt_config": {"password": PLANTED["cli"]}})),
    ):  # fmt: skip
        cli(*url, *arguments)
    for arguments in (("audit",), ("acl",), ("acl", "--passwords"), ("settings",), ("keys", "show"), ("token", "list")):
        cli(*arguments)
    cli("check")
    cli(*url, "seal-file", "environments/dev-secrets.yaml")
    text = lived.secrets.read_text()
    assert PLANTED["sealed-in-file"] not in text
    assert cli("keys", "rotate").returncode == 0
    assert cli("setup", "access").returncode == 0
    # An edit that is refused: what is wrong stands beside a secret, or is one.
    for broken in (
        f"services:\n  ha_bridge:\n    settings: {{ha_token: {PLANTED['broken-file']}\n",
        f"services:\n  ha_bridge:\n    settings:\n      ha_token: [{PLANTED['broken-file']}]\n",
        f"services:\n  ha_bridge:\n    settings:\n      ha_token: '{PLANTED['broken-file']}\n",
        f"services:\n  security_gateway:\n    settings:\n      jwt_secret: {PLANTED['broken-file'][:14]}\n",
        f"services:\n  ha_bridge:\n    settings:\n      ha_token: !secret {PLANTED['broken-file']}\n",
        f"services:\n  ha_bridge:\n    mqtt_config: {PLANTED['broken-file']}\n",
    ):
        lived.secrets.write_text(broken)
        lived.http("POST", "/reload")
        cli("check")
        for path in ("/environments", "/config/ha_bridge", "/configs", "/health"):
            lived.http("GET", path)
        # In an environment that is not active the same is a draft, which is shown.
        lived.secrets.write_text(text)
        inactive = lived.secrets.with_name("prod-secrets.yaml")
        inactive.write_text(broken)
        lived.http("POST", "/reload")
        for service in ("ha_bridge", "security_gateway"):
            lived.http("GET", f"/config/compare/{service}?env1=dev&env2=prod")
            lived.http("GET", f"/config/{service}/explain?environment=prod")
        lived.http("POST", "/environments/prod/activate", {"dry_run": True})
        inactive.unlink()
    cli("doctor")
    cli("status")
    lived.secrets.write_text(text)
    assert lived.http("POST", "/reload") == 200


async def live(lived: Lived) -> None:
    """Do all of it while an observer receives everything on the bus."""
    await asyncio.to_thread(prepare, lived)
    key = PublicKey.from_published(lived.daemon.http("GET", "/keys/current").json)
    box = seal_for(key, PLANTED["box"], service="ai_service", environment="dev", pointer="/settings/openai_api_key")
    async with client(lived.broker.port, username=OBSERVER, password=PLANTED["operator"]) as observer:
        await observer.subscribe("#")
        hearing = asyncio.create_task(hear(lived, observer))
        listening = asyncio.create_task(listen(lived))
        await over_mqtt(lived, box)
        await asyncio.to_thread(over_http, lived, box)
        recipient = {"public_key": str(PrivateKey.generate().public)}
        assert await asyncio.to_thread(lived.http, "PUT", "/config/ai_service/recipient", recipient) == 200
        await over_mqtt(lived, box)
        await asyncio.to_thread(by_command, lived)
        # Whom the rules say gets its own secrets in the open; what that leaves behind is searched, it itself is not.
        own = {"Authorization": f"Bearer {lived.extra['tts']}"}
        opened = await asyncio.to_thread(lived.daemon.http, "GET", "/config/tts_service", headers=own)
        assert opened.json["config"]["mqtt_config"]["password"] == PLANTED["batch"]
        await asyncio.to_thread(lived.http, "GET", "/audit?limit=1000")
        await asyncio.to_thread(lived.leave, "alive")
        await asyncio.to_thread(lived.daemon.kill)
        await listening
        await asyncio.to_thread(lived.leave, "killed")
        await asyncio.to_thread(lived.daemon.start)
        await asyncio.to_thread(lived.http, "GET", "/configs?include=config")
        await asyncio.to_thread(lived.daemon.stop)
        await asyncio.to_thread(lived.leave, "stopped")
        await observer.publish("alicia/events/end", b"end")
        await hearing
    await asyncio.to_thread(lived.broker.stop)
    for path in files_under(lived.broker.directory):
        lived.keep("disk", f"broker's {path.name}", path.read_bytes())
    lived.keep("log", "daemon.log", lived.daemon.log.read_bytes())
    lived.keep("log", "standard output", "\n".join(lived.daemon.output))


async def listen(lived: Lived) -> None:
    """Record all events until the daemon is killed."""
    headers = {"Authorization": f"Bearer {lived.extra['admin']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async with session.get(f"{lived.daemon.url}/events") as response:
                async for line in response.content:
                    lived.keep("events", line[:30].decode(errors="replace"), line)


async def hear(lived: Lived, observer: Client) -> None:
    """Record everything on the bus until the end, requests apart from the daemon's messages."""
    while (message := await observer.next(10 * SECONDS)).topic != "alicia/events/end":
        if REQUESTS.match(message.topic) or message.topic.startswith("alicia/system/discovery/"):
            lived.sent.append(message.topic.encode() + b" " + message.payload)
        else:
            described = json.dumps({name: str(value) for name, value in message.properties.items()})
            lived.keep("bus", message.topic[:40], message.topic.encode() + b" " + message.payload + described.encode())


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    directory = tmp_path_factory.mktemp("lived")
    files = directory / "home" / "access"
    broker = Broker(
        directory / "broker",
        config=f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n",
    )
    environ = {
        "ALICIACFG_LOG_LEVEL": "debug",
        "PLANTED_VARIABLE": PLANTED["variable"],
        "MQTT_PASSWORD_FILE": "mqtt.password",
        "ALICIACFG_ADMIN_TOKEN_FILE": "data/admin.token",
        "ALICIACFG_HOME_ASSISTANT": "on",
        "ALICIACFG_HOME_ASSISTANT_FEATURES": "all",
    }
    daemon = Daemon(directory / "home", broker_port=broker.port, environ=environ).prepare().keep_services(*SERVICES)
    made = Lived(daemon, broker, daemon.environments / "dev-secrets.yaml")
    try:
        asyncio.run(live(made))
        yield made
    finally:
        made.daemon.stop()
        broker.stop()


@pytest.mark.parametrize("kind", ["answers", "bus", "commands", "disk", "events", "log"])
def test_no_planted_secret_is_found(lived: Lived, kind: str):
    """In the open, encoded, or as a digest to try guesses on; nor one that was made on the way."""
    artefacts = lived.artefacts[kind]
    given = {"data_dir": str(lived.daemon.data)}
    settings = resolve(given, environ=lived.daemon.environment(), dotenv_values={}).settings
    keys: list[dict[str, str]] = json.loads(load_keys(settings).content)["keys"]
    made = {
        **{f"token {name}": {"open": text.encode()} for name, text in lived.extra.items()},
        **{f"key {key['key_id']}": {"open": key["private"].encode()} for key in keys},
        "admin.token": {"open": (lived.daemon.data / "admin.token").read_bytes().strip()},
    }
    assert len(keys) > 1
    found = [
        (secret, form, name)
        for name, content in artefacts.items()
        for secret, looks in {**FORMS, **made}.items()
        for form, needle in looks.items()
        if needle in content
    ]
    assert found == []


def test_the_search_would_find_them(lived: Lived):
    """The control: every secret that travels on the bus is among what was sent, and each form of one is one."""
    travelled = {name for name, looks in FORMS.items() if any(looks["open"] in content for content in lived.sent)}
    assert {"mqtt", "array", "batch", "refused", "misspelt", "no-json"} <= travelled
    for kind, least in (("answers", 150), ("bus", 100), ("commands", 40), ("disk", 12), ("events", 50), ("log", 1)):
        assert len(lived.artefacts[kind]) >= least, kind
    assert b"sealed:v1:" in b"".join(lived.artefacts["disk"].values())
    assert any(b'"password":"***"' in content for content in lived.artefacts["bus"].values())
    raw = PLANTED["mqtt"].encode()
    looks = FORMS["mqtt"]
    for offset, before in enumerate((b"", b"a", b"bc")):
        assert looks[f"base64 at {offset}"] in base64.b64encode(before + raw + b"after")
        assert looks[f"url-safe base64 at {offset}"] in base64.urlsafe_b64encode(before + raw + b"after")
    assert looks["url"] == urllib.parse.quote(raw).replace("-", "%2D").encode()
    assert bytes.fromhex(looks["hex"].decode()) == looks["reversed"][::-1] == looks["open"] == raw
    assert looks["utf-16"].decode("utf-16-le").encode() == raw
    assert hashlib.sha256(raw).hexdigest().encode() in looks.values()
    assert hashlib.md5(json.dumps(raw.decode()).encode()).hexdigest().encode() in looks.values()


def test_every_operation_was_asked_for(lived: Lived):
    """Over MQTT; whatever is added to the table has to be added here."""
    asked = {name.split()[1].split("/")[0] for name in lived.artefacts["answers"] if name.startswith("mqtt ")}
    assert {operation.name for operation in OPERATIONS} - {"health", "delete"} <= asked


def test_files_that_hold_secrets_are_their_owners_alone(lived: Lived):
    """Keys, token and a secrets file with generated passwords are readable by their owner alone."""
    data = lived.daemon.data
    for path in (lived.daemon.key_file, data / "admin.token"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(lived.secrets.stat().st_mode) & 0o007 == 0
