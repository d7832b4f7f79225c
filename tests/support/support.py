"""Real things for tests: a Mosquitto, a daemon, an MQTT client, each on a port of its own."""

import asyncio
import contextlib
import http.client
import json
import os
import pty
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from aliciacfg.mqtt.broker.dev_broker import dev_config

ROOT = Path(__file__).resolve().parents[2]
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
SERVICES = sorted(path.stem for path in (ROOT / "schemas").glob("*.yaml"))
SECONDS = 15.0
NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: Any, *, seconds: float = SECONDS, why: str = "") -> Any:
    """Poll until ``what()`` is true, and return it; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why or what}")
        threading.Event().wait(0.02)


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


@dataclass
class Broker:
    """A Mosquitto of its own; ``config`` is added to the project's mosquitto.conf."""

    directory: Path
    config: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "mosquitto.conf"
        file.write_text(self.settings())
        program = shutil.which("mosquitto", path=PATH)
        assert program is not None, "run make test, which installs Mosquitto"
        self.process = subprocess.Popen([program, "-c", str(file)], stderr=subprocess.DEVNULL)
        wait_until(self._answers, why="Mosquitto listens")
        return self

    def settings(self) -> str:
        """The text of its mosquitto.conf."""
        return dev_config(self.port, self.directory) + self.config

    def reload(self) -> None:
        """Have it read its password file and access list again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        return listens(self.port)

    def kill(self) -> None:
        """End it at once, its memory with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wipe(self) -> None:
        for file in self.directory.glob("*.db*"):
            file.unlink()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


@dataclass
class Daemon:
    """A daemon in a process and a directory of its own, with copies of the repository's files."""

    directory: Path
    broker_port: int
    environ: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    # Whether it runs in asyncio's debug mode if the tests do: requests take three times as long.
    asyncio_debug: bool = True
    # Put before its command, to run it elsewhere.
    before: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None
    url: str = ""
    # For clients of a daemon that serves HTTPS.
    tls: ssl.SSLContext | None = None
    ready_line: str = ""
    output: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def environments(self) -> Path:
        return self.directory / "environments"

    def prepare(self) -> "Daemon":
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("environments", "schemas"):
            if not (self.directory / name).exists():
                shutil.copytree(ROOT / name, self.directory / name)
        return self

    def keep_services(self, *names: str) -> "Daemon":
        """Reduce its files to some services, before it starts: fewer to compose, to check and to make passwords for."""
        self.prepare()
        for schema in (self.directory / "schemas").glob("*.yaml"):
            if schema.stem not in names:
                schema.unlink()
        for file in ("base.yaml", "dev.yaml", "staging.yaml", "prod.yaml"):
            path = self.environments / file
            head, _, services = path.read_text().partition("\nservices:\n")
            kept = [
                part
                for part in re.split(r"^(?=  \w+:)", services, flags=re.MULTILINE)
                if part[2:].split(":")[0] in names
            ]
            path.write_text(f"{head}\nservices:\n{''.join(kept)}" if kept else head)
        return self

    def environment(self) -> dict[str, str]:
        # Asyncio's debug mode writes to standard error; it is for daemons, whose log takes it.
        ours = ("MQTT_", "ALICIA", "ENVIRON", "PYTHONASYNCIODEBUG")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return {
            **kept,
            # Hundreds of processes would each read the system's authorities; none of ours is signed by one.
            "SSL_CERT_FILE": os.devnull,
            "MQTT_BROKER": "127.0.0.1",
            "MQTT_PORT": str(self.broker_port),
            "ALICIACFG_HTTP_PORT": "0",
            **self.environ,
        }

    def spawn(self) -> "Daemon":
        """Start the process without waiting for it."""
        self.prepare()
        self.output.clear()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.before, sys.executable, "-m", "aliciacfg", "serve", *self.arguments],
                cwd=self.directory,
                env=self._debugged(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self

    def _debugged(self) -> dict[str, str]:
        debug = os.environ.get("PYTHONASYNCIODEBUG", "") if self.asyncio_debug else ""
        given = {**self.environment(), "PYTHONASYNCIODEBUG": debug}
        return {key: value for key, value in given.items() if value}

    def start(self) -> "Daemon":
        """Start and wait for READY."""
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("READY"):
                self.ready_line = line.rstrip("\n")
                found = re.search(r"https?://[^ ]+", line)
                assert found is not None
                self.url = found[0]
                return
        raise AssertionError(f"the daemon ended with {self.process.wait()}: {self.log.read_text()[-4000:]}")

    def wait_exit(self, seconds: float = SECONDS) -> int:
        assert self.process is not None
        code = self.process.wait(seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.wait_exit()

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def hang_up(self, event: str) -> None:
        """Send SIGHUP and wait for an event in the log."""
        before = len(self.logged(event))
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.logged(event)) > before, why=event)

    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events() if entry.get("event") == event]

    def http(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> "HttpAnswer":
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {**({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=self.tls) as response:
                return HttpAnswer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return HttpAnswer(error.code, dict(error.headers), error.read())

    def local(self, operation: str, body: object = None) -> dict[str, Any]:
        """The answer to what only whoever may write the data directory can ask for."""
        connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.data / "admin.sock"))
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"/local/{operation}", json.dumps(body or {}), headers)
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer

    def config(self, service: str, query: str = "") -> dict[str, Any]:
        """The answer to a get over HTTP."""
        answer = self.http("GET", f"/config/{service}{query}")
        assert answer.status == 200, answer.body
        return answer.json


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def tracebacks(daemon: Daemon) -> list[str]:
    """Lines of a daemon's log with a traceback, which no test's daemon may write.

    When a broker dies, aiomqtt may register a socket for writing that is closed already; asyncio logs that, and the
    connection is made anew. In debug mode asyncio also logs every client that does not agree on TLS.
    """
    lines = [line for line in daemon.log.read_text().splitlines() if "Traceback" in line]
    harmless = ("_add_writer", "Error on transport creation for incoming connection")
    return [line for line in lines if not ('"logger":"asyncio"' in line and any(text in line for text in harmless))]


