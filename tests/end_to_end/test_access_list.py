"""The generated access list in a real Mosquitto: what the broker lets through is what ``Access.decide`` allows."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from access_rules import EXAMPLE, dense_rules, load
from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access
from aliciacfg.mqtt.broker.access_list import access_list, probe_topic
from aliciacfg.mqtt.broker.passwords import password_file
from aliciacfg.operations.table import BY_NAME, OPERATIONS
from aliciacfg.sealing.boxes import PrivateKey
from brokers import Broker
from callers import RULES, bearing, default_answer, own_password, token
from commands import aliciacfg
from daemons import Daemon
from machine import free_port, wait_until
from mqtt_clients import Client, Message, client
from repository import ROOT, SERVICES
from soak import rarely

HOME_SERVICES = ("ai_service", "config_service", "sonos_service", "tts_service", "voice_router")
DAEMON = "config_service"
STRANGER = "stranger"
# Reads everything; only tests have it.
OBSERVER = "observer"
# Outside of what the list protects, so everybody may write and read it.
MARKERS = "alicia/events/marker/"
# How the programs of the home talk to each other, one topic of each kind.
HOME_TOPICS = [
    "alicia/voice/stt/request", "alicia/devices/lamp_1/command", "alicia/devices/discovery/config_service",
    "alicia/device/lamp_1", "alicia/services/stt_service/config/instance_1", "alicia/ai/grok/command",
    "alicia/personality/update", "alicia/language/detect", "alicia/scheduler/tick", "alicia/events/door",
    "alicia/event/e_1", "alicia/integration/ha/command", "alicia/loadbalancer/route/stt_service",
    "alicia/metrics/system", "alicia/alerts/new", "alicia/orchestrator/start", "alicia/discovery/response/x",
    "alicia/control/session/s", "alicia/conversation/style", "alicia/voice_router/command",
    "alicia/system/health/check", "alicia/system/health/stt_service", "alicia/system/health/monitor/alerts",
    "alicia/system/discovery/register", "alicia/system/discovery/unregister", "alicia/system/security/auth",
    "alicia/system/registry/status", "capability:speech_to_text", "homeassistant/light/lamp_1/config",
    "zigbee2mqtt/lamp_1/set", "alicia",
]  # fmt: skip
# Other programs speak under alicia/config/ too.
OTHERS_CONFIG = ["alicia/config/global/updated", "alicia/config/service/stt_service/updated"]

PASSWORD = "/mqtt_config/password"
# Longer than the daemon waits between two looks at whether the access list is in force.
PROBE_SECONDS = 45.0

ACCESS = (ROOT / "docs" / "reference" / "access.md").read_text()


class Guarded:
    """A broker under the list of some rules, and its users; None is anonymous."""

    def __init__(self, rules: Access, broker: Broker, *, protocol: int = 5) -> None:
        self.rules = rules
        self.broker = broker
        self.protocol = protocol
        self.users: list[str | None] = [*rules.names, STRANGER, None]

    def decides(self, user: str | None, operation: str, service: str | None = None) -> bool:
        return self.rules.allows(Caller(user, "mqtt", proven=user is not None), BY_NAME[operation].needs, service)

    @asynccontextmanager
    async def connect(self, user: str | None, **options: Any) -> AsyncGenerator[Client, None]:
        options = {"max_inflight_messages": 1000, "protocol": self.protocol, **options}
        if user is not None:
            options |= {"username": user, "password": password(user)}
        async with client(self.broker.port, **options) as connected:
            yield connected

    @asynccontextmanager
    async def connect_all(self) -> AsyncGenerator[dict[str | None, Client], None]:
        async with AsyncExitStack() as stack:
            yield {user: await stack.enter_async_context(self.connect(user)) for user in self.users}


def password(user: str) -> str:
    return f"pass word:{user} é"


def start_guarded(directory: Path, rules: Access, *, protocol: int = 5) -> Guarded:
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "acl": access_list(rules) + f"user {OBSERVER}\ntopic read #\n",
        "passwords": password_file(
            {user: password(user) for user in {*rules.names, DAEMON, STRANGER, OBSERVER}}, iterations=1000
        ),
    }
    for name, text in files.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644)
    config = f"acl_file {directory / 'acl'}\npassword_file {directory / 'passwords'}\n"
    return Guarded(rules, Broker(directory / "broker", config=config).start(), protocol=protocol)


@pytest.fixture(scope="module", params=["example", rarely("dense")])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker under the rules of the example; one under dense ones, where all speak MQTT 3.1.1 as the home does."""
    text, protocol = (EXAMPLE, 5) if request.param == "example" else (dense_rules(), 4)
    made = start_guarded(tmp_path_factory.mktemp(request.param), load(text), protocol=protocol)
    yield made
    made.broker.stop()


