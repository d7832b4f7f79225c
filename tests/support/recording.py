"""Records what a real daemon answers: the examples of both API documents.

``make api-documents`` writes them down; a test records them again and holds them equal. What differs from run to run is
replaced by ``scrubbed``; everything else is as the daemon said it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from aliciacfg import __version__
from aliciacfg.http import openapi
from aliciacfg.http.responses import JSON
from aliciacfg.mqtt import asyncapi
from brokers import Broker
from daemons import Daemon, HttpAnswer
from machine import wait_until
from mqtt_clients import SECONDS, Client, client

FILES = {
    "environments/base.yaml": """\
defaults:
  mqtt_config: {host: alicia_bus_core, port: 1883}
  api_config: {host: 0.0.0.0, port: 8000}
services:
  voice_router:
    mqtt_config: {username: voice_router}
    api_config: {port: 8004}
  stt_service:
    mqtt_config: {username: stt_service}
    api_config: {port: 8001}
""",
    "environments/dev.yaml": """\
defaults:
  mqtt_config: {password: for-examples-only}
  features: {request_tracing: true}
""",
    "environments/prod.yaml": """\
protected: true
defaults:
  mqtt_config: {password: for-examples-only-too}
services:
  voice_router:
    settings: {max_sessions: 40}
""",
    "schemas/voice_router.yaml": """\
$schema: https://json-schema.org/draft/2020-12/schema
title: voice_router
version: 1.0.0
type: object
required: [settings]
properties:
  settings:
    type: object
    properties:
      max_sessions:
        type: integer
        minimum: 1
        maximum: 1000
        default: 10
        description: Voice sessions open at once.
        x-env: MAX_SESSIONS
        x-restart-required: true
      log_level: {type: string, enum: [DEBUG, INFO, WARNING, ERROR], default: INFO}
