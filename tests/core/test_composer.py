"""From layers and an overlay to a validated configuration, and from a wanted one back to an overlay."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliciacfg.core.composer import Composer
from aliciacfg.core.written_documents import WrittenDocuments
from aliciacfg.documents import DocumentLimits, find, merge
from aliciacfg.errors import InvalidDocument, TooLarge
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sealing import sealed_documents
from aliciacfg.sealing.boxes import Keyring, PrivateKey, seal_for
from aliciacfg.sealing.sealed_documents import redact, seal_document
from aliciacfg.sources.layers import Environment, EnvironmentFile, Sources
from aliciacfg.sources.line_numbers import LineNumbers
from builders import valid_config

SECRET = "planted-secret-c07e"
HERE: dict[str, Any] = {"service": "bell", "environment": "dev"}
SCHEMA: dict[str, Any] = {
    "properties": {
        "settings": {
            "properties": {
                "ratio": {"type": "number", "default": 1.0},
                "count": {"type": "integer", "default": 5},
                "pin": {"type": "string", "x-sensitive": True},
                "doors": {"items": {"properties": {"code": {"type": "string", "x-sensitive": True}}}},
            }
        }
    }
}
# The username is made of the service's name.
BASE = valid_config(mqtt_config={"username": None})
VALID = valid_config(mqtt_config={"username": "bell", "password": SECRET})


def made_keyring(digest_key: bytes = b"d" * 32, private: bytes = b"p" * 32) -> Keyring:
    key = PrivateKey(private)
    return Keyring(current=key.public.key_id, keys=[key], digest_key=digest_key)


KEYRING = made_keyring()


def composer(
    defaults: dict[str, Any] | None = None,
    *services: dict[str, Any],
    keyring: Keyring = KEYRING,
    max_bytes: int = 100_000,
) -> Composer:
    """With one file whose defaults and whose section on ``bell`` are given, and further files with sections alone."""
    contents = [(BASE if defaults is None else defaults, services[0] if services else {})]
    contents += [({}, patch) for patch in services[1:]]
    files = tuple(
        EnvironmentFile(f"environments/{number}.yaml", shared, {"bell": patch}, protected=False, lines=LineNumbers({}))
        for number, (shared, patch) in enumerate(contents)
    )
    schemas = {"bell": ServiceSchema(SCHEMA, title="bell")}
    return Composer(
        Sources({"dev": Environment("dev", files)}, schemas), keyring, limits=DocumentLimits(max_bytes=max_bytes)
    )


def box(value: str, **bound: Any) -> str:
    """A sealed value as an operator makes one."""
    return seal_for(KEYRING.public_key, value, **bound)


def checksum(document: dict[str, Any], keyring: Keyring = KEYRING) -> str:
    return composer(keyring=keyring).effective("dev", "bell", document).checksum


def invalid(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidDocument) as refused:
        composer().effective("dev", "bell", document)
    return told(refused.value)


NAMES = st.text(alphabet="ab/~", max_size=2) | st.sampled_from(["token", "count", "ratio", "pin"])
LEAVES = st.booleans() | st.integers(-5, 5) | st.sampled_from([1.0, 2.5, "", "x", "***"])
SETTINGS: st.SearchStrategy[Any] = st.recursive(
    LEAVES | st.lists(LEAVES | st.none(), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
PATCHES: st.SearchStrategy[Any] = st.recursive(
    LEAVES | st.none() | st.lists(LEAVES | st.none(), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
# Names that the schema gives a type are not drawn at the top.
OPEN_NAMES = st.sampled_from(["a", "b", "a/b", "~", "token", ""])


def with_settings(values: dict[str, Any]) -> dict[str, Any]:
    return {**VALID, "settings": values}


@settings(deadline=None)
@given(
    st.dictionaries(OPEN_NAMES, PATCHES, max_size=3),
    st.lists(st.dictionaries(OPEN_NAMES, PATCHES, max_size=3), max_size=3),
    st.dictionaries(OPEN_NAMES, SETTINGS, max_size=3),
)
def test_an_overlay_on_the_files_gives_back_what_was_wanted(
    defaults: dict[str, Any], patches: list[dict[str, Any]], wanted: dict[str, Any]
):
    """For any layers, merging the smallest overlay onto them yields the wanted configuration."""
    made = composer({**BASE, "settings": defaults}, *({"settings": patch} for patch in patches))
    base = made.base("dev", "bell")
    effective = made.effective("dev", "bell", with_settings(wanted))
    again = merge(base, made.overlay(base, effective))
    assert isinstance(again, dict)
    assert made.effective("dev", "bell", again) == effective
    assert json.dumps(again, sort_keys=True) == json.dumps(effective.document, sort_keys=True)


@settings(deadline=None)
@given(st.dictionaries(OPEN_NAMES, PATCHES, max_size=3), st.dictionaries(OPEN_NAMES, PATCHES, max_size=3))
def test_what_the_files_say_needs_no_overlay(defaults: dict[str, Any], patch: dict[str, Any]):
    """A configuration equal to the files needs no overlay, so that later edits of files apply to every key."""
    made = composer({**BASE, "settings": as_read(defaults)}, {"settings": as_read(patch)})
    base = made.base("dev", "bell")
    assert made.overlay(base, made.effective("dev", "bell", base)) == {}


def as_read(value: Any) -> Any:
    """Return a value as the file reader returns it: integral floats become integers."""
    if isinstance(value, dict):
        return {key: as_read(member) for key, member in value.items()}
    if isinstance(value, list):
        return [as_read(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_one_changed_key_is_all_that_the_overlay_holds():
    """Schema defaults (1.0 among them) and values from files do not enter the overlay."""
    made = composer(BASE, {"settings": {"group": {"a": 1, "b": 2}, "version": "inner"}, "version": "1.5.0"})
    base = made.base("dev", "bell")
    document: Any = copy.deepcopy(base)
    document["settings"]["group"]["a"] = 7
    assert made.overlay(base, made.effective("dev", "bell", document)) == {"settings": {"group": {"a": 7}}}
    del document["settings"]["group"]
    assert made.overlay(base, made.effective("dev", "bell", document)) == {"settings": {"group": None}}


def test_names_are_filled_in_and_the_version_is_taken_out():
    """Names are filled in, and a requested version is separated from the document."""
    effective = composer().effective("dev", "bell", VALID)
    assert (effective.document["service_name"], effective.document["environment"]) == ("bell", "dev")
    assert effective.requested_version is None
    asked = composer().effective("dev", "bell", {**VALID, "version": "3.0.0", "service_name": "bell"})
    assert asked.requested_version == "3.0.0"
    assert asked.document == effective.document
    assert "version" not in asked.document


def test_every_problem_is_told_with_its_place():
    """One error lists wrong names, an invalid version and all problems that the schemas find."""
    broken = {
        **BASE,
        "service_name": "other",
        "environment": "prod",
        "version": "1.0",
        "settings": {"count": "x", "pin": 5},
    }
    assert list(invalid(broken)) == [
        "/environment",
        "/mqtt_config/username",
        "/service_name",
        "/settings/count",
        "/settings/pin",
        "/version",
    ]


@pytest.mark.parametrize("field", ["service_name", "environment", "version"])
@pytest.mark.parametrize("value", [5, ["bell"], {}, True])
def test_names_and_versions_of_another_type_are_problems(field: str, value: object):
    """A name or version of another type is reported once, by the schema."""
    assert list(invalid({**VALID, field: value})) == [f"/{field}"]


def test_shapes_that_no_configuration_has_are_told_before_the_schema_looks():
    """Null members and numbers that JSON readers cannot represent are refused with their places."""
    assert set(invalid({**VALID, "settings": {"a": None, "b": [2**64], "c": float("inf")}})) == {
        "/settings/a",
        "/settings/b/0",
        "/settings/c",
    }


def test_a_configuration_over_the_limit_is_too_large():
    """The limit counts the bytes of the JSON encoding, and exactly the limit is allowed."""
    document = with_settings({"text": "é" * 100})
    whole = composer().effective("dev", "bell", document).document
    size = len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode())
    assert composer(max_bytes=size).effective("dev", "bell", document)
    with pytest.raises(TooLarge, match=str(size)):
        composer(max_bytes=size - 1).effective("dev", "bell", document)


def test_a_service_without_files_is_composed_from_defaults():
    """Without files, the base contract alone yields the configuration, even in an unknown environment."""
    base = composer().base("nowhere", "stranger")
    assert (base["service_name"], base["environment"]) == ("stranger", "nowhere")
    assert base.keys() == {"service_name", "environment", "features", "limits"}


def test_the_checksum_is_of_content_alone():
    """The order of members, a requested version, 1.0 versus 1, and filled-in names do not change the checksum."""
    document = with_settings({"a": 1, "b": [1, {"c": "x"}], "pin": SECRET})
    first = checksum(document)
    turned = {key: document[key] for key in reversed(document)}
    assert checksum(turned) == first
    assert checksum({**document, "version": "9.0.0", "service_name": "bell"}) == first
    assert checksum({**document, "settings": {**document["settings"], "a": 1.0}}) == first
    assert checksum({**document, "settings": {**document["settings"], "a": 2}}) != first
    assert checksum({**document, "settings": {**document["settings"], "a": True}}) != first


async def test_the_checksum_outlives_sealing_and_follows_the_secret():
    """Sealing again with another key keeps the checksum; another secret or place changes it."""
    first = checksum(with_settings({"pin": SECRET}))
    other_key = made_keyring(private=b"q" * 32)
    sealed = seal_document(with_settings({"pin": SECRET}), {"/settings/pin": SECRET}, other_key, **HERE)
    opened = await WrittenDocuments(composer(keyring=other_key), other_key).open("dev", "bell", sealed)
    assert checksum(opened.document, keyring=other_key) == first
    assert checksum(with_settings({"pin": SECRET + "x"})) != first
    assert checksum(with_settings({"other_pin_key": SECRET})) != checksum(with_settings({"another_pin_key": SECRET}))
    doors = [checksum(with_settings({"doors": [{"code": a}, {"code": b}]})) for a, b in (("x", "y"), ("y", "x"))]
    assert doors[0] != doors[1]


def test_the_checksum_does_not_let_secrets_be_guessed():
    """The checksum depends on the digest key if and only if there are secrets."""
    other = made_keyring(digest_key=b"e" * 32)
    assert checksum(VALID, keyring=other) != checksum(VALID)
    bare = {key: value for key, value in VALID.items() if key != "mqtt_config"}
    assert sealed_documents.checksum(made_keyring(), "bell", bare, {}) == sealed_documents.checksum(
        other, "bell", bare, {}
    )


async def test_each_secret_is_sealed_to_its_own_place():
    """Only secrets are sealed, and each sealed value opens only at its own place."""
    document = with_settings({"pin": SECRET, "plain": "open", "doors": [{"code": "1111"}]})
    effective = composer().effective("dev", "bell", document)
    sealed = seal_document(effective.document, effective.secrets, KEYRING, **HERE)
    assert SECRET not in json.dumps(sealed)
    assert find(sealed, "/settings/plain") == "open"
    opened = await WrittenDocuments(composer(), KEYRING).open("dev", "bell", sealed)
    assert opened.document == effective.document
    assert opened.secrets == effective.secrets
    assert opened.secrets.keys() == {"/mqtt_config/password", "/settings/pin", "/settings/doors/0/code"}
    moved = {**sealed, "mqtt_config": {"password": find(sealed, "/settings/pin")}}
    with pytest.raises(InvalidDocument) as refused:
        await WrittenDocuments(composer(), KEYRING).open("dev", "bell", moved)
    assert [problem.pointer for problem in refused.value.findings] == ["/mqtt_config/password"]
    for elsewhere in (("prod", "bell"), ("dev", "lamp")):
        with pytest.raises(InvalidDocument):
            await WrittenDocuments(composer(), KEYRING).open(*elsewhere, sealed)


def test_an_overlay_is_sealed_where_it_has_the_secrets_of_the_whole():
    """Sealing adds nothing to an overlay, and a null stays a null."""
    overlay: dict[str, Any] = {"settings": {"pin": SECRET, "gone_key": None}}
    secrets = {"/settings/pin": SECRET, "/mqtt_config/password": "p", "/settings/gone_key": "old"}
    sealed: Any = seal_document(overlay, secrets, KEYRING, **HERE)
    assert sealed["settings"].pop("pin").startswith("sealed:v1:")
    assert sealed == {"settings": {"gone_key": None}}


def test_sealed_values_in_files_are_opened():
    """Values sealed for the service, or in ``defaults`` for all services, open; a plain value above wins."""
    shared = box("everyones", service="*", pointer="/mqtt_config/password")
    own = box("its own", service="bell", environment="dev", pointer="/settings/pin")
    made = composer({**BASE, "mqtt_config": {"password": shared}}, {"settings": {"pin": own}})
    assert find(made.base("dev", "bell"), "/mqtt_config/password") == "everyones"
    assert find(made.base("dev", "bell"), "/settings/pin") == "its own"
    higher = composer(BASE, {"settings": {"pin": own}}, {"settings": {"pin": "open"}})
    assert find(higher.base("dev", "bell"), "/settings/pin") == "open"


def test_sealed_values_in_files_that_do_not_open_are_all_told():
    """Values that are damaged or sealed for another service or place are all listed, and none is quoted."""
    patch = {
        "settings": {"pin": box(service="lamp", value=SECRET), "token": "sealed:v1:nonsense"},
        "mqtt_config": {"password": box(service="*", value=SECRET)},
    }
    with pytest.raises(InvalidDocument) as refused:
        composer(BASE, patch).base("dev", "bell")
    assert {problem.pointer for problem in refused.value.findings} == {
        "/settings/pin",
        "/settings/token",
        "/mqtt_config/password",
    }
    assert SECRET not in str(refused.value)


def test_a_sealed_value_is_not_opened_into_the_open():
    """A sealed value at a place that is not secret is refused, because its text would be stored and published."""
    made = composer(BASE, {"settings": {"note": box(service="bell", value=SECRET)}})
    with pytest.raises(InvalidDocument) as refused:
        made.base("dev", "bell")
    assert [problem.pointer for problem in refused.value.findings] == ["/settings/note"]
    assert SECRET not in str(refused.value)


def test_a_sealed_value_may_be_taken_back_by_a_higher_layer():
    """A null over a sealed secret removes it like any other value."""
    made = composer(BASE, {"settings": {"pin": box(service="bell", value=SECRET)}}, {"settings": {"pin": None}})
    assert find(made.base("dev", "bell"), "/settings") == {"ratio": 1, "count": 5}


def test_redacting_hides_each_secret_and_nothing_else():
    """Secrets are redacted by place; a plain value that equals a secret stays."""
    document: dict[str, Any] = {"a": SECRET, "b": SECRET, "c": ["x", {"d": "y"}]}
    assert redact(document, ["/a", "/c/1/d"]) == {"a": "***", "b": SECRET, "c": ["x", {"d": "***"}]}
    assert document["a"] == SECRET


STRICT: dict[str, Any] = {
    "properties": {
        "settings": {
            "properties": {
                "jwt_secret": {"type": "string", "minLength": 32, "pattern": "^[a-z]+$"},
                "pin": {"type": "string", "x-sensitive": True, "enum": ["0000", "1111"]},
                "level": {"enum": ["debug", "info"]},
                "label": {"type": "string", "x-sensitive": False, "maxLength": 3},
                "max_tokens": {"type": "integer"},
                "size": {"type": "integer"},
            }
        }
    }
}


def strict(files: dict[str, Any]) -> Composer:
    """Return a composer with a schema that restricts secrets and other values, and with one file."""
    services: dict[str, Any] = {"bell": {"settings": files}}
    file = EnvironmentFile("environments/dev.yaml", BASE, services, protected=False, lines=LineNumbers({}))
    schemas = {"bell": ServiceSchema(STRICT, title="bell")}
    return Composer(Sources({"dev": Environment("dev", (file,))}, schemas), KEYRING, limits=DocumentLimits())


def told(refused: InvalidDocument) -> dict[str, str]:
    """The findings in full: message by pointer."""
    return {finding.pointer: finding.in_full.message for finding in refused.findings}


def test_a_sealed_value_in_a_file_has_to_satisfy_its_schema():
    """The opened value is validated, and no problem quotes it."""
    good = "a" * 32
    valid = strict({"jwt_secret": box(good, service="bell"), "pin": box("1111", service="bell")})
    document = valid.effective("dev", "bell", valid.base("dev", "bell")).document
    assert find(document, "/settings/jwt_secret") == good
    wrong = strict({"jwt_secret": box(SECRET, service="bell"), "pin": box(SECRET, service="bell")})
    with pytest.raises(InvalidDocument) as refused:
        wrong.effective("dev", "bell", wrong.base("dev", "bell"))
    assert told(refused.value)["/settings/jwt_secret"].startswith("found a secret; expected ")
    assert len([problem for problem in refused.value.findings if problem.pointer == "/settings/jwt_secret"]) == 2
    assert told(refused.value)["/settings/pin"] == "found a secret; expected one of the values that the schema lists"
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "pointer",
    [
        "/settings/level", "/settings/label", "/settings/size", "/settings/max_tokens", "/settings/new",
        "/service_name", "/environment", "/version", "/mqtt_config/port", "/features/x", "/limits",
    ],
)  # fmt: skip
async def test_no_place_tells_what_was_in_a_box(pointer: str):
    """A box bound to the service alone, carried to any other place of it, is refused without being quoted.

    Otherwise whoever may have a document validated could read every such box by the error it causes.
    """
    member: Any = box(SECRET, service="bell")
    for token in reversed(pointer.split("/")[1:]):
        member = {token: member}
    wanted: Any = merge(VALID, member)
    made = strict({})
    opened = await WrittenDocuments(made, KEYRING).open("dev", "bell", wanted)
    assert (find(opened.document, pointer), opened.secrets) == (SECRET, {pointer: SECRET})
    with pytest.raises(InvalidDocument) as refused:
        made.effective("dev", "bell", opened.document, boxes=opened.secrets)
    assert pointer in told(refused.value)
    assert SECRET not in str(refused.value)


def test_problems_and_misplaced_boxes_are_told_together():
    """One error lists all problems, sorted by place."""
    wanted = merge(VALID, {"settings": {"level": "loud", "new": "x", "size": "big"}})
    with pytest.raises(InvalidDocument) as refused:
        strict({}).effective("dev", "bell", wanted, boxes={"/settings/new"})
    assert list(told(refused.value)) == ["/settings/level", "/settings/new", "/settings/size"]
    assert told(refused.value)["/settings/level"].startswith("found a string of 4 characters; expected")


def test_what_was_a_secret_is_not_quoted_after_the_schema_changed():
    """A value that was secret is not quoted after the schema stopped marking it and forbids it."""
    with pytest.raises(InvalidDocument) as refused:
        strict({}).compose("dev", "bell", {"settings": {"label": SECRET}}, kept_values={SECRET})
    assert told(refused.value) == {"/settings/label": "found a secret; expected at most 3 characters"}


def test_a_configuration_is_composed_of_the_files_and_an_overlay():
    """The overlay is merged onto the files; without an overlay, the files alone yield the configuration."""
    made = composer(BASE, {"settings": {"pin": "1111", "note": "open"}})
    alone = made.compose("dev", "bell")
    assert alone == made.effective("dev", "bell", made.base("dev", "bell"))
    changed = made.compose("dev", "bell", {"settings": {"pin": SECRET, "note": None}})
    assert find(changed.document, "/settings") == {"ratio": 1, "count": 5, "pin": SECRET}
    assert changed.secrets == {"/mqtt_config/password": "from-the-files", "/settings/pin": SECRET}


def test_a_value_that_was_a_secret_stays_one_while_it_is_the_same():
    """An unchanged value stays secret at its place, or with ``kept_values`` anywhere; a new value does not."""
    made = composer(BASE, {"settings": {"note": SECRET, "other": SECRET}})
    at_its_place = made.compose("dev", "bell", kept={"/settings/note": SECRET, "/settings/other": "before"})
    assert at_its_place.secrets.keys() == {"/mqtt_config/password", "/settings/note"}
    anywhere = made.compose("dev", "bell", kept_values={SECRET})
    assert anywhere.secrets.keys() == {"/mqtt_config/password", "/settings/note", "/settings/other"}
