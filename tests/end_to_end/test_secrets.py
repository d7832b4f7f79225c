"""Secrets stay out of every file, log, message and answer; what is redacted can be edited and put back."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from aliciacfg.sealing.boxes import PublicKey, seal_for
from callers import bearing, token
from commands import aliciacfg
from daemons import Daemon, files_under
from machine import wait_until
from mqtt_clients import client
from repository import ROOT

# The services of its daemons.
HOME_SERVICES = ("ai_service", "grok_integration", "security_gateway", "stt_service", "tts_service", "voice_router")


@pytest.fixture
def daemon(module_daemon: Daemon) -> Daemon:
    """One daemon for these tests, each of which changes services that no other one reads."""
    return module_daemon


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
    """The same value sealed again is no change; another value is one at its pointer, without being shown."""
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
    """A box in its place is validated as its value, and refused without showing it if the schema is not met."""
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
    """Ciphertext cannot be moved to a place that other callers may read."""
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
    """Write the schema of bell."""
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
    """A box moved to a place whose errors quote the value is refused without its content."""
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
    """A box of another key, of a later version, or no box at all, is no configuration."""
    answer = daemon.http("PATCH", "/config/stt_service", {"settings": {"x": value}})
    assert (answer.status, answer.json["problems"][0]["pointer"]) == (422, "/settings/x")


@pytest.mark.sqlite("a lost key-encryption key is refused, as the keys in the database are there: test_shared_keys.py")
async def test_a_lost_key_degrades_only_what_it_sealed(make_daemon: Callable[..., Daemon]):
    """With a new key file the daemon starts, serves everything, and says which changes it cannot open."""
    daemon = await asyncio.to_thread(make_daemon().start)
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
    verified = len(daemon.logged("store_verified"))
    await asyncio.to_thread(daemon.start)
    await asyncio.to_thread(wait_until, lambda: len(daemon.logged("store_verified")) > verified)
    # What remains are the old revisions, whose secrets no one can open without the old key, and the note of its loss.
    assert daemon.http("GET", "/health").json["alerts"].keys() == {"adopted", "undecryptable:history"}


async def test_a_key_file_that_others_can_read_is_refused(make_daemon: Callable[..., Daemon]):
    """The start fails with the command that repairs it."""
    daemon = await asyncio.to_thread(make_daemon().start)
    await asyncio.to_thread(daemon.stop)
    daemon.key_file.chmod(0o644)
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    assert "chmod 600" in daemon.log.read_text()


def test_the_data_directory_is_private(daemon: Daemon):
    """Database and keys are readable by their owner alone."""
    assert daemon.data.stat().st_mode & 0o077 == 0
    assert daemon.key_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.sqlite("takes the public key from keys.json; the rule knows no database")
def test_a_sealed_value_cannot_be_opened_by_moving_it_to_an_open_place(daemon: Daemon):
    """A box without a pointer opens where the schema has a secret, and is refused anywhere else."""
    from base64 import b64decode, urlsafe_b64encode

    import msgspec
    from nacl.public import PrivateKey, SealedBox

    stored = msgspec.json.decode((daemon.data / "keys.json").read_bytes())
    public = PrivateKey(b64decode(stored["keys"][0]["private"])).public_key
    plain = msgspec.json.encode({"service": "ai_service", "value": "TOPSECRET"})
    box = urlsafe_b64encode(SealedBox(public).encrypt(plain)).rstrip(b"=").decode()
    sealed = f"sealed:v1:{stored['current']}:{box}"
    assert daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": sealed}}).status == 200
    for query in ("", "?dry_run=true"):
        moved = daemon.http("PATCH", f"/config/ai_service{query}", {"settings": {"note": sealed}})
        assert moved.status == 422
        assert b"TOPSECRET" not in moved.body
        assert moved.json["problems"][0]["pointer"] == "/settings/note"


def test_a_number_at_a_secrets_place_is_not_told(daemon: Daemon):
    """A PIN without quotes is a wrong type, and still a secret."""
    refused = daemon.http("PATCH", "/config/ai_service", {"mqtt_config": {"password": 48151623}})
    assert refused.status == 422
    assert b"48151623" not in refused.body
    assert "48151623" not in daemon.log.read_text()


def test_secrets_in_arrays_stay_with_their_items(daemon: Daemon):
    """A secret moves with its item or is removed with it; where that is ambiguous, the write is refused."""

    def put(accounts: list[dict[str, Any]]) -> Any:
        document = daemon.config("voice_router")["config"]
        document["settings"]["accounts"] = accounts
        return daemon.http("PUT", "/config/voice_router", document)

    assert put([{"n": "alice", "password": "PA"}, {"n": "bob", "password": "PB"}]).status == 200
    both = daemon.config("voice_router")["checksum"]
    assert put([{"n": "bob", "password": "***"}, {"n": "alice", "password": "***"}]).status == 200
    assert put([{"n": "alice", "password": "***"}, {"n": "bob", "password": "***"}]).json["checksum"] == both
    assert put([{"n": "bob", "password": "***"}]).status == 200
    bob = daemon.config("voice_router")["checksum"]
    assert put([{"n": "bob", "password": "PB"}]).json["checksum"] == bob
    refused = put([{"n": "carol", "password": "***"}, {"n": "bob", "password": "***"}])
    assert refused.status == 422
    assert [problem["pointer"] for problem in refused.json["problems"]] == ["/settings/accounts/0/password"]


async def test_guesses_in_one_environment_tell_nothing_of_anothers_secret(make_daemon: Callable[..., Daemon]):
    """A writer of dev tests guesses there: compare, checksums and ETags look alike for right and wrong ones."""
    secret = "planted-prod-4c1d"
    daemon = make_daemon()
    example = (ROOT / "environments" / "staging-secrets.yaml.example").read_text()
    secrets = "\n".join(line.split("#")[0] for line in example.splitlines()).replace("${", "x{")
    (daemon.environments / "staging-secrets.yaml").write_text(secrets)
    place = "/services/tts_service/settings/azure_speech_key"
    done = await asyncio.to_thread(
        aliciacfg, daemon, "file", "set", "environments/staging-secrets.yaml", place, json.dumps(secret), "--force"
    )
    assert done.returncode == 0, done.stderr
    (daemon.environments / "access.yaml").write_text(
        "services: {tts_service: {write: {allowed_services: [mallory]}}}\nusers: [mallory]\nadmins: [operator]\n"
    )
    await asyncio.to_thread(daemon.start)
    mallory, admin = (bearing(daemon, token(daemon, name)) for name in ("mallory", "operator"))
    seen: list[Any] = []
    for guess in ("planted-prod-0000", secret):
        written = mallory("PATCH", "/config/tts_service", {"settings": {"azure_speech_key": guess}})
        assert written.status == 200, written.body
        compared = mallory("GET", "/config/compare/tts_service?env1=dev&env2=staging")
        assert secret.encode() not in compared.body
        found = compared.json
        seen.append({key: found[key] for key in ("equal", "changed", "only_in_env1", "only_in_env2", "secrets")})
        there = mallory("GET", "/config/tts_service?environment=staging")
        here = mallory("GET", "/config/tts_service")
        assert there.json["checksum"] != here.json["checksum"]
        assert there.headers["ETag"] != here.headers["ETag"]
    assert seen[0] == seen[1]
    assert "/settings/azure_speech_key" in seen[0]["secrets"]
    # An administrator is told: the comparison could tell.
    told = admin("GET", "/config/compare/tts_service?env1=dev&env2=staging").json
    mallory("PATCH", "/config/tts_service", {"settings": {"azure_speech_key": "planted-prod-0000"}})
    assert admin("GET", "/config/compare/tts_service?env1=dev&env2=staging").json["changed"] != told["changed"]


async def test_a_writer_cannot_read_the_daemons_environment(make_daemon: Callable[..., Daemon]):
    """${…} stays as written in whatever is sent, over both transports, through batch, rollback and a restart."""
    planted = "planted-environment-6a2f"
    daemon = make_daemon(environ={"PLANTED": planted, "ALICIACFG_LOG_LEVEL": "debug"})
    text = "${PLANTED} ${PLANTED:-x} $${PLANTED} ${MQTT_PASSWORD}"
    await asyncio.to_thread(daemon.start)
    patch = {"settings": {"note": text, "${PLANTED}": "${PLANTED}", "deep": [{"x": "${PLANTED}"}]}}
    seen: list[bytes] = []

    def look() -> None:
        answer = daemon.http("GET", "/config/tts_service")
        assert answer.json["config"]["settings"] | patch["settings"] == answer.json["config"]["settings"]
        seen.append(answer.body)

    seen.append(daemon.http("PATCH", "/config/tts_service", patch).body)
    look()
    async with client(daemon.broker_port) as mqtt:
        for topic, payload in (
            ("patch/tts_service", {"patch": {"limits": {"x": 1}}, "comment": text}),
            ("batch", {"updates": [{"service": "tts_service", "patch": patch}], "comment": text}),
            ("rollback/tts_service", {"revision": 2, "comment": text}),
            ("validate/tts_service", {"config": {"service_name": text, "limits": {"x": text}}}),
            ("patch/tts_service", {"patch": {"limits": {"x": text}}}),
            ("get/tts_service", {"environment": text}),
            ("unset/tts_service", {"pointer": f"/{text}"}),
        ):
            seen.append((await mqtt.ask(f"alicia/config/{topic}", payload)).payload)
        look()
        seen += [message.payload for message in (await mqtt.retained("alicia/#")).values()]
    for path in ("/config/tts_service/explain", "/config/tts_service/history", "/config/tts_service?format=env"):
        seen.append(daemon.http("GET", path).body)
    assert daemon.http("POST", "/reload").status == 200
    look()
    await asyncio.to_thread(daemon.stop)
    await asyncio.to_thread(daemon.start)
    look()
    seen.append(daemon.log.read_bytes())
    assert not [content for content in seen if planted.encode() in content]


def unmarked(daemon: Daemon, items: list[dict[str, str]]) -> None:
    """A service with secrets in an array that its schema no longer calls so."""
    schema = daemon.directory / "schemas" / "bell.yaml"
    text = (
        "properties:\n  settings:\n    properties:\n      doors:\n        items:\n          properties:\n"
        "            code: {type: string, x-sensitive: %s}\n"
    )
    schema.write_text(text % "true")
    assert daemon.http("POST", "/reload").status == 200
    document = daemon.config("voice_router")["config"] | {"service_name": "bell", "settings": {"doors": items}}
    document["mqtt_config"] |= {"username": "bell", "password": "of-the-bell"}
    assert daemon.http("PUT", "/config/bell", document).status == 201
    schema.write_text(text % "false")
    assert daemon.http("POST", "/reload").status == 200


def test_unmarked_secrets_stay_with_their_items(daemon: Daemon):
    """When items move or others are removed, a former secret is still shown as ***."""
    secrets = [f"planted-door-{number}" for number in range(3)]
    unmarked(daemon, [{"name": f"door {number}", "code": code} for number, code in enumerate(secrets)])
    doors = daemon.config("bell")["config"]["settings"]["doors"]
    assert [door["code"] for door in doors] == ["***"] * 3
    # Each builds on the one before: moved, the first taken out, the last.
    for order in ([2, 0, 1], [0, 1], [1]):
        wanted = [doors[number] for number in order]
        moved = daemon.http("PATCH", "/config/bell?allow_breaking=true", {"settings": {"doors": wanted}})
        assert moved.status == 200, moved.body
        places = ("", "/explain", "/history")
        seen = [moved.body, *(daemon.http("GET", f"/config/bell{place}").body for place in places)]
        assert not [body for body in seen if b"planted-door" in body]
        assert moved.json["config"]["settings"]["doors"] == wanted


def test_explain_shows_no_secret_of_the_files(make_daemon: Callable[..., Daemon]):
    """A value of the secrets file stays hidden although its mark was removed and an open value overrides it."""
    daemon = make_daemon()
    schema = daemon.directory / "schemas" / "bell.yaml"
    text = "properties:\n  settings:\n    properties:\n      pin: {type: string, x-sensitive: %s}\n"
    schema.write_text(text % "true")
    base = daemon.environments / "base.yaml"
    base.write_text(f"{base.read_text()}\n  bell: {{api_config: {{port: 8099}}}}\n")
    (daemon.environments / "dev-secrets.yaml").write_text("services: {bell: {settings: {pin: planted-pin}}}\n")
    daemon.start()
    schema.write_text(text % "false")
    assert daemon.http("POST", "/reload").status == 200
    explained = daemon.http("GET", "/config/bell/explain")
    assert (explained.status, explained.json["values"]["/settings/pin"]["value"]) == (200, "***")
    assert daemon.http("PATCH", "/config/bell", {"settings": {"pin": "open"}}).status == 200
    explained = daemon.http("GET", "/config/bell/explain")
    place = explained.json["values"]["/settings/pin"]
    assert (place["value"], place["overridden"][0]["value"]) == ("open", "***")


def test_secret_files_stay_out_of_git():
    """Real ones are ignored, examples are not, and no real one is committed."""
    for name in ("dev-secrets.yaml", "staging-secrets.yaml", "prod-secrets.yaml", "base-secrets.yaml"):
        done = subprocess.run(["git", "check-ignore", "-q", f"environments/{name}"], cwd=ROOT, check=False)
        assert done.returncode == 0, name
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"environments/prod-secrets.yaml.example", "environments/staging-secrets.yaml.example"} <= set(listed)
    private = re.compile(r"(-secrets\.ya?ml|(^|/)\.env|keys\.json|\.pem|\.key|\.db)$")
    assert not [name for name in listed if private.search(name)]
