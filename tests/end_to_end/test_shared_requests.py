"""Several daemons of one home on one broker: they share the requests, and one of them does what must happen once."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from aliciacfg.access import rules_file
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.mqtt import ready_members, session, shared_requests
from aliciacfg.mqtt.broker.access_list import access_list
from aliciacfg.mqtt.broker.passwords import password_file
from broker_proxies import Unshared, older_broker, unsharing_broker
from brokers import Broker
from builders import environment_file
from inprocess import eventually
from machine import SECONDS
from mqtt_clients import Client, client
from replicas import Replica, replicas, take_over
from repository import ROOT

SERVICES = [f"bell{number}" for number in range(8)]
FILES = {"environments/dev.yaml": environment_file({service: {} for service in SERVICES})}
HEALTH = "alicia/system/health/config_service"
ALERTS = "alicia/config/alert/#"
ANSWERS = "alicia/reply/load"
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])


@contextlib.asynccontextmanager
async def home(
    tmp_path: Path, broker: BrokerAddress | int, count: int = 3, files: Mapping[str, object] = FILES
) -> AsyncGenerator[list[Replica]]:
    """Daemons that all have joined; the first one leads."""
    async with replicas(tmp_path, files, broker, count) as made:
        made[0].lead()
        for replica in made:
            replica.start()
        for replica in made:
            await replica.joined()
        await eventually(made[0].home.ready.is_set)
        yield made


class Load:
    """Gets one after the other, each with a number as its Correlation Data, and how often each was answered."""

    def __init__(self, mqtt: Client) -> None:
        self._mqtt = mqtt
        self.sent = 0
        self.answers: Counter[int] = Counter()

    async def send(self, count: int) -> None:
        """Send gets, and receive the answers to some of them meanwhile."""
        for _ in range(count):
            service = SERVICES[self.sent % len(SERVICES)]
            await self._mqtt.publish(
                f"alicia/config/get/{service}",
                ResponseTopic=ANSWERS,
                CorrelationData=self.sent.to_bytes(4, "big"),
            )
            self.sent += 1

    async def receive(self) -> None:
        """Count answers until cancelled."""
        while True:
            message = await self._mqtt.next(3600)
            if message.topic == ANSWERS:
                assert message.json["status"] == "success"
                self.answers[int.from_bytes(message.properties["CorrelationData"], "big")] += 1

    @property
    def all_answered(self) -> bool:
        return len(self.answers) == self.sent

    @property
    def twice(self) -> list[int]:
        return [number for number, count in self.answers.items() if count > 1]


@contextlib.asynccontextmanager
async def load(port: int) -> AsyncGenerator[Load]:
    """A requester."""
    async with client(port) as mqtt:
        await mqtt.subscribe(ANSWERS)
        made = Load(mqtt)
        receiving = asyncio.create_task(made.receive())
        try:
            yield made
        finally:
            receiving.cancel()
            await asyncio.wait({receiving})


async def test_daemons_of_a_home_share_its_requests(tmp_path: Path, broker: Broker):
    """Each takes part, and each request is answered once."""
    async with home(tmp_path, broker.port) as made, load(broker.port) as requester:
        await requester.send(60)
        await eventually(lambda: requester.all_answered)
        assert not requester.twice
        assert all(replica.answered >= 10 for replica in made)


async def test_a_report_that_was_published_with_the_retain_flag_counts(tmp_path: Path, broker: Broker):
    """When it comes, as with a daemon alone."""
    reported = {f"copy{number}" for number in range(4)}
    async with home(tmp_path, broker.port, 2) as made, client(broker.port) as mqtt:
        for name in reported:
            report = {"instance": name, "revision": 1, "checksum": "", "status": "applied"}
            await mqtt.publish("alicia/config/applied/bell1", report, retain=True)
        listed: set[str] = set()
        async with asyncio.timeout(SECONDS):
            while listed != reported:
                for replica in made:
                    answer = await replica.core.ask("instances", "bell1")
                    listed |= {item["instance"] for item in answer["instances"]}
                await asyncio.sleep(0.01)


async def test_what_a_stranger_retains_is_taken_away_at_any_depth(tmp_path: Path, broker: Broker):
    """By the leader, though requests come to it on another connection."""
    async with home(tmp_path, broker.port, 2), client(broker.port) as mqtt:
        for name in ("nobody", "not/a/name"):
            await mqtt.subscribe(f"alicia/config/update/{name}")
            await mqtt.publish(f"alicia/config/update/{name}", b"{}", retain=True)
            while (await mqtt.next()).payload:
                pass


async def test_an_operation_that_does_not_exist_is_answered_by_nobody(tmp_path: Path, broker: Broker):
    """The requests of each operation are shared by themselves."""
    async with home(tmp_path, broker.port, 2), client(broker.port) as mqtt:
        await mqtt.subscribe(ANSWERS)
        await mqtt.publish("alicia/config/frobnicate/bell1", ResponseTopic=ANSWERS)
        assert await mqtt.silence(0.3) == []
        await mqtt.publish("alicia/config/get/bell1", ResponseTopic=ANSWERS)
        assert (await mqtt.until(ANSWERS)).json["status"] == "success"


async def test_the_others_go_on_when_one_of_them_dies(tmp_path: Path, broker: Broker):
    """What the broker sends after it noticed is answered; no request is answered by two."""
    async with home(tmp_path, broker.port) as made, load(broker.port) as requester:
        await requester.send(30)
        made[2].readiness.set(False)
        made[2].session.abort()
        await requester.send(30)
        lost = requester.sent - len(requester.answers)
        await eventually(lambda: not made[2].shared.joined)
        before = requester.sent
        await requester.send(60)
        await eventually(lambda: all(number in requester.answers for number in range(before, requester.sent)))
        assert not requester.twice
        assert lost < 60


async def test_one_that_leaves_in_order_loses_no_request(tmp_path: Path, broker: Broker):
    """Three times under load it leaves, as when its database is away, and joins again; then it stops."""
    async with home(tmp_path, broker.port) as made, load(broker.port) as requester:
        sending = asyncio.create_task(requester.send(900))
        for _ in range(3):
            await eventually(lambda: made[1].shared.joined)
            before = made[1].answered
            await eventually(lambda before=before: made[1].answered > before + 5)
            made[1].readiness.set(False)
            await eventually(lambda: not made[1].shared.joined)
            made[1].readiness.set(True)
        await eventually(lambda: made[1].shared.joined)
        await made[1].session.stop()
        await made[1].cancel()
        await sending
        await eventually(lambda: requester.all_answered)
        assert not requester.twice


async def test_one_that_is_not_ready_takes_no_request_and_leads_on(tmp_path: Path, broker: Broker):
    """It keeps its connection, and the retained messages are still its own business."""
    async with home(tmp_path, broker.port, 2) as made, load(broker.port) as requester:
        made[0].readiness.set(False)
        await eventually(lambda: not made[0].shared.joined)
        before = made[0].answered
        await requester.send(10)
        await eventually(lambda: requester.all_answered)
        assert made[0].answered == before
        async with client(broker.port) as mqtt:
            await mqtt.publish("alicia/config/update/bell1", b"", retain=True)
            await mqtt.subscribe("alicia/config/update/bell1")
            await mqtt.until("alicia/config/update/bell1")


async def asked(replica: Replica) -> None:
    """Wait until it has asked once more whether another one is ready, and been answered or not."""
    members = replica.shared._others  # pyright: ignore[reportPrivateUsage]
    before = members.asked
    # The second one from now on began after the call.
    await eventually(lambda: members.asked > before + 1)


@pytest.fixture
def quick_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for an answer, or between two questions."""
    monkeypatch.setattr(ready_members, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(shared_requests, "_ASK_SECONDS", 0.1)


@pytest.mark.usefixtures("quick_questions")
async def test_when_all_are_cut_off_all_go_on(tmp_path: Path, broker: Broker):
    """They answer what they may from memory; who is ready first takes the requests of those that are not."""
    async with home(tmp_path, broker.port) as made, load(broker.port) as requester:
        for replica in made:
            replica.readiness.set(False)
        for replica in made:
            await asked(replica)
        before = [replica.answered for replica in made]
        await requester.send(60)
        await eventually(lambda: requester.all_answered)
        assert all(replica.answered >= count + 10 for replica, count in zip(made, before, strict=True))
        made[1].readiness.set(True)
        await eventually(lambda: [replica.shared.joined for replica in made] == [False, True, False])
        count = made[1].answered
        await requester.send(20)
        await eventually(lambda: requester.all_answered)
        assert made[1].answered == count + 20
        for replica in made:
            replica.readiness.set(True)
            await replica.joined()
        assert not requester.twice


@pytest.mark.usefixtures("quick_questions")
async def test_those_that_left_come_back_when_the_last_one_that_is_ready_is_gone(tmp_path: Path, broker: Broker):
    """It dies, hangs, or is cut off as well: the others take the requests again, until it is back."""
    async with home(tmp_path, broker.port) as made, load(broker.port) as requester:
        for replica in made[:2]:
            replica.readiness.set(False)
        await eventually(lambda: not made[0].shared.joined and not made[1].shared.joined)
        made[2].readiness.set(False)
        for replica in made:
            await replica.joined()
        made[2].readiness.set(True)
        await eventually(lambda: not made[0].shared.joined and not made[1].shared.joined)
        # As a process that was killed, or hangs: what it was sent is lost, and nothing is heard of it.
        made[2].session.abort()
        await made[2].cancel()
        for replica in made[:2]:
            await replica.joined()
        await requester.send(30)
        await eventually(lambda: requester.all_answered)
        assert not requester.twice


@pytest.mark.usefixtures("quick_questions")
async def test_no_stranger_has_daemons_leave(tmp_path: Path, broker: Broker):
    """An answer counts that was made for this question, with the keys of the home; a stranger has neither."""
    async with home(tmp_path, broker.port, 2) as made, client(broker.port) as mqtt:
        await mqtt.subscribe("alicia/reply/config_service/+/ready/#")
        made[0].readiness.set(False)
        question, answer = await mqtt.next(), await mqtt.next()
        assert (question.topic.rpartition("/")[2], answer.topic.rpartition("/")[2]) == ("question", "answer")
        await eventually(lambda: not made[0].shared.joined)
        made[1].readiness.set(False)
        for replica in made:
            await replica.joined()
        seen = 0
        while seen < 10:
            message = await mqtt.next()
            if message.topic != question.topic:
                continue
            seen += 1
            number = message.json["number"]
            forged = [
                answer.payload,
                message.payload,
                json.dumps({"number": number, "code": answer.json["code"]}),
                json.dumps({"number": number, "code": "\u00e9"}),
                '{"number": "\\ud800", "code": ""}',
                b"\xff",
                b"{}",
                b"",
            ]
            for payload in forged:
                await mqtt.publish(answer.topic, payload)
                await mqtt.publish(f"{answer.topic}/more", payload)
            await mqtt.publish(question.topic, answer.payload)
        assert all(replica.shared.joined for replica in made)
        assert not any(replica.core.standing for replica in made)


@pytest.mark.usefixtures("quick_questions")
async def test_a_question_that_the_broker_does_not_deliver_is_one_without_an_answer(tmp_path: Path):
    """Its access list denies the topic: no daemon leaves, and all other requests are answered."""
    (tmp_path / "acl").write_text("pattern deny alicia/reply/config_service/+/ready/#\npattern readwrite #\n")
    (tmp_path / "acl").chmod(0o644)
    broker = Broker(tmp_path / "broker", config=f"acl_file {tmp_path / 'acl'}\n").start()
    try:
        async with home(tmp_path, broker.port, 2) as made, load(broker.port) as requester:
            made[0].readiness.set(False)
            await asked(made[0])
            await requester.send(20)
            await eventually(lambda: requester.all_answered)
            assert all(replica.shared.joined for replica in made)
    finally:
        broker.stop()


async def test_requests_are_taken_where_the_broker_denies_the_health_of_the_home(tmp_path: Path):
    """An alert says so. Who leads knows whose broker it is; the others ask who takes requests."""
    (tmp_path / "acl").write_text(f"pattern deny {HEALTH}\npattern readwrite #\n")
    (tmp_path / "acl").chmod(0o644)
    broker = Broker(tmp_path / "broker", config=f"acl_file {tmp_path / 'acl'}\n").start()
    try:
        async with home(tmp_path, broker.port, 2) as made, load(broker.port) as requester:
            await eventually(lambda: all(replica.session.ready.is_set() for replica in made))
            assert f"undelivered:{HEALTH}" in made[0].core.standing
            await requester.send(20)
            await eventually(lambda: requester.all_answered)
            assert all(replica.answered for replica in made)
    finally:
        broker.stop()


@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.usefixtures("quick_questions")
async def test_a_broker_that_comes_back_while_all_are_cut_off_is_served(tmp_path: Path, broker: Broker, wiped: bool):
    """Also if it has lost the retained health by which the daemons knew it, and no daemon leads."""
    async with home(tmp_path, broker.port) as made:
        for replica in made:
            replica.readiness.set(False)
            replica.leadership.lose()
        broker.kill()
        if wiped:
            broker.wipe()
        for replica in made:
            await eventually(lambda replica=replica: not replica.shared.joined)
        broker.start()
        for replica in made:
            await replica.joined()
        async with load(broker.port) as requester:
            await requester.send(30)
            await eventually(lambda: requester.all_answered)
            assert not requester.twice


async def test_a_takeover_cuts_the_one_before_off_and_alerts_nothing(tmp_path: Path, broker: Broker):
    """Its connection ends at the broker, though it believes that it leads; the messages stay as they are."""
    async with home(tmp_path, broker.port) as made, client(broker.port) as mqtt:
        before = await mqtt.retained("alicia/config/update/#")
        assert len(before) == len(SERVICES)
        await mqtt.subscribe(ALERTS, "alicia/config/update/#")
        await take_over(made, 1)
        await eventually(made[1].home.ready.is_set)
        assert await mqtt.retained("alicia/config/update/#") == before
        health = (await mqtt.retained(HEALTH))[HEALTH].json["payload"]
        assert health["status"] == "healthy"
        assert not [alert for replica in made for alert in replica.core.heard]
        heard = [message for message in await mqtt.silence(0.2) if not message.retained]
        assert not heard


async def test_an_old_message_of_the_leader_before_is_no_forgery(tmp_path: Path, broker: Broker):
    """It was signed with the home's keys: it is overwritten without an alert. One of another program is alerted."""
    async with home(tmp_path, broker.port, 2) as made, client(broker.port) as mqtt:
        topic = "alicia/config/update/bell1"
        old = (await mqtt.retained(topic))[topic].payload
        for replica in made:
            await replica.core.ask("patch", "bell1", patch={"settings": {"volume": 2}})
        await mqtt.subscribe(topic)
        while json.loads((await mqtt.until(topic)).payload)["revision"] != 2:
            pass
        made[0].leadership.lose()
        await mqtt.publish(topic, old, retain=True)
        made[1].lead()
        await eventually(made[1].home.ready.is_set)
        found = (await mqtt.retained(topic))[topic].json
        assert found["revision"] == 2
        assert not [alert for replica in made for alert in replica.core.heard if alert.kind == "tamper"]
        await mqtt.publish(topic, b"{}", retain=True)
        await eventually(lambda: any(alert.kind == "tamper" for alert in made[1].core.heard))


async def test_what_was_registered_while_nobody_led_is_kept(tmp_path: Path, broker: Broker):
    """The session of the home outlives its leaders."""
    async with home(tmp_path, broker.port, 2) as made, client(broker.port) as mqtt:
        made[0].leadership.lose()
        # Its connection has ended when its part of the device registry is forgotten.
        await eventually(lambda: made[0].home._link.connection is None)  # pyright: ignore[reportPrivateUsage]
        await mqtt.publish("alicia/system/discovery/register", {"service_name": "chime"})
        made[1].lead()
        await mqtt.subscribe("alicia/config/update/chime")
        assert (await mqtt.until("alicia/config/update/chime")).json["service"] == "chime"


async def test_one_whose_lease_is_over_publishes_nothing_more(tmp_path: Path, broker: Broker):
    """By its own clock, though it was granted no other and its connection stands."""
    async with home(tmp_path, broker.port, 1) as made, client(broker.port) as mqtt:
        (replica,) = made
        connection = replica.home._link.connection  # pyright: ignore[reportPrivateUsage]
        assert connection is not None
        await mqtt.subscribe("alicia/config/update/bell1")
        await mqtt.until("alicia/config/update/bell1")
        # As in a process that goes on after it was stopped: no timer has run yet.
        replica.leadership._until = 0.0  # pyright: ignore[reportPrivateUsage]
        await replica.core.ask("patch", "bell1", patch={"settings": {"volume": 2}})
        assert not await mqtt.silence(0.3)
        replica.lead()
        assert (await mqtt.until("alicia/config/update/bell1")).json["revision"] == 2


async def test_one_that_stood_still_carries_out_no_old_request(tmp_path: Path, broker: Broker):
    """As after SIGSTOP: what it finds in its socket was repeated to others by now; it connects anew and takes part."""
    async with home(tmp_path, broker.port, 1) as (replica,), client(broker.port) as mqtt:
        link, before = replica.shared._link, replica.answered  # pyright: ignore[reportPrivateUsage]
        for operation, payload in (("patch", '{"patch": {"settings": {"volume": 2}}}'), ("get", "")):
            ends = link.connection
            # Before the request is received, as its process went on just now.
            replica.shared._pauses._last = 0.0  # pyright: ignore[reportPrivateUsage]
            await mqtt.publish(f"alicia/config/{operation}/bell1", payload)
            await eventually(lambda ends=ends: link.connection is not ends)
            await replica.joined()
        assert replica.answered == before
        assert (await mqtt.ask("alicia/config/get/bell1")).json["revision"] == 1


@pytest.mark.parametrize("behaviour", ["refuses", "ignores", "disconnects"])
async def test_where_the_broker_does_not_share_only_the_leader_takes_requests(
    tmp_path: Path, broker: Broker, behaviour: Unshared
):
    """The others say so; a leader that takes over takes the requests as well."""
    async with (
        unsharing_broker(broker.port, behaviour) as proxy,
        replicas(tmp_path, FILES, proxy.port, 2, proof_seconds=0.2) as made,
        load(broker.port) as requester,
    ):
        first, second = made
        first.lead()
        for replica in made:
            replica.start()
        await eventually(first.home.ready.is_set)
        await eventually(second.session.ready.is_set)
        await requester.send(20)
        await eventually(lambda: requester.all_answered)
        assert second.answered == 0
        assert all("requests_not_shared" in replica.core.standing for replica in made)
        first.leadership.lose()
        second.lead()
        await eventually(second.home.ready.is_set)
        await requester.send(20)
        await eventually(lambda: requester.all_answered)
        assert second.answered >= 20
        assert not requester.twice


async def test_a_broker_that_shares_later_is_noticed(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch):
    """All take part then, and the leader no longer takes every request."""
    monkeypatch.setattr(shared_requests, "_AGAIN_SECONDS", 0.1)
    async with (
        unsharing_broker(broker.port, "refuses") as proxy,
        replicas(tmp_path, FILES, proxy.port, 2, proof_seconds=0.2) as made,
        load(broker.port) as requester,
    ):
        made[0].lead()
        for replica in made:
            replica.start()
        await eventually(made[0].home.ready.is_set)
        proxy.behaviour = None
        for replica in made:
            await replica.joined()
        taking = lambda: made[0].home._takes_requests  # noqa: E731  # pyright: ignore[reportPrivateUsage]
        await eventually(lambda: not taking())
        await requester.send(20)
        await eventually(lambda: requester.all_answered)
        assert not requester.twice
        assert all(replica.answered for replica in made)
        assert not any(replica.core.standing for replica in made)


async def test_daemons_of_another_home_take_no_request(tmp_path: Path, broker: Broker):
    """Those that do not lead wait for their home's health; the one that leads gives way."""
    async with (
        home(tmp_path / "ours", broker.port, 2) as ours,
        replicas(tmp_path / "theirs", FILES, broker.port, 2) as theirs,
        load(broker.port) as requester,
    ):
        theirs[0].lead()
        for replica in theirs:
            replica.start()
        assert theirs[0].task is not None
        await asyncio.wait({theirs[0].task}, timeout=SECONDS)
        assert "AnotherDaemon" in repr(theirs[0].task.exception())
        await requester.send(20)
        await eventually(lambda: requester.all_answered)
        assert not any(replica.shared.joined for replica in theirs)
        assert sum(replica.answered for replica in ours) >= 20


async def test_the_home_is_offline_only_when_nobody_takes_over(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
):
    """A leader that stops leaves the message to the broker, which waits with it for the next one."""
    monkeypatch.setattr(session, "_WILL_DELAY_SECONDS", 1)
    async with home(tmp_path, broker.port, 2) as made, client(broker.port) as mqtt:
        await mqtt.subscribe(HEALTH)
        await made[0].session.stop()
        await made[0].cancel()
        made[1].lead()
        await eventually(made[1].home.ready.is_set)
        said = [message.json["payload"]["status"] for message in await mqtt.silence(1.5)]
        assert said
        assert "offline" not in said
        await made[1].session.stop()
        await made[1].cancel()
        assert (await mqtt.until(HEALTH)).json["payload"]["status"] == "offline"


async def test_a_broker_of_mqtt_311_shares_as_well(tmp_path: Path, broker: Broker):
    """Mosquitto has shared subscriptions there, too; one that leaves loses nothing."""
    async with (
        older_broker(broker.port) as older,
        home(tmp_path, older.port, 2) as made,
        load(broker.port) as requester,
    ):
        sending = asyncio.create_task(requester.send(200))
        await eventually(lambda: made[1].answered > 5)
        await made[1].session.stop()
        await made[1].cancel()
        await sending
        async with client(broker.port, protocol=4) as mqtt:
            await mqtt.subscribe("alicia/reply/get/bell1")
            await mqtt.publish("alicia/config/get/bell1")
            await mqtt.until("alicia/reply/get/bell1")
        made[0].leadership.lose()
        await eventually(lambda: made[0].home._link.connection is None)  # pyright: ignore[reportPrivateUsage]


async def test_each_daemon_finds_out_whether_the_access_list_is_in_force(tmp_path: Path):
    """By a plain subscription of its own: under the list, requests are answered for those whom the broker proves."""
    rules = "services:\n  bell1: {read: {allowed_services: [bell2]}}\n"
    passwords = {name: f"password of {name}" for name in ("config_service", "bell1", "bell2")}
    (tmp_path / "acl").write_text(access_list(rules_file.load(rules, services=SERVICES)))
    (tmp_path / "passwords").write_text(password_file(passwords, iterations=1000))
    config = f"acl_file {tmp_path / 'acl'}\npassword_file {tmp_path / 'passwords'}\n"
    for file in ("acl", "passwords"):
        (tmp_path / file).chmod(0o644)
    broker = Broker(tmp_path / "broker", config=config).start()
    address = BrokerAddress("127.0.0.1", broker.port, "config_service", passwords["config_service"])
    try:
        async with (
            home(tmp_path, address, files={**FILES, "environments/access.yaml": rules}) as made,
            client(broker.port, username="bell2", password=passwords["bell2"]) as mqtt,
        ):
            assert all(replica.core.parts.service.authorizer.bus_proves for replica in made)
            await mqtt.subscribe("alicia/reply/bell2/#")
            for number in range(12):
                await mqtt.publish("alicia/config/get/bell1/bell2", ResponseTopic=f"alicia/reply/bell2/{number}")
                assert (await mqtt.until(f"alicia/reply/bell2/{number}")).json["status"] == "success"
            assert all(replica.answered for replica in made)
            assert not any(replica.core.standing for replica in made)
            # Under the list they still hear each other, when one asks whether another one is ready.
            made[0].readiness.set(False)
            await eventually(lambda: not made[0].shared.joined)
    finally:
        broker.stop()


class Process:
    """A daemon of the home in a process of its own."""

    def __init__(self, directory: Path, port: int) -> None:
        program = [sys.executable, str(ROOT / "tests" / "support" / "replica_process.py"), str(directory), str(port)]
        # Without a buffer: an answer that was read must not hide behind the pipe.
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, "PYTHONPATH": PATHS}
        )
        self._output = b""

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def done(self) -> None:
        """Wait until it has done what the oldest line said of which this was not awaited."""
        assert self.process.stdout is not None
        while b"done\n" not in self._output:
            found = await asyncio.to_thread(os.read, self.process.stdout.fileno(), 65536)
            assert found, "the process has ended"
            self._output += found
        self._output = self._output.partition(b"done\n")[2]

    def end(self) -> None:
        with self.process:
            self.process.kill()


