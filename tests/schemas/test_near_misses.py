"""Which names are probably misspelt."""

import pytest

from aliciacfg.schemas.near_misses import near_miss

KNOWN = ["max_sessions", "log_level", "port", "host", "timeout_min", "volume", "room1", "rooms", "api_key", "on"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_sesions", "max_sessions"),
        ("max_sessoins", "max_sessions"),
        ("maxSessions", "max_sessions"),
        ("max-sessions", "max_sessions"),
        ("maxsesions", "max_sessions"),
        ("loglevel", "log_level"),
        ("prot", "port"),
        ("hosts", "host"),
        ("api_kye", "api_key"),
        ("APIKey", "api_key"),
    ],
)
def test_a_misspelt_name_has_a_suggestion(name: str, meant: str):
    """By an edit or two in one word, or by case and separators."""
    assert near_miss(name, KNOWN) == meant


@pytest.mark.parametrize(
    "name", ["timeout_max", "room2", "off", "in", "min_sessions", "log_file", "brightness", "x", ""]
)
def test_another_name_has_none(name: str):
    """Names that differ in a number, in a short word or in more are meant to differ."""
    assert near_miss(name, KNOWN) is None