async def said(speaker: Client, label: str, topics: Iterable[str], *, retain: bool = False) -> None:
    """Publish the label on each topic at QoS 1 without waiting for one after the other, then a marker."""
    for topic in topics:
        # What aiomqtt's own publish does, but for the wait.
        speaker.client._client.publish(topic, label, 1, retain)
    await speaker.publish(MARKERS + label, label)


async def heard(listener: Client, labels: set[str], *, retained: bool = False) -> list[Message]:
    """Return what a client receives until every speaker's marker arrived: new messages, or retained ones."""
    messages: list[Message] = []
    waiting = set(labels)
    while waiting:
        # Long refused ones may lie between two that are delivered.
        message = await listener.next(PROBE_SECONDS)
        if message.topic.startswith(MARKERS):
            waiting.discard(message.payload.decode())
        elif message.retained == retained:
            messages.append(message)
    return messages


def label(user: str | None) -> str:
    return user or "(anonymous)"


Trial = tuple[str | None, str, bool]
"""Who publishes, on which request topic, and whether the broker has to let it through."""


def trials(guarded: Guarded) -> Iterator[Trial]:
    """Every user, operation and service: in its own name and without one; and about everything."""
    for user in guarded.users:
        for operation in OPERATIONS:
            name = operation.name
            root = f"alicia/config/{name}"
            if name == "health":
                continue
            if operation.target == "service":
                for service in SERVICES:
                    allowed = guarded.decides(user, name, service)
                    yield user, f"{root}/{service}/{user or 'anonymous'}", allowed
                    # Without a requester it is the service's own.
                    yield user, f"{root}/{service}", allowed and user == service
            else:
                target = "" if operation.target is None else "/dev"
                yield user, f"{root}{target}/{user or 'anonymous'}", guarded.decides(user, name)
                yield user, root + target, False


def forgeries(guarded: Guarded) -> Iterator[Trial]:
    """Every user in the name of every other, on every operation: each allowed to that other one where possible."""
    for user in guarded.users:
        for other in (*guarded.rules.names, "nobody"):
            if other == user:
                continue
            for operation in OPERATIONS:
                if operation.target == "service":
                    service = other if other in SERVICES else "voice_router"
                    yield user, f"alicia/config/{operation.name}/{service}/{other}", False
                elif operation.name != "health":
                    target = "" if operation.target is None else "/dev"
                    yield user, f"alicia/config/{operation.name}{target}/{other}", False


async def try_all(guarded: Guarded, all_trials: list[Trial]) -> set[tuple[str, str]]:
    """Publish every trial; returns what reached the daemon's account, as label and topic."""
    async with guarded.connect(DAEMON) as daemon, guarded.connect_all() as users:
        await daemon.subscribe("alicia/config/#", f"{MARKERS}#")
        topics: dict[str | None, list[str]] = {user: [] for user in guarded.users}
        for user, topic, _ in all_trials:
            topics[user].append(topic)
        listening = asyncio.create_task(heard(daemon, {label(user) for user in guarded.users}))
        await asyncio.gather(*(said(users[user], label(user), topics[user]) for user in guarded.users))
        messages = await listening
    delivered = {(message.payload.decode(), message.topic) for message in messages}
    assert len(delivered) == len(messages)
    return delivered


