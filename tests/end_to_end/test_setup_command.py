"""``aliciacfg setup``: broker, daemon and services authenticate each other from the first start on."""

import asyncio
import contextlib
import json
import re
import stat
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from ruamel.yaml import YAML

from brokers import Broker
from commands import aliciacfg, typed
from daemons import Daemon
from machine import SECONDS, free_port
from mqtt_clients import Client, client

ACCESS = "access"
# Enough of the home for most tests: a set-up takes time for each service.
FEW = ["ai_service", "config_service", "grok_integration", "multi_language", "tts_service", "voice_router"]


def unlocked(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon for a broker that requires passwords; neither is started yet."""
    return make_daemon(environ={"MQTT_PASSWORD_FILE": "data/mqtt.password"}, broker_port=free_port())


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    """The same with few services."""
    return unlocked(make_daemon).keep_services(*FEW)


@pytest.fixture
def locked(home: Daemon) -> Iterator[Broker]:
    """The broker of ``home``, after the first run of setup."""
    with lock(home) as broker:
        yield broker


@contextlib.contextmanager
def lock(home: Daemon) -> Iterator[Broker]:
    """Set up the broker of a daemon, and start it."""
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


def untouched(daemon: Daemon) -> bool:
    """Return whether no password was made and no file was written for the broker."""
    secrets = daemon.environments / "dev-secrets.yaml"
    return not secrets.exists() and list((daemon.directory / ACCESS).glob("*")) == []


def password(daemon: Daemon, service: str) -> str:
    """Return a service's password from the secrets file."""
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


async def test_after_the_first_start_only_services_can_log_in(home: Daemon, locked: Broker):
    """The daemon delivers everything without an alert, and each service has a password of its own."""
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
    assert len({password(home, service) for service in FEW}) == len(FEW)
    assert (home.data / "mqtt.password").read_text().strip() == password(home, "config_service")


def test_made_passwords_are_readable_only_by_their_owner(home: Daemon, locked: Broker):
    """No password is readable by others, printed, logged, or stored in the open."""
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
    for service in FEW:
        assert password(home, service) not in shown
        assert password(home, service).encode() not in stored
    assert locked.process is not None


def test_a_second_run_changes_no_password(home: Daemon, locked: Broker):
    """Neither before the daemon runs nor while it runs; a restart raises no alert."""
    secrets = (home.environments / "dev-secrets.yaml").read_bytes()
    own = (home.data / "mqtt.password").read_bytes()
    for running in (False, True):
        if running:
            home.start()
        done = setup(home)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        printed = json.loads(done.stdout)
        assert (printed["environment"], printed["users"], printed["shared"]) == ("dev", FEW, [])
    locked.reload()
    home.stop()
    home.start()
    assert (home.environments / "dev-secrets.yaml").read_bytes() == secrets
    assert (home.data / "mqtt.password").read_bytes() == own
    assert home.http("GET", "/health").json["alerts"] == {}


async def test_a_new_service_can_log_in_after_the_next_run(home: Daemon, locked: Broker):
    """Its password is made, and the broker loads it at SIGHUP; a removed service cannot log in."""
    await asyncio.to_thread(home.start)
    gone = password(home, "multi_language")
    for file in ("environments/dev-secrets.yaml", "environments/base.yaml"):
        await asyncio.to_thread(aliciacfg, home, "file", "unset", file, "/services/multi_language")
    base = home.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  bell: {{api_config: {{port: 8099}}}}\n")
    done = await asyncio.to_thread(setup, home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "note: made passwords in environments/dev-secrets.yaml\n"
    locked.reload()
    end = time.monotonic() + 2 * SECONDS
    while not await lets_in(locked, "bell", password(home, "bell")):
        assert time.monotonic() < end
    assert not await lets_in(locked, "multi_language", gone)
    async with login(locked, "bell", password(home, "bell")) as mqtt:
        assert list(await mqtt.retained("alicia/config/update/+")) == ["alicia/config/update/bell"]


async def test_a_person_can_be_a_user(home: Daemon, locked: Broker):
    """Later runs keep the password; an administrator named in the rules can write."""
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


async def test_a_person_types_the_password_unseen(home: Daemon, locked: Broker):
    """The terminal does not show it, and it works at the broker."""
    seen = await asyncio.to_thread(
        typed, home, "setup", ACCESS, "--user", "operator", keys="typed unseen\ntyped unseen\n"
    )
    assert "typed unseen" not in seen
    assert f"{ACCESS} has the access list and the passwords of {len(FEW) + 1} users in dev" in seen
    locked.reload()
    end = time.monotonic() + SECONDS
    while not await lets_in(locked, "operator", "typed unseen"):
        assert time.monotonic() < end


def test_an_environment_that_lacks_more_than_passwords_is_refused(home: Daemon):
    """Its passwords are made nevertheless, so only the rest has to be written; the broker's files are not."""
    home.environ["ENVIRONMENT"] = "prod"
    refused = setup(home)
    assert refused.returncode == 4
    assert "made passwords in environments/prod-secrets.yaml" in refused.stderr
    assert re.search(r"environments/prod.yaml:\d+: ai_service /settings/grok_api_key: is missing", refused.stderr)
    assert not (home.directory / ACCESS).exists()
    key = json.dumps("of-grok")
    for service in ("ai_service", "grok_integration"):
        place = f"/services/{service}/settings/grok_api_key"
        assert aliciacfg(home, "file", "set", "environments/prod-secrets.yaml", place, key, "--force").returncode == 0
    done = setup(home)
    assert (done.returncode, json.loads(done.stdout or "{}").get("environment")) == (0, "prod"), done.stderr


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"ENVIRONMENT": "attic"}, 3, "there is no environment 'attic'"),
        ({"MQTT_PASSWORD_FILE": "nowhere/mqtt.password"}, 2, "MQTT_PASSWORD_FILE: nowhere/mqtt.password cannot be"),
        ({"MQTT_USERNAME": "a b"}, 4, "set MQTT_USERNAME"),
        ({"ALICIACFG_ENVIRONMENTS_DIR": "nowhere"}, 4, "directory nowhere cannot be read"),
        ({"user": "a:b", "stdin": "x"}, 2, "'a:b' cannot name a caller"),
        ({"user": "voice_router", "stdin": "x"}, 2, "voice_router is a service"),
        ({"user": "Operator", "stdin": "\n"}, 4, "standard input is empty; expected there: Password of Operator"),
    ],
)
def test_what_cannot_be_set_up_is_refused(home: Daemon, environ: dict[str, str], code: int, words: str):
    """The message says what to set, and no password is made."""
    given = {name: environ.pop(name) for name in ("user", "stdin") if name in environ}
    home.environ |= environ
    user = ("--user", given["user"]) if "user" in given else ()
    refused = setup(home, *user, stdin=given.get("stdin", ""))
    assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
    assert untouched(home)


