"""Environment files whose secrets are sealed in place: nothing else changes, and they say what they said before."""

import re
import shutil
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliciacfg.core.composer import Composer
from aliciacfg.documents import DocumentLimits, find
from aliciacfg.documents.yaml_reader import load
from aliciacfg.errors import SourceError, ValidationFailed
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing.boxes import CannotOpen, Keyring, PrivateKey, seal_for
from aliciacfg.sources import loader
from aliciacfg.sources.layers import Sources
from aliciacfg.sources.seal_file import SealedFile, file_environment, seal_file
from repository import ROOT, SERVICES

KEY = PrivateKey.generate()
KEYRING = Keyring(current=KEY.public.key_id, keys=[KEY], digest_key=b"d" * 32)
BOX = re.compile(r"""(["'])sealed:v1:[0-9a-f]{16}:[A-Za-z0-9_-]+\1""")
SCHEMA: dict[str, Any] = {
    "properties": {
        "settings": {
            "properties": {
                "pin": {"type": "string", "x-sensitive": True},
                "key_path": {"type": "string", "x-sensitive": False},
                "max_tokens": {"type": "integer"},
            }
        }
    }
}
SOURCES = Sources({}, {"bell": ServiceSchema(SCHEMA, title="bell"), "lamp": ServiceSchema({}, title="lamp")})


def sealed(text: str, name: str = "prod-secrets.yaml", sources: Sources = SOURCES) -> SealedFile:
    return seal_file(text, path=PurePath("environments", name), sources=sources, key=KEY.public)


def opened(result: SealedFile, place: str, **found: Any) -> str:
    """What is in the box at a place of the sealed file, opened as if found somewhere."""
    box = find(load(result.text, file="x").value, place)
    assert isinstance(box, str)
    return KEY.open(box, **found)


def notes(result: SealedFile) -> dict[str, str]:
    return {note.pointer: note.message for note in result.notes}


TEXT = """\
# Secrets of the home.
protected: true
defaults:
  mqtt_config: {password: everyones, host: broker}  # both
services:
  # the door
  bell:
    settings:
      pin: 'it''s 1'    # front
      key_path: /etc/key
      api_token: |
        several
        lines
      volume: 5
      plain: open
      max_tokens: "4000"
  lamp:
    mqtt_config:
      password: "quoted"
    settings:
      nested: [{Secret: "deep"}, 2]
"""


def test_every_secret_is_sealed_and_nothing_else():
    """By the schema where it says something, by names where it is silent; comments, order and style stay."""
    result = sealed(TEXT)
    assert result.sealed == [
        "/defaults/mqtt_config/password",
        "/services/bell/settings/pin",
        "/services/bell/settings/api_token",
        "/services/lamp/mqtt_config/password",
        "/services/lamp/settings/nested/0/Secret",
    ]
    assert (result.kept, result.notes) == ([], [])
    assert BOX.sub("BOX", result.text) == (
        TEXT.replace("everyones", "BOX")
        .replace("'it''s 1'", "BOX")
        .replace("|\n        several\n        lines", "BOX")
        .replace('"quoted"', "BOX")
        .replace('"deep"', "BOX")
    )
    assert opened(
        result, "/services/bell/settings/api_token", service="bell", environment="prod", pointer="/settings/api_token"
    ) == ("several\nlines\n")


def test_doing_it_again_changes_nothing():
    """Boxes are random, so a second run must not make new ones."""
    first = sealed(TEXT)
    again = sealed(first.text)
    assert (again.text, again.sealed, again.kept) == (first.text, [], first.sealed)
    more = sealed(first.text + "    token: new\n")
    assert more.sealed == ["/services/lamp/token"]
    assert more.text.startswith(first.text)


@pytest.mark.parametrize(
    ("place", "found", "opens"),
    [
        ("/services/lamp/mqtt_config/password", {"service": "lamp"}, True),
        ("/services/lamp/mqtt_config/password", {"service": "bell"}, False),
        ("/services/lamp/mqtt_config/password", {"service": "lamp", "environment": "dev"}, False),
        ("/services/lamp/mqtt_config/password", {"service": "lamp", "pointer": "/settings/token"}, False),
        ("/defaults/mqtt_config/password", {"service": "bell", "shared": True}, True),
        ("/defaults/mqtt_config/password", {"service": "bell"}, False),
        ("/defaults/mqtt_config/password", {"service": "bell", "shared": True, "environment": "dev"}, False),
        ("/defaults/mqtt_config/password", {"service": "bell", "shared": True, "pointer": "/settings/token"}, False),
    ],
)
def test_each_secret_opens_in_its_own_place_only(place: str, found: dict[str, Any], opens: bool):
    """Bound to service, environment and pointer; in defaults to every service, and to defaults."""
    where = {"environment": "prod", "pointer": "/mqtt_config/password", **found}
    result = sealed(TEXT)
    if opens:
        assert opened(result, place, **where) in {"quoted", "everyones"}
    else:
        with pytest.raises(CannotOpen, match="bound to another"):
            opened(result, place, **where)