async def test_broker_and_decision_agree_on_every_pair(guarded: Guarded, capsys: pytest.CaptureFixture[str]):
    """Every user, service and operation, with and without a requester: delivered exactly where it is allowed."""
    tried = list(trials(guarded))
    delivered = await try_all(guarded, tried)
    wrong = [trial for trial in tried if ((label(trial[0]), trial[1]) in delivered) != trial[2]]
    assert not wrong
    assert delivered <= {(label(user), topic) for user, topic, _ in tried}
    on_services = sum(operation.target == "service" for operation in OPERATIONS)
    elsewhere = sum(operation.target != "service" and operation.name != "health" for operation in OPERATIONS)
    assert len(guarded.users) >= 26
    assert len(set(tried)) == len(guarded.users) * (len(SERVICES) * on_services + elsewhere) * 2
    allowed = sum(expected for _, _, expected in tried)
    # Own reads in both forms, and what the administrators may do, at least.
    assert allowed > len(SERVICES) * (2 + on_services)
    assert len(tried) - allowed > 5000
    with capsys.disabled():
        print(  # noqa: T201 - how much was tried is what this test has to show
            f"\n{len(guarded.users)} users x {len(SERVICES)} services x {on_services} operations, and {elsewhere} "
            f"about everything, each with and without a requester: {len(tried)} pairs, {allowed} allowed, "
            f"{len(tried) - allowed} forbidden"
        )


async def test_without_the_list_every_request_gets_through(broker: Broker):
    """The control: without the list all these requests arrive, so the other trials can fail."""
    free = Guarded(load(EXAMPLE), broker)
    # A prime, so that every user and operation is among them.
    tried = [*trials(free), *forgeries(free)][::17]
    assert await try_all(free, tried) == {(label(user), topic) for user, topic, _ in tried}


async def test_nobody_asks_in_the_name_of_somebody_else(guarded: Guarded):
    """Nor does the daemon, nor an administrator: not one such request is delivered."""
    tried = list(forgeries(guarded))
    assert len(tried) > len(guarded.rules.names) ** 2
    assert await try_all(guarded, tried) == set()


def default_answers(guarded: Guarded) -> Iterator[tuple[str, str | None, bool]]:
    """Yield the default answer topic of every operation, its addressee, and whether that one may ask at all."""
    for operation in (operation for operation in OPERATIONS if operation.name != "health"):
        root, name = f"alicia/reply/{operation.name}", operation.name
        for user in guarded.rules.names:
            if operation.target == "service":
                asks = any(guarded.decides(user, name, service) for service in SERVICES)
                yield f"{root}/voice_router/{user}", user, asks
            else:
                target = "" if operation.target is None else "/dev"
                yield f"{root}{target}/{user}", user, guarded.decides(user, name)
        if operation.target == "service":
            for service in SERVICES:
                yield f"{root}/{service}", service, guarded.decides(service, name, service)
        else:
            yield root, None, False


def may_hear(guarded: Guarded, user: str | None, topic: str) -> bool:
    """Who is meant to read what the daemon says under alicia/config/ and of its health."""
    if topic.startswith("alicia/config/update/"):
        return user == DAEMON or guarded.decides(user, "get", topic.rpartition("/")[2])
    if topic.startswith("alicia/config/alert/"):
        return user == DAEMON or guarded.rules.administers(Caller(user, "mqtt", proven=True))
    return user in guarded.rules.names


async def test_retained_updates_are_readable_by_those_who_may_read(guarded: Guarded):
    """Only they receive them, whatever others subscribe to; every user of the rules receives environment and key."""
    updates = [f"alicia/config/update/{service}" for service in SERVICES]
    shown = ["alicia/config/environment", "alicia/config/key", "alicia/system/health/config_service"]
    async with guarded.connect(DAEMON) as daemon, guarded.connect_all() as users:
        await said(daemon, "now", [*updates, *shown], retain=True)
        for user, reader in users.items():
            await reader.subscribe(
                f"{MARKERS}{label(user)}", "alicia/config/#", "#", "alicia/config/update/+", shown[2]
            )
            await said(reader, label(user), ())
            found = {message.topic for message in await heard(reader, {label(user)}, retained=True)}
            assert found == {topic for topic in (*updates, *shown) if may_hear(guarded, user, topic)}, user


