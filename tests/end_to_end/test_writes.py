"""What writes do to a configuration: overlays, versions, conditions, trial runs."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliciacfg.documents import (
    normalise,
)
from any_configuration import WANTED, hidden
from daemons import Daemon
from soak import examples
from yaml_readers import same

HOME_SERVICES = (
    "ai_service", "ha_bridge", "load_balancer", "sonos_service", "stt_service", "tts_service", "voice_router"
)  # fmt: skip
BREAKING = "?allow_breaking=true"


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    """One daemon for these tests, each of which changes services that no other one reads."""
    return module_daemon


def patch(daemon: Daemon, service: str, body: object, query: str = "") -> dict[str, Any]:
    answer = daemon.http("PATCH", f"/config/{service}{query}", body)
    assert answer.status == 200, answer.body
    return answer.json


def test_a_patch_removes_with_null_and_merges_objects(daemon: Daemon):
    """RFC 7396 on the effective configuration; a value of the files can be removed too."""
    features = daemon.config("voice_router")["config"]["features"]
    name = next(iter(features))
    answer = patch(
        daemon, "voice_router", {"features": {name: None, "brand_new": True}, "limits": {"x": 1.0}}, BREAKING
    )
    assert name not in answer["config"]["features"]
    assert answer["config"]["features"]["brand_new"] is True
    assert answer["config"]["limits"]["x"] == 1
    assert set(answer["changed"]) == {f"/features/{name}", "/features/brand_new", "/limits/x"}


def test_unset_lets_the_files_value_show_again_and_is_idempotent(daemon: Daemon):
    """The place leaves the overlay; a second time nothing differs; the empty pointer drops all."""
    original = daemon.config("tts_service")["config"]
    patch(daemon, "tts_service", {"settings": {"sample_rate_hz": 44100, "new": {"a": 1}}, "limits": {"y": 2}})
    one = daemon.http("POST", "/config/tts_service/unset", {"pointer": "/settings/new/a"}).json
    assert "new" not in one["config"]["settings"]
    again = daemon.http("POST", "/config/tts_service/unset", {"pointer": "/settings/new/a"}).json
    assert again["unchanged"] is True
    everything = daemon.http("POST", "/config/tts_service/unset", {"pointer": ""}).json
    assert {**everything["config"], "version": None} == {**original, "version": None}


def test_delete_of_a_service_in_the_files_falls_back_to_them(daemon: Daemon):
    """All that was changed is dropped as a new revision; the configuration remains."""
    original = daemon.config("ha_bridge")
    patch(daemon, "ha_bridge", {"limits": {"z": 3}})
    answer = daemon.http("DELETE", f"/config/ha_bridge{BREAKING}").json
    assert (answer["remains"], answer["revision"]) == (True, 3)
    assert answer["checksum"] == original["checksum"]
    assert daemon.http("DELETE", "/config/ha_bridge").json["unchanged"] is True


def test_versions_rise_with_what_a_change_means(daemon: Daemon):
    """Patch for a value, minor for a new key, major for a lost key or another type; higher may be asked for."""
    assert daemon.config("sonos_service")["version"] == "1.0.0"
    for settings, asked, version in (
        ({"default_volume_percent": 31}, None, "1.0.1"),
        ({"mood": "calm"}, None, "1.1.0"),
        ({"mood": 7}, None, "2.0.0"),
        ({"mood": None}, None, "3.0.0"),
        ({"default_volume_percent": 32}, "1.0.0", "3.0.1"),
        ({"default_volume_percent": 33}, "4.0.0", "4.0.0"),
    ):
        body = {"settings": settings} | ({"version": asked} if asked else {})
        assert patch(daemon, "sonos_service", body, BREAKING)["version"] == version
    low = daemon.http("PATCH", "/config/sonos_service", {"settings": {"new": 1}, "version": "4.0.1"})
    assert low.status == 422
    assert low.json["problems"][0]["pointer"] == "/version"
    assert "4.1.0" in low.json["problems"][0]["message"]
    same = patch(daemon, "sonos_service", {"version": "9.0.0"})
    assert (same["unchanged"], same["version"]) == (True, "4.0.0")


def test_a_trial_run_tells_the_difference_and_changes_nothing(daemon: Daemon):
    """dry_run goes through the whole pipeline: RFC 6902 difference, restart_required, and no trace."""
    before = daemon.config("stt_service")
    body = {"settings": {"confidence_threshold": 0.9}, "mqtt_config": {"password": "brand-new-password"}}
    answer = patch(daemon, "stt_service", body, "?dry_run=true")
    assert answer["dry_run"] is True
    assert answer["difference"]["stt_service"] == [
        {"op": "replace", "path": "/settings/confidence_threshold", "value": 0.9},
        {"op": "replace", "path": "/mqtt_config/password", "value": "***"},
    ]
    assert sorted(answer["restart_required"]) == ["/mqtt_config/password", "/settings/confidence_threshold"]
    assert daemon.config("stt_service") == before
    refused = daemon.http("PATCH", "/config/stt_service?dry_run=true", {"settings": {"confidence_threshold": 7}})
    assert refused.status == 422


def test_unknown_members_are_warned_about_and_kept(daemon: Daemon):
    """The shipped schemas are open; an undescribed name may be a mistake."""
    answer = patch(daemon, "ai_service", {"settings": {"temprature": 0.5}, "mqtt_config": {"prot": 1}})
    assert [warning.split()[0] for warning in answer["warnings"]] == ["/mqtt_config/prot", "/settings/temprature"]
    assert answer["config"]["settings"]["temprature"] == 0.5


def test_all_problems_are_listed_at_once(daemon: Daemon):
    """Every wrong place of a document with its pointer, what was found and what was expected."""
    document = daemon.config("stt_service")["config"]
    document["settings"].update({"stt_engine": "parrot", "confidence_threshold": 2, "max_audio_seconds": "long"})
    document["mqtt_config"].pop("host")
    document["service_name"] = "tts_service"
    document["features"]["x"] = "yes"
    problems = daemon.http("PUT", "/config/stt_service", document).json["problems"]
    told = {problem["pointer"]: problem["message"] for problem in problems}
    assert set(told) == {
        "/settings/stt_engine",
        "/settings/confidence_threshold",
        "/settings/max_audio_seconds",
        "/mqtt_config/host",
        "/service_name",
        "/features/x",
    }
    assert told["/settings/stt_engine"] == "found 'parrot'; expected one of 'whisper', 'google', 'azure'"
    assert told["/settings/confidence_threshold"] == "found 2; expected at most 1"
    assert "expected an integer" in told["/settings/max_audio_seconds"]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_other_environments_can_be_written_and_read_without_touching_the_active_one(daemon: Daemon, environment: str):
    """A service whose secrets are missing there is made whole by a write; the retained one stays dev's."""
    path = f"/config/load_balancer?environment={environment}"
    assert daemon.http("GET", path).status == 404
    body = {"mqtt_config": {"password": "a-password-of-its-own"}}
    created = daemon.http("PATCH", f"{path}&expected_revision=0", body)
    assert created.status == 201, created.body
    assert daemon.config("load_balancer", f"?environment={environment}")["environment"] == environment
    assert daemon.config("load_balancer")["environment"] == "dev"
    assert daemon.config("load_balancer")["revision"] == 1


