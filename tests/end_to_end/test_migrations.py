"""Migrations of a running daemon, interrupted by kill -9."""

import asyncio
import contextlib

from daemons import Daemon
from machine import wait_until

# The services of its daemons.
HOME_SERVICES = ("ai_service", "stt_service", "tts_service", "voice_router")


async def test_kill_9_around_a_migration_leaves_the_old_or_the_new(daemon: Daemon):
    """Each service is migrated in all environments or in none; the next attempt completes the rest."""
    names = ("tts_service", "stt_service", "ai_service")
    (daemon.environments / "prod.yaml").write_text((daemon.environments / "dev.yaml").read_text())
    await asyncio.to_thread(wait_until, lambda: daemon.logged("files_loaded"))
    for name in names:
        for environment in ("dev", "prod"):
            path = f"/config/{name}?environment={environment}"
            assert daemon.http("PATCH", path, {"limits": {"old": 5}}).status == 200
        folder = daemon.directory / "schemas" / name / "migrations"
        folder.mkdir(parents=True)
        (folder / "1-to-2.yaml").write_text("- {op: move, from: /limits/old, path: /limits/new}\n")
        file = daemon.directory / "schemas" / f"{name}.yaml"
        file.write_text(file.read_text().replace("version: 1.0.0", "version: 2.0.0"))
    await asyncio.to_thread(
        wait_until, lambda: "ai_service" in daemon.http("GET", "/health").json["alerts"].get("migration_pending", "")
    )
    for delay in (0.0, 0.05, 0.15):
        asking = asyncio.create_task(asyncio.to_thread(migrate_somehow, daemon))
        await asyncio.sleep(delay)
        daemon.kill()
        await asking
        await asyncio.to_thread(daemon.start)
        for name in names:
            served = daemon.http("GET", f"/config/schema/{name}").json["version"]
            expected = {"old": 5} if served == "1.0.0" else {"new": 5}
            for environment in ("dev", "prod"):
                limits = daemon.config(name, f"?environment={environment}")["config"]["limits"]
                assert {key: limits[key] for key in ("old", "new") if key in limits} == expected
    answer = daemon.http("POST", "/reload", {"migrate": True})
    assert answer.status == 200
    assert all(item["done"] for item in answer.json["migrations"])
    for name in names:
        assert daemon.http("GET", f"/config/{name}/history").json["revisions"][0]["cause"] == "migration"
        assert daemon.config(name)["config"]["limits"]["new"] == 5
    assert "migration_pending" not in daemon.http("GET", "/health").json["alerts"]


def migrate_somehow(daemon: Daemon) -> None:
    with contextlib.suppress(Exception):
        daemon.http("POST", "/reload", {"migrate": True})
