"""Durable changes, beside the disk, SQLite, the least writer in Python, etcd and Redis."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import limits
import peers
from processes import load, run_json
from reads import add_grpc
from report import DAEMON, Figures, Goal, Row
from rounds import Rounds
from scene import WRITER_TOPIC, WRITTEN, Scene

WRITER = "least writer"
_MANY = 64
_MIN_REFUSED = 3000.0
_MAX_UPDATE_MS = 1.5


def add_writes(rounds: Rounds, scene: Scene) -> None:
    """Sets by one and by many clients, and sets that are refused."""
    rounds.section(
        "Durable set",
        "A PATCH over HTTP that changes one number, each time to a new one. *least writer* is aiohttp with a validated "
        "struct and one thread that commits history and current row of all that wait, then publishes the bytes: the "
        "limit of this shape. *append + fdatasync* and *SQLite* are one change at a time, and no competitors; etcd "
        "and Redis store the same document, flushed before each answer.",
    )
    one = rounds.row("1 writer", Goal(0.4, beside=WRITER))
    same = rounds.row(f"{_MANY} writers, one service", Goal(0.25, beside=WRITER))
    all_services = rounds.row(f"{_MANY} writers, {len(scene.written)} services", Goal(0.25, beside=WRITER))
    for row, writers, services in ((one, 1, [WRITTEN]), (same, _MANY, [WRITTEN]), (all_services, _MANY, scene.written)):
        _add_sets(rounds, scene, row, writers, services)
    _add_limits(rounds, scene, one)
    for rows, writers in (([one], 1), ([same, all_services], _MANY)):
        _add_peers(rounds, scene, rows, writers)
    refused = rounds.row("a set that is refused (422), 32 writers", Goal(_MIN_REFUSED))
    options = {"port": scene.home.http_port, "services": WRITTEN, "outstanding": 32, "statuses": "422"}
    rounds.add_load([(refused, DAEMON)], "write", pid=scene.home.pid, **options)


def _add_sets(rounds: Rounds, scene: Scene, row: Row, writers: int, services: list[str]) -> None:
    options = {"services": ",".join(services), "outstanding": writers}
    home, least = scene.home, scene.responders["writer"]
    rounds.add_load([(row, DAEMON)], "write", pid=home.pid, port=home.http_port, **options)
    rounds.jobs.append(scene.settle)
    options["document"] = scene.config
    rounds.add_load([(row, WRITER)], "write", pid=least.pid, port=least.port, **options)


def _add_limits(rounds: Rounds, scene: Scene, row: Row) -> None:
    change = scene.config.read_bytes()
    measures: dict[str, Callable[[Path, bytes, float], Figures]] = {
        "SQLite, history + current": limits.insert_and_commit,
        "append + fdatasync": limits.append_and_sync,
    }
    for who, measure in measures.items():

        def job(who: str = who, measure: Callable[[Path, bytes, float], Figures] = measure) -> None:
            row.runs[who].append(measure(scene.scratch, change, rounds.effort.limit_seconds))

        rounds.jobs.append(job)


def _add_peers(rounds: Rounds, scene: Scene, rows: list[Row], writers: int) -> None:
    document = scene.config
    if peer := scene.peers.get("etcd"):
        body = scene.scratch / "etcd-put.json"
        body.write_bytes(peers.etcd_put(document.read_bytes()))
        options = {"path": "/v3/kv/put", "method": "POST", "body": body, "outstanding": writers}
        rounds.add_load([(row, "etcd, JSON") for row in rows], "http", pid=peer.pid, port=peer.port, **options)
        if peers.found("h2load"):
            add_grpc(rounds, scene, rows, "Put", peers.grpc_put(document.read_bytes()), streams=writers)
    if peer := scene.peers.get("redis-server"):
        options = {"port": peer.port, "document": document, "outstanding": writers, "method": "SET"}
        rounds.add_load([(row, "Redis, appendfsync always") for row in rows], "redis", pid=peer.pid, **options)


def add_inside(rounds: Rounds, scene: Scene) -> None:
    """The part of a set that the core takes, without transports; what a set takes beyond it is theirs."""
    rounds.section(
        "Inside a set",
        "The same change in one process without HTTP, MQTT and logs: validated, versioned, sealed, entered in the hash "
        "chain and announced in memory alone, or stored too. What a set takes beyond that is HTTP, the update over "
        "MQTT, and the log.",
    )
    kinds = {
        "planned and applied, nothing stored": ("set", 1),
        "refused (422)": ("refused", 1),
        "stored, one change at a time": ("stored", 1),
        f"stored, {_MANY} changes under way": ("stored", _MANY),
    }
    for name, (kind, writers) in kinds.items():
        row = rounds.row(name, key="cpu_us")

        def job(row: Row = row, kind: str = kind, writers: int = writers) -> None:
            with tempfile.TemporaryDirectory(dir=scene.scratch) as data:
                seconds = rounds.effort.limit_seconds
                figures = run_json("inside.py", kind, timeout_seconds=60, data=data, seconds=seconds, writers=writers)
                row.runs[DAEMON].append(figures)

        rounds.jobs.append(job)


def add_latency(rounds: Rounds, scene: Scene) -> None:
    """From sending a change to its answer, and to a subscriber that has it; one change at a time."""
    rounds.section("From a set to its update", "One change at a time, from sending the request; medians of each round.")
    rows = {
        "answer": rounds.row("set to its answer", key="p50_ms"),
        "update": rounds.row(
            "set to a subscriber's update", Goal(_MAX_UPDATE_MS, "p50_ms", at_least=False), key="p50_ms"
        ),
    }
    common = {"broker_port": scene.mqtt_port, "services": WRITTEN, "samples": rounds.effort.samples}

    def add(who: str, options: dict[str, object]) -> None:
        def job() -> None:
            figures = load("latency", **common, **options)
            for name, row in rows.items():
                row.runs[who].append({key: figures[f"{name}_{key}"] for key in ("p50_ms", "p99_ms")})

        rounds.jobs.append(job)

    add(DAEMON, {"port": scene.home.http_port, "topic": f"alicia/config/update/{WRITTEN}"})
    rounds.jobs.append(scene.settle)
    least = scene.responders["writer"]
    add(WRITER, {"port": least.port, "topic": f"{WRITER_TOPIC}/{WRITTEN}", "document": scene.config})
