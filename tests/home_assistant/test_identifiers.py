"""Identifiers: what Home Assistant and topics take, and never the same one for different names."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aliciacfg.home_assistant import discovery, topics
from aliciacfg.home_assistant.identifiers import encode, slug, title

NAMES = st.lists(
    st.text(max_size=12) | st.sampled_from(["-", "--", "-2d", "-_", "a-", "_", "", "-x"]), min_size=1, max_size=4
)
OWN_NAMES = {topics.HOME, discovery.DRIFT, discovery.RESTART, discovery.EVENTS, discovery.STAGED, discovery.ACTIVATE}
# A letter, digit or "_", a byte, or the border of two names.
FORM = re.compile(r"(?:[A-Za-z0-9_]|-[0-9a-f]{2}|--)*")
TAKEN = re.compile(r"[a-zA-Z0-9_-]*")


@given(NAMES)
@example(["kitchen.light"])
def test_an_identifier_is_what_home_assistant_takes_and_can_be_read_back(names: list[str]):
    """So different names have different identifiers, and none is one of the daemon's own."""
    encoded = encode(*names)
    assert TAKEN.fullmatch(encoded)
    assert encoded not in OWN_NAMES
    if "-x" not in encoded:
        assert FORM.fullmatch(encoded)
        read = [
            unquote_to_bytes(re.sub(r"-([0-9a-f]{2})", r"%\1", part)).decode("utf-8", "surrogatepass")
            for part in re.split(r"--", encoded)
        ]
        assert read == names


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
def test_the_daemons_own_identifiers_are_those_of_no_name(name: str):
    """They have another form, so no setting of any service has one."""
    assert TAKEN.fullmatch(name)
    assert not FORM.fullmatch(name)


@given(NAMES, NAMES)
def test_different_names_have_different_identifiers(one: list[str], other: list[str]):
    """Whatever is in them."""
    assert (encode(*one) == encode(*other)) is (one == other)


def test_a_very_long_name_is_shortened_and_stays_different():
    """To what a topic has room for."""
    long, longer = "a" * 300, "a" * 301
    assert len(encode(long)) < 128
    assert encode(long) != encode(longer)
    assert encode("a" * 128) == "a" * 128


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["voice_router"], "voice_router"),
        (["kitchen.light"], "kitchen-2elight"),
        (["settings", "log_level"], "settings--log_level"),
        (["a-b"], "a-2db"),
        (["Küche"], "K-c3-bcche"),
    ],
)
def test_identifiers_stay_what_they_were(names: list[str], expected: str):
    """Home Assistant knows entities by them."""
    assert encode(*names) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Küche.Licht", "kuche_licht"), ("日本", "setting"), ("__a--B9", "a_b9"), ("", "setting"),
        ("a" * 149 + "_" + "b" * 700, "a" * 149),
    ],
)  # fmt: skip
def test_a_slug_is_the_end_of_an_entity_id(name: str, expected: str):
    """Lower case, never empty, and no longer than an entity id has room for."""
    assert slug(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wake_word", "Wake word"),
        ("a.b-c", "A b c"),
        ("", "(no name)"),
        ("\x00x", "X"),
        ("tts_service", "TTS service"),
        ("cache_ttl", "Cache TTL"),
        ("ha_bridge", "HA bridge"),
    ],
)
def test_a_title_is_what_people_read(name: str, expected: str):
    """Without separators and control characters; abbreviations in capitals."""
    assert title(name) == expected


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("alicia/ha/set/a/b", ("a", "b")),
        ("alicia/ha/set/a", None),
        ("alicia/ha/set/a/b/c", None),
        ("alicia/ha/state/a/b", None),
    ],
)
def test_a_command_names_a_device_and_an_entity(topic: str, expected: tuple[str, str] | None):
    """Any other topic is none."""
    assert topics.parse_command(topic) == expected