""",
}

# By the name of a member or a header: what stands for a value that no two runs have in common.
_TIME = 1767225600.0
VOLATILE: dict[str, Any] = {
    "timestamp": _TIME,
    "last_updated": _TIME,
    "last_update": _TIME,
    "since": _TIME,
    "last_seen": _TIME,
    "uptime": 12.5,
    "messages_processed": 42,
    # Retained health counts what had happened when it was published last.
    "validation_errors": 4,
    "errors": 18,
    "cache_hit_rate": 0.95,
    "outbox_pending": 0,
    "checksum": "5f0c1d2e" * 8,
    "before_checksum": "5f0c1d2e" * 8,
    "after_checksum": "5f0c1d2e" * 8,
    "instance": "3f8a1c2b4d5e6f70",
    "replica": "3f8a1c2b4d5e6f70.5a7c9e01",
    "url": "http://127.0.0.1:8026",
    "message_id": "6d1f7c1e-4a52-4f0b-9f0e-2b7a3c4d5e6f",
    "key_id": "0123456789abcdef",
    "token_id": "0a1b2c3d4e5f",
    "token": "acfg_0a1b2c3d4e5f_the-secret-part-that-is-shown-once-and-not-stored",
    "created": _TIME,
    "public_key": "bm90IGEga2V5OyBpdCBzdGFuZHMgZm9yIG9uZSBoZXI=",
    "ETag": '"9b2e4f6a"',
}


def scrubbed(value: Any, name: str = "") -> Any:
    """The value with everything volatile replaced by one of the same kind; what is null or empty stays so."""
    if isinstance(value, dict):
        return {key: scrubbed(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if name not in VOLATILE or value in (None, ""):
        return value
    return VOLATILE[name] if isinstance(value, str) == isinstance(VOLATILE[name], str) else value


@dataclass
class Http:
    """A request to make; ``{etag}`` and ``{checksum}`` are those of the newest answer that had one."""

    operation: str
    name: str
    summary: str
    method: str
    path: str
    body: Any = UNSET
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    shown: bool = True


@dataclass
class Mqtt:
    """A request to publish, or a message to look at."""

    channel: str
    name: str
    summary: str
    topic: str
    payload: Any = UNSET


HTTP = (
    Http("get", "one", "The whole configuration", "GET", "/config/voice_router"),
    Http(
        "get", "not_modified", "Nothing changed since", "GET", "/config/voice_router",
        headers={"If-None-Match": "{etag}"}, status=304,
    ),
    Http("get", "value", "One value", "GET", "/config/voice_router?pointer=/settings/max_sessions"),
    Http("get", "as_yaml", "As YAML", "GET", "/config/voice_router?format=yaml"),
    Http("get", "as_variables", "As variables for a shell", "GET", "/config/voice_router?format=env"),
    Http(
        "get", "unchanged", "Compared by checksum", "GET", "/config/voice_router?if_checksum={checksum}",
    ),
    Http("get", "unknown", "A service nobody described", "GET", "/config/toaster", status=404),
    Http("get", "malformed_name", "What cannot name a service", "GET", "/config/voice%20router", status=400),
    Http(
        "get", "foreign_page", "A web page of another site", "GET", "/config/voice_router",
        headers={"Origin": "https://elsewhere.example"}, status=403,
    ),
    Http(
        "get", "wrong_token", "A token that is none of ours", "GET", "/config/voice_router",
        headers={"Authorization": "Bearer acfg_none_of_ours"}, status=401,
    ),
    Http(
        "patch", "dry_run", "What would change", "PATCH", "/config/voice_router?dry_run=true",
        {"settings": {"max_sessions": 12}},
    ),
    Http(
        "patch", "one_value", "Change one value", "PATCH", "/config/voice_router?comment=More%20rooms",
        {"settings": {"max_sessions": 12}}, {"Content-Type": "application/merge-patch+json"},
    ),
    Http(
        "patch", "invalid", "Everything that is wrong is told", "PATCH", "/config/voice_router",
        {"settings": {"max_sessions": 0, "log_level": "LOUD"}, "mqtt_config": {"port": "1883"}}, status=422,
    ),
    Http(
        "patch", "conflict", "Somebody was faster", "PATCH", "/config/voice_router?expected_revision=1",
        {"settings": {"max_sessions": 20}}, status=409,
    ),
    Http(
        "patch", "stale", "The same, said with a header", "PATCH", "/config/voice_router",
        {"settings": {"max_sessions": 20}}, {"If-Match": '"1"'}, status=412,
    ),
    Http(
        "patch", "form", "A body that is not JSON", "PATCH", "/config/voice_router",
        {"max_sessions": 20}, {"Content-Type": "application/x-www-form-urlencoded"}, status=415,
    ),
    Http(
        "patch", "incompatible", "A key that others may rely on", "PATCH", "/config/voice_router",
        {"features": {"request_tracing": None}}, status=409,
    ),
    Http(
        "patch", "protected", "An environment where a write says what it expects", "PATCH",
        "/config/voice_router?environment=prod", {"settings": {"max_sessions": 20}}, status=409,
    ),
    Http(
        "set", "new_service", "A configuration for a service that no file names", "PUT", "/config/weather_display",
        {
            "mqtt_config": {
                "host": "alicia_bus_core", "port": 1883, "username": "weather_display", "password": "for-examples-only"
            },
            "api_config": {"host": "0.0.0.0", "port": 8040},
            "settings": {"units": "metric"},
        },
        {"If-None-Match": "*"}, status=201,
    ),
    Http(
        "set", "keep_secret", "A *** that stays where it was keeps the secret", "PUT", "/config/weather_display",
        {
            "mqtt_config": {"host": "alicia_bus_core", "port": 1883, "username": "weather_display", "password": "***"},
            "api_config": {"host": "0.0.0.0", "port": 8040},
            "settings": {"units": "imperial"},
        },
        {"If-Match": "{etag}"},
    ),
    Http(
        "set", "too_large", "More than 256 KiB", "PUT", "/config/weather_display",
        {"settings": {"text": "x" * 300_000}}, status=413, shown=False,
    ),
    Http("history", "newest", "The newest first", "GET", "/config/voice_router/history?limit=2"),
    Http("explain", "one", "Files, lines and run-time changes", "GET", "/config/voice_router/explain"),
    Http("compare", "environments", "Two environments", "GET", "/config/compare/voice_router?env1=dev&env2=prod"),
    Http("compare", "revisions", "Two revisions", "GET", "/config/compare/voice_router?rev1=1&rev2=2"),
    Http("rollback", "first", "Back to the first revision", "POST", "/config/voice_router/rollback", {"revision": 1}),
    Http(
        "rollback", "unknown", "A revision that never was", "POST", "/config/voice_router/rollback",
        {"revision": 99}, status=404,
    ),
    Http(
        "batch", "one_refused", "What is valid is applied", "POST", "/configs/batch",
        {
            "updates": [
                {"service": "voice_router", "patch": {"settings": {"max_sessions": 16}}},
                {"service": "stt_service", "patch": {"api_config": {"port": 0}}},
            ]
        },
    ),
    Http(
        "batch", "all_or_none", "Nothing is applied", "POST", "/configs/batch",
        {
            "updates": [
                {"service": "voice_router", "patch": {"settings": {"max_sessions": 18}}},
                {"service": "stt_service", "patch": {"api_config": {"port": 0}}},
            ],
            "atomic": True,
        },
        status=422,
    ),
    Http(
        "unset", "one_value", "The files' value again", "POST", "/config/voice_router/unset",
        {"pointer": "/settings/max_sessions"},
    ),
    Http("delete", "to_the_files", "Back to what the files say", "DELETE", "/config/voice_router"),
    Http("delete", "ended", "Nothing is left of it", "DELETE", "/config/weather_display"),
    Http(
        "rollback", "deleted", "A deleted configuration comes back", "POST", "/config/weather_display/rollback",
        {"revision": 2}, status=201,
    ),
    Http(
        "validate", "invalid", "What set would refuse", "POST", "/config/validate",
        {"service": "voice_router", "config": {"settings": {"max_sessions": 5000}}},
    ),
    Http("schema", "one", "With the base contract", "GET", "/config/schema/voice_router"),
    Http("list", "page", "The first page", "GET", "/configs?limit=1"),
    Http(
        "list", "next", "The next page, with configurations", "GET",
        "/configs?limit=1&after=stt_service&include=config",
    ),
    Http("list", "status", "How each service is", "GET", "/configs?include=status"),
    Http("list", "wrong_field", "A parameter that does not exist", "GET", "/configs?limt=1", status=400),
    Http("environments", "all", "Every environment", "GET", "/environments"),
    Http("activate", "dry_run", "What would change", "POST", "/environments/prod/activate", {"dry_run": True}),
    Http("activate", "prod", "Make it the active one", "POST", "/environments/prod/activate", {"comment": "Opening"}),
    Http("activate", "back", "And back", "POST", "/environments/dev/activate", {}),
    Http("activate", "unknown", "An environment without a file", "POST", "/environments/lab/activate", {}, status=404),
    Http("reload", "nothing", "No file changed", "POST", "/reload", {}),
    Http("instances", "one", "Who runs what", "GET", "/config/voice_router/instances"),
    Http("drift", "repaired", "One message of somebody else was put right", "GET", "/drift"),
    Http("audit", "one_service", "What was done about one service", "GET", "/audit?service=weather_display&limit=2"),
    Http("health", "now", "A daemon that is well", "GET", "/health"),
    Http("replicas", "alone", "The only daemon of its home", "GET", "/replicas"),
    Http("whoami", "open", "Where everybody may do everything", "GET", "/whoami"),
    Http("", "key", "To seal with", "GET", "/keys/current"),
    Http("", "ready", "It is usable", "GET", "/ready"),
)  # fmt: skip

# Asked last: once there is a token, everything needs one.
GUARDED = (
    Http(
        "recipient", "own_key", "A service's key, set by an administrator", "PUT", "/config/voice_router/recipient",
        {"public_key": VOLATILE["public_key"]}, {"Authorization": "Bearer {token}"},
    ),
    Http(
        "recipient", "nobody", "Without a token", "PUT", "/config/voice_router/recipient",
        {"public_key": VOLATILE["public_key"]}, status=401,
    ),
    Http("whoami", "operator", "An administrator", "GET", "/whoami", None, {"Authorization": "Bearer {token}"}),
    Http(
        "create_token", "reader", "One that reads everything", "POST", "/tokens",
        {"name": "dashboard", "role": "reader"}, {"Authorization": "Bearer {token}"},
    ),
    Http("alerts", "none", "Nothing is wrong", "GET", "/alerts", None, {"Authorization": "Bearer {token}"}),
    Http("tokens", "all", "All of them", "GET", "/tokens", None, {"Authorization": "Bearer {token}"}),
    Http(
        "revoke_token", "unknown", "One that does not exist", "POST", "/tokens/000000000000/revoke", {},
        {"Authorization": "Bearer {token}"}, status=404,
    ),
)  # fmt: skip

_TO = "alicia/config"
MQTT = (
    Mqtt("get", "own", "A service asks for its own", f"{_TO}/get/voice_router"),
    Mqtt(
        "get", "in_envelope", "As the programs of the home write", f"{_TO}/get/voice_router",
        {
            "message_id": VOLATILE["message_id"], "timestamp": _TIME, "source": "voice_router",
            "destination": "config_service", "message_type": "request", "priority": "normal", "ttl": 300,
            "payload": {"if_checksum": "of an older one"}, "routing": {"hops": 0, "max_hops": 10},
        },
    ),
    Mqtt("get", "unknown", "A service nobody described", f"{_TO}/get/toaster/console"),
    Mqtt(
        "patch", "one_value", "Change one value", f"{_TO}/patch/voice_router/console",
        {"patch": {"settings": {"max_sessions": 14}}, "comment": "More rooms", "request_id": "console-17"},
    ),
    Mqtt(
        "patch", "invalid", "Everything that is wrong is told", f"{_TO}/patch/voice_router/console",
        {"patch": {"settings": {"max_sessions": 0, "log_level": "LOUD"}}},
    ),
    Mqtt(
        "set", "trial", "What would change", f"{_TO}/set/stt_service/console",
        {
            "config": {
                "mqtt_config": {
                    "host": "alicia_bus_core", "port": 1883, "username": "stt_service", "password": "***",
                    "tls_enabled": False, "keepalive": 30,
                },
                "api_config": {"host": "0.0.0.0", "port": 8001},
                "features": {"request_tracing": True},
                "limits": {},
            },
            "dry_run": True,
        },
    ),
    Mqtt(
        "unset", "one_value", "The files' value again", f"{_TO}/unset/voice_router/console",
        {"pointer": "/settings/max_sessions"},
    ),
    Mqtt("delete", "to_the_files", "Back to what the files say", f"{_TO}/delete/voice_router/console"),
    Mqtt("history", "newest", "The newest", f"{_TO}/history/voice_router", {"limit": 1}),
    Mqtt("rollback", "first", "Back to the first revision", f"{_TO}/rollback/voice_router/console", {"revision": 1}),
    Mqtt("explain", "own", "Where my values come from", f"{_TO}/explain/stt_service"),
    Mqtt("compare", "environments", "Two environments", f"{_TO}/compare/voice_router", {"env1": "dev", "env2": "prod"}),
    Mqtt(
        "batch", "trial", "Two at once", f"{_TO}/batch/console",
        {
            "updates": [
                {"service": "voice_router", "patch": {"settings": {"max_sessions": 16}}},
                {"service": "stt_service", "patch": {"api_config": {"port": 8002}}},
            ],
            "dry_run": True,
        },
    ),
    Mqtt("instances", "own", "Who runs what", f"{_TO}/instances/voice_router"),
    Mqtt("drift", "all", "What is not as it should be", f"{_TO}/drift/console"),
    Mqtt("replicas", "alone", "The only daemon of its home", f"{_TO}/replicas/console"),
    Mqtt(
        "validate", "invalid", "What set would refuse", f"{_TO}/validate/voice_router",
        {"config": {"settings": {"max_sessions": 5000}}},
    ),
    Mqtt("schema", "own", "A service asks for its own", f"{_TO}/schema/stt_service"),
    Mqtt("list", "page", "The first page", f"{_TO}/list/console", {"limit": 1}),
    Mqtt("environments", "all", "Every environment", f"{_TO}/environments"),
    Mqtt("audit", "newest", "What was done last", f"{_TO}/audit/console", {"limit": 1}),
    Mqtt(
        "recipient", "unproven", "Nothing proves who asks", f"{_TO}/recipient/voice_router",
        {"public_key": VOLATILE["public_key"]},
    ),
    Mqtt(
        "activate", "dry_run", "What would change", f"{_TO}/activate/prod/console", {"dry_run": True},
    ),
    Mqtt("reload", "nothing", "No file changed", f"{_TO}/reload/console"),
    Mqtt("health_check", "ask", "Anybody may ask", "alicia/system/health/check", {"request_id": "monitor-1"}),
)  # fmt: skip
APPLIED = Mqtt(
    "applied", "taken", "A copy took its configuration", f"{_TO}/applied/voice_router",
    {"instance": VOLATILE["instance"], "revision": 1, "checksum": "{checksum}", "status": "applied"},
)  # fmt: skip
ALERTING = next(step for step in MQTT if step.name == "invalid")
ALERT = Mqtt("alert", "validation_failed", "A write was refused", f"{_TO}/alert/validation_failed")
# Messages that nobody asks for, in the order in which they are looked at.
SEEN = (
    Mqtt("update", "one", "What a service starts with", f"{_TO}/update/voice_router"),
    Mqtt("environment", "active", "The active environment", f"{_TO}/environment"),
    Mqtt("key", "current", "The daemon's public key", f"{_TO}/key"),
    Mqtt("health", "now", "A daemon that is well", "alicia/system/health/config_service"),
)
REGISTRATION = Mqtt(
    "register", "service", "A service that starts", "alicia/system/discovery/register",
    {
        "message_id": VOLATILE["message_id"], "timestamp": _TIME, "source": "voice_router", "destination": "broadcast",
        "message_type": "event", "priority": "normal", "ttl": 300,
        "payload": {
            "service_name": "voice_router", "status": "online", "timestamp": _TIME, "capabilities": [],
            "version": "1.0.0",
        },
        "routing": {"hops": 0, "max_hops": 10},
    },
)  # fmt: skip


def encoded(exchanges: list[openapi.Exchange] | list[asyncapi.Exchange]) -> bytes:
    """Return what is in the file beside the document's module."""
    return msgspec.json.format(msgspec.json.encode(exchanges)) + b"\n"


