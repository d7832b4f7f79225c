"""One change to many subscribers: from sending it until the last of them has it."""

import http.client
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import wire
from clients import redis_command
from processes import HERE, process, ready_line
from report import DAEMON, Row
from rounds import Rounds
from scene import WRITER_TOPIC, WRITTEN, Scene

_TOPIC = "alicia/fanout"
_PAUSE_SECONDS = 0.1
_MESSAGES = 6

Send = Callable[[int], None]


def add_fanout(rounds: Rounds, scene: Scene) -> None:
    """A change through the daemon, the same bytes published without it, and the peers."""
    rounds.section(
        "Fan-out",
        "From sending one change until the last of many subscribers has it: a set through the daemon and through the "
        "least writer; without them, a publication at Mosquitto, NATS and Redis. Subscribers take processor time too: "
        "some microseconds each, of the same machine.",
    )
    for count in rounds.effort.subscribers:
        row = rounds.row(f"to {count:,} subscribers", key="ms")
        rounds.jobs.append(lambda row=row, count=count: _measure_all(scene, row, count))


def _measure_all(scene: Scene, row: Row, count: int) -> None:
    document = scene.config.read_bytes()
    home, least, mqtt = scene.home.http_port, scene.responders["writer"].port, scene.mqtt_port
    _measure(scene, row, DAEMON, count, "mqtt", mqtt, f"alicia/config/update/{WRITTEN}", _patches(home))
    _measure(scene, row, "least writer", count, "mqtt", mqtt, f"{WRITER_TOPIC}/{WRITTEN}", _puts(least, document))
    message = wire.plain_publish(_TOPIC, 0, document, 0)
    hello = wire.connect("publisher", version=4)
    _measure(scene, row, "Mosquitto", count, "mqtt", mqtt, _TOPIC, _publications(mqtt, hello, message))
    if peer := scene.peers.get("nats-server"):
        subject = _TOPIC.replace("/", ".").encode()
        message = b"PUB %s %d\r\n%s\r\n" % (subject, len(document), document)
        hello = b'CONNECT {"verbose":false}\r\nPING\r\n'
        _measure(scene, row, "NATS", count, "nats", peer.port, _TOPIC, _publications(peer.port, hello, message))
    if peer := scene.peers.get("redis-server"):
        message = redis_command(b"PUBLISH", _TOPIC.encode(), document)
        hello = redis_command(b"PING")
        _measure(scene, row, "Redis", count, "redis", peer.port, _TOPIC, _publications(peer.port, hello, message))


def _measure(
    scene: Scene,
    row: Row,
    who: str,
    count: int,
    kind: str,
    port: int,
    topic: str,
    sender: Callable[[ExitStack], Send],
) -> None:
    """Send some messages, one after the other; the first one is not counted."""
    command = [sys.executable, str(HERE / "subscribers.py"), kind]
    command += ["--port", str(port), "--topic", topic, "--count", str(count)]
    log = scene.scratch / "subscribers.log"
    taken: list[float] = []
    with ExitStack() as stack:
        send = sender(stack)
        subscribers = stack.enter_context(process(command, log))
        ready_line(subscribers, log, 60)
        for number in range(_MESSAGES):
            time.sleep(_PAUSE_SECONDS)
            begun = time.perf_counter()
            send(number)
            taken.append((_last(subscribers) - begun) * 1000)
    row.runs[who].append({"ms": statistics.median(taken[1:])})


def _last(subscribers: subprocess.Popen[str]) -> float:
    assert subscribers.stdout is not None
    return json.loads(subscribers.stdout.readline())["last"]


@contextmanager
def _connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield connection
    finally:
        connection.close()


def _patches(port: int) -> Callable[[ExitStack], Send]:
    def sender(stack: ExitStack) -> Send:
        connection = stack.enter_context(_connection(port))

        def send(_number: int) -> None:
            body = json.dumps({"limits": {"requests_per_minute": time.time_ns() // 1000}})
            connection.request("PATCH", f"/config/{WRITTEN}", body, {"Content-Type": "application/json"})
            connection.getresponse().read()

        return send

    return sender


def _puts(port: int, document: bytes) -> Callable[[ExitStack], Send]:
    def sender(stack: ExitStack) -> Send:
        connection = stack.enter_context(_connection(port))

        def send(_number: int) -> None:
            connection.request("PUT", f"/config/{WRITTEN}", document, {"Content-Type": "application/json"})
            connection.getresponse().read()

        return send

    return sender


def _publications(port: int, hello: bytes, message: bytes) -> Callable[[ExitStack], Send]:
    def sender(stack: ExitStack) -> Send:
        publisher = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        publisher.sendall(hello)
        publisher.recv(65536)
        return lambda _number: publisher.sendall(message)

    return sender