def test_what_is_no_file_is_reported_with_a_remedy(home: Daemon):
    """A directory in the place of a file, as Docker makes for a mount that is not there; nothing is made before."""
    (home.directory / ACCESS / "acl").mkdir(parents=True)
    refused = setup(home)
    assert refused.returncode == 1
    assert f"{ACCESS}/acl cannot be one of the broker's files: it is not a file; remove it" in refused.stderr
    assert not (home.environments / "dev-secrets.yaml").exists()
    assert not (home.data / "mqtt.password").exists()


def test_files_that_became_invalid_change_nothing(home: Daemon, locked: Broker):
    """They are reported; the broker's files and the store stay, with and without a running daemon."""
    files = {path: path.read_bytes() for path in (home.directory / ACCESS).iterdir()}
    base = home.environments / "base.yaml"
    before = base.read_text()
    base.write_text(f"{before}\n  bell: {{mqtt_config: {{port: x}}, api_config: {{port: 8099}}}}\n")
    for keeps, code in (((), 4), (("--or-keep",), 0)):
        refused = setup(home, *keeps)
        assert refused.returncode == code
        assert "bell /mqtt_config/port: found a string of 1 character; expected an integer" in refused.stderr
        assert ("kept as they are" in refused.stderr) is bool(keeps)
        assert {path: path.read_bytes() for path in (home.directory / ACCESS).iterdir()} == files
    # The daemon starts on what it recorded, and its broker lets it in.
    home.start()
    health = home.http("GET", "/health").json
    assert (health["status"], health["mqtt_connected"]) == ("degraded", True)
    assert setup(home).returncode == 4
    base.write_text(before + "}{")
    assert setup(home, "--or-keep").returncode == 0
    base.write_text(before)
    assert setup(home).returncode == 0
    assert locked.process is not None