async def record(directory: Path) -> tuple[list[openapi.Exchange], list[asyncapi.Exchange]]:
    """Start a broker and a daemon with files of their own, ask everything, and end them."""
    home = directory / "home"
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    broker = Broker(directory / "broker").start()
    daemon = Daemon(home, broker_port=broker.port, environ={"ALICIACFG_REPLICA": "kitchen"})
    try:
        daemon.start()
        async with client(daemon.broker_port) as bus:
            lived = [one async for one in _live(daemon, bus)]
            over_http = list(_over_http(daemon, HTTP))
            over_mqtt = [one async for one in _over_mqtt(daemon, bus)]
            token = daemon.local("token_create", {"name": "operator", "role": "admin"})["token"]
            return over_http + list(_over_http(daemon, GUARDED, token=token)), over_mqtt + lived
    finally:
        daemon.stop()
        broker.stop()


def _over_http(daemon: Daemon, steps: tuple[Http, ...], *, token: str = "") -> Iterator[openapi.Exchange]:
    known = {"etag": "", "checksum": "", "token": token}
    for step in steps:
        headers = {name: value.format(**known) for name, value in step.headers.items()}
        body = None if step.body is UNSET else step.body
        answer = daemon.http(step.method, step.path.format(**known), body, headers)
        assert answer.status == step.status, (step, answer)
        yield _exchange(step, answer)
        known["etag"] = answer.headers.get("ETag", known["etag"])
        if answer.status < 300 and answer.headers["Content-Type"] == JSON and "checksum" in answer.json:
            known["checksum"] = answer.json["checksum"]


