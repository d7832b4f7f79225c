"""Several daemons of one home on PostgreSQL, beside one on SQLite, and beside what PostgreSQL itself allows."""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import peers
from processes import (
    START_SECONDS,
    BenchmarkError,
    Broker,
    Daemon,
    broker,
    daemon,
    load,
    load_beside,
    processor_seconds_of_all,
    run_json,
)
from report import Figures, Goal, Row
from rounds import Rounds
from scene import GET_TOPIC, READ, SETTLE_SECONDS, WRITTEN, Scene, fetch

ONE_SQLITE, ONE_POSTGRES, THREE = "1 daemon, SQLite", "1 daemon, PostgreSQL", "3 daemons, PostgreSQL"
ALONE, GROUPED = "bare, each commits its own", "bare, 3 commit for all"
_WRITERS = (1, 16, 48)
_BARE_PROCESSES = 3
_DAEMONS = {ONE_SQLITE: 1, ONE_POSTGRES: 1, THREE: 3}
_DATABASES = {ONE_POSTGRES: "one", THREE: "three"}
_BARE = "bare"
# As many to each daemon.
_CONNECTIONS = 33
_BESIDE = 16
_MAX_STALE_MS = 5.0
_MIN_OF_BARE = 0.5
_FOR_EVER = 600.0


@dataclass(frozen=True)
class Home:
    """A home with a broker of its own.

    Attributes:
        daemons: That serve it.
        bus: Its broker.
        database: The process id of the database's server; 0 for SQLite.
        mqtt_document: The file of the answer to a get over MQTT.
        http_document: The same over HTTP.
    """

    daemons: list[Daemon]
    bus: Broker
    database: int
    mqtt_document: Path
    http_document: Path

    @property
    def ports(self) -> str:
        return ",".join(str(one.http_port) for one in self.daemons)

    def used(self) -> dict[str, float]:
        """What its parts have used of the processors, in seconds."""
        found = {"daemons": sum(one.processor_seconds() for one in self.daemons)}
        if self.database:
            found["database"] = processor_seconds_of_all(self.database)
        return found | {"broker": processor_seconds_of_all(self.bus.pid)}

    def settle(self) -> None:
        """Wait until the bus holds what was written."""
        end = time.monotonic() + SETTLE_SECONDS
        while any(json.loads(fetch(one, "/health"))["outbox_pending"] for one in self.daemons):
            if time.monotonic() > end:
                raise BenchmarkError(f"the updates of the writes are not on the bus after {SETTLE_SECONDS:g} s")
            time.sleep(0.02)


def add_replicas(rounds: Rounds, scene: Scene) -> None:
    """Writes, gets and staleness; left out where PostgreSQL or its driver is not installed."""
    if peers.postgres_programs() is None or importlib.util.find_spec("asyncpg") is None:
        print("several daemons are left out: PostgreSQL or asyncpg is not installed", file=sys.stderr)
        return
    server = scene.stack.enter_context(peers.postgres((*_DATABASES.values(), _BARE)))
    homes = {
        name: _open_home(scene.stack, scene.scratch / f"home{at}", name, server) for at, name in enumerate(_DAEMONS)
    }
    run_json("chained.py", "prepare", timeout_seconds=60, url=server.url(_BARE))
    parts = _Parts(rounds)
    _add_writes(rounds, scene, homes, server, parts)
    _add_gets(rounds, homes, parts)
    _add_staleness(rounds, scene, homes[THREE])
    parts.add_section()


def _open_home(stack: ExitStack, scratch: Path, name: str, server: peers.Postgres) -> Home:
    scratch.mkdir()
    bus = stack.enter_context(broker(scratch / "broker"))
    daemons: list[Daemon] = []
    for number in range(_DAEMONS[name]):
        settings: dict[str, str] = {}
        if name in _DATABASES:
            settings["ALICIACFG_DATABASE_URL"] = server.url(_DATABASES[name])
        if daemons:
            # The first start made it.
            settings["ALICIACFG_KEY_ENCRYPTION_KEY_FILE"] = str(scratch / "daemon0" / "data" / "key-encryption.key")
        daemons.append(stack.enter_context(daemon(scratch / f"daemon{number}", bus.port, settings=settings)))
    for one in daemons:
        _wait_until_ready(one)
    mqtt_document, http_document = scratch / "mqtt.json", scratch / "http.json"
    load("ask", port=bus.port, topic=GET_TOPIC, document=mqtt_document)
    http_document.write_bytes(fetch(daemons[0], f"/config/{READ}"))
    return Home(daemons, bus, server.pid if name in _DATABASES else 0, mqtt_document, http_document)