@contextlib.contextmanager
def serving(directory: Path, prepare: Callable[[Daemon], object] = Daemon.prepare) -> Iterator[Daemon]:
    """A READY daemon on a broker of its own, whose files ``prepare`` wrote; it ends with 0 and logs no traceback."""
    broker = Broker(directory / "broker").start()
    made = Daemon(directory / "home", broker_port=broker.port)
    prepare(made)
    made.start()
    yield made
    code = made.stop()
    broker.stop()
    assert code == 0
    assert not tracebacks(made), made.log.read_text()[-6000:]


def aliciacfg(
    daemon: Daemon, *arguments: str, stdin: str = "", http: bool = False, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a script sees of a command."""
    before = ["--http", daemon.url] if http else []
    return subprocess.run(
        [sys.executable, "-m", "aliciacfg", *before, *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), **(environ or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@dataclass(frozen=True)
class Seen:
    """What a person sees of a command: with colours, and without."""

    raw: str
    returncode: int

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.raw).replace("\r\n", "\n")


def on_terminal(daemon: Daemon, *arguments: str, columns: int = 120) -> Seen:
    """Run a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), "TERM": "xterm", "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    # Linux ends the reading side of a terminal with an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    return Seen(seen.decode(), process.wait(20))


def typing(daemon: Daemon, *arguments: str, keys: str, environ: dict[str, str] | None = None) -> str:
    """What a person sees who types ``keys``, the echo included."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "aliciacfg", *arguments],
        cwd=daemon.directory,
        env={**daemon.environment(), "TERM": "xterm", "COLUMNS": "160", **(environ or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen, lines = b"", keys.splitlines(keepends=True)
    # Linux ends the reading side of a terminal with an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            seen += part
            # Only what asks is answered: before, the terminal would still echo.
            if lines and seen.endswith(b": "):
                os.write(ours, lines.pop(0).encode())
    os.close(ours)
    process.wait(20)
    return seen.decode()


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    retained: bool
    qos: int = 0
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Client:
    """A plain MQTT client, independent of the project's own."""

    def __init__(self, client: aiomqtt.Client, protocol: int) -> None:
        self.client = client
        self.protocol = protocol
        self._iterator = aiter(client.messages)

    async def subscribe(self, *filters: str) -> None:
        for name in filters:
            await self.client.subscribe(name, qos=1)

    async def publish(
        self, topic: str, payload: bytes | str | dict[str, Any] = b"", *, qos: int = 1, retain: bool = False, **v5: Any
    ) -> None:
        properties = None
        if v5:
            properties = Properties(PacketTypes.PUBLISH)
            for name, value in v5.items():
                setattr(properties, name, value)
        data = json.dumps(payload) if isinstance(payload, dict) else payload
        await self.client.publish(topic, data, qos=qos, retain=retain, properties=properties)

    async def next(self, seconds: float = SECONDS) -> Message:
        async with asyncio.timeout(seconds):
            message = await anext(self._iterator)
        properties = vars(message.properties) if message.properties is not None else {}
        assert isinstance(message.payload, bytes)
        return Message(str(message.topic), message.payload, message.retain, message.qos, dict(properties))

    async def until(self, topic: str, *, seconds: float = SECONDS) -> Message:
        """The next message on a topic; others are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.next(seconds)
                if message.topic == topic:
                    return message

    async def silence(self, seconds: float) -> list[Message]:
        """What comes within a time in which nothing should."""
        found: list[Message] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    found.append(await self.next(seconds + 1))
        return found

    async def ask(self, topic: str, payload: bytes | str | dict[str, Any] = b"", *, qos: int = 1) -> Message:
        """A request over MQTT 5 and its answer."""
        answer = f"alicia/reply/test/{os.urandom(6).hex()}"
        await self.subscribe(answer)
        await self.publish(topic, payload, qos=qos, ResponseTopic=answer, CorrelationData=b"\x00\x01")
        return await self.until(answer)

    async def retained(self, pattern: str) -> dict[str, Message]:
        """Every retained message under a filter, by topic; closed by a marker where no access list forbids one."""
        marker = f"alicia/events/marker/{os.urandom(6).hex()}"
        await self.subscribe(marker, pattern)
        await self.publish(marker, b"end")
        found: dict[str, Message] = {}
        while True:
            message = await self.next()
            if message.topic == marker:
                break
            if message.retained:
                found[message.topic] = message
        await self.client.unsubscribe(pattern)
        return found


@contextlib.asynccontextmanager
async def client(port: int, *, protocol: int = 5, **options: Any) -> AsyncGenerator[Client, None]:
    version = aiomqtt.ProtocolVersion.V5 if protocol == 5 else aiomqtt.ProtocolVersion.V311
    async with aiomqtt.Client("127.0.0.1", port, protocol=version, socket_options=[NO_DELAY], **options) as made:
        made.pending_calls_threshold = 10_000
        yield Client(made, protocol)


def files_under(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path
