"""What compose.yaml and the Dockerfile start, carried out without a container engine."""

import asyncio
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from ruamel.yaml import YAML

import forking
import prepare_replicas
from brokers import Broker
from certificates import Authority
from container_files import compose_file, dockerfile, of, settings_environment
from daemons import Daemon
from machine import SECONDS, free_port
from mqtt_clients import client
from postgres import Postgres
from repository import ROOT


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file()


def test_compose_meets_its_specification():
    """Both files are valid against the JSON Schema of the compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*check, "compose.yaml", "compose.replicas.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Composed:
    """What the services of compose.yaml run, with their volumes as directories and free ports."""

    compose: dict[str, Any]
    directory: Path
    port: int = field(default_factory=free_port)
    # Where the database of compose.replicas.yaml listens.
    database_port: int = 0

    def __post_init__(self) -> None:
        for name in ("environments", "schemas"):
            shutil.copytree(ROOT / name, self.directory / name)
        for name in self.compose["volumes"]:
            (self.directory / name).mkdir()

    def places(self, service: str) -> dict[str, str]:
        """Directories by where the service sees them."""
        mounts = [mount.split(":")[:2] for mount in self.compose["services"][service]["volumes"]]
        return {target: str(self.directory / source) for source, target in mounts}

    def placed(self, service: str, text: str) -> str:
        """A text with the service's paths put in."""
        places = self.places(service)
        longest = sorted(places, key=len, reverse=True)
        return re.sub("|".join(f"{re.escape(place)}(?![a-z])" for place in longest), lambda m: places[m[0]], text)

    def environment(self, service: str, **variables: str) -> dict[str, str]:
        given = settings_environment(self.compose["services"][service], variables)
        reached = {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(self.port), "ALICIACFG_HTTP_PORT": "0"}
        placed = {name: self.placed(service, value) for name, value in given.items()} | reached
        return {name: self.reached(value) for name, value in placed.items()}

    def reached(self, text: str) -> str:
        """A text with the address of the database put in."""
        return text.replace("alicia_database:5432", f"127.0.0.1:{self.database_port}")

    def set_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [self.placed("setup", word) for word in self.compose["services"]["setup"]["command"]]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return forking.run(command, directory=self.directory, environ=kept | self.environment("setup", **variables))


@dataclass
class ComposedBroker(Broker):
    """A Mosquitto with the very file that compose.yaml mounts."""

    text: str = ""

    def settings(self) -> str:
        listening = f"listener {self.port} 127.0.0.1\nuser {getpass.getuser()}"
        return re.sub(r"^listener .*$", listening, self.text, flags=re.MULTILINE)


@pytest.fixture
def composed(compose: dict[str, Any], tmp_path: Path) -> Composed:
    (tmp_path / "composed").mkdir()
    return Composed(compose, tmp_path / "composed")


@pytest.fixture
def composed_broker(composed: Composed) -> Iterator[ComposedBroker]:
    text = composed.placed("alicia_bus_core", (ROOT / "src/aliciacfg/mqtt/broker/mosquitto.conf").read_text())
    made = ComposedBroker(composed.directory / "alicia_bus_data", port=composed.port, text=text)
    yield made
    made.stop()


async def test_what_compose_starts_serves_those_who_may(
    composed: Composed, composed_broker: ComposedBroker, make_daemon: Callable[..., Daemon]
):
    """From nothing: set-up, broker, daemon, in this order and with these settings; then all of it once more."""
    daemon = make_daemon("composed", broker_port=composed.port, environ=composed.environment("aliciacfg"))
    token_file, tokens = Path(daemon.environ["ALICIACFG_ADMIN_TOKEN_FILE"]), list[str]()
    for _ in range(2):
        done = await asyncio.to_thread(composed.set_up)
        assert done.returncode == 0, done.stderr
        await asyncio.to_thread(composed_broker.start)
        await asyncio.to_thread(daemon.start)
        health = daemon.http("GET", "/health").json
        assert (health["mqtt_connected"], health["alerts"], health["outbox_pending"]) == (True, {}, 0)
        assert daemon.http("GET", "/config/voice_router").status == 401
        tokens.append((await asyncio.to_thread(token_file.read_text)).strip())
        bearer = {"Authorization": f"Bearer {tokens[-1]}"}
        written = daemon.http("PATCH", "/config/voice_router", {"limits": {"x": len(tokens)}}, headers=bearer)
        assert written.status == 200
        secrets: Any = YAML(typ="safe").load(composed.directory / "environments" / "dev-secrets.yaml")
        secret = secrets["services"]["voice_router"]["mqtt_config"]["password"]
        async with client(composed.port, username="voice_router", password=secret) as router:
            await router.subscribe("alicia/config/update/voice_router")
            while (await router.next()).json["config"]["limits"].get("x") != len(tokens):
                pass
            if len(tokens) == 2:
                await follows(composed, daemon, bearer, secret)
        with pytest.raises(aiomqtt.MqttError):
            await client(composed.port).__aenter__()
        await asyncio.to_thread(daemon.stop)
        await asyncio.to_thread(composed_broker.stop)
    assert tokens[0] == tokens[1]


