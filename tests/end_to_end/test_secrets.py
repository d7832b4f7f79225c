"""Secrets stay out of every file, log, message and answer; what is redacted can be edited and put back."""

import asyncio
from collections.abc import Callable

import pytest

from aliciacfg.sealing.boxes import PublicKey, seal_for
from support import Daemon, files_under


async def test_get_edit_one_key_set_changes_nothing_but_that_key(daemon: Daemon):
    """The printed document goes back with its *** left alone: the password is kept, one key has changed."""
    daemon.http("PATCH", "/config/grok_integration", {"settings": {"grok_api_key": "a-real-key"}})
    before = daemon.config("grok_integration")
    document = before["config"]
    assert document["mqtt_config"]["password"] == document["settings"]["grok_api_key"] == "***"
    document["settings"]["max_tokens"] = 1234
    answer = daemon.http("PUT", "/config/grok_integration", document).json
    assert answer["changed"] == ["/settings/max_tokens"]
    assert answer["config"] == {**document, "version": answer["version"]}
    # That the secrets are the same too shows in the checksum, which covers them by keyed digest.
    document["settings"]["max_tokens"] = 2000
    assert daemon.http("PUT", "/config/grok_integration", document).json["checksum"] == before["checksum"]


def test_where_there_is_nothing_to_keep_the_redaction_is_refused(daemon: Daemon):
    """*** at a place without a secret is a mistake, not a password."""
    refused = daemon.http("PATCH", "/config/ai_service", {"settings": {"openai_api_key": "***", "new_token": "***"}})
    assert refused.status == 422
    assert {problem["pointer"] for problem in refused.json["problems"]} >= {"/settings/new_token"}


def test_a_changed_secret_is_a_change_and_the_same_secret_is_none(daemon: Daemon):
    """Sealing the same value again is no difference; another value is, at its pointer, without being shown."""
    first = daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": "one-password"}}).json
    again = daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": "one-password"}}).json
    other = daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": "other-password"}}).json
    assert first["changed"] == ["/mqtt_config/password"]
    assert again["unchanged"] is True
    assert other["changed"] == ["/mqtt_config/password"]
    assert other["checksum"] != first["checksum"]


def test_validation_sees_the_plaintext_and_errors_do_not_show_it(daemon: Daemon):
    """A sealed secret still has to satisfy its schema."""
    refused = daemon.http("PATCH", "/config/tts_service", {"mqtt_config": {"password": ""}})
    assert refused.status == 422
    assert refused.json["problems"] == [
        {"pointer": "/mqtt_config/password", "message": "found a secret; expected at least 1 characters"}
    ]


def sealed_for(daemon: Daemon, value: str, **bound: str) -> str:
    """A value sealed as anyone can who reaches the daemon."""
    key = PublicKey.from_published(daemon.http("GET", "/keys/current").json)
    return seal_for(key, value, **bound)  # pyright: ignore[reportArgumentType] - names of bindings


def test_what_anyone_sealed_is_taken_and_validated_like_the_value(daemon: Daemon):
    """In its place it counts as what is in it: stored if it satisfies the schema, refused unseen if not."""
    bound = {"service": "security_gateway", "environment": "dev", "pointer": "/settings/jwt_secret"}
    good, short = "j" * 40, "planted-short"
    taken = daemon.http(
        "PATCH", "/config/security_gateway", {"settings": {"jwt_secret": sealed_for(daemon, good, **bound)}}
    )
    assert (taken.status, taken.json["changed"]) == (200, ["/settings/jwt_secret"])
    same = daemon.http("PATCH", "/config/security_gateway", {"settings": {"jwt_secret": good}})
    assert same.json["unchanged"] is True
    refused = daemon.http(
        "PATCH", "/config/security_gateway", {"settings": {"jwt_secret": sealed_for(daemon, short, **bound)}}
    )
    assert refused.status == 422
    (problem,) = refused.json["problems"]
    assert problem["pointer"] == "/settings/jwt_secret"
    assert problem["message"].startswith("found a secret; expected at least ")
    assert short.encode() not in refused.body
    assert short not in daemon.log.read_text()


@pytest.mark.parametrize(
    ("elsewhere", "patch"),
    [
        ("/config/stt_service", {"mqtt_config": {"password": "BOX"}}),
        ("/config/tts_service?environment=staging", {"mqtt_config": {"password": "BOX"}}),
        ("/config/tts_service", {"settings": {"azure_speech_key": "BOX"}}),
    ],
)
def test_a_box_moved_to_another_service_environment_or_place_is_refused(
    shared: Daemon, elsewhere: str, patch: dict[str, dict[str, str]]
):
    """Ciphertext cannot be carried where somebody else reads."""
    secret = "planted-moved-8c1e"
    box = sealed_for(shared, secret, service="tts_service", environment="dev", pointer="/mqtt_config/password")
    moved = {section: dict.fromkeys(members, box) for section, members in patch.items()}
    staging = shared.environments / "staging-secrets.yaml"
    assert not staging.exists()
    refused = shared.http("PATCH", elsewhere, moved)
    assert refused.status in {404, 422}
    wanted = {**shared.config("tts_service")["config"], **moved}
    refused = shared.http("PUT", elsewhere, wanted)
    assert (refused.status, refused.json["code"]) == (422, "validation_failed")
    assert "bound to another" in refused.json["problems"][0]["message"]
    assert secret.encode() not in refused.body


