"""Starting the daemon: what it prints, what it refuses, which broker it takes."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

import forking
from aliciacfg.sealing.boxes import Keyring
from brokers import Broker
from commands import aliciacfg
from daemons import Daemon
from machine import free_port, wait_until
from mqtt_clients import client


def refused(daemon: Daemon, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    daemon.prepare()
    environment = {key: value for key, value in {**daemon.environment(), **environ}.items() if value}
    return forking.run(["serve", *arguments], directory=daemon.directory, environ=environment)


def test_ready_is_one_line_that_names_the_addresses(daemon: Daemon):
    """The line names the addresses of HTTP and of the broker."""
    assert daemon.ready_line.startswith("READY ")
    assert daemon.url in daemon.ready_line
    assert f"mqtt://127.0.0.1:{daemon.broker_port}" in daemon.ready_line
    assert "22 configurations" in daemon.ready_line


# What few daemons need, or what is needed later: brokers of MQTT 3.1.1, scrapers, readers of the API documents, Home
# Assistant, PostgreSQL, the embedded broker, and what a dependency imports where it is installed.
LATER = (
    "aiomqtt", "paho", "prometheus_client", "wsgiref", "rich", "pygments", "greenlet", "asyncpg", "amqtt",
    "aliciacfg.http.openapi", "aliciacfg.mqtt.asyncapi", "aliciacfg.home_assistant", "aliciacfg.storage.postgres",
    "aliciacfg.cli.client", "aliciacfg.diagnosis", "aliciacfg.backups",
)  # fmt: skip


# Run by the interpreter before the daemon.
_AT_EXIT = """
import atexit, gc, json, ssl, sys
@atexit.register
def tell():
    gc.unfreeze()
    contexts = [item for item in gc.get_objects() if isinstance(item, ssl.SSLContext)]
    authorities = sum(context.cert_store_stats()["x509_ca"] for context in contexts)
    print(json.dumps({"modules": list(sys.modules), "contexts": len(contexts), "authorities": authorities}), flush=True)
"""


@pytest.mark.sqlite("another database needs its own driver")
def test_a_start_loads_nothing_that_few_daemons_need(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """No module and no certificate of the system's authorities, each of which is memory for as long as it runs."""
    daemon = make_daemon().keep_services("voice_router")
    (tmp_path / "sitecustomize.py").write_text(_AT_EXIT)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    daemon.environ |= {"PYTHONPATH": path, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    daemon.start()
    assert daemon.process is not None
    assert daemon.process.stdout is not None
    daemon.process.terminate()
    found = json.loads(daemon.process.stdout.read())
    assert daemon.wait_exit() == 0
    later = tuple(f"{name}." for name in LATER)
    assert not [name for name in found["modules"] if f"{name}.".startswith(later)]
    assert {"aiohttp.client", "structlog"} <= set(found["modules"])
    assert (found["contexts"] > 0, found["authorities"]) == (True, 0)


def test_ready_counts_only_what_is_served(make_daemon: Callable[..., Daemon]):
    """A secret sealed with a key that is lost: its place, the key and the remedy are told; the others are served.

    A file whose name is not UTF-8 is told too, and ends nothing.
    """
    daemon = make_daemon().keep_services("bell_service", "tts_service", "stt_service")
    sealed = Keyring.ephemeral().seal("lost", service="tts_service", environment="dev", pointer="/settings/token")
    secrets = {"services": {"tts_service": {"settings": {"token": sealed}}}}
    (daemon.environments / "dev-secrets.yaml").write_text(json.dumps(secrets))
    for place in (daemon.environments, daemon.directory / "schemas"):
        Path(os.fsdecode(os.fsencode(place) + b"/caf\xe9.yaml")).write_text("services: {}")
    daemon.start()
    try:
        assert " 1 configuration, 1 not served, " in daemon.ready_line
        alerts = daemon.http("GET", "/health").json["alerts"]
        assert "environments/dev-secrets.yaml:1: tts_service /settings/" in alerts["undecryptable:dev"]
        assert sealed.split(":")[2] in alerts["undecryptable:dev"]
        assert r"environments/caf\xe9.yaml" in alerts["validation_failed:ignored"]
        assert r"schemas/caf\xe9.yaml" in alerts["validation_failed:ignored"]
        assert daemon.config("stt_service")["revision"] == 1
        checked = aliciacfg(daemon, "check")
        assert checked.returncode == 4
        files = {problem["file"] for problem in json.loads(checked.stdout)["files"]["problems"]}
        assert files >= {r"environments/caf\xe9.yaml", r"schemas/caf\xe9.yaml", "environments/dev-secrets.yaml"}
    finally:
        daemon.stop()


def test_a_working_directory_that_was_deleted_is_no_error(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """With absolute paths the daemon starts; with relative ones it names what is missing."""
    daemon = make_daemon().keep_services("tts_service")
    places = {"ENVIRONMENTS": daemon.environments, "SCHEMAS": daemon.directory / "schemas", "DATA": daemon.data}
    daemon.environ |= {f"ALICIACFG_{name}_DIR": str(place) for name, place in places.items()}
    gone = tmp_path / "gone"
    gone.mkdir()
    daemon.before = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh"]
    daemon.start()
    assert daemon.config("tts_service")["revision"] == 1
    assert daemon.stop() == 0
    gone.mkdir()
    relative = {"ALICIACFG_DATA_DIR": str(daemon.data), "ALICIACFG_SCHEMAS_DIR": "schemas"}
    done = subprocess.run(
        [*daemon.before, sys.executable, "-m", "aliciacfg", "check"],
        env={**daemon.environment(), **relative},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 4
    assert "the directory schemas cannot be read" in done.stdout
    assert "Traceback" not in done.stderr


def test_every_wrong_setting_is_told_at_once(make_daemon: Callable[..., Daemon]):
    """The message has each name, what was found and what was expected; exit code 8."""
    done = refused(
        make_daemon(),
        "--http-port",
        "eighty",
        MQTT_PORT="99999",
        ALICIACFG_LOG_LEVEL="loud",
        ENVIRONMENT="base",
        MQTT_PASSWORD="never-shown",
    )
    assert done.returncode == 8
    for name in ("--http-port", "MQTT_PORT", "ALICIACFG_LOG_LEVEL"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert "never-shown" not in done.stderr


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"ALICIACFG_HTTP_HOST": "0.0.0.0"}, "ALICIACFG_HTTP_HOST"),
        ({"MQTT_BROKER": "broker.example"}, "MQTT_BROKER"),
    ],
)
def test_protected_mode_keeps_the_daemon_on_loopback(
    make_daemon: Callable[..., Daemon], environ: dict[str, str], named: str
):
    """Without access rules nothing but loopback, unless it is switched off; the message says what to set."""
    done = refused(make_daemon(), **environ)
    assert done.returncode == 8
    assert named in done.stderr
    assert "ALICIACFG_PROTECTED_MODE=off" in done.stderr