async def test_answers_alerts_and_changes_reach_only_whom_they_are_for(guarded: Guarded):
    """On default and on named answer topics, live; a shared subscription gets around nothing."""
    told = ["alicia/config/alert/tamper", "alicia/config/environment", "alicia/config/key"]
    told += [f"alicia/config/update/{service}" for service in SERVICES]
    named = {f"alicia/reply/{name}{rest}": name for name in guarded.rules.names for rest in ("", "/1", "/a/b/c")}
    default = {topic: user if asks else None for topic, user, asks in default_answers(guarded)}
    answers = {**named, **default}
    async with guarded.connect(DAEMON) as daemon, guarded.connect_all() as users:
        for user, reader in users.items():
            await reader.subscribe("alicia/reply/#", "#", f"$share/{label(user)}/alicia/config/#", MARKERS + "now")
        await said(daemon, "now", [*told, *answers])
        for user, reader in users.items():
            found = {message.topic for message in await heard(reader, {"now"})}
            mine = {topic for topic, whose in answers.items() if user is not None and whose == user}
            assert found == mine | {topic for topic in told if may_hear(guarded, user, topic)}, user


async def test_only_the_daemon_writes_what_the_daemon_says(guarded: Guarded):
    """Updates, environment, key, alerts, health and answers, retained or not; a service reports only for itself."""
    protected = [
        *(f"alicia/config/{rest}" for rest in ("update/voice_router", "update/new", "environment", "key", "alert/x")),
        "alicia/config", "alicia/config/update", "alicia/config/unheard/of", "alicia/config/applied",
        "alicia/config/command", "alicia/reply", "alicia/reply/x", "alicia/reply/get/voice_router/voice_router",
        *(f"alicia/reply/{service}/1" for service in SERVICES), "alicia/system/health/config_service",
    ]  # fmt: skip
    reports = [f"alicia/config/applied/{service}" for service in SERVICES]
    users = [user for user in guarded.users if user != DAEMON]
    async with guarded.connect(OBSERVER) as observer, guarded.connect_all() as speakers:
        await observer.subscribe("#")
        for retain in (False, True):
            await asyncio.gather(*(said(speakers[user], label(user), protected, retain=retain) for user in users))
            assert await heard(observer, {label(user) for user in users}) == []
        await asyncio.gather(*(said(speakers[user], label(user), reports) for user in users))
        messages = await heard(observer, {label(user) for user in users})
        assert {(message.payload.decode(), message.topic) for message in messages} == {
            (service, f"alicia/config/applied/{service}") for service in SERVICES if service != DAEMON
        }
        # The daemon itself may, but for reports of services and for topics outside the contract.
        await said(speakers[DAEMON], DAEMON, protected + reports)
        written = {message.topic for message in await heard(observer, {DAEMON})}
        nobodys = {"alicia/config", "alicia/config/update", "alicia/config/unheard/of", "alicia/config/command"}
        nobodys |= {"alicia/config/applied"}
        assert written == {*protected, "alicia/config/applied/config_service"} - nobodys


async def test_a_last_will_is_no_way_around(guarded: Guarded):
    """A client that dies leaves nothing on an update topic, but its will where it may write."""
    wills = {"alicia/config/update/voice_router": False, "alicia/reply/voice_router/1": False, "alicia/events/w": True}
    async with guarded.connect(OBSERVER) as observer:
        await observer.subscribe("#")
        for topic, expected in wills.items():
            will = aiomqtt.Will(topic, "will", qos=1, retain=not expected)
            with contextlib.suppress(aiomqtt.MqttError):
                async with guarded.connect("stt_service", will=will) as dying:
                    connection: Any = dying.client._client.socket()
                    connection.shutdown(socket.SHUT_RDWR)
                    await dying.next()
            await said(observer, OBSERVER, ())
            got = await heard(observer, {OBSERVER})
            assert [message.topic for message in got if message.payload == b"will"] == [topic] * expected