def test_what_base_says_opens_in_every_environment():
    """It applies to all, so there is none to bind to; to service and pointer it is bound all the same."""
    result = sealed("services: {lamp: {token: secret}}\n", "base.yaml")
    for environment in ("dev", "prod"):
        assert opened(result, "/services/lamp/token", service="lamp", environment=environment, pointer="/token")
    with pytest.raises(CannotOpen):
        opened(result, "/services/lamp/token", service="bell", environment="dev", pointer="/token")


def test_variables_are_left_alone_with_a_note():
    """The daemon fills them in: whether the whole value is one, or a part, or it is no variable at all but wrong."""
    text = 'services: {lamp: {a_key: "${X}", b_key: "p-${X:-d}-s", c_key: "${", limits: {max_tokens: 5}}}\n'
    result = sealed(text)
    assert (result.text, result.sealed) == (text, [])
    assert set(notes(result)) == {"/services/lamp/a_key", "/services/lamp/b_key", "/services/lamp/c_key"}
    assert all(note.line == 1 and "${…}" in note.message for note in result.notes)
    assert result.defaults == ["/services/lamp/b_key"]


def test_an_escaped_dollar_is_sealed_as_what_it_means():
    """$${ in a file is ${; in the box is what the service gets."""
    result = sealed("services:\n  lamp:\n    token: a$${b}\n")
    assert opened(result, "/services/lamp/token", service="lamp", environment="prod", pointer="/token") == "a${b}"


def test_what_is_no_secret_string_is_left_alone_silently():
    """Empty places to fill in, numbers, and variables where a number belongs."""
    text = (
        "services:\n  bell:\n    token: ''\n    keys: [1, true, null]\n    settings: {max_tokens: 5}\n"
        "  lamp:\n    password:\n    settings:\n"
        "services2: {x: {password: not-ours}}\n"
    )
    assert sealed(text) == SealedFile(text, [], [], [], [])
    whole = 'services: {bell: {settings: {max_tokens: "${TOKENS}"}}}\n'
    assert sealed(whole) == SealedFile(whole, [], [], [], [])


@pytest.mark.parametrize("text", ["", "# nothing\n", "services:\n", "null\n", "protected: true\n"])
def test_files_without_services_have_no_secrets(text: str):
    """An empty section is null in YAML; there is nothing to seal."""
    assert sealed(text) == SealedFile(text, [], [], [], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]\n", "found array at the top; expected a mapping"),
        ("protected: true\ndefaults: [a]\n", ":2: found array at /defaults; expected a mapping"),
        ("services: x\n", ":1: found string at /services; expected a mapping"),
    ],
)
def test_a_section_that_is_no_mapping_is_refused(text: str, words: str):
    """It does not count as empty, which would leave its secrets in plain text without a word."""
    with pytest.raises(SourceError) as refused:
        sealed(text)
    assert words in str(refused.value)


def test_what_is_sealed_in_another_way_is_kept_with_a_note():
    """A box of another key, and what only claims to be one."""
    other = seal_for(PrivateKey.generate().public, "x", service="lamp")
    text = f'services: {{lamp: {{a_key: "{other}", b_key: "sealed:v1:nonsense"}}}}\n'
    result = sealed(text)
    assert (result.text, result.sealed) == (text, [])
    assert result.kept == ["/services/lamp/a_key", "/services/lamp/b_key"]
    assert KEY.public.key_id in notes(result)["/services/lamp/a_key"]
    assert "well-formed" in notes(result)["/services/lamp/b_key"]


def test_in_defaults_only_what_is_a_secret_for_every_service_is_sealed():
    """The daemon refuses a box where the schema has no secret, so that of bell alone is to stand at bell."""
    text = "defaults:\n  settings:\n    pin: open\n    key_path: open\n    token: open\n    other_pin: open\n"
    result = sealed(text)
    assert result.sealed == ["/defaults/settings/token"]
    told = notes(result)
    assert set(told) == {"/defaults/settings/pin", "/defaults/settings/key_path"}
    assert "(bell)" in told["/defaults/settings/pin"]
    assert "services.<name>" in told["/defaults/settings/key_path"]


def test_a_secret_that_aliases_repeat_is_refused():
    """One box cannot stand in two places; every such place is reported with its line, and nothing is sealed."""
    text = "services:\n  bell:\n    token: &t shared\n  lamp:\n    token: *t\n    password: other\n"
    with pytest.raises(SourceError) as refused:
        sealed(text)
    assert [(problem.line, problem.pointer) for problem in refused.value.problems] == [
        (3, "/services/bell/token"),
        (5, "/services/lamp/token"),
    ]
    assert "shared" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "environment"),
    [("base.yaml", None), ("dev.yaml", "dev"), ("prod-secrets.yaml", "prod"), ("a.b.yaml", "a.b")],
)
def test_the_name_of_the_file_says_the_environment(name: str, environment: str | None):
    """As the daemon reads it."""
    assert file_environment(PurePath("environments", name)) == environment