def test_passwords_that_are_missing_later_are_made_too(home: Daemon):
    """For a new service without a default password, and for another environment, after the first run."""
    dev = home.environments / "dev.yaml"
    dev.write_text("".join(line for line in dev.read_text().splitlines(True) if "ALICIA_DEV_MQTT_PASSWORD" not in line))
    assert setup(home).returncode == 0
    base = home.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  bell: {{api_config: {{port: 8099}}}}\n")
    done = setup(home)
    assert done.returncode == 0, done.stderr
    assert "bell" in json.loads(done.stdout)["users"]
    # Taken out of the file, a password is made anew; what was recorded of it does not count.
    place = "/services/bell/mqtt_config"
    assert aliciacfg(home, "file", "unset", "environments/dev-secrets.yaml", place, "--force").returncode == 0
    done = setup(home)
    assert (done.returncode, "bell" in json.loads(done.stdout or "{}").get("users", [])) == (0, True), done.stderr
    home.environ["ENVIRONMENT"] = "staging"
    refused = setup(home)
    assert "made passwords in environments/staging-secrets.yaml" in refused.stderr
    assert "mqtt_config/password: is missing" not in refused.stderr


def test_at_the_first_start_there_is_nothing_to_keep(home: Daemon):
    """Without both files the broker cannot start."""
    (home.environments / "dev.yaml").write_text("defaults: [")
    assert setup(home, "--or-keep").returncode == 4


