"""Dockerfile and compose.yaml, as far as they can be tried without a container engine."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from aliciacfg.settings import SETTINGS, resolve
from container_files import compose_file, dockerfile, environment_of, of, settings_environment
from repository import ROOT

# Read by an environment file, not by the daemon.
OTHER_VARIABLES = {"ALICIA_DEV_BROKER"}
KNOWN = {setting.name for setting in SETTINGS} | OTHER_VARIABLES


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file()


@pytest.fixture(scope="module")
def home(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]["aliciacfg"]


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
    """No variable is misspelt; one that is not a setting is used in an environment file."""
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
    """The mounted file listens on the published port, refuses anonymous clients, and persists into the volume."""
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
    texts = [path.read_text() for path in (ROOT / "README.md", ROOT / "compose.yaml", *(ROOT / "docs").rglob("*.md"))]
    assert not [text for text in texts if re.search(r"(docker|compose) kill (-s|--signal)", text)]
    assert "tmpfs" in compose["services"]["alicia_bus_core"]


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


def test_compose_checks_health_as_the_image_does(home):
    """One command, whichever of the two starts the container."""
    (check,) = of(dockerfile()[-1], "HEALTHCHECK")
    assert home["healthcheck"]["test"] == ["CMD", *json.loads(check.partition("CMD ")[2])]


def test_what_is_installed_is_what_the_tests_ran_with():
    """Every dependency of the program has the version and the hashes of the tests' environment."""

    def locked(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text()
        return set(re.findall(r"^\S.*?(?=\n    # via|\n\S|\Z)", text, re.MULTILINE | re.DOTALL))

    assert locked("run.txt") - locked("dev.txt") == set()
