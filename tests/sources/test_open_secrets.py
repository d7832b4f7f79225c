"""Which secrets of an environment file stand in the open."""

from pathlib import PurePath

import pytest

from aliciacfg.documents import JsonObject
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import Keyring, seal_for
from aliciacfg.sources.layers import Sources
from aliciacfg.sources.open_secrets import open_secrets

_SCHEMA: JsonObject = {
    "properties": {
        "settings": {
            "properties": {
                "pin": {"type": "string", "x-sensitive": True},
                "key_layout": {"type": "string", "x-sensitive": False},
                "shown": {"type": "string", "x-sensitive": False},
            }
        }
    }
}
_PATH = PurePath("environments/prod.yaml")


def found(settings: str) -> dict[str, int | None]:
    """The pointers and lines of what is found in the settings of a service."""
    sources = Sources({}, {"bell": ServiceSchema(_SCHEMA, title="bell")})
    text = f"services:\n  bell:\n    settings:\n      {settings}\n"
    return {secret.pointer: secret.line for secret in open_secrets(text, path=_PATH, sources=sources)}


@pytest.mark.parametrize(
    "setting",
    ["pin: '1234'", "api_token: abc", "keys: [abc]", "url: 'http://me:word@host/'", "url: 'http://host/?token=abc'"],
)
def test_what_schema_name_or_form_make_secret_is_found_with_its_line(setting: str):
    """By ``x-sensitive``, by the name, and an address with a password or a token."""
    assert list(found(setting).values()) == [4]


@pytest.mark.parametrize(
    "setting",
    [
        "pin: ''", "pin: ${PIN}", "pin: ${PIN:-1234}", "pin: 1234", "api_token: '***'", "key_layout: qwerty",
        "shown: 'http://me:word@host/'", "url: 'http://host/'", "url: 'http://${USER}:${WORD}@host/'",
    ],
)  # fmt: skip
def test_what_is_no_secret_or_stands_for_one_is_not(setting: str):
    """Nothing, a variable, a redaction, a number, and what the schema says to be none."""
    assert found(setting) == {}


def test_a_sealed_value_is_not_in_the_open():
    """Whoever sealed it, and for what."""
    key = Keyring.ephemeral().public_key
    assert found(f"pin: {seal_for(key, 'x', service='bell', environment='prod', pointer='/settings/pin')}") == {}


def test_defaults_are_looked_at_as_well():
    """A secret of all services, and one of some."""
    sources = Sources({}, {"bell": ServiceSchema(_SCHEMA, title="bell")})
    text = "defaults:\n  mqtt_config:\n    password: abc\n  settings:\n    pin: '1234'\n"
    all_of, some_of = open_secrets(text, path=_PATH, sources=sources)
    assert (all_of.place, all_of.line, all_of.first) == ("/defaults/mqtt_config/password", 3, None)
    assert some_of.place == "/defaults/settings/pin"
    assert "bell" in str(some_of.first)