async def test_a_leader_that_was_stopped_publishes_nothing_when_it_goes_on(tmp_path: Path, broker: Broker):
    """SIGSTOP holds it past its lease, and another one takes over; what it stores after SIGCONT stays unpublished.

    Its store is its own here, so a message of it would be ahead of what the new leader knows, and raise an alert.
    """
    async with replicas(tmp_path, FILES, broker.port, 1) as (second,), client(broker.port) as mqtt:
        shutil.copytree(second.core.home.directory.parent / "first", tmp_path / "stopped")
        first = Process(tmp_path / "stopped", broker.port)
        try:
            first.say("lead 2")
            await first.done()
            first.process.send_signal(signal.SIGSTOP)
            stopped = time.clock_gettime(time.CLOCK_BOOTTIME)
            second.start()
            second.lead()
            await eventually(second.home.ready.is_set)
            before = await mqtt.retained("alicia/config/update/#")
            await mqtt.subscribe("alicia/config/update/+", ALERTS)
            await mqtt.silence(0.1)
            await eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > stopped + 2)
            first.say("patch bell1 2")
            first.process.send_signal(signal.SIGCONT)
            await first.done()
            assert not await mqtt.silence(1.0)
            assert await mqtt.retained("alicia/config/update/#") == before
            assert not second.core.heard
            assert second.home._link.connection is not None  # pyright: ignore[reportPrivateUsage]
        finally:
            first.end()