def test_protected_mode_off_stands_as_an_alert(make_daemon: Callable[..., Daemon]):
    """It opens the door and says so for as long as it is open."""
    daemon = make_daemon(environ={"ALICIACFG_HTTP_HOST": "0.0.0.0", "ALICIACFG_PROTECTED_MODE": "off"}).start()
    daemon.url = daemon.url.replace("0.0.0.0", "127.0.0.1")
    assert "open_access" in daemon.http("GET", "/health").json["alerts"]
    assert daemon.http("GET", "/health", headers={"Host": "alicia_config_service:8026"}).status == 200
    assert daemon.http("GET", "/health", headers={"Host": "evil.example"}).status == 403


def test_a_taken_port_is_told(make_daemon: Callable[..., Daemon]):
    """With the setting that moves it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = refused(make_daemon(), ALICIACFG_HTTP_PORT=str(taken.getsockname()[1]))
    assert done.returncode == 8
    assert "ALICIACFG_HTTP_PORT" in done.stderr


@pytest.mark.parametrize("missing", ["environments", "schemas"])
def test_a_missing_directory_is_told(make_daemon: Callable[..., Daemon], missing: str):
    """By name, with what to do."""
    daemon = make_daemon()
    (daemon.directory / missing).rename(daemon.directory / "elsewhere")
    daemon.directory.joinpath(missing).write_text("a file in its place")
    done = refused(daemon)
    assert done.returncode == 8
    assert f"{missing}/" in done.stderr


def test_an_unknown_environment_is_told_with_those_there_are(make_daemon: Callable[..., Daemon]):
    """ENVIRONMENT=development is a likely mistake."""
    done = refused(make_daemon(), ENVIRONMENT="development")
    assert done.returncode == 8
    assert "dev, prod, staging" in done.stderr


def test_prod_without_its_secrets_lists_everything_that_is_missing(make_daemon: Callable[..., Daemon]):
    """22 passwords, each with pointer and service."""
    done = refused(make_daemon(), ENVIRONMENT="prod")
    assert done.returncode == 8
    assert done.stderr.count("/mqtt_config/password: is missing") == 22


async def test_without_a_broker_http_serves_and_ready_comes_with_the_broker(
    make_daemon: Callable[..., Daemon], tmp_path: Path
):
    """The daemon waits without a limit; /ready answers 503 meanwhile."""
    port, http = free_port(), free_port()
    daemon = make_daemon(broker_port=port, environ={"ALICIACFG_HTTP_PORT": str(http)})
    daemon.spawn()
    daemon.url = f"http://127.0.0.1:{http}"

    def status() -> int:
        with contextlib.suppress(OSError):
            return daemon.http("GET", "/ready").status
        return 0

    await asyncio.to_thread(wait_until, lambda: status() == 503)
    assert daemon.config("voice_router")["revision"] == 1
    late = Broker(tmp_path / "late", port=port)
    await asyncio.to_thread(late.start)
    try:
        await asyncio.to_thread(daemon.wait_ready)
        assert daemon.http("GET", "/ready").status == 200
    finally:
        await asyncio.to_thread(daemon.stop)
        late.stop()


async def test_a_broker_that_wants_a_password_is_told_when_it_is_wrong(
    make_daemon: Callable[..., Daemon], tmp_path: Path
):
    """The log says that the broker refuses us, not that it is away."""
    passwords = tmp_path / "passwords"
    await asyncio.to_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", str(passwords), "config_service", "right"], check=True
    )
    passwords.chmod(0o644)
    locked = Broker(tmp_path / "locked", config=f"allow_anonymous false\npassword_file {passwords}\n")
    locked.config = locked.config.replace("allow_anonymous false\n", "")
    await asyncio.to_thread(locked.start)
    try:
        daemon = make_daemon(broker_port=locked.port, environ={"MQTT_PASSWORD": "wrong"})
        daemon.spawn()
        await asyncio.to_thread(wait_until, lambda: daemon.logged("broker_lost"))
        reason = daemon.logged("broker_lost")[0]["reason"]
        assert "134" in reason or "135" in reason or "uthor" in reason
        assert "check MQTT_USERNAME and MQTT_PASSWORD" in reason
        assert "wrong" not in daemon.log.read_text()
        await asyncio.to_thread(daemon.stop)
        right = make_daemon("right", broker_port=locked.port, environ={"MQTT_PASSWORD": "right"})
        await asyncio.to_thread(right.start)
        await asyncio.to_thread(right.stop)
    finally:
        locked.stop()


def test_dev_takes_a_broker_that_answers_on_loopback(make_daemon: Callable[..., Daemon], broker: Broker):
    """With no broker set, the one that answers on loopback is used, and one line says so."""
    daemon = make_daemon(arguments=["--dev"], environ={"MQTT_BROKER": ""}).start()
    assert daemon.output[0] == f"broker: the broker that answers on 127.0.0.1:{broker.port}"


async def test_dev_starts_mosquitto_from_the_path_and_ends_it(make_daemon: Callable[..., Daemon]):
    """If no broker answers, --dev starts a Mosquitto that ends with the daemon and keeps its retained messages."""
    port = free_port()
    daemon = make_daemon(arguments=["--dev"], environ={"MQTT_BROKER": ""}, broker_port=port)
    await asyncio.to_thread(daemon.start)
    assert "mosquitto" in daemon.output[0]
    assert str(port) in daemon.output[0]
    async with client(port) as mqtt:
        assert len(await mqtt.retained("alicia/config/update/#")) == 22
    assert await asyncio.to_thread(daemon.stop) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)


def is_taken(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells a process of the end of its parent")
def test_the_broker_of_dev_ends_with_a_daemon_that_is_killed(make_daemon: Callable[..., Daemon]):
    port = free_port()
    daemon = make_daemon(arguments=["--dev"], environ={"MQTT_BROKER": ""}, broker_port=port).start()
    assert is_taken(port)
    daemon.kill()
    wait_until(lambda: not is_taken(port), why="the broker has ended")
    daemon.start()
    assert "started for this run" in daemon.output[-2]
    daemon.stop()


def test_dev_says_why_the_broker_that_answers_is_not_used(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """One that requires a password which no setting has. The next command finds the one that was started."""
    (tmp_path / "passwords").touch(mode=0o600)
    locked = Broker(tmp_path / "locked", config=f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}\n")
    daemon = make_daemon(arguments=["--dev"], environ={"MQTT_BROKER": ""}, broker_port=locked.start().port).start()
    assert f"mqtt://127.0.0.1:{locked.port}," not in daemon.ready_line
    (line,) = (line for line in daemon.output if line.startswith("broker: "))
    assert f"started for this run. The one that answers is not used: 127.0.0.1:{locked.port}: " in line
    assert "check MQTT_USERNAME and MQTT_PASSWORD" in line
    answer = aliciacfg(daemon, "get", "voice_router", environ={"MQTT_BROKER": ""})
    assert json.loads(answer.stdout)["service_name"] == "voice_router"
    locked.stop()


def test_logs_are_json_on_a_pipe_and_readable_when_asked(make_daemon: Callable[..., Daemon]):
    """One line an event, with time and level."""
    daemon = make_daemon().start()
    for line in daemon.log.read_text().splitlines():
        entry = json.loads(line)
        assert {"event", "level", "timestamp"} <= entry.keys()
    daemon.stop()
    readable = make_daemon("readable", environ={"ALICIACFG_LOG_FORMAT": "console"}).start()
    # The log may be behind the READY line, which another thread writes.
    wait_until(lambda: "broker_connected" in readable.log.read_text(), why="the connection is logged")
    lines = readable.log.read_text().splitlines()
    assert any("broker_connected" in line and not line.startswith("{") for line in lines)


def test_a_damaged_instance_file_is_told(daemon: Daemon):
    """It becomes part of topics and of the client id, so the daemon checks it."""
    daemon.stop()
    (daemon.data / "instance").write_bytes(b"x/#\xff")
    daemon.spawn()
    assert daemon.wait_exit() == 8
    assert "16 hex digits" in daemon.log.read_text()