class ClosedPostgres(Postgres):
    """A server that asks for a password on a port of this machine."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(listen_addresses="127.0.0.1", port=str(self.port))
        (self.data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")

    def url(self, database: str = "postgres") -> str:
        return f"{super().url(database)}&port={self.port}"


@pytest.fixture
def closed_postgres() -> Iterator[ClosedPostgres]:
    server = ClosedPostgres()
    server.start()
    yield server
    server.remove()


async def test_what_compose_replicas_starts_serves_those_who_may(
    tmp_path: Path, closed_postgres: ClosedPostgres, make_daemon: Callable[..., Daemon]
):
    """Preparation, database, set-up, broker and one daemon, each with the files and settings of its service."""
    (tmp_path / "composed").mkdir()
    compose = compose_file("compose.replicas.yaml")
    composed = Composed(compose, tmp_path / "composed", database_port=closed_postgres.port)
    data, private = (Path(composed.places("prepare")[place]) for place in ("/data", "/secrets"))
    prepare_replicas.prepare(data, private)
    replace_text(private / "pgpass", composed.reached)
    password = (private / "password").read_text().strip()
    roles = ["CREATE DATABASE aliciacfg", f"ALTER ROLE aliciacfg PASSWORD '{password}'", "SELECT 1"]
    await asyncio.to_thread(closed_postgres.execute, *roles)
    done = await asyncio.to_thread(composed.set_up)
    assert done.returncode == 0, done.stderr
    text = composed.placed("alicia_bus_core", (ROOT / "src/aliciacfg/mqtt/broker/mosquitto.conf").read_text())
    broker = ComposedBroker(composed.directory / "alicia_bus_data", port=composed.port, text=text)
    daemon = make_daemon("composed", broker_port=composed.port, environ=composed.environment("aliciacfg1"))
    try:
        await asyncio.to_thread(broker.start)
        await asyncio.to_thread(daemon.start)
        health = daemon.http("GET", "/health").json
        assert (health["mqtt_connected"], health["alerts"]) == (True, {})
        assert daemon.http("GET", "/config/voice_router").status == 401
        bearer = {"Authorization": f"Bearer {(data / 'admin.token').read_text().strip()}"}
        assert daemon.http("PATCH", "/config/voice_router", {"limits": {"x": 1}}, headers=bearer).status == 200
        await asyncio.to_thread(daemon.stop)
    finally:
        await asyncio.to_thread(broker.stop)


def replace_text(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


async def follows(composed: Composed, daemon: Daemon, bearer: dict[str, str], password: str) -> None:
    """The example under ``exec`` starts with its variables, starts anew when one changes, and ends in time."""
    service = composed.compose["services"]["voice_router"]
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "aliciacfg",
        *service["command"],
        cwd=composed.directory,
        env={"PATH": os.environ["PATH"], **composed.environment("voice_router", VOICE_ROUTER_PASSWORD=password)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(2 * SECONDS):
            assert await program.stdout.readline() == b"at most 10 sessions\n"
            change = {"settings": {"max_sessions": 3}}
            assert daemon.http("PATCH", "/config/voice_router", change, headers=bearer).status == 200
            assert await program.stdout.readline() == b"at most 3 sessions\n"
            snapshots = composed.directory / "alicia_voice_router"
            assert await asyncio.to_thread(lambda: list(snapshots.iterdir()))
    finally:
        program.terminate()
        _, told = await program.communicate()
        assert password.encode() not in told


def test_compose_takes_a_password_from_outside(composed: Composed):
    """MQTT_PASSWORD in the shell or .env: nothing is made in its place."""
    done = composed.set_up(MQTT_PASSWORD="from outside")
    assert done.returncode == 0, done.stderr
    assert not list((composed.directory / "alicia_config_data").glob("mqtt*"))
    secrets = (composed.directory / "environments" / "dev-secrets.yaml").read_text()
    assert "password: from outside\n" in secrets


def test_an_edit_that_is_wrong_does_not_keep_the_home_down(composed: Composed):
    """At the next start the broker keeps its files, and the problem is reported."""
    assert composed.set_up().returncode == 0
    dev = composed.directory / "environments" / "dev.yaml"
    dev.write_text(f"{dev.read_text()}\n  - broken")
    done = composed.set_up()
    assert (done.returncode, "environments/dev.yaml" in done.stderr) == (0, True)


def test_a_set_up_that_fails_says_why(composed: Composed):
    """Nothing else starts after it, so its words are all that there is to see."""
    done = composed.set_up(ENVIRONMENT="prod")
    assert done.returncode == 4
    assert "grok_api_key: is missing" in done.stderr


def health_check() -> list[str]:
    (check,) = of(dockerfile()[-1], "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    assert "/health" in command[-1]
    return [sys.executable, *command[1:]]


def test_the_health_check_tells_a_daemon_from_none(shared: Daemon):
    """The command succeeds at a daemon, even where a proxy is set, and fails where none listens."""
    for port, healthy in ((int(shared.url.rpartition(":")[2]), True), (free_port(), False)):
        environment = {**os.environ, "ALICIACFG_HTTP_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(health_check(), env=environment, capture_output=True, timeout=30, check=False)
        assert (done.returncode == 0) == healthy, done.stderr


def test_the_health_check_asks_over_https_where_that_is_served(
    make_daemon: Callable[..., Daemon], authority: Authority
):
    """The check accepts the container's own certificate, whatever its authority and name."""
    pair = authority.issue("container", "config.home.example")
    files = {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon = make_daemon(environ=files).start()
    environment = {**os.environ, **files, "ALICIACFG_HTTP_PORT": daemon.url.rpartition(":")[2]}
    done = subprocess.run(health_check(), env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