async def test_the_rest_of_the_bus_stays_free(guarded: Guarded):
    """Every user of the broker, in the rules or not, may publish and subscribe on every topic of the home."""
    async with guarded.connect_all() as users:
        for reader in users.values():
            await reader.subscribe("#")
        # Everybody speaks at least once.
        assert len(HOME_TOPICS) >= len(guarded.users)
        spoken = {(topic, guarded.users[index % len(users)]) for index, topic in enumerate(HOME_TOPICS)}
        for topic, user in spoken:
            await users[user].publish(topic, label(user))
        await said(users[STRANGER], STRANGER, ())
        for user, reader in users.items():
            messages = await heard(reader, {STRANGER})
            assert {(message.topic, message.payload.decode()) for message in messages} == {
                (topic, label(speaker)) for topic, speaker in spoken
            }, user


async def test_other_programs_go_on_talking_about_configurations(guarded: Guarded):
    """Services may use topics under alicia/config/ that are no operation, and read the broker's own."""
    async with guarded.connect("configuration_manager") as manager, guarded.connect("voice_router") as reader:
        await reader.subscribe("alicia/config/#", f"{MARKERS}#")
        await said(manager, "manager", OTHERS_CONFIG)
        assert [message.topic for message in await heard(reader, {"manager"})] == OTHERS_CONFIG
        assert not {topic.split("/")[2] for topic in OTHERS_CONFIG} & BY_NAME.keys()
    async with guarded.connect(STRANGER) as reader:
        await reader.subscribe("$SYS/broker/version")
        assert (await reader.next()).topic == "$SYS/broker/version"


async def test_the_probe_tells_whether_the_list_is_in_force(guarded: Guarded, broker: Broker):
    """The daemon's own forged request does not come back under the list, and does without one."""
    topic = probe_topic("0f3a")
    assert topic == "alicia/config/get/config_service/probe_0f3a"
    async with guarded.connect(DAEMON) as daemon, client(broker.port) as free:
        for connected, expected in ((daemon, []), (free, [topic])):
            await connected.subscribe("alicia/config/#", f"{MARKERS}#")
            await said(connected, "probe", [topic])
            found = [message.topic for message in await heard(connected, {"probe"}) if message.payload == b"probe"]
            assert found == expected


async def test_a_daemon_serves_under_the_list(make_daemon: Callable[..., Daemon], tmp_path: Path):
    """It delivers everything, without an alert; a service gets its answer and its update, another neither."""
    guarded = await asyncio.to_thread(start_guarded, tmp_path / "guarded", load(EXAMPLE))
    try:
        port = guarded.broker.port
        daemon = make_daemon(broker_port=port, environ={"MQTT_PASSWORD": password(DAEMON)})
        await asyncio.to_thread(daemon.start)
        health = daemon.http("GET", "/health").json
        assert (health["outbox_pending"], health["alerts"]) == (0, {})
        async with guarded.connect("voice_router") as router, guarded.connect("sonos_service") as other:
            for mqtt in (router, other):
                await mqtt.subscribe("alicia/reply/#", "alicia/config/update/voice_router")
            assert (await router.next()).json["service"] == "voice_router"
            for topic, answer in (
                ("get/voice_router", "get/voice_router"),
                ("get/voice_router/voice_router", "get/voice_router/voice_router"),
                ("get/ai_service/voice_router", "voice_router/7"),
                ("list/voice_router", "list/voice_router"),
            ):
                payload = {"reply_to": f"alicia/reply/{answer}"} if answer.endswith("7") else {}
                await router.publish(f"alicia/config/{topic}", payload)
                received = await router.next()
                assert received.topic == f"alicia/reply/{answer}"
                assert received.json["status"] == "success"
            await other.subscribe(f"{MARKERS}#")
            await said(
                other, "other", ["alicia/config/get/voice_router", "alicia/config/get/voice_router/voice_router"]
            )
            assert await heard(other, {"other"}) == []
        async with guarded.connect("operator") as operator:
            await operator.subscribe("alicia/reply/operator/#", "alicia/config/update/voice_router")
            assert (await operator.next()).retained
            await operator.publish(
                "alicia/config/patch/voice_router/operator",
                {"patch": {"settings": {"max_sessions": 11}}, "reply_to": "alicia/reply/operator/1"},
            )
            messages = {message.topic: message.json for message in [await operator.next(), await operator.next()]}
            assert messages["alicia/config/update/voice_router"]["config"]["settings"]["max_sessions"] == 11
            assert messages["alicia/reply/operator/1"]["status"] == "success"
        await asyncio.to_thread(daemon.stop)
    finally:
        guarded.broker.stop()


