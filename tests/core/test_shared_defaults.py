"""Defaults that are merged once give each service what merging them for it alone gives."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.core.shared_defaults import SharedDefaults
from aliciacfg.documents import merge
from aliciacfg.schemas.service_schema import ServiceSchema
from aliciacfg.sources.layers import Environment, EnvironmentFile, Sources
from aliciacfg.sources.line_numbers import LineNumbers

BROKERS: st.SearchStrategy[Any] = (
    st.none() | st.just("x") | st.dictionaries(st.sampled_from(["username", "host"]), st.none() | st.just("x"))
)
DEFAULTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {}, optional={"service_name": st.none() | st.just("x"), "mqtt_config": BROKERS, "settings": BROKERS}
)


def sources(defaults: list[dict[str, Any]], schemas: dict[str, ServiceSchema] | None = None) -> Sources:
    files = tuple(
        EnvironmentFile(f"environments/{number}.yaml", shared, {}, protected=False, lines=LineNumbers({}))
        for number, shared in enumerate(defaults)
    )
    return Sources({"dev": Environment("dev", files)}, schemas or {})


@given(st.lists(DEFAULTS, max_size=3))
def test_each_service_gets_its_defaults(defaults: list[dict[str, Any]]):
    """Whatever the files do to the places that hold its name: leave, replace or remove them."""
    found = sources(defaults)
    shared = SharedDefaults(found)
    for service in ("bell", "lamp", "bell"):
        expected = found.defaults("dev", service)
        for patch in defaults:
            expected = merge(expected, patch)
        made = shared.of(found.environments["dev"], service)
        assert made == expected
        assert list(made or ()) == list(expected)


def test_a_service_that_alone_connects_to_the_broker_gets_defaults_for_it():
    """The shared ones have none, as the other services do not connect."""
    layer = EnvironmentFile(
        "environments/dev.yaml", {}, {"bell": {"mqtt_config": {"host": "h"}}}, protected=False, lines=LineNumbers({})
    )
    found = Sources({"dev": Environment("dev", (layer,))}, {})
    shared = SharedDefaults(found)
    assert "mqtt_config" not in (shared.of(found.environments["dev"], "lamp") or {})
    assert shared.of(found.environments["dev"], "bell") is None
    assert found.defaults("dev", "bell")["mqtt_config"] == {"username": "bell", "tls_enabled": False, "keepalive": 60}


def test_what_no_service_changes_is_one_object():
    """Ten thousand services need not hold it ten thousand times."""
    found = sources([{"settings": {"room": "hall"}}])
    shared = SharedDefaults(found)
    bell, lamp = (shared.of(found.environments["dev"], service) or {} for service in ("bell", "lamp"))
    assert bell["settings"] is lamp["settings"]


def test_a_service_with_a_schema_has_defaults_of_its_own():
    """Those of the schema lie below the files."""
    found = sources([], {"bell": ServiceSchema({"properties": {"a": {"default": 1}}}, title="bell")})
    assert SharedDefaults(found).of(found.environments["dev"], "bell") is None


def test_nothing_is_kept_of_an_environment_without_files():
    """Callers may ask for any name."""
    assert SharedDefaults(sources([])).of(Environment("other", ()), "bell") is None