def _exchange(step: Http, answer: HttpAnswer) -> openapi.Exchange:
    placeholders = {"etag": VOLATILE["ETag"], "checksum": VOLATILE["checksum"], "token": "acfg_…"}
    return openapi.Exchange(
        operation=step.operation,
        name=step.name,
        summary=step.summary,
        method=step.method,
        path=step.path.format(**placeholders),
        headers={name: value.format(**placeholders) for name, value in step.headers.items()},
        body=step.body if step.shown else UNSET,
        status=answer.status,
        content_type=answer.headers.get("Content-Type", ""),
        answer=_content(answer),
        answer_headers={name: scrubbed(answer.headers[name], name) for name in ("ETag",) if name in answer.headers},
    )


def _content(answer: HttpAnswer) -> Any:
    if not answer.body:
        return UNSET
    kind = answer.headers["Content-Type"].partition(";")[0]
    return scrubbed(answer.json) if kind == JSON else answer.body.decode()


async def _live(daemon: Daemon, bus: Client) -> AsyncIterator[asyncapi.Exchange]:
    """Events on the bus: a service registers and applies its configuration, and a stranger overwrites it."""
    await bus.publish(REGISTRATION.topic, json.dumps(REGISTRATION.payload))
    yield _message(REGISTRATION, REGISTRATION.payload)
    report = {**APPLIED.payload, "checksum": daemon.config("voice_router")["checksum"]}
    await bus.publish(APPLIED.topic, json.dumps(report))
    yield _message(APPLIED, report)
    wait_until(lambda: daemon.http("GET", "/config/voice_router/instances").json["instances"], why="it is known")
    await bus.publish(SEEN[0].topic, "overwritten", retain=True)
    wait_until(lambda: daemon.http("GET", "/drift").json["found"].get("retained"), why="it was found")
    wait_until(lambda: not daemon.http("GET", "/drift").json["drift"], why="it was put right")


