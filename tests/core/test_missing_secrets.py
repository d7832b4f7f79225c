"""Which secrets an environment lacks, and which of them are made."""

from typing import Any

import pytest

from aliciacfg import documents
from aliciacfg.core.composer import Composer
from aliciacfg.core.missing_secrets import MissingSecrets, as_patch, find_missing
from aliciacfg.documents import DocumentLimits
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sources import loader
from aliciacfg.sources.layers import Environment, EnvironmentFile, Sources
from aliciacfg.sources.line_numbers import LineNumbers
from repository import ROOT

TEXT = {"type": "string"}


def missing(home: dict[str, Any], schemas: dict[str, dict[str, Any]] | None = None, **options: Any) -> MissingSecrets:
    """What the services of a home lack; schemas by name."""
    file = EnvironmentFile("environments/dev.yaml", {}, home, protected=False, lines=LineNumbers({}))
    environment = Environment("dev", (file,))
    compiled = {name: ServiceSchema(schema, title=name) for name, schema in (schemas or {}).items()}
    composer = Composer(Sources({"dev": environment}, compiled), Keyring.ephemeral(), limits=DocumentLimits())
    return find_missing(composer, environment, **options)


def settings_schema(required: list[str], **properties: Any) -> dict[str, Any]:
    """A schema that requires members of the settings."""
    return {"properties": {"settings": {"required": required, "properties": properties}}}


def places(found: MissingSecrets) -> list[str]:
    return [f"{service} {pointer}" for service, values in found.made.items() for pointer in values]


def needed(found: MissingSecrets) -> list[str]:
    return [f"{item.service} {item.pointer}" for item in found.needed]


def test_each_service_that_connects_gets_a_password_of_its_own():
    """32 characters each, no two alike; one that has a password, or no connection, gets none."""
    bus = {"host": "h", "port": 1883}
    found = missing(
        {"bell": {"mqtt_config": bus}, "lamp": {"mqtt_config": bus}, "door": {"mqtt_config": {**bus, "password": "x"}},
         "clock": {"settings": {}}}
    )  # fmt: skip
    assert places(found) == ["bell /mqtt_config/password", "lamp /mqtt_config/password"]
    values = {value for made in found.made.values() for value in made.values()}
    assert (len(values), {len(value) for value in values}) == (2, {32})


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("password", True), ("db_password", True), ("DB-Password", True), ("jwt_secret", True), ("secret", True),
        ("client_secret", False), ("api_secret", False), ("api_key", False), ("ha_token", False),
    ],
)  # fmt: skip
def test_only_what_the_home_decides_itself_is_made(name: str, made: bool):
    """A provider's key cannot be invented: it is named."""
    found = missing({"bell": {"settings": {}}}, {"bell": settings_schema([name], **{name: TEXT})})
    assert (places(found), needed(found)) == ([f"bell /settings/{name}"], [])[:: 1 if made else -1]


def test_what_is_required_and_no_secret_is_somebody_elses_business():
    """Nor is a secret that nothing requires."""
    schema = settings_schema(["room"], room=TEXT, password=TEXT)
    assert missing({"bell": {"settings": {}}}, {"bell": schema}) == MissingSecrets()


def test_a_secret_that_only_another_one_requires_is_made_too():
    """Rules between members count as they are after the first."""
    schema = settings_schema(["password"], password=TEXT, other_password=TEXT)
    schema["properties"]["settings"]["dependentRequired"] = {"password": ["other_password"]}
    found = missing({"bell": {"settings": {}}}, {"bell": schema})
    assert places(found) == ["bell /settings/password", "bell /settings/other_password"]


def test_a_form_that_no_random_text_has_is_told():
    """The value is not written: the environment would be as invalid as before."""
    schema = settings_schema(["pin_password"], pin_password={"type": "string", "pattern": "^[0-9]{4}$"})
    found = missing({"bell": {"settings": {}}}, {"bell": schema})
    assert places(found) == []
    (item,) = found.needed
    assert "expected" in item.reason


def test_what_a_change_at_run_time_has_set_stands():
    """A place of the store is left alone, and so are other services."""
    bus = {"mqtt_config": {"host": "h", "port": 1883}}
    standing = {("bell", "/mqtt_config/password")}
    assert places(missing({"bell": bus, "lamp": bus}, standing=standing)) == ["lamp /mqtt_config/password"]
    assert places(missing({"bell": bus, "lamp": bus}, services=["bell"])) == ["bell /mqtt_config/password"]


def test_the_large_example_needs_passwords_and_one_key():
    """Then all of its services are valid in prod."""
    sources = loader.load(environments_dir=ROOT / "environments", schemas_dir=ROOT / "schemas", variables={})
    composer = Composer(sources, Keyring.ephemeral(), limits=DocumentLimits())
    prod = Environment("prod", tuple(file for file in sources.environments["prod"].files if "secrets" not in file.file))
    found = find_missing(composer, prod)
    assert places(found) == [f"{service} /mqtt_config/password" for service in sorted(prod.services)]
    assert needed(found) == ["ai_service /settings/grok_api_key"]
    for service, values in found.made.items():
        extra = {"/settings/grok_api_key": "x"} if service == "ai_service" else {}
        composer.compose("prod", service, as_patch({**values, **extra}))


def test_a_patch_sets_each_place():
    """Places with names of any characters, in one another."""
    patch = as_patch({"/a/b": 1, "/a/c~1d": "x", "/e": [2]})
    assert patch == {"a": {"b": 1, "c/d": "x"}, "e": [2]}
    assert documents.find(patch, "/a/c~1d") == "x"
