"""The shipped schemas and environments against the inventory of the home's real services."""

import functools
import json
import re
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import env_readers
from aliciacfg.core.composer import Composer
from aliciacfg.documents import DocumentLimits, find, replace_strings
from aliciacfg.errors import ValidationFailed
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.sources import loader
from aliciacfg.variables.dialects import render
from aliciacfg.variables.resolution import names_in, resolve
from repository import ROOT, SERVICES

TYPES = {"str": "string", "path": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}
# What every service reads of the broker, wherever it runs.
BROKER = {
    "MQTT_BROKER": "/mqtt_config/host",
    "MQTT_PORT": "/mqtt_config/port",
    "MQTT_PASSWORD": "/mqtt_config/password",
}
SYSTEMD = env_readers.systemd_library()
READERS: dict[str, Callable[[str], object]] = {
    "dotenv": env_readers.dotenv,
    "compose": env_readers.compose,
    "json": json.loads,
    "export": lambda text: dict(
        line.removeprefix("export ").split("=", 1) for line in shlex.split(text) if "=" in line
    ),
    **({} if SYSTEMD is None else {"systemd": partial(env_readers.systemd, SYSTEMD)}),
}
LONG = "a-long-secret-of-more-than-32-characters"


@functools.cache
def inventory() -> dict[str, Any]:
    """What the services of the home have today, by name; read by the process that runs these tests."""
    return YAML(typ="safe", pure=True).load(ROOT / "tests" / "data" / "inventory.yaml")


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """The environment files as they are shipped, without what an operator may have put beside them."""
    directory = tmp_path / "environments"
    directory.mkdir()
    for path in (ROOT / "environments").iterdir():
        if not path.name.endswith("-secrets.yaml"):
            shutil.copy(path, directory)
    return directory


def composer(environments: Path, variables: dict[str, str] | None = None) -> Composer:
    found = loader.load(environments_dir=environments, schemas_dir=ROOT / "schemas", variables=variables or {})
    keyring = KeyFile.load_or_create(environments.parent / "keys.json", now=0.0).make_keyring()
    return Composer(found, keyring, limits=DocumentLimits())


def example(environments: Path, environment: str) -> list[str]:
    """Put the example's secrets into place; the variables that they name."""
    path = environments / f"{environment}-secrets.yaml.example"
    path.rename(path.with_suffix(""))
    return re.findall(r"\$\{([A-Za-z0-9_]+)\}", re.sub(r"(?m)^\s*#.*", "", path.with_suffix("").read_text()))


def settings_of(schema: ServiceSchema) -> dict[str, Any]:
    """Every place that the service's own schema describes, by pointer."""
    found: dict[str, Any] = {}

    def walk(node: Any, pointer: str) -> None:
        found[pointer] = node
        for key, inner in node.get("properties", {}).items():
            walk(inner, f"{pointer}/{key}")

    parts = schema.document["allOf"]
    assert isinstance(parts, list)
    walk(parts[-1], "")
    return found


@pytest.fixture(scope="module")
def schemas() -> dict[str, ServiceSchema]:
    found = loader.load(environments_dir=ROOT / "environments", schemas_dir=ROOT / "schemas", variables={})
    return dict(found.schemas)


def variables_of(schema: ServiceSchema) -> dict[str, list[str]]:
    """Pointers by the variable that the service reads there."""
    found: dict[str, list[str]] = {}
    for pointer, node in settings_of(schema).items():
        if "x-env" in node:
            found.setdefault(node["x-env"], []).append(pointer)
    return found


