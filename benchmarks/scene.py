"""What runs while the rounds run: broker, daemons, bare responders, and the peers that are installed."""

import json
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import peers as programs
from peers import Peer
from processes import HERE, ROOT, BenchmarkError, Daemon, Responder, daemon, load, mosquitto, responder

# Read and never written, so that its answer stays the same bytes.
READ = "voice_router"
WRITTEN = "stt_service"
GET_TOPIC = f"alicia/config/get/{READ}"
# Not under alicia/config/, which the daemon listens to.
BARE_TOPIC = f"alicia/bare/get/{READ}"
ORIGINAL_TOPIC = "alicia/original"
WRITER_TOPIC = "alicia/writer"
SETTLE_SECONDS = 30.0
# `make bench-peers` installs the packages of the original's time there.
ORIGINAL_PYTHON = ROOT / ".venv" / "original" / "bin" / "python"


@dataclass(frozen=True)
class Scene:
    """What runs while the rounds run.

    Attributes:
        mqtt_port: Where the broker listens.
        home: The daemon.
        guarded: A daemon with a broker of its own, where access is restricted; for reads with a token.
        token: A token of that one.
        older_port: A broker of its own for a daemon that speaks MQTT 3.1.1.
        older: That daemon.
        services: The names of the daemon's configurations.
        mqtt_document: The file of the daemon's answer to a get over MQTT, which the bare responder gives too.
        http_document: The same over HTTP.
        config: The file of the configuration alone.
        scratch: A directory on the disk that is measured.
        responders: By name: the bare ones, and where it is installed the original's shape.
        peers: By name, those that are installed.
        stack: Ends what is started later.
    """

    mqtt_port: int
    home: Daemon
    guarded: Daemon
    token: str
    older_port: int
    older: Daemon
    services: list[str]
    mqtt_document: Path
    http_document: Path
    config: Path
    scratch: Path
    responders: dict[str, Responder] = field(default_factory=dict[str, Responder])
    peers: dict[str, Peer] = field(default_factory=dict[str, Peer])
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def written(self) -> list[str]:
        """The services that are written where many are."""
        return [name for name in self.services if name != READ]

    def settle(self) -> None:
        """Wait until the bus holds what was written, so that the next measurement has the machine to itself."""
        end = time.monotonic() + SETTLE_SECONDS
        while json.loads(fetch(self.home, "/health"))["outbox_pending"]:
            if time.monotonic() > end:
                raise BenchmarkError(f"the updates of the writes are not on the bus after {SETTLE_SECONDS:g} s")
            time.sleep(0.02)


def open_scene(stack: ExitStack, scratch: Path) -> Scene:
    """Start everything; ``stack`` stops it."""
    mqtt_port = stack.enter_context(mosquitto(scratch / "broker"))
    home = stack.enter_context(daemon(scratch / "home", mqtt_port))
    guarded, token = _guarded(stack, scratch)
    older_port = stack.enter_context(mosquitto(scratch / "older-broker"))
    older = stack.enter_context(daemon(scratch / "older", older_port, program=[str(HERE / "older.py")]))
    mqtt_document, http_document, config = (scratch / name for name in ("mqtt.json", "http.json", "config.json"))
    load("ask", port=mqtt_port, topic=GET_TOPIC, document=mqtt_document)
    http_document.write_bytes(fetch(home, f"/config/{READ}"))
    config.write_text(json.dumps(json.loads(http_document.read_bytes())["config"], separators=(",", ":")))
    services = [item["service"] for item in json.loads(fetch(home, "/configs"))["configs"]]
    scene = Scene(
        mqtt_port,
        home,
        guarded,
        token,
        older_port,
        older,
        services,
        mqtt_document,
        http_document,
        config,
        scratch,
        stack=stack,
    )
    _start_responders(stack, scene)
    _start_peers(stack, scene)
    return scene


def fetch(home: Daemon, path: str) -> bytes:
    """Return what the daemon answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{home.http_port}{path}", timeout=10) as answer:
        return answer.read()


def entity_tag(home: Daemon) -> str:
    """Return the entity tag of the configuration that is read, with its quotes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{home.http_port}/config/{READ}", timeout=10) as answer:
        return answer.headers["ETag"]


def _guarded(stack: ExitStack, scratch: Path) -> tuple[Daemon, str]:
    mqtt_port = stack.enter_context(mosquitto(scratch / "guarded-broker"))
    token_file = scratch / "guarded" / "token"
    settings = {"ALICIACFG_ADMIN_TOKEN_FILE": str(token_file)}
    guarded = stack.enter_context(daemon(scratch / "guarded", mqtt_port, settings=settings))
    return guarded, token_file.read_text().strip()


def _start_responders(stack: ExitStack, scene: Scene) -> None:
    log, port = scene.scratch / "responders.log", scene.mqtt_port
    start = stack.enter_context
    running = scene.responders
    running["bare MQTT"] = start(responder("mqtt", log, document=scene.mqtt_document, port=port, topic=BARE_TOPIC))
    running["bare aiohttp"] = start(responder("http", log, document=scene.http_document))
    directory = scene.scratch / "writer"
    running["writer"] = start(responder("writer", log, port=port, topic=WRITER_TOPIC, directory=directory))
    if not ORIGINAL_PYTHON.exists():
        return
    for kind, document in (("mqtt", scene.mqtt_document), ("http", scene.http_document)):
        options = {"port": port, "topic": ORIGINAL_TOPIC, "document": document}
        running[f"original {kind}"] = start(
            responder(kind, log, program="original.py", python=ORIGINAL_PYTHON, **options)
        )


def _start_peers(stack: ExitStack, scene: Scene) -> None:
    document = scene.config.read_bytes()
    starts = {
        "etcd": lambda: programs.etcd(scene.scratch / "etcd", document),
        "redis-server": lambda: programs.redis(scene.scratch / "redis", durable=True),
        "nats-server": lambda: programs.nats(scene.scratch / "nats"),
    }
    for name, start in starts.items():
        if programs.found(name) is None:
            continue
        # A peer that does not start must not keep the daemon from being measured.
        try:
            scene.peers[name] = stack.enter_context(start())
        except BenchmarkError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {
        "Mosquitto": programs.version("mosquitto", "-h"),
        "etcd": programs.version("etcd", "--version"),
        "NATS": programs.version("nats-server", "--version"),
        "Redis": programs.version("redis-server", "--version"),
        "PostgreSQL": programs.postgres_version(),
        "h2load": programs.version("h2load", "--version"),
    }
    return {name: version for name, version in found.items() if version}
