"""Which settings appear in Home Assistant, and as what."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.errors import InvalidRequest
from aliciacfg.home_assistant import discovery, values
from aliciacfg.home_assistant.discovery import MessageOptions
from aliciacfg.home_assistant.entities import Entity, Features, entities_of, label
from aliciacfg.schemas.service_schema import ServiceSchema
from home_assistant import check

MARK = {"x-home-assistant": True}
LEFT_OUT = {"type": "boolean", "x-home-assistant": False}


def found(
    document: dict[str, Any],
    settings: dict[str, Any],
    *,
    features: Features = "marked",
    writable: bool = True,
    **more: Any,
) -> dict[str, Entity]:
    own = {"type": "object", "properties": {"settings": {"type": "object", "properties": settings}, **more}}
    schema = ServiceSchema(own, title="bell")
    secrets = schema.secrets(document)
    made = entities_of(schema.tree, document, secrets=secrets, features=features, writable=writable)
    return {entity.pointer: entity for entity in made}


def one(value: Any, *, writable: bool = True, **described: Any) -> Entity:
    """The entity of one marked setting."""
    marked: dict[str, Any] = {**MARK, **described}
    listed = found({"settings": {"x": value}}, {"x": marked}, writable=writable)
    return listed["/settings/x"]


@pytest.mark.parametrize(
    ("value", "described", "platform"),
    [
        (True, {"type": "boolean"}, "switch"),
        (True, {"type": "boolean", "x-home-assistant": {"read_only": True}}, "binary_sensor"),
        (3, {"type": "integer", "minimum": 0, "maximum": 9}, "number"),
        (3, {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9}, "number"),
        (3, {"type": "integer", "minimum": 0}, "sensor"),
        (3, {"type": "integer", "minimum": 3, "maximum": 3}, "sensor"),
        (3, {"type": "integer", "minimum": 0, "maximum": 2**60}, "sensor"),
        (3, {"type": "integer", "enum": [1, 3]}, "select"),
        (3, {"enum": [1, 3, "many", None, True]}, "select"),
        ("a", {"type": "string", "enum": ["a", "b"]}, "select"),
        ("a", {"enum": ["a", ["b"]]}, "sensor"),
        ("1", {"enum": ["1", 1]}, "sensor"),
        ("a", {"enum": ["a", "b" * 256]}, "sensor"),
        ("a", {"type": "string", "enum": [str(number) for number in range(101)] + ["a"]}, "sensor"),
        ("text", {"type": "string"}, "sensor"),
    ],
)
def test_the_platform_follows_from_the_schema(value: Any, described: dict[str, Any], platform: str):
    """Without a right to write, everything is read-only."""
    assert one(value, **described).platform == platform
    read_only = one(value, writable=False, **described)
    assert read_only.platform == ("binary_sensor" if isinstance(value, bool) else "sensor")
    assert not read_only.writable


def test_a_number_has_range_step_and_unit():
    """Of several subschemas the narrowest; the unit is what the name ends with."""
    narrow = one(1, type="integer", minimum=-5, maximum=100, allOf=[{"maximum": 1}], multipleOf=5)
    assert (narrow.minimum, narrow.maximum, narrow.step, narrow.integer) == (-5, 100, 5, True)
    assert one(0.5, type="number", minimum=0, maximum=1).step == 0.01
    assert one(0.5, type="number", minimum=0, maximum=1e-6).step == 0.001
    assert one(0, type="number", minimum=0, maximum=5e-324).step == 0.001
    stepped: dict[str, Any] = {"x-home-assistant": {"step": 0.25}}
    assert one(1, type="number", minimum=0, maximum=1, **stepped).step == 0.25
    ranged = {"type": "integer", "minimum": 0, "maximum": 9, **MARK}
    listed = found(
        {"settings": {"wait_seconds": 1, "level_percent": 1}}, {"wait_seconds": ranged, "level_percent": ranged}
    )
    assert [(item.name, item.unit) for item in listed.values()] == [("Wait", "s"), ("Level", "%")]


def test_only_marked_settings_appear_and_nothing_confidential_does():
    """A secret, an address, a port and a user name stay out, even where a schema that nobody checked marks them."""
    marked = {"type": "string", **MARK}
    document = {
        "settings": {
            "plain": "x", "shown": "x", "api_key": "x", "base_url": "x", "port": 1, "list": ["x"],
            "login": {"user": "x"}, "hidden": "x", "deep": {"er": "x"},
        },
        "mqtt_config": {"host": "h", "keepalive": 60},
    }  # fmt: skip
    described = {
        "plain": {"type": "string"}, "shown": marked, "api_key": marked, "base_url": marked,
        "port": {"type": "integer", **MARK}, "list": {"items": marked}, "login": {"properties": {"user": marked}},
        "hidden": {**marked, "x-sensitive": True}, "deep": {"properties": {"er": marked}},
    }  # fmt: skip
    broker = {"properties": {"host": marked, "keepalive": {"type": "integer", **MARK}}}
    assert list(found(document, described, mqtt_config=broker)) == ["/settings/shown", "/settings/deep/er"]


def test_feature_flags_appear_if_they_are_marked_or_all_are():
    """One can be left out of all."""
    document: dict[str, Any] = {"features": {"a": True, "token_refresh": False, "c": True, "deep": {"d": True}}}
    own: dict[str, Any] = {"properties": {"features": {"properties": {"c": LEFT_OUT, "a": MARK}}}}
    tree = ServiceSchema(own, title="bell").tree

    def names(features: Features) -> list[str]:
        listed = entities_of(tree, document, secrets=(), features=features, writable=True)
        return [entity.pointer for entity in listed]

    assert names("marked") == ["/features/a"]
    assert names("all") == ["/features/a", "/features/token_refresh"]


def test_names_that_would_be_the_same_say_where_they_are():
    """An entity with a name of its own keeps it."""
    text = {"type": "string", **MARK}
    named = {"type": "string", "x-home-assistant": {"name": "Bell", "icon": "mdi:bell"}}
    described = {"left": {"properties": {"tone": text}}, "right": {"properties": {"tone": text}}, "x": named}
    listed = found({"settings": {"left": {"tone": "a"}, "right": {"tone": "b"}, "x": "c"}}, described)
    assert [item.name for item in listed.values()] == ["Left: Tone", "Right: Tone", "Bell"]
    assert listed["/settings/x"].icon == "mdi:bell"


def test_names_that_are_the_same_even_so_are_their_places():
    """Two entities of a device with the same name could not be told apart."""
    flags = {name: {"type": "boolean", **MARK} for name in ("hall.light", "hall-light", "door")}
    deep = {side: {"properties": {"end": {"properties": {"tone": flags["door"]}}}} for side in ("left", "right")}
    document = {"settings": {**dict.fromkeys(flags, True), **{side: {"end": {"tone": True}} for side in deep}}}
    names = [item.name for item in found(document, {**flags, **deep}).values()]
    assert names == ["settings/hall.light", "settings/hall-light", "Door", "settings/left/end/tone",
                     "settings/right/end/tone"]  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "value", "state"),
    [
        (one(True, type="boolean"), True, "ON"),
        (one(True, type="boolean"), False, "OFF"),
        (one(3, type="integer", minimum=0, maximum=9), 10, None),
        (one(3, type="integer", minimum=0, maximum=9), 9, 9),
        (one("a", enum=["a", "none", "", 1, True, None]), "none", "(none)"),
        (one("a", enum=["a", "none", "", 1, True, None]), "", "()"),
        (one("a", enum=["a", "none", "", 1, True, None]), 1, "1"),
        (one("a", enum=["a", "none", "", 1, True, None]), True, "true"),
        (one("a", enum=["a", "none", "", 1, True, None]), None, "null"),
        (one("a", enum=["a"]), "another", None),
        (one("text", type="string"), "x" * 300, "x" * 254 + "…"),
        (one("text", type="string"), "None", "(None)"),
        (one("text", type="string"), "none", "none"),
        (one("text", type="string"), "", ""),
        (one(2**60, type="integer"), 2**60, 2**60),
    ],
)
def test_a_state_is_one_that_home_assistant_shows(entity: Entity, value: Any, state: Any):
    """What it cannot show is unknown."""
    assert values.to_state(entity, value) == state
    assert isinstance(values.to_state(entity, value), bool) is False


@pytest.mark.parametrize(
    ("entity", "payload", "value"),
    [
        (one(True, type="boolean"), b"OFF", False),
        (one(3, type="integer", minimum=0, maximum=9), b"5", 5),
        (one(3, type="integer", minimum=0, maximum=9), b"5.0", 5),
        (one(3, type="number", minimum=0, maximum=9), b"+.5e1", 5),
        (one(3, type="number", minimum=0, maximum=9), b"0.5", 0.5),
        (one("a", enum=["a", "none", 1]), b"(none)", "none"),
        (one("a", enum=["a", "none", 1]), b"1", 1),
    ],
)
def test_a_command_is_the_value_of_a_state(entity: Entity, payload: bytes, value: Any):
    """With the type that the configuration has."""
    set_to = values.from_command(entity, payload)
    assert (type(set_to), set_to) == (type(value), value)


@pytest.mark.parametrize(
    ("entity", "payload"),
    [
        (one(True, type="boolean"), b"on"),
        (one(True, type="boolean"), b"true"),
        (one(3, type="integer", minimum=0, maximum=9), b"5.5"),
        (one(3, type="number", minimum=0, maximum=9), b"nan"),
        (one(3, type="number", minimum=0, maximum=9), b"1e400"),
        (one(3, type="number", minimum=0, maximum=9), b"0x1"),
        (one(3, type="number", minimum=0, maximum=9), b"1_0"),
        (one(3, type="number", minimum=0, maximum=9), "٣".encode()),
        (one(3, type="number", minimum=0, maximum=9), b"1" * 100_000),
        (one("a", enum=["a"]), b""),
        (one("a", enum=["a"]), b"\xff"),
        (one("a", type="string"), b"a"),
    ],
)
def test_any_other_command_is_refused(entity: Entity, payload: bytes):
    """With a message that is short."""
    with pytest.raises(InvalidRequest) as refused:
        values.from_command(entity, payload)
    assert len(refused.value.message) < 500


SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.lists(SCALARS, min_size=1, max_size=5, unique_by=label))
def test_every_choice_can_be_shown_and_chosen(choices: list[Any]):
    """Whatever scalars an enumeration has."""
    entity = one(next((choice for choice in choices if choice is not None), "x"), enum=choices)
    if entity.platform == "select":
        for choice in choices:
            shown = values.to_state(entity, choice)
            assert isinstance(shown, str)
            assert shown.strip().lower() not in {"", "none"}
            set_to = values.from_command(entity, shown.encode("utf-8", "surrogatepass"))
            assert set_to == choice or (isinstance(choice, float) and math.isclose(float(str(set_to)), choice))


def test_every_device_message_is_one_of_home_assistants():
    """Of each kind of entity, with and without what only MQTT 5 has."""
    described = {
        "a": {"type": "boolean", "x-home-assistant": {"icon": "mdi:bell"}},
        "b": {"type": "number", "minimum": 0, "maximum": 1, **MARK},
        "c": {"enum": ["x", "none", 1], **MARK},
        "d_seconds": {"type": "integer", **MARK},
        "Ü": {"type": "string", **MARK},
    }
    document: dict[str, Any] = {"settings": {"a": True, "b": 0.5, "c": "x", "d_seconds": 3, "Ü": "ö"}}
    listed = list(found(document, described).values())
    for message_options in (MessageOptions("1.0.0"), MessageOptions("1.0.0", "http://alicia.local:8026/", 30)):
        service: dict[str, Any] = discovery.service_device("kitchen.bell", listed, message_options)
        check("homeassistant/device/aliciacfg/kitchen-2ebell/config", service)
        check("homeassistant/device/aliciacfg/aliciacfg-_home/config", discovery.home_device(["dev"], message_options))
        check("homeassistant/device/aliciacfg/aliciacfg-_home/config", discovery.home_device(None, message_options))
        url = service["device"].get("configuration_url")
        assert url == (message_options.console_url and "http://alicia.local:8026/#/services/kitchen.bell")
    state = discovery.service_state(document, listed, drift=True, restart=False)
    assert list(state.values()) == ["ON", "OFF", "ON", 0.5, "x", 3, "ö"]


def test_a_component_goes_before_another_platform_takes_its_place():
    """What stays is not among the removals; nothing is removed of a message that has all of them."""
    message: dict[str, Any] = {
        "components": {"a": {"platform": "switch", "unique_id": "a"}, "b": {"platform": "sensor"}}
    }
    first = discovery.removals({"a": "switch", "b": "number", "c": "select"}, message)
    assert first is not None
    assert first["components"] == {
        "a": {"platform": "switch", "unique_id": "a"}, "b": {"platform": "number"}, "c": {"platform": "select"},
    }  # fmt: skip
    assert discovery.removals({"a": "switch"}, message) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b'{"origin":{"name":"aliciacfg"},"components":{"a":{"platform":"switch"},"b":1}}', {"a": "switch"}),
        (b'{"origin":{"name":"aliciacfg"}}', {}),
        (b'{"origin":{"name":"other"},"components":{}}', None),
        (b'{"origin":"aliciacfg"}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_device_message_of_ours_is_known_by_its_origin(payload: bytes, expected: dict[str, str] | None):
    """Others' and what is no device message are not."""
    assert discovery.read_back(payload) == expected