def _wait_until_ready(one: Daemon) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if json.loads(fetch(one, "/ready"))["ready"]:
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise BenchmarkError("a daemon of several is not ready")
        time.sleep(0.1)


class _Parts:
    """The processor time of an operation, by the programs that take part."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._rows: list[Row] = []

    def rows(self, name: str) -> dict[str, Row]:
        """Make the rows of an operation."""
        made = {part: Row(f"{name}: {part}", "cpu_us") for part in ("daemons", "database", "broker")}
        self._rows += made.values()
        return made

    def add_section(self) -> None:
        """Show them."""
        section = self._rounds.section(
            "Several daemons: processor time of an operation",
            "Of all daemons of the home together, of all processes of PostgreSQL, and of the broker, divided by the "
            "operations: the figure that carries over to machines with more processors. Every daemon follows what the "
            "others write, so each write costs all of them.",
        )
        section.side_by_side = True
        section.rows += self._rows


def _add(
    rounds: Rounds, parts: _Parts, row: Row, homes: dict[str, Home], kind: str, options: dict[str, dict[str, object]]
) -> None:
    """Measure an operation at each of the homes, with options of its own."""
    timing = {"seconds": rounds.effort.seconds, "warm": rounds.effort.warm_seconds}
    shares = parts.rows(row.name)

    def job(name: str, home: Home) -> None:
        before = home.used()
        figures = load(kind, **timing, **options[name])
        microseconds = {part: (used - before[part]) / figures["total"] * 1e6 for part, used in home.used().items()}
        row.runs[name].append({**figures, "cpu_us": sum(microseconds.values())})
        for part, share in microseconds.items():
            shares[part].runs[name].append({"cpu_us": share})
        home.settle()

    # In the order of the columns.
    rounds.jobs += [partial(job, name, home) for name, home in homes.items()]


def _add_writes(rounds: Rounds, scene: Scene, homes: dict[str, Home], server: peers.Postgres, parts: _Parts) -> None:
    section = rounds.section(
        "Several daemons: durable set",
        "A PATCH that changes one number, of homes with one daemon and with three, each with a broker of its own. "
        "Three daemons, PostgreSQL, the broker and the generator share the processors of one machine here, and each "
        "daemon also follows what the others write: so three cannot write faster than one, as they could where each "
        "has a machine. What carries over is the processor time, which is that of daemons, database and broker "
        "together. Over HTTP the writers are spread over the daemons, each service at one of them; or all write one "
        "service, where the daemons supersede each other's plans, as they do over MQTT, where the broker gives each "
        "request to another daemon. *bare* are three processes without the daemon that add links to a chain in "
        "PostgreSQL whose end is locked for each commit (`SELECT … FOR UPDATE`): each writer with a connection and "
        "commits of its own, or one connection in each process that commits what its writers have waiting, as a "
        "daemon does. Their processor time is that of PostgreSQL.",
    )
    section.subject = "3 daemons"
    every = ",".join(scene.written)
    for writers in _WRITERS:
        goals = (Goal(_MIN_OF_BARE, beside=ALONE),) if writers == _WRITERS[-1] else ()
        row = _row(rounds, _plural(writers, "over HTTP"), *goals)
        options = {
            name: {"ports": home.ports, "services": every, "outstanding": writers} for name, home in homes.items()
        }
        _add(rounds, parts, row, homes, "write", options)
        for who, kind in ((ALONE, "alone"), (GROUPED, "grouped")):
            rounds.jobs.append(partial(_measure_bare, rounds, row, who, kind, writers, server))
    row = _row(rounds, _plural(_WRITERS[-1], "over HTTP, one service"))
    options = {
        name: {"ports": home.ports, "services": WRITTEN, "outstanding": _WRITERS[-1]} for name, home in homes.items()
    }
    _add(rounds, parts, row, homes, "write", options)
    for writers in _WRITERS:
        row = _row(rounds, _plural(writers, "over MQTT"))
        options = {
            name: {"port": home.bus.port, "services": every, "outstanding": writers} for name, home in homes.items()
        }
        _add(rounds, parts, row, homes, "mqtt-write", options)


def _row(rounds: Rounds, name: str, *goals: Goal, key: str = "per_second") -> Row:
    row = rounds.row(name, *goals, key=key)
    row.subject = THREE
    return row


def _plural(writers: int, rest: str) -> str:
    return f"{writers} writer{'s' if writers > 1 else ''} {rest}"


def _measure_bare(rounds: Rounds, row: Row, who: str, kind: str, writers: int, server: peers.Postgres) -> None:
    """Have several processes write at once; their rates add up."""
    processes = min(_BARE_PROCESSES, writers)
    options = {"url": server.url(_BARE), "writers": writers // processes, "seconds": rounds.effort.seconds}
    before = processor_seconds_of_all(server.pid)
    with ThreadPoolExecutor(processes) as pool:
        running = [pool.submit(run_json, "chained.py", kind, timeout_seconds=60, **options) for _ in range(processes)]
        found: list[Figures] = [one.result() for one in running]
    used = processor_seconds_of_all(server.pid) - before
    row.runs[who].append(
        {
            "per_second": sum(one["per_second"] for one in found),
            "p50_ms": sum(one["p50_ms"] for one in found) / processes,
            "p99_ms": max(one["p99_ms"] for one in found),
            "cpu_us": used / sum(one["total"] for one in found) * 1e6,
        }
    )


def _add_gets(rounds: Rounds, homes: dict[str, Home], parts: _Parts) -> None:
    section = rounds.section(
        "Several daemons: get",
        f"Over HTTP on {_CONNECTIONS} connections, spread over the daemons; over MQTT one client with 32 requests "
        "outstanding, which the broker gives to the daemons in turn (`$share`). Generator and broker use one processor "
        "each, of the same machine: so three daemons cannot show here that they answer more than one.",
    )
    section.subject = "3 daemons"
    row = _row(rounds, "get over HTTP")
    options: dict[str, dict[str, object]] = {
        name: {
            "ports": home.ports,
            "path": f"/config/{READ}",
            "document": home.http_document,
            "outstanding": _CONNECTIONS,
        }
        for name, home in homes.items()
    }
    _add(rounds, parts, row, homes, "http", options)
    row = _row(rounds, "get over MQTT, QoS 1")
    options = {
        name: {
            "port": home.bus.port,
            "topic": GET_TOPIC,
            "document": home.mqtt_document,
            "qos": 1,
            "outstanding": 32,
        }
        for name, home in homes.items()
    }
    _add(rounds, parts, row, homes, "mqtt", options)


def _add_staleness(rounds: Rounds, scene: Scene, home: Home) -> None:
    rounds.section(
        "Several daemons: staleness",
        "From the answer to a PATCH at one of three daemons until another one answers a get with it, from memory. The "
        "get is repeated without a pause on one connection.",
    )
    options = {"ports": home.ports, "services": WRITTEN, "samples": rounds.effort.samples}

    def beside() -> AbstractContextManager[None]:
        others = [name for name in scene.written if name != WRITTEN]
        flood = {"ports": home.ports, "services": ",".join(others), "outstanding": _BESIDE, "seconds": _FOR_EVER}
        return load_beside("write", scene.scratch / "beside.log", **flood)

    for name, goals, flood in (
        ("no other writer", (Goal(_MAX_STALE_MS, "p99_ms", at_least=False),), nullcontext),
        (f"beside {_BESIDE} writers", (), beside),
    ):
        row = _row(rounds, name, *goals, key="p50_ms")

        def job(row: Row = row, flood: Callable[[], AbstractContextManager[None]] = flood) -> None:
            with flood():
                row.runs[THREE].append(load("staleness", **options))
            home.settle()

        rounds.jobs.append(job)
