"""Trials of several daemons of one home under load: what a fault lost, what was done twice, how long reads waited.

A trial is made and used like this::

    async with trial.load():
        trial.daemons[0].kill()
        await trial.keep_on(2)
        await trial.restart(trial.daemons[0])
    await trial.check("a daemon is killed")

Writers count numbers up, over MQTT and over HTTP, and repeat a request until it is answered. Now and then they send one
again that was answered long ago, which must not be carried out once more. Readers note every answer and how long it
took, and ask for what was just written with ``at_least``. After the load the trial waits until all have recovered, and
compares what was answered with what is in the database.
"""

import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import aiomqtt

from aliciacfg.storage.data_directory import SOCKET
from brokers import Broker
from commands import aliciacfg
from daemons import Daemon
from inprocess import eventually
from machine import wait_until
from mqtt_clients import Client, client
from postgres import Postgres

SERVICES = ["voice_router", "stt_service", "tts_service"]
NAMES = ["a", "b", "c"]
_WRITERS = frozenset({"panel", "console", "script", "editor"})
RECOVERY_SECONDS = 60.0
# A requester over MQTT waits so long for an answer; one over HTTP takes another daemon after that.
_MQTT_SECONDS = 0.5
_HTTP_SECONDS = 1.0
# Of the client, until it connects anew.
_PATIENCE_SECONDS = 1.0
# A balancer passes a daemon over for so long that gave no answer.
_AVOIDED_SECONDS = 2.0
_PAUSE_SECONDS = 0.01
_REPEATS = 0.1
_KEYS = ("keys.json", "key-encryption.key")
_UPDATES = "alicia/config/update/"
_ENVIRONMENT = "dev"
_SELECT_REVISIONS = """
    SELECT service, revision, config FROM aliciacfg.revisions WHERE environment = $env$dev$env$ ORDER BY revision
"""
# A daemon that is ready is behind by at most that.
_MAX_LAG_SECONDS = 2.0
_MAX_WAIT_SECONDS = 3.0


@dataclass
class Acknowledged:
    """A write that was answered: of which writer and service, the number that it wrote, its revision, and when."""

    writer: str
    service: str
    number: int
    revision: int
    at: float


@dataclass
class Seen:
    """What a get answered: revision and numbers of a service; and when it was sent, for the last time."""

    service: str
    epoch: int
    revision: int
    numbers: dict[str, float]
    asked: float


@dataclass
class Findings:
    """What a trial found; each list names what is wrong."""

    lost: list[str] = field(default_factory=list[str])
    twice: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])