def test_a_service_and_its_revisions_survive_deletion_and_return(daemon: Daemon):
    """A deleted configuration is 404, its history stays readable, its counter goes on."""
    document = daemon.config("voice_router")["config"]
    document["service_name"] = "visitor"
    document["mqtt_config"]["password"] = "visitor-password"
    assert daemon.http("PUT", "/config/visitor", document).status == 201
    assert daemon.http("DELETE", "/config/visitor").json["revision"] == 2
    assert daemon.http("GET", "/config/visitor").status == 404
    assert daemon.http("PATCH", "/config/visitor", {"limits": {}}).status == 404
    document["mqtt_config"]["password"] = "visitor-password"
    assert daemon.http("PUT", "/config/visitor", document).json["revision"] == 3
    assert daemon.config("visitor", "?revision=1")["revision"] == 1


@examples(12)
@given(st.lists(WANTED, min_size=2, max_size=2))
def test_a_daemon_gives_back_what_was_set(shared: Daemon, wishes: list[dict[str, Any]]):
    """Over HTTP: set then get, the trial's difference, compare of two revisions, rollback."""
    path = "/config/property_bell"
    config = {**shared.config("voice_router")["config"], "service_name": "property_bell"}
    del config["version"]
    config["mqtt_config"]["password"] = "p"
    numbers: list[int] = []
    for wish in wishes:
        config["settings"] = wish
        answer = shared.http("PUT", f"{path}?allow_breaking=true", config)
        assert answer.status in {200, 201}, answer.body
        numbers.append(answer.json["revision"])
        assert same(shared.config("property_bell")["config"]["settings"], hidden(normalise(wish), "***"))
    first, second = (shared.config("property_bell", f"?revision={number}")["config"] for number in numbers)
    trial = shared.http("POST", f"{path}/rollback", {"revision": numbers[0], "dry_run": True}).json
    patched = jsonpatch.apply_patch(second, trial["difference"]["property_bell"])
    assert same({**patched, "version": ""}, {**first, "version": ""})
    answer = shared.http("GET", f"/config/compare/property_bell?rev1={numbers[0]}&rev2={numbers[1]}").json
    restored = shared.http("POST", f"{path}/rollback", {"revision": numbers[0]}).json
    assert same(restored["config"]["settings"], first["settings"])
    assert answer["equal"] == same(hidden(wishes[0], "s"), hidden(wishes[1], "s"))
