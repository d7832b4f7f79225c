"""Dockerfile and compose.yaml, as far as they can be tried without a container engine."""

import asyncio
import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from ruamel.yaml import YAML

from aliciacfg.settings import SETTINGS, resolve
from certificates import Authority
from support import ROOT, Broker, Daemon, client, files_under, free_port

# Read by an environment file, not by the daemon.
OTHER_VARIABLES = {"ALICIA_DEV_BROKER"}
KNOWN = {setting.name for setting in SETTINGS} | OTHER_VARIABLES


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe").load(ROOT / "compose.yaml")


@pytest.fixture(scope="module")
def home(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]["aliciacfg"]


def interpolated(text: str, variables: dict[str, str]) -> str:
    """What Compose makes of ``${NAME:-default}`` and ``$$``."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match["name"]) or match["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}", value, text)


def settings_environment(home: dict[str, Any], variables: dict[str, str]) -> dict[str, str]:
    return {name: interpolated(value, variables) for name, value in home["environment"].items()}


def dockerfile() -> list[list[tuple[str, str]]]:
    """The instructions of each stage; comments left out, continued lines joined, defaults of ARGs put in."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[list[tuple[str, str]]] = []
    defaults: dict[str, str] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            stages.append([])
        if keyword == "ARG":
            name, _, default = rest.partition("=")
            defaults[name] = default
        elif keyword in {"USER", "COPY"}:
            rest = re.sub(r"\$\{?(\w+)\}?", lambda match: defaults[match[1]], rest)
        stages[-1].append((keyword, rest.strip()))
    return stages


def of(stage: list[tuple[str, str]], keyword: str) -> list[str]:
    return [rest for found, rest in stage if found == keyword]


def environment_of(stage: list[tuple[str, str]]) -> dict[str, str]:
    return dict(item.split("=", 1) for rest in of(stage, "ENV") for item in shlex.split(rest))


def copied_from_context() -> list[str]:
    """The sources of every COPY that does not copy out of another stage."""
    copies = [shlex.split(rest) for stage in dockerfile() for rest in of(stage, "COPY")]
    return [
        source
        for words in copies
        if not any(word.startswith("--from=") for word in words)
        for source in [word for word in words if not word.startswith("--")][:-1]
    ]


def in_build_context(path: str) -> bool:
    """Whether .dockerignore lets a file through: a pattern matches a path or any directory above it, the last wins."""
    parts = path.split("/")
    candidates = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        escaped = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(escaped, candidate) for candidate in candidates):
            included = pattern.startswith("!")
    return included


