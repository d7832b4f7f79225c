"""Faults that were once there: each of these broke the daemon, or said what it must not."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from support import Broker, Daemon, client, wait_until


def test_a_write_that_changes_nothing_in_the_middle_of_others_does_not_turn_back_time(daemon: Daemon):
    """A, A again and B at the same time on one service: revisions go on, and nothing is refused."""
    for number in range(1, 9):
        answers: list[int] = []

        def write(value: int, seen: list[int] = answers) -> None:
            seen.append(daemon.http("PATCH", "/config/voice_router", {"limits": {"n": value}}).status)

        threads = [threading.Thread(target=write, args=(value,)) for value in (number, number, number + 1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200, 200, 200]
        listed = daemon.http("GET", "/configs?prefix=voice_router").json["configs"][0]
        assert listed["revision"] == daemon.config("voice_router")["revision"]
    assert daemon.http("GET", "/health").json["status"] == "healthy"


async def test_a_property_with_a_byte_order_mark_does_not_end_the_connection(daemon: Daemon):
    """U+FEFF is legal in MQTT 5 strings; such a request is answered, and the connection stays."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/\ufeff")
        await mqtt.publish("alicia/config/get/voice_router", ResponseTopic="alicia/reply/\ufeff", ContentType="\ufeff")
        await mqtt.publish("alicia/config/get/voice_router", UserProperty=("\ufeff", "\ufeff"))
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
    assert daemon.logged("broker_lost") == []


async def test_a_forged_health_message_does_not_end_the_daemon(daemon: Daemon):
    """A message that claims to be an older daemon is no proof that there is one."""
    async with client(daemon.broker_port) as mqtt:
        forged = {"instance": "feedfacefeedface", "uptime": 1e18, "status": "healthy"}
        await mqtt.publish("alicia/system/health/config_service", forged)
        await asyncio.to_thread(wait_until, lambda: daemon.logged("foreign_health_unproven"))
        assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"


async def test_an_invalid_environment_is_not_moved_to(daemon: Daemon):
    """ENVIRONMENT names one with invalid services: the start fails, and what the bus holds stays."""
    (daemon.environments / "other.yaml").write_text(
        "defaults: {mqtt_config: {password: x}}\nservices: {voice_router: {api_config: 5}}\n"
    )
    await asyncio.to_thread(daemon.stop)
    daemon.environ["ENVIRONMENT"] = "other"
    daemon.spawn()
    assert await asyncio.to_thread(daemon.wait_exit) == 8
    async with client(daemon.broker_port) as mqtt:
        found = await mqtt.retained("alicia/config/update/#")
    assert len(found) == 22
    assert {message.json["environment"] for message in found.values()} == {"dev"}


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
    """An item taken out or moved takes its secret along; where that cannot be known, the value is asked for."""

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


def test_a_trial_run_gives_no_etag_and_a_revisions_etag_is_its_own(daemon: Daemon):
    """What never was cannot be a condition; and a condition said twice is refused."""
    dry = daemon.http("PATCH", "/config/stt_service?dry_run=true", {"limits": {"n": 1}})
    assert "ETag" not in dry.headers
    document = daemon.config("voice_router")["config"] | {"service_name": "brand_new"}
    document["mqtt_config"]["password"] = "fresh"
    assert daemon.http("PUT", "/config/brand_new?dry_run=true", document).status == 200
    twice = daemon.http(
        "PATCH", "/config/stt_service?expected_revision=77", {"limits": {"n": 1}}, headers={"If-Match": '"1"'}
    )
    assert twice.status == 400
    contradicting = daemon.http(
        "POST", "/config/stt_service/unset?dry_run=true", {"pointer": "/limits/n", "dry_run": False}
    )
    assert contradicting.status == 400


def test_numbers_beyond_all_measure_are_refused(daemon: Daemon):
    """Revisions of twenty digits are a wrong request, not a failure of the daemon."""
    assert daemon.http("GET", f"/config/stt_service?revision={10**20}").status == 400
    huge = daemon.http("PATCH", "/config/stt_service", {"limits": {}}, headers={"If-Match": '"' + "9" * 5000 + '"'})
    assert huge.status == 412
    junk = daemon.http("PATCH", "/config/stt_service", raw=b"junk", headers={"Content-Encoding": "gzip"})
    assert junk.status == 400


async def test_requests_under_way_at_sigterm_are_answered(daemon: Daemon):
    """Writes that the daemon has taken are answered before it goes."""
    async with client(daemon.broker_port) as mqtt:
        await mqtt.subscribe("alicia/reply/bye/#")
        for number in range(60):
            await mqtt.publish(
                "alicia/config/patch/ha_bridge",
                {"patch": {"limits": {"n": number}}},
                qos=0,
                ResponseTopic=f"alicia/reply/bye/{number}",
            )
        first = await mqtt.next()
        assert first.json["status"] == "success"
        assert await asyncio.to_thread(daemon.stop) == 0
        answered = 1 + len(await mqtt.silence(0.3))
    await asyncio.to_thread(daemon.start)
    assert daemon.config("ha_bridge")["revision"] <= 1 + answered


async def test_an_access_list_that_denies_side_messages_leaves_the_daemon_serving(
    make_daemon: Callable[..., Daemon], broker: Broker
):
    """Registration and health denied: alerted with their topic, and everything else works."""
    acl = broker.directory / "acl"
    acl.write_text("user config_service\ntopic readwrite alicia/config/#\ntopic readwrite alicia/reply/#\n")
    acl.chmod(0o644)
    denying = Broker(broker.directory / "denying", config=f"acl_file {acl}\n")
    await asyncio.to_thread(denying.start)
    try:
        daemon = make_daemon(broker_port=denying.port)
        await asyncio.to_thread(daemon.start)
        alerts = daemon.http("GET", "/health").json["alerts"]
        assert "alicia/system/discovery/register" in str(alerts)
        await asyncio.to_thread(daemon.stop)
    finally:
        denying.stop()


def test_a_service_that_registered_before_it_was_defined_can_leave_the_files_again(daemon: Daemon):
    """That it once registered is no change made at run time."""
    path = daemon.environments / "dev.yaml"
    text = path.read_text()
    document = daemon.config("voice_router")["config"] | {"service_name": "late"}
    document["mqtt_config"]["password"] = "***"

    async def register() -> None:
        async with client(daemon.broker_port) as mqtt:
            await mqtt.publish("alicia/system/discovery/register", {"service_name": "late"})

    asyncio.run(register())
    wait_until(lambda: daemon.http("GET", "/config/late").status == 200)
    path.write_text(text.replace("\nservices:\n", "\nservices:\n  late: {limits: {n: 1}}\n", 1))
    assert daemon.http("POST", "/reload").json["changed"] == ["late"]
    path.write_text(text)
    assert daemon.http("POST", "/reload").status == 200
    assert daemon.http("GET", "/config/late").status == 404


def test_a_damaged_instance_file_is_told(daemon: Daemon):
    """It becomes part of topics and of the client id, so it is not taken as it comes."""
    daemon.stop()
    (daemon.data / "instance").write_bytes(b"x/#\xff")
    daemon.spawn()
    assert daemon.wait_exit() == 8
    assert "16 hex digits" in daemon.log.read_text()