@pytest.mark.sqlite("daemons that share a home know the broker as theirs by the health that one of them publishes")
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


async def test_on_a_broker_without_the_list_nobody_is_believed(
    make_daemon: Callable[..., Daemon], broker: Broker, tmp_path: Path
):
    """With rules, a name alone gives no more than a stranger has, and an alert is raised; with the list it works."""
    files = tmp_path / "access"
    daemon = make_daemon(environ={"MQTT_PASSWORD": "of the daemon"})
    (daemon.environments / "access.yaml").write_text(RULES)
    await asyncio.to_thread(daemon.start)
    assert "acl_missing" in daemon.http("GET", "/health").json["alerts"]
    admin = bearing(daemon, token(daemon, "operator"))
    key = PrivateKey.generate()
    assert admin("PUT", "/config/tts_service/recipient", {"public_key": str(key.public)}).status == 200
    before = admin("GET", "/config/tts_service").json["revision"]
    async with client(daemon.broker_port) as mqtt:
        for who in ("voice_router", "operator", "tts_service"):
            refused = await default_answer(mqtt, f"patch/tts_service/{who}", {"patch": {"limits": {"x": 1}}})
            assert refused["code"] in {"unauthorized", "forbidden"}, who
            for topic, fields in (("delete/tts_service", {}), ("unset/tts_service", {"pointer": "/limits"})):
                assert (await default_answer(mqtt, f"{topic}/{who}", fields))["status"] == "error", (topic, who)
        for topic in ("reload/operator", "activate/staging/operator", "audit/operator", "batch/operator"):
            assert (await default_answer(mqtt, topic, {"updates": []}))["status"] == "error", topic
        # The service cannot prove who it is either: it is shown what is retained for everybody to see.
        seen = await default_answer(mqtt, "get/tts_service/tts_service", {})
        topic = "alicia/config/update/tts_service"
        assert seen["config"] == (await mqtt.retained(topic))[topic].json["config"]
        box = seen["config"]["mqtt_config"]["password"]
        assert key.open(box, service="tts_service", environment="dev", pointer=PASSWORD) == "alicia-dev-only"
    assert admin("GET", "/config/tts_service").json["revision"] == before
    # The broker is given what it needs, and comes back.
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", str(files))
    assert done.returncode == 0, done.stderr
    await asyncio.to_thread(broker.stop)
    broker.config = f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n"
    await asyncio.to_thread(broker.start)
    await asyncio.to_thread(
        wait_until,
        lambda: not daemon.http("GET", "/health").json["alerts"],
        seconds=PROBE_SECONDS,
        why="the list is in force",
    )
    secret = await asyncio.to_thread(own_password, daemon, "voice_router")
    async with client(daemon.broker_port, username="voice_router", password=secret) as mqtt:
        done = await default_answer(mqtt, "patch/tts_service/voice_router", {"patch": {"limits": {"x": 1}}})
        assert done["changed"] == ["/limits/x"]


@pytest.mark.sqlite("no session holds requests while a daemon that shares them is away: requesters repeat")
async def test_requests_held_for_the_daemon_wait_until_the_broker_is_tried(make_daemon: Callable[..., Daemon]):
    """A write that a service sent while the daemon was down is carried out, not refused as unproven."""
    daemon = make_daemon(environ={"MQTT_PASSWORD": "of the daemon"}, broker_port=free_port())
    (daemon.environments / "access.yaml").write_text(RULES)
    done = await asyncio.to_thread(aliciacfg, daemon, "setup", "access")
    assert done.returncode == 0, done.stderr
    files = daemon.directory / "access"
    config = f"allow_anonymous false\npassword_file {files / 'passwords'}\nacl_file {files / 'acl'}\n"
    broker = Broker(daemon.directory / "broker", config=config, port=daemon.broker_port).start()
    try:
        await asyncio.to_thread(daemon.start)
        assert [alert for alert in daemon.logged("alert") if alert["kind"] == "acl_missing"] == []
        await asyncio.to_thread(daemon.stop)
        secret = own_password(daemon, "voice_router")
        async with client(daemon.broker_port, username="voice_router", password=secret) as mqtt:
            reply = "alicia/reply/patch/tts_service/voice_router"
            await mqtt.subscribe(reply)
            await mqtt.publish("alicia/config/patch/tts_service/voice_router", {"patch": {"limits": {"x": 1}}})
            await asyncio.to_thread(daemon.start)
            assert (await mqtt.until(reply)).json["changed"] == ["/limits/x"]
        await asyncio.to_thread(daemon.stop)
    finally:
        broker.stop()