def test_the_inventory_has_the_22_services():
    """Each with a schema of its own, and a port that no other one has."""
    assert sorted(inventory()) == SERVICES
    assert len(SERVICES) == 22
    assert len({item["port"] for item in inventory().values()}) == 22


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_of_the_inventory_stands_at_one_place_of_the_schema(
    schemas: dict[str, ServiceSchema], service: str
):
    """Those that the code reads and those that only the container is given, no other, and all ask for a restart."""
    schema, item = schemas[service], inventory()[service]
    places = variables_of(schema)
    assert set(places) == item["env"].keys() | item["compose_only"].keys()
    assert all(len(pointers) == 1 for pointers in places.values())
    pointers = [pointers[0] for pointers in places.values()]
    assert schema.restart_required(pointers) == pointers
    assert {name: places[name][0] for name in BROKER} == BROKER


@pytest.mark.parametrize("service", SERVICES)
def test_variables_have_the_types_and_defaults_of_the_code(schemas: dict[str, ServiceSchema], service: str):
    """As the inventory has them; where the broker is says base.yaml, and no secret has a default."""
    schema, item = schemas[service], inventory()[service]
    settings, places = settings_of(schema), variables_of(schema)
    types = {name: told["type"] for name, told in item["env"].items()} | item["compose_only"]
    assert {name: settings[places[name][0]]["type"] for name in types} == {
        name: TYPES[type_] for name, type_ in types.items()
    }
    for name, told in item["env"].items():
        if "default" in told and name not in BROKER:
            assert repr(find(schema.defaults, places[name][0])) == repr(_normal(told["default"])), name
        elif "default" not in told:
            assert settings[places[name][0]]["x-sensitive"] is True, name
            assert "default" not in settings[places[name][0]], name