def bind_mounts(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Source in the repository, target, writable."""
    mounts = [mount.split(":") for mount in service["volumes"]]
    return [(source, target, "ro" not in flags) for source, target, *flags in mounts if source.startswith("./")]


# compose.yaml


def test_compose_meets_its_specification():
    """The file is valid against the JSON Schema of the compose specification."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_names_are_those_of_the_home(compose, home):
    """Programs of the home find broker and config service under the names that they know."""
    broker = compose["services"]["alicia_bus_core"]
    assert broker["container_name"] == "alicia_bus_core"
    assert home["container_name"] == "alicia_config_service"
    assert compose["networks"]["alicia_network"]["name"] == "alicia_network"
    for service in (broker, home):
        assert (service["restart"], service["networks"]) == ("unless-stopped", ["alicia_network"])


def test_each_waits_for_what_it_needs(compose, home):
    """First the set-up, once and without a network; then the broker; then the daemon."""
    made = compose["services"]["setup"]
    assert made["network_mode"] == "none"
    assert not made.keys() & {"restart", "depends_on", "ports"}
    assert {name: made[name] for name in ("image", "build")} == {name: home[name] for name in ("image", "build")}
    assert compose["services"]["alicia_bus_core"]["depends_on"] == {
        "setup": {"condition": "service_completed_successfully"}
    }
    assert home["depends_on"] == {"alicia_bus_core": {"condition": "service_healthy"}}
    assert {name: made[name] for name in ("environment", "env_file")} == {
        name: home[name] for name in ("environment", "env_file")
    }


def test_what_the_setup_writes_the_broker_reads(compose):
    """By the group that it runs as in its image; the broker itself changes nothing there."""
    made, broker = compose["services"]["setup"], compose["services"]["alicia_bus_core"]
    assert made["command"] == ["setup", "--or-keep", "/access"]
    assert made["group_add"] == ["1883"]
    assert "alicia_bus_access:/access" in made["volumes"]
    assert "alicia_bus_access:/access:ro" in broker["volumes"]
    # A new volume has owner, group and mode of the image's directory.
    assert any("--group 1883 --mode 0750 /access" in rest for rest in of(dockerfile()[-1], "RUN"))
    health = broker["healthcheck"]["test"]
    assert health == ["CMD", "nc", "-z", "127.0.0.1", broker["ports"][0].split(":")[-1]]


def test_everything_is_published_on_loopback_only(compose, home):
    """Neither passwords nor tokens travel between machines in the open."""
    assert compose["services"]["alicia_bus_core"]["ports"] == ["127.0.0.1:1883:1883"]
    assert home["ports"] == ["127.0.0.1:8026:8026", "127.0.0.1:8084:8026"]
    assert not any(service.get("network_mode") == "host" for service in compose["services"].values())


def test_every_variable_is_a_setting(home):
    """No name is misspelt, and what is not the daemon's is read by an environment file."""
    assert home["environment"].keys() <= KNOWN
    dev = (ROOT / "environments" / "dev.yaml").read_text()
    assert all("${" + name in dev for name in OTHER_VARIABLES)
    assert all(isinstance(value, str) for value in home["environment"].values())


def test_the_settings_let_the_daemon_start(home):
    """They parse, ask for no opt-out of protected mode, and fit ports and volumes."""
    settings = resolve({}, environ=settings_environment(home, {}), dotenv_values={}).settings
    assert settings.protected_mode == "on"
    assert settings.admin_token_file is not None
    assert (settings.mqtt_broker, settings.mqtt_port, settings.mqtt_username) == (
        "alicia_bus_core",
        1883,
        "config_service",
    )
    assert (settings.environment, settings.http_host, settings.http_port) == ("dev", "0.0.0.0", 8026)
    assert settings.mqtt_password is None
    targets = {mount.split(":")[1] for mount in home["volumes"]}
    assert targets == {settings.data_dir, settings.environments_dir, settings.schemas_dir}


def test_variables_outside_decide(home):
    """Password and environment come from the shell or .env."""
    given = {"MQTT_PASSWORD": "from outside", "ENVIRONMENT": "staging"}
    settings = resolve({}, environ=settings_environment(home, given), dotenv_values={}).settings
    assert (settings.mqtt_password, settings.environment) == ("from outside", "staging")


def test_what_is_mounted_exists(compose, home):
    """Docker would make an empty directory of a path that is not there."""
    mounts = [mount for service in compose["services"].values() for mount in bind_mounts(service)]
    assert all((ROOT / source).exists() for source, _, _ in mounts)
    for service in (home, compose["services"]["setup"]):
        assert {target: writable for _, target, writable in bind_mounts(service)} == {
            "/app/environments": True,
            "/app/schemas": False,
        }
    named = {
        mount.split(":")[0]
        for service in compose["services"].values()
        for mount in service["volumes"]
        if not mount.startswith("./")
    }
    assert named == compose["volumes"].keys()


def test_the_broker_takes_the_projects_settings(compose):
    """The mounted file listens on the published port, lets nobody in unnamed, and persists into the volume."""
    broker = compose["services"]["alicia_bus_core"]
    (mount,) = bind_mounts(broker)
    assert mount == ("./src/aliciacfg/mqtt/broker/mosquitto.conf", "/mosquitto/config/mosquitto.conf", False)
    config = dict(
        line.split(" ", 1) for line in (ROOT / mount[0]).read_text().splitlines() if line and line[0].isalpha()
    )
    assert config["listener"] == broker["ports"][0].split(":")[-1]
    targets = [volume.split(":")[1] for volume in broker["volumes"]]
    assert config["persistence_location"].rstrip("/") in targets
    assert config["allow_anonymous"] == "false"
    assert {str(Path(config[name]).parent) for name in ("password_file", "acl_file")} < set(targets)


def test_no_advice_stops_a_container_for_good(compose):
    """A signal sent by ``docker compose kill`` counts as stopping it by hand: it does not come back after a boot."""
    texts = [path.read_text() for path in (ROOT / "README.md", ROOT / "compose.yaml", *(ROOT / "docs").glob("*.md"))]
    assert not [text for text in texts if re.search(r"(docker|compose) kill (-s|--signal)", text)]
    assert "tmpfs" in compose["services"]["alicia_bus_core"]


# Dockerfile


def test_the_base_images_are_pinned_and_new_enough():
    """Both stages are of one release of Debian and one minor version of Python that the project supports."""
    images = {of(stage, "FROM")[0].split(" ")[0] for stage in dockerfile()}
    assert len(images) == 1
    found = re.fullmatch(r"python:3\.(\d+)-slim-bookworm", images.pop())
    assert found is not None
    required = re.search(r'^requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert required is not None
    assert int(found[1]) >= int(required[1])


def test_the_daemon_runs_as_a_user_of_its_own():
    """The last USER is a number other than root's, and the data directory belongs to it."""
    stage = dockerfile()[-1]
    user, group = of(stage, "USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert any("--mode 0700 /data" in rest for rest in of(stage, "RUN"))


def test_what_is_installed_is_locked():
    """Dependencies come with hashes, the project itself without dependencies."""
    installs = [
        part
        for rest in of(dockerfile()[0], "RUN")
        for part in rest.split("&&")
        if re.search(r"pip (install|wheel)", part)
    ]
    assert len(installs) == 3
    assert "--require-hashes -r requirements/run.txt" in installs[0]
    assert all("--no-deps" in install for install in installs[1:])


def test_the_program_is_what_compose_expects():
    """Entry point, signal, port and directories."""
    stage = dockerfile()[-1]
    assert json.loads(of(stage, "ENTRYPOINT")[0]) == ["aliciacfg"]
    assert json.loads(of(stage, "CMD")[0]) == ["serve"]
    assert of(stage, "STOPSIGNAL") == ["SIGTERM"]
    assert of(stage, "EXPOSE") == ["8026"]
    environment = environment_of(stage)
    assert {name for name in environment if name.startswith(("ALICIA", "MQTT"))} <= KNOWN
    settings = resolve({}, environ=environment, dotenv_values={}).settings
    assert (settings.data_dir, settings.environments_dir, settings.schemas_dir) == (
        "/data",
        f"{of(stage, 'WORKDIR')[-1]}/environments",
        f"{of(stage, 'WORKDIR')[-1]}/schemas",
    )


def test_what_is_copied_exists_and_reaches_the_builder():
    """Every COPY names a path of the repository that .dockerignore lets through."""
    sources = copied_from_context()
    assert {"src", "environments", "schemas", "requirements/run.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert in_build_context(source), source
    assert in_build_context("src/aliciacfg/mqtt/broker/mosquitto.conf")


@pytest.mark.parametrize(
    "path",
    [
        "environments/prod-secrets.yaml",
        ".env",
        "environments/.env",
        "data/keys.json",
        ".git/config",
        ".venv/bin/python",
        "src/aliciacfg/__pycache__/cli.cpython-311.pyc",
        "tests/conftest.py",
    ],
)
def test_secrets_and_clutter_stay_outside(path):
    """An image is shared; what is private here must not get into one."""
    assert not in_build_context(path)


def test_no_secret_is_written_down(home):
    """Neither file sets a password; compose.yaml passes one on, and its default is empty."""
    for stage in dockerfile():
        assert not [name for name in environment_of(stage) if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
        assert not [rest for rest in of(stage, "ARG") if re.search("PASSWORD|SECRET|TOKEN|KEY", rest)]
    assert home["environment"]["MQTT_PASSWORD"] == "${MQTT_PASSWORD:-}"
    words = re.compile("PASSWORD|SECRET|TOKEN|KEY")
    named = {name: value for name, value in home["environment"].items() if words.search(name)}
    files = {name: value for name, value in named.items() if name != "MQTT_PASSWORD"}
    assert files.keys() == {"MQTT_PASSWORD_FILE", "ALICIACFG_ADMIN_TOKEN_FILE"}
    assert all(value.startswith("/data/") for value in files.values())


# compose.yaml, carried out without containers


@dataclass
class Composed:
    """What the services of compose.yaml run, with their volumes as directories and free ports."""

    compose: dict[str, Any]
    directory: Path
    port: int = field(default_factory=free_port)

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
        return {name: self.placed(service, value) for name, value in given.items()} | reached

    def set_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [self.placed("setup", word) for word in self.compose["services"]["setup"]["command"]]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-m", "aliciacfg", *command],
            cwd=self.directory,
            env=kept | self.environment("setup", **variables),
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )


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
        with pytest.raises(aiomqtt.MqttError):
            await client(composed.port).__aenter__()
        await asyncio.to_thread(daemon.stop)
        await asyncio.to_thread(composed_broker.stop)
    assert tokens[0] == tokens[1]


def test_compose_takes_a_password_from_outside(composed: Composed):
    """MQTT_PASSWORD in the shell or .env: nothing is made in its place."""
    done = composed.set_up(MQTT_PASSWORD="from outside")
    assert done.returncode == 0, done.stderr
    assert not list((composed.directory / "alicia_config_data").glob("mqtt*"))
    secrets = (composed.directory / "environments" / "dev-secrets.yaml").read_text()
    assert "password: from outside\n" in secrets


def test_an_edit_that_is_wrong_does_not_keep_the_home_down(composed: Composed):
    """At the next start the broker has what it had, and what is wrong is told."""
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
    """Whoever signed the certificate, and whatever its name: it is the container's own."""
    pair = authority.issue("container", "config.home.example")
    files = {"ALICIACFG_TLS_CERT": str(pair.cert), "ALICIACFG_TLS_KEY": str(pair.key)}
    daemon = make_daemon(environ=files).start()
    environment = {**os.environ, **files, "ALICIACFG_HTTP_PORT": daemon.url.rpartition(":")[2]}
    done = subprocess.run(health_check(), env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_compose_checks_health_as_the_image_does(home):
    """One command, whichever of the two starts the container."""
    (check,) = of(dockerfile()[-1], "HEALTHCHECK")
    assert home["healthcheck"]["test"] == ["CMD", *json.loads(check.partition("CMD ")[2])]


def build_wheel(directory: Path) -> Path:
    """A wheel as the Dockerfile builds it; skips where the build backend is neither installed nor to be had."""
    isolation = [] if find_spec("hatchling") is None else ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--retries", "1", "--no-deps", *isolation]
    done = subprocess.run(
        [*command, "--wheel-dir", str(directory), str(ROOT)], capture_output=True, text=True, timeout=50, check=False
    )
    if done.returncode and "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("hatchling is not installed, and there is no package index to get it from")
    assert done.returncode == 0, done.stderr
    (wheel,) = directory.glob("aliciacfg-*.whl")
    return wheel


def test_the_wheel_holds_all_that_runs(tmp_path: Path):
    """Every file of the package; installed elsewhere, the console script starts and mosquitto.conf is there."""
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {path.relative_to(ROOT / "src").as_posix() for path in files_under(ROOT / "src" / "aliciacfg")}
    assert {name for name in sources if "__pycache__" not in name} <= names
    assert not [name for name in names if "__pycache__" in name]
    target = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        timeout=50,
        capture_output=True,
    )
    script = shutil.which("aliciacfg", path=str(target / "bin"))
    assert script is not None
    environment = {**os.environ, "PYTHONPATH": str(target)}
    version = subprocess.run(
        [script, "--version"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
    )
    assert re.fullmatch(r"aliciacfg, version \d+\.\d+\.\d+\n", version.stdout)
    where = "import aliciacfg.mqtt.broker.dev_broker as d; print(d.__file__); print(d.dev_config(1883, '/data'))"
    config = subprocess.run(
        [sys.executable, "-c", where],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert config.stdout.startswith(str(target))
    assert "set_tcp_nodelay true" in config.stdout
