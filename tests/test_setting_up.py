"""``aliciacfg setup``: broker and daemon trust each other, and nobody else, from the first start on."""

import asyncio
import contextlib
import json
import os
import stat
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from ruamel.yaml import YAML

from aliciacfg.errors import SettingsError
from aliciacfg.mqtt.addresses import broker_address
from aliciacfg.settings import resolve
from support import SERVICES, Broker, Client, Daemon, aliciacfg, client, free_port, on_terminal

ACCESS = "access"


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon of a broker that will want passwords; neither was started yet."""
    return make_daemon(environ={"MQTT_PASSWORD_FILE": "data/mqtt.password"}, broker_port=free_port())


@pytest.fixture
def locked(home: Daemon) -> Iterator[Broker]:
    """The broker of ``home``, after its first set-up."""
    done = setup(home)
    assert done.returncode == 0, done.stderr
    files = home.directory / ACCESS
    made = Broker(
        home.directory / "broker",
        config=f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n",
    )
    home.broker_port = made.port
    yield made.start()
    made.stop()


def setup(daemon: Daemon, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return aliciacfg(daemon, "setup", ACCESS, *arguments, stdin=stdin)


def password(daemon: Daemon, service: str) -> str:
    """As whoever gives the services their passwords reads it."""
    found: Any = YAML(typ="safe").load(daemon.environments / "dev-secrets.yaml")
    return found["services"][service]["mqtt_config"]["password"]


@asynccontextmanager
async def login(broker: Broker, user: str, secret: str) -> AsyncGenerator[Client, None]:
    async with client(broker.port, username=user, password=secret) as connected:
        yield connected


async def lets_in(broker: Broker, user: str | None, secret: str | None) -> bool:
    with contextlib.suppress(aiomqtt.MqttError):
        async with client(broker.port, username=user, password=secret):
            return True
    return False


async def test_the_first_start_lets_in_the_services_and_nobody_else(home: Daemon, locked: Broker):
    """The daemon delivers everything without an alert; each service has a password of its own, none is shared."""
    await asyncio.to_thread(home.start)
    health = home.http("GET", "/health").json
    assert (health["mqtt_connected"], health["outbox_pending"], health["alerts"]) == (True, 0, {})
    for service in ("voice_router", "tts_service"):
        async with login(locked, service, password(home, service)) as mqtt:
            found = await mqtt.retained("alicia/config/update/+")
            assert list(found) == [f"alicia/config/update/{service}"]
            assert found[f"alicia/config/update/{service}"].json["config"]["mqtt_config"]["password"] == "***"
    assert not await lets_in(locked, None, None)
    assert not await lets_in(locked, "voice_router", "alicia-dev-only")
    assert not await lets_in(locked, "voice_router", password(home, "tts_service"))
    assert len({password(home, service) for service in SERVICES}) == len(SERVICES)
    assert (home.data / "mqtt.password").read_text().strip() == password(home, "config_service")


def test_what_is_made_is_its_owners_alone(home: Daemon, locked: Broker):
    """No password is readable by others, printed, logged, or in the open in what the daemon stores."""
    files = home.directory / ACCESS
    secrets = home.environments / "dev-secrets.yaml"
    modes = {
        path: stat.S_IMODE(path.stat().st_mode) for path in [secrets, home.data / "mqtt.password", *files.iterdir()]
    }
    assert all(mode & 0o007 == 0 for mode in modes.values()), modes
    done = setup(home, stdin="")
    home.start()
    shown = done.stdout + done.stderr + home.log.read_text() + (files / "passwords").read_text()
    stored = b"".join(path.read_bytes() for path in home.data.iterdir() if path.name.startswith("aliciacfg.db"))
    for service in SERVICES:
        assert password(home, service) not in shown
        assert password(home, service).encode() not in stored
    assert locked.process is not None


def test_doing_it_again_changes_nobodys_password(home: Daemon, locked: Broker):
    """Before the daemon runs and while it does; a restart finds everything as it was."""
    secrets = (home.environments / "dev-secrets.yaml").read_bytes()
    own = (home.data / "mqtt.password").read_bytes()
    for running in (False, True):
        if running:
            home.start()
        done = setup(home)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        told = json.loads(done.stdout)
        assert (told["environment"], told["users"], told["shared"]) == ("dev", SERVICES, [])
    locked.reload()
    home.stop()
    home.start()
    assert (home.environments / "dev-secrets.yaml").read_bytes() == secrets
    assert (home.data / "mqtt.password").read_bytes() == own
    assert home.http("GET", "/health").json["alerts"] == {}


async def test_a_new_service_is_let_in_after_the_next_set_up(home: Daemon, locked: Broker):
    """Its password is made beside the others, and the broker takes it at SIGHUP; a removed one is out."""
    await asyncio.to_thread(home.start)
    gone = password(home, "multi_language")
    for file in ("environments/dev-secrets.yaml", "environments/base.yaml"):
        await asyncio.to_thread(aliciacfg, home, "file", "unset", file, "/services/multi_language")
    base = home.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  bell: {{api_config: {{port: 8099}}}}\n")
    done = await asyncio.to_thread(setup, home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "aliciacfg: made passwords in environments/dev-secrets.yaml\n"
    locked.reload()
    end = time.monotonic() + 10
    while not await lets_in(locked, "bell", password(home, "bell")):
        assert time.monotonic() < end
    assert not await lets_in(locked, "multi_language", gone)
    async with login(locked, "bell", password(home, "bell")) as mqtt:
        assert list(await mqtt.retained("alicia/config/update/+")) == ["alicia/config/update/bell"]


async def test_a_person_is_a_user_too(home: Daemon, locked: Broker):
    """With a password that is typed once and kept by later set-ups; an administrator of the rules administers."""
    (home.environments / "access.yaml").write_text("admins: [operator]\n")
    assert (await asyncio.to_thread(setup, home, "--user", "operator", stdin="of the operator\n")).returncode == 0
    assert (await asyncio.to_thread(setup, home)).returncode == 0
    locked.reload()
    await asyncio.to_thread(home.start)
    async with login(locked, "operator", "of the operator") as mqtt:
        await mqtt.subscribe("alicia/reply/operator/#")
        request = {"patch": {"limits": {"x": 1}}, "reply_to": "alicia/reply/operator/1"}
        await mqtt.publish("alicia/config/patch/tts_service/operator", request)
        assert (await mqtt.next()).json["changed"] == ["/limits/x"]
    refused = await asyncio.to_thread(setup, home, "--user", "voice_router", stdin="mine\n")
    assert (refused.returncode, "voice_router is a service" in refused.stderr) == (2, True)


def test_a_person_types_the_password_unseen(home: Daemon, locked: Broker):
    """Nothing on standard input is no password."""
    refused = setup(home, "--user", "operator", stdin="\n")
    assert (refused.returncode, "standard input is empty" in refused.stderr) == (4, True)
    seen = on_terminal(home, "setup", ACCESS)
    assert seen.returncode == 0
    assert seen.text == "access holds the access list and the passwords of 22 users in dev\n"
    assert locked.process is not None


def test_an_environment_that_lacks_more_than_passwords_says_what(home: Daemon):
    """They are made all the same, so that only the rest is left to write; nothing was set up or recorded."""
    home.environ["ENVIRONMENT"] = "prod"
    refused = setup(home)
    assert refused.returncode == 4
    assert "made passwords in environments/prod-secrets.yaml" in refused.stderr
    assert "environments/prod.yaml:42: ai_service /settings/grok_api_key: is missing" in refused.stderr
    assert not (home.directory / ACCESS).exists()
    key = json.dumps("of-grok")
    for service in ("ai_service", "grok_integration"):
        place = f"/services/{service}/settings/grok_api_key"
        assert aliciacfg(home, "file", "set", "environments/prod-secrets.yaml", place, key).returncode == 0
    done = setup(home)
    assert (done.returncode, json.loads(done.stdout or "{}").get("environment")) == (0, "prod"), done.stderr


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"ENVIRONMENT": "attic"}, 3, "there is no environment 'attic'"),
        ({"MQTT_PASSWORD_FILE": "nowhere/mqtt.password"}, 2, "MQTT_PASSWORD_FILE: nowhere/mqtt.password cannot be"),
        ({"MQTT_USERNAME": "a b"}, 4, "set MQTT_USERNAME"),
        ({"ALICIACFG_ENVIRONMENTS_DIR": "nowhere"}, 4, "directory nowhere cannot be read"),
    ],
)
def test_what_cannot_be_set_up_is_told(home: Daemon, environ: dict[str, str], code: int, words: str):
    """With what to set."""
    home.environ |= environ
    refused = setup(home)
    assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
    assert not (home.directory / ACCESS).exists()


def test_what_cannot_be_written_is_told_with_what_to_do(home: Daemon):
    """As in a container whose user does not own what is mounted: where, and who could not write it."""
    (home.directory / ACCESS / "acl").mkdir(parents=True)
    refused = setup(home)
    assert refused.returncode == 1
    assert "the broker's files in access cannot be written" in refused.stderr
    assert f"this user (id {os.geteuid()})" in refused.stderr


def test_a_password_of_the_daemon_that_nobody_can_know_is_told(home: Daemon):
    """Neither variable is set: a note, since a certificate may prove who it is."""
    del home.environ["MQTT_PASSWORD_FILE"]
    done = setup(home)
    assert (done.returncode, "set MQTT_PASSWORD_FILE" in done.stderr) == (0, True)
    home.environ["MQTT_PASSWORD"] = "from outside"
    again = setup(home)
    assert (again.returncode, again.stderr) == (0, "")


def test_a_secrets_file_that_passwords_go_into_is_closed_to_others(home: Daemon):
    """It had nothing to hide before; its group keeps what it had."""
    secrets = home.environments / "dev-secrets.yaml"
    secrets.write_text("services:\n")
    secrets.chmod(0o644)
    assert setup(home).returncode == 0
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o640


def test_users_with_one_password_are_named(home: Daemon):
    """Where somebody decided so in the secrets file, it stays, and is told."""
    (home.environments / "dev-secrets.yaml").write_text("defaults:\n  mqtt_config: {password: everybodys}\n")
    home.environ["MQTT_PASSWORD"] = "of the daemon"
    done = setup(home)
    assert done.returncode == 0
    assert "advanced_voice, ai_service, configuration_manager and 18 more have the same password" in done.stderr
    assert len(json.loads(done.stdout)["shared"][0]) == 21


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"first", "first"), (b"first\n", "first"), (b"first\r\nsecond\n", "first"), (b" a b \n", " a b "),
        ("ä€".encode(), "ä€"), (b"", None), (b"\n", None), (b"\r\nx", None), (b"\xff\n", None),
    ],
)  # fmt: skip
def test_the_daemons_password_is_the_first_line_of_its_file(tmp_path: Path, content: bytes, password: str | None):
    """As written, blanks too; without one there is no start. MQTT_PASSWORD beats it."""
    file = tmp_path / "mqtt.password"
    file.write_bytes(content)
    environ = {"MQTT_PASSWORD_FILE": str(file)}
    settings = resolve({}, environ=environ, dotenv_values={}).settings
    if password is None:
        with pytest.raises(SettingsError, match="MQTT_PASSWORD_FILE"):
            broker_address(settings)
    else:
        assert broker_address(settings).password == password
    settings = resolve({}, environ=environ | {"MQTT_PASSWORD": "x"}, dotenv_values={}).settings
    assert broker_address(settings).password == "x"


def test_a_missing_password_file_says_how_to_make_it(home: Daemon):
    """The daemon does not start, and a command does not ask, without it."""
    assert home.spawn().wait_exit() == 8
    assert "`aliciacfg setup` makes it" in home.log.read_text()
    asked = aliciacfg(home, "get", "voice_router")
    assert (asked.returncode, "`aliciacfg setup` makes it" in asked.stderr) == (2, True)


def test_before_the_first_start_there_are_no_passwords_to_print(home: Daemon):
    """An empty password file would keep everybody out."""
    refused = aliciacfg(home, "acl", "--passwords")
    assert (refused.returncode, "aliciacfg setup" in refused.stderr, refused.stdout) == (1, True, "")