@dataclass
class ReplicaTrial:
    """Three daemons of a home on a database and a broker of its own.

    Attributes:
        services: What is written and read: each writer has one of them, or each of many in turn.
        requesters: How many more read over each transport.
        pause_seconds: How long writers and readers leave the processor to others between two requests.
    """

    make_daemon: Callable[..., Daemon]
    broker: Broker
    server: Postgres
    url: str
    # Where the daemons connect to the broker, if not at its own port.
    daemons_port: int = 0
    services: list[str] = field(default_factory=lambda: list(SERVICES))
    requesters: int = 0
    pause_seconds: float = _PAUSE_SECONDS
    daemons: list[Daemon] = field(default_factory=list[Daemon])
    acknowledged: list[Acknowledged] = field(default_factory=list[Acknowledged])
    seen: list[Seen] = field(default_factory=list[Seen])
    # How long gets took, by transport.
    waits: dict[str, list[float]] = field(default_factory=lambda: {"http": [], "mqtt": []})
    unexpected: collections.Counter[str] = field(default_factory=collections.Counter[str])
    # Messages of a service that were older than one before them.
    older: list[str] = field(default_factory=list[str])
    # Whether the database lost what it had acknowledged: answers to requests, and revisions, as well.
    forgiven: bool = False
    _stopping: bool = False
    _avoided: dict[str, float] = field(default_factory=dict[str, float])
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _dice: random.Random = field(default_factory=lambda: random.Random(7))
    _turn: Iterator[int] = field(default_factory=itertools.count)

    def enlarge(self, services: int, requesters: int) -> None:
        """Have so many services, and more who read; before the start."""
        self.services += [f"svc_{number:04}" for number in range(services - len(self.services))]
        self.requesters = requesters

    def start(self, environ: dict[str, dict[str, str]] | None = None) -> "ReplicaTrial":
        """Start the daemons; ``environ`` has further settings of each, by its name."""
        for name in NAMES:
            own = {"ALICIACFG_DATABASE_URL": self.url, "ALICIACFG_REPLICA": name, **(environ or {}).get(name, {})}
            port = self.daemons_port or self.broker.port
            daemon = self.make_daemon(name, environ=own, broker_port=port, asyncio_debug=False)
            daemon.keep_services(*SERVICES)
            with (daemon.environments / "base.yaml").open("a") as base:
                for number, service in enumerate(self.services[len(SERVICES) :]):
                    base.write(
                        f"  {service}: {{api_config: {{port: {10_000 + number}}}, settings: {{room: kitchen}}}}\n"
                    )
            # Is activated in one of the trials.
            shutil.copy(daemon.environments / "dev.yaml", daemon.environments / "staging.yaml")
            if self.daemons:
                daemon.data.mkdir(mode=0o700)
                for key in _KEYS:
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(self.daemons[0].data / key, daemon.data / key)
                daemon.spawn()
            else:
                daemon.start()
            self.daemons.append(daemon)
        for daemon in self.daemons[1:]:
            daemon.wait_ready()
        self.recover()
        return self

    def leader(self) -> Daemon:
        """The daemon that leads."""

        def found() -> Daemon | None:
            for daemon in self.daemons:
                with contextlib.suppress(Exception):
                    if daemon.process and daemon.http("GET", "/health").json["replica"]["role"] == "leader":
                        return daemon
            return None

        leads = wait_until(found, seconds=RECOVERY_SECONDS, why="one of them leads")
        assert isinstance(leads, Daemon)
        return leads

    def recover(self) -> None:
        """Wait until every daemon is ready and one leads; those that ended are started again by the trial."""
        for daemon in self.daemons:
            wait_until(lambda daemon=daemon: self._is_ready(daemon), seconds=RECOVERY_SECONDS, why="it is ready")
        self.leader()

    @staticmethod
    def _is_ready(daemon: Daemon) -> bool:
        with contextlib.suppress(Exception):
            return daemon.http("GET", "/ready").status == 200
        return False

    async def keep_on(self, seconds: float) -> None:
        """Let the load go on for a while."""
        await asyncio.sleep(seconds)

    @contextlib.asynccontextmanager
    async def load(self, *, settled: float = 0.5) -> AsyncGenerator[None]:
        """Have writers and readers at work in the block, and until all daemons have recovered after it."""
        self._stopping = False
        async with contextlib.AsyncExitStack() as stack:
            http = await stack.enter_async_context(self._sessions())
            works = [
                self._write_mqtt("panel", SERVICES[0]),
                self._write_mqtt("console", SERVICES[2]),
                self._write_http("script", SERVICES[1], http),
                self._write_http("editor", SERVICES[2], http),
                self._read_mqtt("hub"),
                self._read_http(http),
                self._read_http(http),
                *(self._read_mqtt(f"hub{number}") for number in range(self.requesters)),
                *(self._read_http(http) for _ in range(self.requesters)),
                self._watch(),
            ]
            tasks = [asyncio.create_task(work) for work in works]
            try:
                before = len(self.acknowledged)
                await self._until(lambda: len(self.acknowledged) > before + 20)
                yield
                await asyncio.to_thread(self.recover)
                await self.keep_on(settled)
                await self._all_writers_go_on()
            finally:
                self._stopping = True
                done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), RECOVERY_SECONDS)
            for failed in done:
                if isinstance(failed, BaseException):
                    raise failed

    async def _all_writers_go_on(self) -> None:
        place = len(self.acknowledged)
        await self._until(lambda: {item.writer for item in self.acknowledged[place:]} == _WRITERS)

    async def _until(self, what: Callable[[], bool]) -> None:
        await eventually(what, seconds=RECOVERY_SECONDS)

    @contextlib.asynccontextmanager
    async def _sessions(self) -> AsyncGenerator[dict[str, aiohttp.ClientSession]]:
        """A client for each daemon, over its Unix socket: there a requester has a name."""
        limit = aiohttp.ClientTimeout(total=_HTTP_SECONDS)
        made = {
            daemon.directory.name: aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(daemon.data / SOCKET)), timeout=limit
            )
            for daemon in self.daemons
        }
        try:
            yield made
        finally:
            for session in made.values():
                await session.close()

    async def _http(
        self, sessions: dict[str, aiohttp.ClientSession], method: str, path: str, **options: Any
    ) -> dict[str, Any] | None:
        """Ask the next daemon as a balancer would; return its answer, None if it gave none."""
        now = time.monotonic()
        names = [name for name in sessions if self._avoided.get(name, 0) < now] or list(sessions)
        name = names[next(self._turn) % len(names)]
        try:
            async with sessions[name].request(method, f"http://localhost{path}", **options) as response:
                return await response.json()
        except (OSError, aiohttp.ClientError, TimeoutError):
            self._avoided[name] = now + _AVOIDED_SECONDS
            return None

    def _patch(self, writer: str, number: int) -> dict[str, Any]:
        return {"patch": {"limits": {writer: number}}, "request_id": f"{writer}{number}", "environment": _ENVIRONMENT}

    def _written(self, service: str) -> str:
        """What a writer of a service writes next: of many services whichever."""
        return service if len(self.services) == len(SERVICES) else self._dice.choice(self.services)

    def _asked(self) -> str:
        """What is read next: every other time what was written lately."""
        turn = next(self._turn)
        if self.requesters and turn % 2 and self.acknowledged:
            return self._dice.choice(self.acknowledged[-20:]).service
        return self.services[turn % len(self.services)]

    async def _write(
        self, writer: str, service: str, send: Callable[[str, int], "asyncio.Future[dict[str, Any] | None]"]
    ) -> None:
        """Count up; repeat each request until it is carried out, and some that were long before."""
        own: list[Acknowledged] = []
        while not self._stopping:
            again = own and not self.forgiven and self._dice.random() < _REPEATS
            earlier = self._dice.choice(own[-5:]) if again else None
            number = earlier.number if earlier else next(self._numbers)
            where = earlier.service if earlier else self._written(service)
            while (answer := await send(where, number)) is None or answer["status"] != "success":
                self._note_refusal(answer)
                if self._stopping:
                    return
                await asyncio.sleep(self.pause_seconds)
            if earlier is not None:
                if answer["revision"] != earlier.revision and not self.forgiven:
                    self.unexpected[f"a repetition was answered with another revision ({writer})"] += 1
                continue
            own.append(Acknowledged(writer, where, number, answer["revision"], time.monotonic()))
            self.acknowledged.append(own[-1])
            if self.pause_seconds > _PAUSE_SECONDS:
                await asyncio.sleep(self.pause_seconds)

    def _note_refusal(self, answer: dict[str, Any] | None) -> None:
        """Whoever writes may be told to try again later, and nothing else."""
        if answer is not None and answer["code"] not in ("unavailable", "busy", "unknown_outcome"):
            self.unexpected[f"{answer['code']}: {answer['message'][:160]}"] += 1

    async def _write_http(self, writer: str, service: str, sessions: dict[str, aiohttp.ClientSession]) -> None:
        async def send(service: str, number: int) -> dict[str, Any] | None:
            body = self._patch(writer, number)
            query = {"environment": body["environment"], "request_id": body["request_id"]}
            answer = await self._http(sessions, "PATCH", f"/config/{service}", json=body["patch"], params=query)
            if answer is not None and answer["status"] == "success":
                await self._read_own(sessions, service, answer["revision"])
            return answer

        await self._write(writer, service, send)  # pyright: ignore[reportArgumentType]

    async def _read_own(self, sessions: dict[str, aiohttp.ClientSession], service: str, revision: int) -> None:
        """Read what was just written, at another daemon."""
        query = {"environment": _ENVIRONMENT, "at_least": revision}
        answer = await self._http(sessions, "GET", f"/config/{service}", params=query)
        if answer is None or answer["status"] != "success":
            self._note_refusal(answer)
        elif answer["revision"] < revision and not self.forgiven:
            self.unexpected["at_least was answered with an earlier revision"] += 1

    @contextlib.asynccontextmanager
    async def _mqtt(self) -> AsyncGenerator[Client]:
        async with client(self.broker.port, timeout=_PATIENCE_SECONDS) as connected:
            yield connected

    async def _with_mqtt(self, name: str, work: Callable[[Client, str], Any]) -> None:
        """Do something with a connection to the broker, again and again until the end of the load."""
        while not self._stopping:
            with contextlib.suppress(aiohttp.ClientError, OSError, aiomqtt.MqttError):
                async with self._mqtt() as connected:
                    answers = f"alicia/reply/{name}"
                    await connected.subscribe(answers)
                    await work(connected, answers)
            await asyncio.sleep(0.05)

    async def _ask(self, mqtt: Client, topic: str, body: dict[str, Any], answers: str) -> dict[str, Any] | None:
        await mqtt.publish(topic, body, ResponseTopic=answers)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MQTT_SECONDS):
                while (answer := (await mqtt.next()).json).get("request_id") != body["request_id"]:
                    pass
                return answer
        return None

    async def _write_mqtt(self, writer: str, service: str) -> None:
        connection: list[tuple[Client, str]] = []

        async def send(service: str, number: int) -> dict[str, Any] | None:
            if not connection:
                return None
            mqtt, answers = connection[0]
            topic = f"alicia/config/patch/{service}/{writer}"
            try:
                return await self._ask(mqtt, topic, self._patch(writer, number), answers)
            except aiomqtt.MqttError:
                gone.set()
                await asyncio.sleep(0.05)
                return None

        gone = asyncio.Event()

        async def connected(mqtt: Client, answers: str) -> None:
            connection[:] = [(mqtt, answers)]
            gone.clear()
            ended = asyncio.create_task(gone.wait())
            await asyncio.wait({ended, writing}, return_when=asyncio.FIRST_COMPLETED)
            connection.clear()
            ended.cancel()

        writing = asyncio.create_task(self._write(writer, service, send))  # pyright: ignore[reportArgumentType]
        await self._with_mqtt(writer, connected)
        await writing

    async def _read_mqtt(self, name: str) -> None:
        state = {"began": 0.0}

        async def read(mqtt: Client, answers: str) -> None:
            while not self._stopping:
                state["began"] = state["began"] or time.monotonic()
                service = self._asked()
                asked = time.monotonic()
                body = {"request_id": os.urandom(4).hex(), "environment": _ENVIRONMENT}
                answer = await self._ask(mqtt, f"alicia/config/get/{service}/{name}", body, answers)
                if self._note_read("mqtt", service, answer, state["began"], asked):
                    state["began"] = 0.0
                    await asyncio.sleep(self.pause_seconds)

        await self._with_mqtt(name, read)

    async def _read_http(self, sessions: dict[str, aiohttp.ClientSession]) -> None:
        began = 0.0
        while not self._stopping:
            began = began or time.monotonic()
            service, asked = self._asked(), time.monotonic()
            answer = await self._http(sessions, "GET", f"/config/{service}", params={"environment": _ENVIRONMENT})
            if self._note_read("http", service, answer, began, asked):
                began = 0.0
            await asyncio.sleep(self.pause_seconds)

    def _note_read(
        self, transport: str, service: str, answer: dict[str, Any] | None, began: float, asked: float
    ) -> bool:
        if answer is None or answer["status"] != "success":
            self._note_refusal(answer)
            return False
        self.waits[transport].append(time.monotonic() - began)
        numbers = {name: value for name, value in answer["config"]["limits"].items() if name in _WRITERS}
        self.seen.append(Seen(service, answer["epoch"], answer["revision"], numbers, asked))
        return True

    async def _watch(self) -> None:
        """Follow the retained messages: none is older than one before it."""
        last: dict[str, tuple[int, int]] = {}

        async def watch(mqtt: Client, _answers: str) -> None:
            await mqtt.subscribe(f"{_UPDATES}#")
            while not self._stopping:
                with contextlib.suppress(TimeoutError):
                    message = await mqtt.next(0.2)
                    if not message.topic.startswith(_UPDATES) or not message.payload:
                        continue
                    place = message.json["epoch"], message.json["sequence"]
                    if place < last.get(message.topic, (0, 0)):
                        self.older.append(f"{message.topic}: {place} after {last[message.topic]}")
                    last[message.topic] = max(place, last.get(message.topic, (0, 0)))

        await self._with_mqtt("watcher", watch)

    async def check(self, fault: str, *, may_lose: bool = False) -> Findings:
        """Compare everything that was answered with what is stored, and that with what is served and published.

        Args:
            fault: Its name in docs/reliability.md.
            may_lose: Whether the database may have lost acknowledged writes; they are counted.
        """
        different = await self._differences()
        found = await asyncio.to_thread(self._compare)
        found.wrong += different
        store = json.loads(await asyncio.to_thread(self._checked))["store"]
        if store["broken"] or store["problem"]:
            found.wrong.append(f"the chain is not whole: {store}")
        found.wrong += self.older
        found.wrong += [f"{count} × {what}" for what, count in self.unexpected.items()]
        self._report(fault, found)
        assert not found.twice, found.twice[:5]
        assert not found.wrong, found.wrong[:5]
        assert may_lose or not found.lost, found.lost[:5]
        return found

    def _checked(self) -> str:
        """What ``aliciacfg check`` says, of the version of the first daemon."""
        daemon = self.daemons[0]
        if not daemon.before:
            return aliciacfg(daemon, "check", "-o", "json").stdout
        command = [*daemon.before, sys.executable, "-m", "aliciacfg", "check", "-o", "json"]
        done = subprocess.run(command, cwd=daemon.directory, env=daemon.environment(), capture_output=True, check=False)
        return done.stdout.decode()

    def _compare(self) -> Findings:
        found = Findings()
        stored = self._stored()
        for item in self.acknowledged:
            numbers = stored[item.service].get(item.revision, {})
            if numbers.get(item.writer) != item.number:
                found.lost.append(f"{item} is {numbers}")
        for service, revisions in stored.items():
            # Numbers that the database lost are not used twice.
            if list(revisions) != list(range(1, len(revisions) + 1)) and not self.forgiven:
                found.wrong.append(f"{service}: revisions have gaps: {list(revisions)}")
            last: dict[str, float] = {}
            for revision, numbers in revisions.items():
                for writer, number in numbers.items():
                    if number < last.get(writer, 0):
                        found.twice.append(f"{service} {revision}: {writer} is {number} after {last[writer]}")
                last = numbers
        # Where the database went back, what was read before is there no more.
        epoch = max(item.epoch for item in self.seen)
        found.wrong += [
            f"a get answered {item}, stored is {stored[item.service].get(item.revision)}"
            for item in self.seen
            if item.epoch == epoch and stored[item.service].get(item.revision) != item.numbers
        ]
        return found

    def _stored(self) -> dict[str, dict[int, dict[str, float]]]:
        """Return the numbers of each service, by revision in order."""
        found: dict[str, dict[int, dict[str, float]]] = {}
        for service, revision, config in self.execute(_SELECT_REVISIONS):
            limits = json.loads(config)["limits"]
            found.setdefault(service, {})[revision] = {name: limits[name] for name in _WRITERS if name in limits}
        return found

    def check_reads(self) -> None:
        """Check that no get waited for longer than three seconds, and that none was older than a daemon may answer."""
        for transport, waits in self.waits.items():
            assert max(waits) <= _MAX_WAIT_SECONDS, f"a get over {transport} waited {max(waits):.1f} s"
        written: dict[str, list[Acknowledged]] = {}
        for item in self.acknowledged:
            written.setdefault(item.service, []).append(item)
        for seen in self.seen:
            known = [item.revision for item in written.get(seen.service, ()) if item.at < seen.asked - _MAX_LAG_SECONDS]
            assert seen.revision >= max(known, default=0), f"{seen} is behind revision {max(known)}"

    def execute(self, query: str) -> list[Any]:
        """The rows of a query of the database, at the server that is asked directly."""
        return self.server.execute(query, url=self.server.url(self.url.partition("?")[0].rpartition("/")[2]))

    async def _differences(self) -> list[str]:
        """Return where what the daemons serve and what the broker holds still differ after a while."""
        end = time.monotonic() + RECOVERY_SECONDS
        # A daemon may still get a request that nobody waits for any more.
        while (different := await self._differences_now()) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        return different

    async def _differences_now(self) -> list[str]:
        async with client(self.broker.port) as mqtt:
            retained = {topic: message.json for topic, message in (await mqtt.retained(f"{_UPDATES}#")).items()}
        different: list[str] = []
        # Those that nobody wrote are as they were.
        changed = {*SERVICES, *(item.service for item in self.acknowledged)}
        for service, daemon in itertools.product(sorted(changed), self.daemons):
            published = retained.get(f"{_UPDATES}{service}", {})
            served = (await asyncio.to_thread(daemon.http, "GET", f"/config/{service}")).json
            name = daemon.directory.name
            different += [
                f"{service}: {part} is {published.get(part)} at the broker, {served.get(part)} at {name}"
                for part in ("epoch", "revision", "sequence", "config")
                if served.get(part) != published.get(part)
            ]
        return different

    def _report(self, fault: str, found: Findings) -> None:
        """Add a line for docs/reliability.md to the file that ALICIACFG_TRIALS names."""
        file = os.environ.get("ALICIACFG_TRIALS")
        waits = sorted(self.waits["http"] + self.waits["mqtt"])
        line = {
            "replicas": len(self.daemons),
            "fault": fault,
            "writes": len(self.acknowledged),
            "lost": len(found.lost),
            "twice": len(found.twice),
            "gets": len(waits),
            "p99_seconds": waits[len(waits) * 99 // 100],
            "longest_http_seconds": max(self.waits["http"]),
            "longest_mqtt_seconds": max(self.waits["mqtt"]),
        }
        if file:
            with open(file, "a", encoding="utf-8") as out:  # noqa: PTH123 - a name from the environment
                out.write(json.dumps(line) + "\n")