async def test_the_password_file_lets_in_who_knows_the_password(tmp_path: Path):
    """Users log in with their own passwords of any script and length, and with no other or none."""
    passwords = {"bell": "p", "door": "päss:$7$ wörd\t", "lamp": "x" * 500, "siren": "pass\u2028word 🔑"}
    file = tmp_path / "passwords"
    file.write_text(password_file(passwords))
    file.chmod(0o644)
    # Mosquitto takes the last of several.
    config = f"password_file {file}\nallow_anonymous false\n"
    broker = Broker(tmp_path / "broker", config=config)
    await asyncio.to_thread(broker.start)
    try:
        for user, right in passwords.items():
            async with client(broker.port, username=user, password=right) as connected:
                await connected.publish("alicia/x")
            for wrong in (right + "x", right[:-1], "", next(p for p in passwords.values() if p != right)):
                assert not await is_let_in(broker, username=user, password=wrong)
            assert not await is_let_in(broker, username=user)
        assert not await is_let_in(broker, username="stranger", password="p")
        assert not await is_let_in(broker)
    finally:
        broker.stop()


async def is_let_in(broker: Broker, **options: Any) -> bool:
    try:
        async with client(broker.port, **options):
            return True
    except aiomqtt.MqttError:
        return False


async def test_the_listed_topics_are_all_that_the_broker_has_to_allow(
    tmp_path: Path, make_daemon: Callable[..., Daemon]
):
    """With an access list of just these, every message arrives: updates, answers, health, alerts, the question."""
    table = ACCESS.partition("<!-- topics:")[2].partition("<!-- /topics -->")[0]
    rules = ["user everybody_else\n", "topic readwrite #\n", "user config_service\n"]
    for row in table.splitlines():
        access = row.split(",")[0].split("|")[1].strip() if row.startswith("|") else ""
        if access in {"read", "write"}:
            rules += [f"topic {access} {topic}\n" for topic in re.findall(r"`([^`]+)`", row)]
    acl = tmp_path / "acl"
    acl.write_text("".join(rules))
    broker = Broker(tmp_path / "strict", config=f"acl_file {acl}\n").start()
    try:
        others: dict[str, Any] = {"username": "everybody_else"}
        async with client(broker.port, **others) as listener, client(broker.port, **others) as mqtt:
            await listener.subscribe("alicia/#")
            daemon = make_daemon("strict_home", broker_port=broker.port).start()
            assert (await mqtt.ask("alicia/config/get/voice_router")).json["status"] == "success"
            await mqtt.publish("alicia/config/patch/voice_router", {"patch": {"limits": {"a": "b"}}})
            await mqtt.publish("alicia/system/discovery/register", {"service_name": "newcomer"})
            expected = {
                "alicia/system/discovery/register",
                "alicia/config/update/newcomer",
                "alicia/config/alert/validation_failed",
                "alicia/system/health/config_service",
                "alicia/config/environment",
                "alicia/config/key",
                "alicia/devices/discovery",
            }
            while expected:
                message = await listener.next()
                if message.topic != "alicia/system/discovery/register" or b'"config_service"' in message.payload:
                    expected.discard(message.topic)
            health = daemon.http("GET", "/health").json
            assert (health["outbox_pending"], health["alerts"]) == (0, {})
    finally:
        broker.stop()
