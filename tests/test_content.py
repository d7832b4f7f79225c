"""The shipped schemas and environments against the inventory of the home's real services."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from aliciacfg import layers
from aliciacfg.composing import Composer
from aliciacfg.documents import find
from aliciacfg.schemas import ServiceSchema
from aliciacfg.sealing import Keyring
from support import ROOT, SERVICES

INVENTORY: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "tests" / "data" / "inventory.yaml")


def sources(environments: Path, variables: dict[str, str]) -> layers.Sources:
    return layers.load(environments_dir=environments, schemas_dir=ROOT / "schemas", variables=variables)


def variables_of(schema: ServiceSchema) -> dict[str, list[str]]:
    """Pointers by the variable that the service reads there."""
    found: dict[str, list[str]] = {}

    def walk(node: Any, pointer: str) -> None:
        if "x-env" in node:
            found.setdefault(node["x-env"], []).append(pointer)
        for key, inner in node.get("properties", {}).items():
            walk(inner, f"{pointer}/{key}")

    parts = schema.document["allOf"]
    assert isinstance(parts, list)
    for part in parts:
        walk(part, "")
    return found


def test_the_inventory_has_the_22_services():
    """Each with a schema of its own, and a port that no other one has."""
    assert sorted(INVENTORY) == SERVICES
    assert len(SERVICES) == 22
    assert len({item["port"] for item in INVENTORY.values()}) == 22


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_of_the_inventory_is_in_the_schema(service: str):
    """Each variable at exactly one place, each constant as a setting, the port as published."""
    found = sources(ROOT / "environments", {})
    schema = found.schemas[service]
    item = INVENTORY[service]
    places = variables_of(schema)
    assert set(places) == set(item.get("env", {})) | set(item.get("compose_only", {}))
    assert all(len(pointers) == 1 for pointers in places.values())
    for name in item.get("hard_coded", []):
        pointer = "/settings/" + name.replace(".", "/")
        assert schema.marks_at(pointer), pointer
    for name, told in item.get("env", {}).items():
        default = find(schema.defaults, places[name][0])
        if told.get("default") is not None and name not in {"MQTT_BROKER", "MQTT_PORT"}:
            assert default == told["default"], name
    assert schema.restart_required([pointers[0] for pointers in places.values()]) == [p[0] for p in places.values()]


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_every_environment_is_valid_with_its_secrets(environment: str, tmp_path: Path):
    """Dev with nothing set; the others with their example secrets and every variable that these name."""
    directory = tmp_path / "environments"
    shutil.copytree(ROOT / "environments", directory)
    example = directory / f"{environment}-secrets.yaml.example"
    variables: dict[str, str] = {}
    if example.exists():
        text = example.read_text()
        names = re.findall(r"\$\{([A-Z0-9_]+)\}", text)
        assert len(names) >= 22
        variables = dict.fromkeys(names, "a-long-secret-of-more-than-32-characters")
        example.rename(directory / f"{environment}-secrets.yaml")
    found = sources(directory, variables)
    assert found.environments[environment].problems == ()
    composer = Composer(found, Keyring.load_or_create(tmp_path / "keys.json"), max_bytes=262_144)
    for service in SERVICES:
        effective = composer.effective(environment, service, composer.base(environment, service))
        assert find(effective.document, "/api_config/port") == INVENTORY[service]["port"]
        assert "/mqtt_config/password" in effective.secrets


def test_environments_differ_as_real_ones_do(tmp_path: Path):
    """Log level, broker, TLS and protection are not the same everywhere."""
    found = sources(ROOT / "environments", {})
    composer = Composer(found, Keyring.load_or_create(tmp_path / "keys.json"), max_bytes=262_144)
    bases = [composer.base(name, "voice_router") for name in ("dev", "staging", "prod")]
    assert [find(base, "/settings/log_level") for base in bases] == ["DEBUG", "INFO", "WARNING"]
    assert [find(base, "/mqtt_config/tls_enabled") for base in bases] == [False, True, True]
    assert len({str(find(base, "/limits/requests_per_minute")) for base in bases}) == 3
    assert found.environments["prod"].protected
    assert not found.environments["dev"].protected


def test_secret_files_stay_out_of_git():
    """Real ones are ignored, and none is committed."""
    for name in ("dev-secrets.yaml", "prod-secrets.yaml"):
        done = subprocess.run(["git", "check-ignore", "-q", f"environments/{name}"], cwd=ROOT, check=False)
        assert done.returncode == 0, name
    listed = subprocess.run(["git", "ls-files", "environments"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [name for name in listed.stdout.split() if name.endswith("-secrets.yaml")]