def mark(daemon: Daemon, text: str) -> None:
    """Write the bell's schema, and have it taken over or refused."""
    (daemon.directory / "schemas" / "bell.yaml").write_text(
        f"properties:\n  settings:\n    properties:\n      pin: {text}\n"
    )


async def test_no_edit_of_a_schema_reads_a_stored_secret(make_daemon: Callable[..., Daemon]):
    """Without its mark and with a rule that it breaks, a secret is in no refusal, alert or log; nor by a rollback."""
    secret = "planted-unmasked-3b9d"
    daemon = make_daemon(environ={"ALICIACFG_LOG_LEVEL": "debug"})
    mark(daemon, "{type: string, x-sensitive: true}")
    await asyncio.to_thread(daemon.start)
    document = daemon.config("voice_router")["config"]
    document |= {"service_name": "bell", "settings": {"pin": secret}}
    document["mqtt_config"]["password"] = "of-the-bell"
    assert daemon.http("PUT", "/config/bell", document).status == 201
    seen: list[bytes] = []
    for rule in ("type: string, maxLength: 3", "type: string, enum: [a]", "type: string, pattern: '^[0-9]$'"):
        mark(daemon, f"{{x-sensitive: false, {rule}}}")
        refused = daemon.http("POST", "/reload")
        assert refused.status == 422, rule
        assert "found a secret" in refused.json["problems"][0]["message"]
        seen += [refused.body, daemon.http("GET", "/health").body]
    # It is changed and forgotten; only the history has it.
    mark(daemon, "{type: string, x-sensitive: true}")
    assert daemon.http("POST", "/reload").status == 200
    assert daemon.http("PATCH", "/config/bell?allow_breaking=true", {"settings": {"pin": None}}).status == 200
    mark(daemon, "{type: string, x-sensitive: false}")
    assert daemon.http("POST", "/reload").status == 200
    back = daemon.http("POST", "/config/bell/rollback", {"revision": 1})
    assert (back.status, back.json["config"]["settings"]["pin"]) == (200, "***")
    seen += [back.body, daemon.http("GET", "/config/bell").body, daemon.http("GET", "/config/bell?revision=1").body]
    await asyncio.to_thread(daemon.stop)
    seen += [path.read_bytes() for path in [daemon.log, *files_under(daemon.data)]]
    assert not [content for content in seen if secret.encode() in content]


@pytest.mark.parametrize("place", ["log_level", "tts_engine", "max_tokens", "anything"])
def test_validate_is_no_oracle_on_a_box(shared: Daemon, place: str):
    """Carried to a place whose errors quote what is there, a box is refused and not read out."""
    secret = "planted-oracle-77aa"
    box = sealed_for(shared, secret, service="tts_service")
    config = shared.config("tts_service")["config"]
    config["settings"][place] = box
    answers = [
        shared.http("POST", "/config/validate", {"service": "tts_service", "config": config}),
        shared.http("PUT", "/config/tts_service?dry_run=true", config),
        shared.http("PATCH", "/config/tts_service?dry_run=true", {"settings": {place: box}}),
    ]
    assert all(secret.encode() not in answer.body for answer in answers)
    if place == "max_tokens":
        # A name that says token makes a string a secret, which stays one.
        assert answers[1].json["config"]["settings"][place] == "***"
    else:
        assert [answer.json.get("valid", answer.status) for answer in answers] == [False, 422, 422]


@pytest.mark.parametrize(
    "value",
    ["sealed:v1:0000000000000000:AAAA", "sealed:v1:nonsense", "sealed:v2:0000000000000000:AAAA"],
)
def test_a_sealed_value_that_does_not_open_is_refused(daemon: Daemon, value: str):
    """A box of another key, or no box at all, is no configuration; another prefix is an ordinary string."""
    answer = daemon.http("PATCH", "/config/tts_service", {"settings": {"x": value}})
    assert answer.status == (422 if value.startswith("sealed:v1:") else 200)


async def test_a_lost_key_degrades_only_what_it_sealed(daemon: Daemon):
    """With a new key file the daemon starts, serves everything, and says which changes it cannot open."""
    daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": "sealed-with-old-key"}})
    daemon.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 3}})
    before = daemon.config("ai_service")
    await asyncio.to_thread(daemon.stop)
    (daemon.data / "keys.json").unlink()
    await asyncio.to_thread(daemon.start)
    assert daemon.config("ai_service") == before
    assert daemon.config("voice_router")["config"]["settings"]["max_sessions"] == 3
    alerts = daemon.http("GET", "/health").json["alerts"]
    assert "ai_service" in alerts["undecryptable:dev"]
    assert "voice_router" not in alerts["undecryptable:dev"]
    # Set anew, it is whole again.
    document = before["config"]
    document["mqtt_config"]["password"] = "a-new-one"
    assert daemon.http("PUT", "/config/ai_service", document).status == 200
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)
    assert daemon.http("GET", "/health").json["alerts"] == {}


async def test_a_key_file_that_others_can_read_is_refused(daemon: Daemon):
    """The start fails with the command that mends it."""
    await asyncio.to_thread(daemon.stop)
    (daemon.data / "keys.json").chmod(0o644)
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    assert "chmod 600" in daemon.log.read_text()
