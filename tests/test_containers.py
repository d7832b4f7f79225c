"""Dockerfile and compose.yaml, as far as they can be tried without a container engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from aliciacfg.settings import SETTINGS, resolve
from certificates import Authority
from support import ROOT, Daemon, files_under, free_port

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
    assert {service["restart"] for service in compose["services"].values()} == {"unless-stopped"}
    assert compose["networks"]["alicia_network"]["name"] == "alicia_network"
    assert all(service["networks"] == ["alicia_network"] for service in compose["services"].values())
    assert home["depends_on"] == {"alicia_bus_core": {"condition": "service_healthy"}}


def test_everything_is_published_on_loopback_only(compose, home):
    """Nothing that has no access rules can be reached from another machine."""
    assert compose["services"]["alicia_bus_core"]["ports"] == ["127.0.0.1:1883:1883"]
    assert home["ports"] == ["127.0.0.1:8026:8026", "127.0.0.1:8084:8026"]
    assert not any("network_mode" in service for service in compose["services"].values())


def test_every_variable_is_a_setting(home):
    """No name is misspelt, and what is not the daemon's is read by an environment file."""
    assert home["environment"].keys() <= KNOWN
    dev = (ROOT / "environments" / "dev.yaml").read_text()
    assert all("${" + name in dev for name in OTHER_VARIABLES)
    assert all(isinstance(value, str) for value in home["environment"].values())


def test_the_settings_let_the_daemon_start(home):
    """They parse, protected mode does not refuse them, and they fit ports and volumes."""
    settings = resolve({}, environ=settings_environment(home, {}), dotenv_values={}).settings
    assert settings.protected_mode == "off"
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
    assert {target: writable for _, target, writable in bind_mounts(home)} == {
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
    """The mounted file listens on the published port and persists into the volume."""
    broker = compose["services"]["alicia_bus_core"]
    (mount,) = bind_mounts(broker)
    assert mount == ("./src/aliciacfg/mosquitto.conf", "/mosquitto/config/mosquitto.conf", False)
    config = dict(
        line.split(" ", 1) for line in (ROOT / mount[0]).read_text().splitlines() if line and line[0].isalpha()
    )
    assert config["listener"] == broker["ports"][0].split(":")[-1]
    assert config["persistence_location"].rstrip("/") == broker["volumes"][1].split(":")[1]


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
    assert in_build_context("src/aliciacfg/mosquitto.conf")


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
        "tests/support.py",
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
    where = "import aliciacfg.devbroker as d; print(d.__file__); print(d.dev_config(1883, '/data'))"
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
