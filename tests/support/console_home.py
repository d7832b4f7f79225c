"""A home in which something happened, so that each screen of the console has something to show."""

import asyncio
import shutil
from collections.abc import Callable
from urllib.parse import quote

from callers import bearing, token
from daemons import Daemon, HttpAnswer
from machine import wait_until
from mqtt_clients import client
from repository import ROOT

SERVICES = ("ai_service", "event_scheduler", "sonos_service", "tts_service", "voice_router")
# What anna changed, and why.
CHANGES = (
    ("sonos_service", {"settings": {"max_volume_percent": 35}}, "Quieter, the baby sleeps"),
    ("event_scheduler", {"features": {"metrics": False}}, "Not needed here"),
    ("voice_router", {"limits": {"requests_per_minute": 1200}}, "More rooms"),
    ("voice_router", {"limits": {"requests_per_minute": 900}, "features": {"debug_endpoints": False}}, ""),
)
REFUSED_EDIT = ("requests_per_minute: 6000", "requests_per_minute: many")


def prepare(daemon: Daemon, *services: str) -> Daemon:
    """Write the files of the home, with rules and the token of an administrator, anna."""
    if services:
        daemon.keep_services(*services)
    daemon.prepare()
    (daemon.environments / "access.yaml").write_text("admins: [anna]\nusers: [ben]\nservices: {}\n")
    return daemon


def add_zoo(daemon: Daemon) -> None:
    """Give the home a service with every kind of field, before it starts."""
    shutil.copy(ROOT / "tests" / "data" / "console" / "zoo.yaml", daemon.directory / "schemas")
    base = daemon.environments / "base.yaml"
    base.write_text(
        base.read_text()
        + "  zoo:\n    mqtt_config: {username: zoo}\n    api_config: {port: 8101}\n    features: {night: true}\n"
        + "    settings:\n      level: WARNING\n      users:\n        - {name: eva, admin: true}\n"
    )


def live_in(daemon: Daemon, *, refused_edit: bool = True) -> str:
    """Let people and services do something with a running home; return the token of anna.

    Revisions with comments, refused writes, copies that applied, rejected or wait for a restart, services that are
    online, tokens, and, unless ``refused_edit`` is false, an edit of a file that is refused.
    """
    given = token(daemon, "anna", role="admin")
    anna, ben = bearing(daemon, given), bearing(daemon, token(daemon, "ben", role="reader"))
    token(daemon, "tts_service")
    for service, patch, comment in CHANGES:
        answer = anna("PATCH", f"/config/{service}?comment={quote(comment)}", patch)
        assert answer.status == 200, answer.body
    assert anna("PATCH", "/config/voice_router", {"limits": 7}).status == 422
    assert ben("PATCH", "/config/voice_router", {"limits": {}}).status == 403
    asyncio.run(_report(daemon, anna))
    if refused_edit:
        edited = daemon.environments / "dev.yaml"
        edited.write_text(edited.read_text().replace(*REFUSED_EDIT))
        assert anna("POST", "/reload", {}).status == 422
        wait_until(lambda: daemon.http("GET", "/health").json["status"] == "degraded")
    return given


async def _report(daemon: Daemon, ask: Callable[..., HttpAnswer]) -> None:
    """Send what services send: that they are online, and what their copies applied."""

    def current(service: str) -> dict[str, object]:
        answer = ask("GET", f"/config/{service}").json
        return {"revision": answer["revision"], "checksum": answer["checksum"]}

    reports = [
        ("voice_router", {"instance": "kitchen", "status": "applied", **current("voice_router")}),
        ("voice_router", {"instance": "hall", "status": "restart_pending", **current("voice_router")}),
        (
            "sonos_service",
            {
                "instance": "living-room",
                "status": "rejected",
                **current("sonos_service"),
                "error": "the speaker takes 40 at least",
            },
        ),
        ("tts_service", {"instance": "tts-1", "status": "applied", **current("tts_service")}),
    ]
    async with client(daemon.broker_port) as mqtt:
        for name in ("voice_router", "tts_service"):
            await mqtt.publish(
                "alicia/system/discovery/register", {"service_name": name, "status": "online", "version": "1.0.0"}
            )
        for service, report in reports:
            await mqtt.publish(f"alicia/config/applied/{service}", report)
    for service in {service for service, _ in reports}:
        wait_until(lambda name=service: ask("GET", f"/config/{name}/instances").json["instances"])