async def _over_mqtt(daemon: Daemon, bus: Client) -> AsyncIterator[asyncapi.Exchange]:
    await bus.subscribe(ALERT.topic)
    await bus.publish(ALERTING.topic, json.dumps(ALERTING.payload))
    alert = (await bus.until(ALERT.topic)).json
    while alert["service"] not in ALERTING.topic:
        # What came again over HTTP is counted, and told late.
        alert = (await bus.until(ALERT.topic)).json
    await bus.subscribe("alicia/reply/console/1")
    for step in MQTT:
        yield await _answered(bus, step)
    yield _message(ALERT, alert)
    wait_until(lambda: daemon.http("GET", "/health").json["outbox_pending"] == 0, why="all is published")
    for step in SEEN:
        yield _message(step, await _seen(daemon, bus, step.topic))


async def _seen(daemon: Daemon, bus: Client, topic: str) -> Any:
    """The retained message of a topic; that of health, once it tells of all that was done."""
    managed = daemon.http("GET", "/health").json["configs_managed"]
    async with asyncio.timeout(SECONDS):
        while True:
            found = (await bus.retained(topic))[topic].json
            if found.get("payload", {}).get("configs_managed", managed) == managed:
                return found


async def _answered(bus: Client, step: Mqtt) -> asyncapi.Exchange:
    payload = b"" if step.payload is UNSET else json.dumps(step.payload)
    await bus.publish(step.topic, payload, ResponseTopic="alicia/reply/console/1", CorrelationData=b"1")
    answer = await bus.until("alicia/reply/console/1")
    properties = dict(answer.properties.get("UserProperty", []))
    return asyncapi.Exchange(
        channel=step.channel,
        name=step.name,
        summary=step.summary,
        topic=step.topic,
        payload=step.payload,
        answer=scrubbed(answer.json),
        answer_status=properties.get("status", ""),
    )


def _message(step: Mqtt, payload: Any) -> asyncapi.Exchange:
    return asyncapi.Exchange(
        channel=step.channel, name=step.name, summary=step.summary, topic=step.topic, payload=scrubbed(payload)
    )


def documents() -> dict[str, bytes]:
    """Return both documents as they are under ``docs/``, by file name."""
    made = {
        "openapi.json": openapi.document(__version__, openapi.recorded()),
        "asyncapi.json": asyncapi.document(__version__, asyncapi.recorded()),
    }
    return {name: msgspec.json.format(msgspec.json.encode(document)) + b"\n" for name, document in made.items()}
