"""A daemon whose database is on a PostgreSQL server: what it promises on SQLite, it promises here."""

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest

from builders import valid_config
from commands import aliciacfg
from daemons import Daemon
from mqtt_clients import client
from postgres import Postgres

PASSWORD = "hunter2"


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon], postgres: Postgres) -> Iterator[Daemon]:
    """A daemon on a database of its own, with a password in its address, for a server that asks for none."""
    url = postgres.create().replace("aliciacfg@", f"aliciacfg:{PASSWORD}@", 1)
    made = make_daemon(environ={"ALICIACFG_DATABASE_URL": url})
    made.keep_services("voice_router", "tts_service")
    yield made.start()
    made.stop()


def test_a_daemon_on_postgresql_writes_and_finds_it_again(daemon: Daemon):
    """Writes, history, conditions, secrets, activation and the audit log, before and after a restart."""
    first = daemon.http("PATCH", "/config/voice_router", {"limits": {"requests_per_minute": 7}, "settings": {"x": 1}})
    assert first.status == 200, first.body
    stale = daemon.http("PATCH", "/config/voice_router", {"settings": {"x": 2}}, {"If-Match": '"1"'})
    assert stale.status == 412, stale.body
    secret = daemon.http("PATCH", "/config/voice_router", {"mqtt_config": {"password": "planted-secret"}})
    assert secret.json["config"]["mqtt_config"]["password"] == "***"
    rolled = daemon.http("POST", "/config/voice_router/rollback", {"revision": 1})
    assert (rolled.status, rolled.json["revision"]) == (200, 4), rolled.body
    assert daemon.http("DELETE", "/config/nobody").status == 404
    before = daemon.http("GET", "/config/voice_router").json
    assert daemon.stop() == 0
    daemon.start()
    after = daemon.http("GET", "/config/voice_router?at_least=4").json
    assert after["config"] == before["config"]
    history = daemon.http("GET", "/config/voice_router/history").json["revisions"]
    assert [item["revision"] for item in history] == [4, 3, 2, 1]
    assert daemon.http("GET", "/ready").status == 200
    assert "planted-secret" not in daemon.log.read_text()
    assert daemon.http("GET", "/audit").json["entries"]


async def test_when_it_is_ready_the_broker_holds_the_home(make_daemon: Callable[..., Daemon], postgres: Postgres):
    """As a daemon on SQLite promises: it leads at once, and what it has made at its start is published before."""
    url = await asyncio.to_thread(postgres.create)
    made = make_daemon(environ={"ALICIACFG_DATABASE_URL": url})
    made.keep_services()
    services = {f"bell{number}": valid_config() for number in range(300)}
    (made.environments / "dev.yaml").write_text(json.dumps({"services": services}))
    await asyncio.to_thread(made.start)
    async with client(made.broker_port) as mqtt:
        held = await mqtt.retained("alicia/config/#")
    missing = {f"alicia/config/update/{service}" for service in services} - held.keys()
    assert not missing
    assert held.keys() >= {"alicia/config/environment", "alicia/config/key"}
    assert made.http("GET", "/ready").status == 200
    # Killed, its lease still goes on: it waits until it leads again, and has published what it makes of an edit.
    made.kill()
    (made.environments / "dev.yaml").write_text(json.dumps({"services": {**services, "gong": valid_config()}}))
    await asyncio.to_thread(made.start)
    async with client(made.broker_port) as mqtt:
        assert "alicia/config/update/gong" in await mqtt.retained("alicia/config/#")


def test_the_password_of_the_database_is_in_no_log_and_no_answer(daemon: Daemon):
    """Not in those of commands either."""
    said = [daemon.log.read_text(), daemon.ready_line]
    said += [daemon.http("GET", path).body.decode() for path in ("/health", "/metrics", "/ready")]
    for command in ("status", "settings", "doctor", "check"):
        done = aliciacfg(daemon, command)
        said += [done.stdout, done.stderr]
    assert PASSWORD not in "".join(said)
    assert "postgresql://aliciacfg@" in aliciacfg(daemon, "doctor").stdout


def test_commands_read_the_database_of_a_daemon_that_does_not_run(daemon: Daemon):
    """And those that would put another one in its place refuse."""
    daemon.http("PATCH", "/config/voice_router", {"settings": {"x": 5}})
    assert daemon.stop() == 0
    checked = json.loads(aliciacfg(daemon, "check").stdout)["store"]
    assert (checked["confirmed"] > 10, checked["broken"], checked["problem"]) == (True, [], None)
    rotated = aliciacfg(daemon, "keys", "rotate")
    assert (rotated.returncode, "share the database" in rotated.stderr) == (1, True)


def test_the_first_setup_tells_of_the_key_that_it_makes(make_daemon: Callable[..., Daemon], postgres: Postgres):
    """On standard error: what programs read is on standard output alone."""
    made = make_daemon(environ={"ALICIACFG_DATABASE_URL": postgres.create()}).keep_services("voice_router")
    done = aliciacfg(made, "setup", "access")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"] == "dev"
    assert "copy it into the data directory of each other machine" in done.stderr


def test_setup_refuses_files_that_became_invalid(daemon: Daemon):
    """As on SQLite, although a daemon would start with what served before."""
    assert daemon.stop() == 0
    assert aliciacfg(daemon, "setup", "access").returncode == 0
    before = {path: path.read_bytes() for path in (daemon.directory / "access").iterdir()}
    with (daemon.environments / "base.yaml").open("a") as base:
        base.write("  bell: {mqtt_config: {port: x}, api_config: {port: 8099}}\n")
    refused = aliciacfg(daemon, "setup", "access")
    assert refused.returncode == 4, refused.stderr
    assert "bell /mqtt_config/port: found a string of 1 character; expected an integer" in refused.stderr
    assert {path: path.read_bytes() for path in (daemon.directory / "access").iterdir()} == before
    daemon.start()
    assert "validation_failed" in daemon.http("GET", "/health").json["alerts"]