def _normal(value: Any) -> Any:
    """1.0 in the inventory is 1 in a document."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("service", SERVICES)
def test_constants_of_the_code_are_settings_with_a_default(schemas: dict[str, ServiceSchema], service: str):
    """Each that the inventory names, with a description that says so; a secret one has no default."""
    settings = settings_of(schemas[service])
    for name in inventory()[service]["hard_coded"]:
        pointer = "/settings/" + name.replace(".", "/")
        node = settings[pointer]
        assert node["description"]
        assert ("default" in node) != (node.get("x-sensitive") is True), pointer
    assert find(schemas[service].defaults, "/api_config/port") == inventory()[service]["port"]


@pytest.mark.parametrize("service", SERVICES)
def test_whoever_reads_names_like_secrets_is_told_whether_they_are(schemas: dict[str, ServiceSchema], service: str):
    """Every string whose name sounds like a secret is marked, one way or the other."""
    for pointer, node in settings_of(schemas[service]).items():
        suspicious = re.search(r"password|secret|key|token", pointer.rpartition("/")[2], re.IGNORECASE)
        if suspicious and node.get("type") == "string":
            assert isinstance(node.get("x-sensitive"), bool), pointer


def test_the_broker_of_the_inventory_is_where_base_says(environments: Path):
    """The defaults that all services have in their code."""
    (environments / "bare.yaml").write_text("")
    made = composer(environments)
    for service in SERVICES:
        base = made.base("bare", service)
        env = inventory()[service]["env"]
        assert find(base, "/mqtt_config/host") == env.get("MQTT_BROKER", {}).get("default", "alicia_bus_core")
        assert find(base, "/mqtt_config/port") == env.get("MQTT_PORT", {}).get("default", 1883)
        assert find(base, "/mqtt_config/username") == env.get("MQTT_USERNAME", {}).get("default", service)
        assert find(base, "/api_config/port") == inventory()[service]["port"]


def assert_all_valid(made: Composer, environment: str) -> None:
    assert made.sources.environments[environment].problems == ()
    assert made.sources.environments[environment].services == set(SERVICES)
    for service in SERVICES:
        effective = made.effective(environment, service, made.base(environment, service))
        assert find(effective.document, "/api_config/port") == inventory()[service]["port"]
        assert "/mqtt_config/password" in effective.secrets
        assert made.sources.schema(service).unknown(effective.document) == []


def test_dev_is_valid_with_nothing_set(environments: Path):
    """No variable, no secrets file: all 22 services, and nothing that a schema does not know."""
    assert_all_valid(composer(environments), "dev")


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_the_others_are_valid_with_their_example_secrets(environments: Path, environment: str):
    """Copied into place, with every variable that it names; a password of its own for each service."""
    names = example(environments, environment)
    assert len(set(names)) == len(names)
    assert sum(name.endswith("_MQTT_PASSWORD") for name in names) == len(SERVICES)
    assert_all_valid(composer(environments, dict.fromkeys(names, LONG)), environment)


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_the_others_say_what_is_missing_without_secrets(environments: Path, environment: str):
    """Every service without its password is listed; dev is not affected."""
    made = composer(environments)
    for service in SERVICES:
        with pytest.raises(ValidationFailed) as refused:
            made.effective(environment, service, made.base(environment, service))
        assert "/mqtt_config/password" in {problem.pointer for problem in refused.value.problems}
    assert_all_valid(made, "dev")


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_each_variable_that_is_not_set_is_told_with_its_line(environments: Path, environment: str):
    """The example copied and nothing exported: one problem for each, by name, and dev is none the worse."""
    names = example(environments, environment)
    made = composer(environments)
    problems = made.sources.environments[environment].problems
    assert {problem.file for problem in problems} == {f"environments/{environment}-secrets.yaml"}
    assert all(problem.line for problem in problems)
    assert [re.findall(r"[A-Z][A-Z0-9_]{8,}", problem.message)[0] for problem in problems] == names
    assert_all_valid(made, "dev")


def test_environments_differ_as_real_ones_do(environments: Path):
    """Log level, broker, TLS and protection are not the same everywhere."""
    made = composer(environments)
    bases = [made.base(name, "voice_router") for name in ("dev", "staging", "prod")]
    assert [find(base, "/settings/log_level") for base in bases] == ["DEBUG", "INFO", "WARNING"]
    assert [find(base, "/mqtt_config/tls_enabled") for base in bases] == [False, True, True]
    assert len({str(find(base, "/mqtt_config/host")) for base in bases}) == 3
    assert len({str(find(base, "/limits/requests_per_minute")) for base in bases}) == 3
    assert made.sources.environments["prod"].protected
    assert not made.sources.environments["dev"].protected


def test_each_service_gets_its_variables_in_every_dialect(environments: Path):
    """In dev, secrets open: the inventory's names, each once, and what the readers of each format read is the same."""
    made = composer(environments)
    for service in SERVICES:
        effective = made.effective("dev", service, made.base("dev", service))
        opened = dict.fromkeys(effective.secrets, "it's $ecret\\")
        config = replace_strings(effective.document, opened)
        assert isinstance(config, dict)
        found = resolve(config, names_in(made.sources.schema(service).document))
        item = inventory()[service]
        assert found.values.keys() <= item["env"].keys() | item["compose_only"].keys()
        assert found.values.keys() >= BROKER.keys() | item["env"].keys() - {"MQTT_USERNAME"}
        assert len(found.values) == len(found.variables)
        assert not found.hidden + found.problems + found.left_out
        assert "it's $ecret\\" in found.values.values()
        for dialect, read in READERS.items():
            assert read(render(dialect, found.variables)) == found.values, (service, dialect)


def test_what_is_shipped_holds_no_secret(environments: Path):
    """Files for real homes say nothing secret themselves; the examples name variables in its place."""
    made = composer(environments)
    for environment in ("staging", "prod"):
        for file in made.sources.environments[environment].files:
            for service, patch in {**file.services, "": file.defaults}.items():
                assert made.sources.schema(service).secrets(patch) == {}, file.file
        path = environments / f"{environment}-secrets.yaml.example"
        lines = [line.strip() for line in path.read_text().splitlines()]
        said = [line.partition(": ")[2] for line in lines if ": " in line and not line.startswith("#")]
        assert said
        assert all(re.fullmatch(r'"\$\{[A-Z0-9_]+\}"', value) for value in said)