def test_a_service_that_only_registered_has_no_account(make_daemon: Callable[..., Daemon]):
    """Nor has one that a writer created: only services of the files have accounts."""
    home = make_daemon(environ={"MQTT_PASSWORD_FILE": "data/mqtt.password"}).keep_services(*FEW)
    (home.directory / "data").mkdir()
    (home.directory / "data" / "mqtt.password").write_text("of the daemon\n")
    home.start()
    document = home.config("voice_router")["config"] | {"service_name": "guest"}
    document["mqtt_config"] |= {"username": "guest", "password": "alicia-dev-only"}
    assert home.http("PUT", "/config/guest", document).status == 201
    done = setup(home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["users"] == FEW
    assert "guest" not in (home.directory / ACCESS / "passwords").read_text()
    base = home.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  guest: {{}}\n")
    assert "guest" in json.loads(setup(home).stdout)["users"]


def test_a_service_with_the_default_password_has_no_account(home: Daemon):
    """If the secrets file itself sets that password, setup keeps it and names the service."""
    text = "services:\n  tts_service:\n    mqtt_config: {password: alicia-dev-only}\n"
    (home.environments / "dev-secrets.yaml").write_text(text)
    done = setup(home)
    assert (done.returncode, "tts_service: no account, because the password is a default" in done.stderr) == (0, True)
    assert "tts_service" not in json.loads(done.stdout)["users"]


def test_a_password_set_at_run_time_stays(make_daemon: Callable[..., Daemon]):
    """No other password is made for the service, because it would not know it."""
    home = make_daemon(environ={"MQTT_PASSWORD": "of the daemon"}).keep_services(*FEW).start()
    assert home.http("PATCH", "/config/voice_router", {"mqtt_config": {"password": "its own"}}).status == 200
    done = setup(home)
    assert done.returncode == 0, done.stderr
    text = (home.environments / "dev-secrets.yaml").read_text()
    assert "  voice_router:\n" not in text
    assert "  tts_service:\n" in text
    assert "voice_router" in json.loads(done.stdout)["users"]


def test_a_service_that_only_the_secrets_file_names_is_reported(home: Daemon):
    """A service exists as long as one file names it."""
    assert setup(home).returncode == 0
    done = aliciacfg(home, "file", "unset", "environments/base.yaml", "/services/multi_language")
    assert done.returncode == 0
    done = setup(home)
    assert "multi_language: only dev-secrets.yaml names it" in done.stderr


def test_a_missing_password_of_the_daemon_is_reported(home: Daemon):
    """If neither variable is set, a note follows, because a certificate may authenticate the daemon."""
    del home.environ["MQTT_PASSWORD_FILE"]
    done = setup(home)
    assert (done.returncode, "set MQTT_PASSWORD_FILE" in done.stderr) == (0, True)
    home.environ["MQTT_PASSWORD"] = "from outside"
    again = setup(home)
    assert (again.returncode, again.stderr) == (0, "")


async def test_a_run_without_the_daemons_password_keeps_its_account(home: Daemon):
    """As from another shell, where no variable has it; with a password for a service of the daemon's name, too."""
    assert setup(home).returncode == 0
    file = home.directory / "data" / "mqtt.password"
    own = file.read_text().strip()
    # The service of the same name has another one.
    place = "/services/config_service/mqtt_config/password"
    changed = aliciacfg(home, "file", "set", "environments/dev-secrets.yaml", place, "another-one-4c1", "--force")
    assert changed.returncode == 0, changed.stderr
    with lock(home) as broker:
        line = own_line(home)
        del home.environ["MQTT_PASSWORD_FILE"]
        done = setup(home, "--user", "operator", stdin="secret-of-a-person")
        assert (done.returncode, "the account of config_service stays as it is" in done.stderr) == (0, True), (
            done.stderr
        )
        assert own_line(home) == line
        broker.reload()
        assert await lets_in(broker, "config_service", own)
        assert not await lets_in(broker, "config_service", "another-one-4c1")
        assert await lets_in(broker, "operator", "secret-of-a-person")


def own_line(home: Daemon) -> str:
    """Return the line of the daemon in the password file."""
    lines = (home.directory / ACCESS / "passwords").read_text().splitlines()
    return next(line for line in lines if line.startswith("config_service:"))


def test_a_secrets_file_with_new_passwords_becomes_unreadable_for_others(home: Daemon):
    """Its group keeps its permissions."""
    secrets = home.environments / "dev-secrets.yaml"
    secrets.write_text("services:\n")
    secrets.chmod(0o644)
    assert setup(home).returncode == 0
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o640


def test_users_with_the_same_password_are_named(home: Daemon):
    """A shared password in the secrets file stays, and is reported."""
    (home.environments / "dev-secrets.yaml").write_text("defaults:\n  mqtt_config: {password: everybodys}\n")
    home.environ["MQTT_PASSWORD"] = "of the daemon"
    done = setup(home)
    assert done.returncode == 0
    assert "ai_service, grok_integration, multi_language and 2 more: the same password" in done.stderr
    assert len(json.loads(done.stdout)["shared"][0]) == len(FEW) - 1


def test_a_missing_password_file_says_how_to_make_it(home: Daemon):
    """Without it the daemon does not start, and commands send no request."""
    assert home.spawn().wait_exit() == 8
    assert "`aliciacfg setup` makes it" in home.log.read_text()
    asked = aliciacfg(home, "get", "voice_router")
    assert (asked.returncode, "`aliciacfg setup` makes it" in asked.stderr) == (2, True)


def test_before_the_first_start_there_are_no_passwords_to_print(home: Daemon):
    """An empty password file would lock out every user."""
    refused = aliciacfg(home, "acl", "--passwords")
    assert (refused.returncode, "aliciacfg setup" in refused.stderr, refused.stdout) == (1, True, "")
