"""compose.replicas.yaml, and the load balancer's files in deploy/, as far as they can be tried without containers."""

import re
import stat
from pathlib import Path
from typing import Any

import pytest

import prepare_replicas
from aliciacfg.api.requests import MAX_WAIT_SECONDS
from aliciacfg.sealing.key_encryption import KeyEncryptionKey
from aliciacfg.settings import SETTINGS, resolve
from aliciacfg.storage.postgres import address_files
from container_files import compose_file, dockerfile, of, settings_environment
from repository import ROOT

DAEMONS = ["aliciacfg1", "aliciacfg2", "aliciacfg3"]
HAPROXY = (ROOT / "deploy" / "haproxy.cfg").read_text()
NGINX = (ROOT / "deploy" / "nginx-replicas.conf").read_text()
# Read by an environment file, not by the daemon.
KNOWN = {setting.name for setting in SETTINGS} | {"ALICIA_DEV_BROKER"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file("compose.replicas.yaml")


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_the_daemons_differ_in_name_and_data_directory_only(services):
    """So a fourth one is a copy with another number."""
    alike = [{**services[name], "hostname": "", "volumes": services[name]["volumes"][1:]} for name in DAEMONS]
    assert alike[0] == alike[1] == alike[2]
    assert [services[name]["hostname"] for name in DAEMONS] == DAEMONS
    assert [services[name]["volumes"][0] for name in DAEMONS] == [f"alicia_replica_{n}:/data" for n in (1, 2, 3)]


def test_what_both_files_have_is_the_same(services):
    """Image, broker, its accounts and its name on the network; the health check of a daemon."""
    single = compose_file()["services"]
    assert services["alicia_bus_core"] == single["alicia_bus_core"]
    daemon, alone = services["aliciacfg1"], single["aliciacfg"]
    shared = ("build", "image", "env_file", "healthcheck", "read_only", "cap_drop", "security_opt", "stop_grace_period")
    assert {name: daemon[name] for name in shared} == {name: alone[name] for name in shared}
    assert services["setup"]["command"] == single["setup"]["command"]
    assert services["balancer"]["container_name"] == alone["container_name"]
    assert services["balancer"]["ports"] == alone["ports"]
    own = {
        "ALICIACFG_DATABASE_URL",
        "ALICIACFG_KEY_ENCRYPTION_KEY_FILE",
        "MQTT_PASSWORD_FILE",
        "ALICIACFG_ADMIN_TOKEN_FILE",
    }
    for variables in (daemon["environment"], alone["environment"]):
        assert {name: value for name, value in variables.items() if name not in own}.keys() <= KNOWN
    assert {name: value for name, value in daemon["environment"].items() if name not in own} == {
        name: value for name, value in alone["environment"].items() if name not in own
    }


def test_the_settings_let_a_daemon_start(services):
    """They parse; each directory and file that they name is in a volume."""
    daemon = services["aliciacfg1"]
    settings = resolve({}, environ=settings_environment(daemon, {}), dotenv_values={}).settings
    targets = {mount.split(":")[1] for mount in daemon["volumes"]}
    assert settings.admin_token_file is not None
    assert settings.mqtt_password_file is not None
    assert settings.database_url is not None
    passfile = settings.database_url.partition("passfile=")[2]
    assert settings.key_encryption_key_file is not None
    private = (settings.admin_token_file, settings.mqtt_password_file, settings.key_encryption_key_file, passfile)
    for file in private:
        assert str(Path(file).parent) in targets
    assert {settings.data_dir, settings.environments_dir, settings.schemas_dir} <= targets
    assert f"@{services['alicia_database']['container_name']}:5432/" in settings.database_url


def test_each_waits_for_what_it_needs(services):
    """Preparation, database, accounts, broker, daemons."""
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert "depends_on" not in services["prepare"]
    assert services["alicia_database"]["depends_on"] == {"prepare": done}
    assert services["setup"]["depends_on"] == {"alicia_database": healthy}
    assert services["alicia_bus_core"]["depends_on"] == {"setup": done}
    assert services["aliciacfg1"]["depends_on"] == {"alicia_database": healthy, "alicia_bus_core": healthy}
    assert services["balancer"]["depends_on"] == DAEMONS


def test_the_database_is_new_enough_and_closed(services):
    """Its password is in a file, and only the network of the home reaches it."""
    database = services["alicia_database"]
    version = re.fullmatch(r"postgres:(\d+)-bookworm", database["image"])
    assert version is not None
    assert int(version[1]) >= 14
    assert "ports" not in database
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == "/secrets/password"
    assert "POSTGRES_PASSWORD" not in database["environment"]
    assert "POSTGRES_HOST_AUTH_METHOD" not in database["environment"]
    assert database["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


def test_only_loopback_is_published(services):
    """Neither passwords nor tokens travel between machines in the open."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_exists(compose, services):
    """Docker would make an empty directory of a path that is not there; each volume is used, and its owner right."""
    mounts = [mount for service in services.values() for mount in service["volumes"]]
    sources = {mount.split(":")[0] for mount in mounts}
    assert all((ROOT / source).exists() for source in sources if source.startswith("./"))
    assert {source for source in sources if not source.startswith("./")} == compose["volumes"].keys()
    assert all(volume["name"] == name for name, volume in compose["volumes"].items())
    # A new volume has the owner of the image's directory at the place where it is mounted first.
    made = " ".join(of(dockerfile()[-1], "RUN"))
    first = [mount.split(":")[1] for mount in services["prepare"]["volumes"] if not mount.startswith("./")]
    assert all(f"--mode 0700 {place}" in made for place in [*first, "/data"])


def test_the_shared_files_are_made_once(tmp_path: Path):
    """For their owner only; a second run changes nothing, and a password that was set by hand counts."""
    data, private = tmp_path / "data", tmp_path / "secrets"
    data.mkdir()
    private.mkdir()
    found = []
    for _ in range(2):
        prepare_replicas.prepare(data, private)
        found.append({path.name: path.read_text() for path in [*data.iterdir(), *private.iterdir()]})
    assert found[0] == found[1]
    assert found[0].keys() == {"key-encryption.key", "admin.token", "password", "pgpass"}
    assert found[0]["pgpass"].endswith(f":{found[0]['password']}")
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in [*data.iterdir(), *private.iterdir()])
    assert KeyEncryptionKey.load(data / "key-encryption.key").key_id
    (private / "password").write_text("by: h\\nd\n")
    prepare_replicas.prepare(data, private)
    assert (private / "pgpass").read_text() == "alicia_database:5432:aliciacfg:aliciacfg:by\\: h\\\\nd\n"
    url = f"postgresql://aliciacfg@alicia_database:5432/aliciacfg?passfile={private / 'pgpass'}"
    assert address_files.prepare(url).password == "by: h\\nd"


def test_the_balancer_names_the_daemons(services):
    """By the names of their containers, and on the port of the settings."""
    port = services["aliciacfg1"]["environment"]["ALICIACFG_HTTP_PORT"]
    assert services["balancer"]["volumes"] == ["./deploy/haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"]
    for backend in HAPROXY.split("\nbackend ")[1:]:
        assert re.findall(r"^    server (\S+) (\S+)", backend, re.MULTILINE) == [
            (name, f"{name}:{port}") for name in DAEMONS
        ]
    assert re.findall(r"^    server (\S+) ", NGINX, re.MULTILINE) == [f"{name}:{port}" for name in DAEMONS]
    for published in services["balancer"]["ports"]:
        assert f"bind :{published.rpartition(':')[2]}" in HAPROXY


def test_a_long_wait_is_not_cut():
    """The balancers are more patient than the longest get with ``wait_seconds``."""
    found = re.findall(r"timeout (?:client|server) (\d+)s|proxy_read_timeout (\d+)s", HAPROXY + NGINX)
    assert len(found) == 3
    assert all(int(one or other) > MAX_WAIT_SECONDS for one, other in found)