@pytest.mark.parametrize(
    "name", ["prod.yml", "prod-secrets.yaml.example", "access.yaml", "base-secrets.yaml", "-secrets.yaml", "a b.yaml"]
)
def test_what_is_no_environment_file_is_refused(name: str):
    """Its values would be bound to an environment that does not exist."""
    with pytest.raises(SourceError, match=re.escape(name)):
        sealed("services: {lamp: {token: x}}\n", name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The shipped files, with the example of production's secrets filled in."""
    for name in ("environments", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*-secrets.yaml"))
    example = tmp_path / "environments" / "prod-secrets.yaml.example"
    text = re.sub(
        r"\$\{([A-Z_]+)\}", lambda match: f"planted-{match[1].lower()}-of-many-characters", example.read_text()
    )
    secrets = example.with_suffix("")
    secrets.write_text(f"{text}\ndefaults:\n  settings: {{shared_token: planted-for-all}}\n")
    return tmp_path


def composed(home: Path) -> dict[str, Any]:
    """Documents and checksums of all services in production."""
    found = loader.load(environments_dir=home / "environments", schemas_dir=home / "schemas", variables={})
    composer = Composer(found, KEYRING, limits=DocumentLimits())
    return {service: composer.effective("prod", service, composer.base("prod", service)) for service in SERVICES}


def test_the_sealed_files_of_the_home_mean_what_they_meant(home: Path):
    """All 22 services have the same documents, secrets and checksums, and no secret is left in the open."""
    path = home / "environments" / "prod-secrets.yaml"
    before = composed(home)
    text = path.read_text()
    sources = Sources({}, loader.load_schemas(home / "schemas"))
    result = sealed(text, sources=sources)
    path.write_text(result.text)
    assert composed(home) == before
    assert len(result.sealed) == re.sub(r"(?m)^\s*#.*$", "", text).count("planted-") == 30
    assert result.notes == []
    assert "planted" not in re.sub(r"(?m)^\s*#.*$", "", result.text)
    assert re.findall(r"(?m)#.*$", result.text) == re.findall(r"(?m)#.*$", text)
    # As another environment's, none of it opens.
    path.rename(path.with_name("staging-secrets.yaml"))
    found = loader.load(environments_dir=home / "environments", schemas_dir=home / "schemas", variables={})
    with pytest.raises(ValidationFailed, match="bound to another environment"):
        Composer(found, KEYRING, limits=DocumentLimits()).base("staging", "ha_bridge")


# How one value may be written, by the places around it; {} is where the scalar goes.
SECRETS = st.sampled_from(["plain", "'single ''quoted'''", '"double \\" #"', "'${NOT'", "two words", "x#y", "''", "12"])
OPEN = st.sampled_from(["plain", "5", "[a, 'b']", "{c: d}", '"e # f"', "", "|\n        g\n          h"])
ENDS = st.sampled_from(["", " # note", "   # 'quote: {", "\n", "\n      # between: [\n"])
MEMBERS = st.one_of(
    st.tuples(st.just("password"), SECRETS, ENDS),
    st.tuples(st.just('"api_key"'), SECRETS, ENDS),
    st.tuples(st.sampled_from(["color", "'size'", "z"]), OPEN, ENDS),
)
BLOCKS = st.lists(st.lists(MEMBERS, min_size=1, max_size=3, unique_by=lambda member: member[0]), max_size=4)


@settings(max_examples=80, deadline=None)
@given(blocks=BLOCKS, newline=st.sampled_from(["\n", "\r\n"]), end=st.booleans())
def test_all_but_the_secrets_stays_byte_for_byte(blocks: list[list[tuple[str, str, str]]], newline: str, end: bool):
    """In any layout: with every box taken out again the file is the old one with its secrets taken out."""
    pieces: list[str] = ["# top\nservices:\n" if blocks else "services: {}\n"]
    expected = [pieces[0]]
    for number, members in enumerate(blocks):
        for target in (pieces, expected):
            target.append(f"  s{number}:  # {number}\n    settings:\n")
        for name, scalar, behind in members:
            secret = name not in {"color", "'size'", "z"} and scalar not in {"''", "12", "'${NOT'"}
            pieces.append(f"      {name}: {scalar}{behind}\n")
            expected.append(f"      {name}: {'BOX' if secret else scalar}{behind}\n")
    text, wanted = ("".join(part)[: None if end else -1].replace("\n", newline) for part in (pieces, expected))
    result = sealed(text)
    assert BOX.sub("BOX", result.text) == wanted
    assert len(result.sealed) == wanted.count("BOX")


@pytest.mark.parametrize("value", ["***", "sealed:v2:x", "sealed:v1"])
def test_what_only_stands_for_a_secret_is_not_sealed(value: str):
    """Sealed, it would be delivered as the secret itself; a note names its place."""
    text = f'services:\n  bell:\n    mqtt_config: {{password: "{value}"}}\n'
    sealed = seal_file(text, path=PurePath("environments/dev.yaml"), sources=Sources({}, {}), key=KEY.public)
    assert (sealed.text, sealed.sealed) == (text, [])
    assert "only stands for a secret" in sealed.notes[0].message
