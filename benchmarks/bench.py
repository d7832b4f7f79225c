"""Measures the daemon beside the least that its libraries need for the same work, all in one run.

Rounds are interleaved, so that whatever else the machine does meets both sides. Figures are medians over the
rounds; a ratio is the median of the rounds' own ratios. Ends with 0 whether or not the goals are met: it tells,
it asserts nothing.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import limits
from processes import HERE, BenchmarkError, Daemon, daemon, load, mosquitto, responder
from report import DAEMON, Figures, Row, show

# Read and never written, so that its answer stays the same bytes.
READ = "voice_router"
WRITTEN = "stt_service"
GET_TOPIC = f"alicia/config/get/{READ}"
# Not under alicia/config/, which the daemon listens to.
BARE_TOPIC = f"alicia/bare/get/{READ}"
SETTLE_SECONDS = 30.0

MIN_RATIO = 0.85
MAX_READY_SECONDS = 2.0
MAX_MEMORY_MB = 80.0

Job = Callable[[], None]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    starts: int
    seconds: float
    warm_seconds: float
    limit_seconds: float
    samples: int


QUICK = Effort(rounds=3, starts=2, seconds=0.5, warm_seconds=0.15, limit_seconds=0.3, samples=60)
FULL = Effort(rounds=5, starts=3, seconds=2.0, warm_seconds=0.4, limit_seconds=1.0, samples=200)


@dataclass(frozen=True)
class Scene:
    """What runs while the rounds run.

    Attributes:
        mqtt_port: Where the broker listens.
        bare_http_port: Where the bare HTTP handler listens.
        home: The daemon.
        services: The names of its configurations.
        mqtt_document: The daemon's answer to a get over MQTT, which the bare responder gives too.
        http_document: The same over HTTP.
        scratch: A directory on the disk that is measured.
    """

    mqtt_port: int
    bare_http_port: int
    home: Daemon
    services: list[str]
    mqtt_document: Path
    http_document: Path
    scratch: Path


class Bench:
    """Collects rows, and the jobs of one round that fill them."""

    def __init__(self, effort: Effort) -> None:
        self.rows: list[Row] = []
        self.jobs: list[Job] = []
        self._effort = effort
        self._timing = {"seconds": effort.seconds, "warm": effort.warm_seconds}

    def measure_starts(self, scratch: Path) -> None:
        """From the start of the process to its READY line: with nothing stored yet, then with all stored."""
        first, second = (
            self._row(Row(f"start to READY, {what}", "seconds", "s", max_value=MAX_READY_SECONDS))
            for what in ("empty data directory", "second start")
        )
        memory = self._row(Row("resident memory when READY", "megabytes", "MB", max_value=MAX_MEMORY_MB))
        for number in range(self._effort.starts):
            directory = scratch / f"start-{number}"
            with mosquitto(directory / "broker") as mqtt_port:
                for row in (first, second):
                    with daemon(directory / "home", mqtt_port) as started:
                        row.runs[DAEMON].append({"seconds": started.ready_seconds})
                        memory.runs[DAEMON].append(_memory(started))

    def add_reads(self, scene: Scene) -> None:
        """Gets, beside a bare responder that gives the same bytes."""
        for qos in (0, 1):
            for outstanding in (1, 32):
                row = self._row(Row(f"get over MQTT, QoS {qos}, {outstanding} outstanding", min_ratio=MIN_RATIO))
                common = {"port": scene.mqtt_port, "document": scene.mqtt_document}
                for who, topic in ((DAEMON, GET_TOPIC), ("bare aiomqtt", BARE_TOPIC)):
                    self._load(row, who, "mqtt", topic=topic, qos=qos, outstanding=outstanding, **common)
        row = self._row(Row("get over HTTP, 32 connections", min_ratio=MIN_RATIO))
        common = {"path": f"/config/{READ}", "document": scene.http_document, "outstanding": 32}
        for who, port in ((DAEMON, scene.home.http_port), ("bare aiohttp", scene.bare_http_port)):
            self._load(row, who, "http", port=port, **common)

    def add_writes(self, scene: Scene) -> None:
        """Durable changes, beside the disk and SQLite alone with the bytes of one configuration."""
        others = [name for name in scene.services if name != READ]
        rows: list[Row] = []
        for what, writers, services in (
            ("1 writer", 1, [WRITTEN]),
            ("64 writers, one service", 64, [WRITTEN]),
            (f"64 writers, {len(others)} services", 64, others),
        ):
            rows.append(self._row(Row(f"set over HTTP, {what}")))
            options = {"port": scene.home.http_port, "services": ",".join(services), "outstanding": writers}
            self._load(rows[-1], DAEMON, "write", **options)
            self.jobs.append(lambda: _settle(scene.home))
        change = scene.http_document.read_bytes()
        for who, limit in (("append + fdatasync", limits.append_and_sync), ("sqlite3 FULL", limits.insert_and_commit)):

            def job(who: str = who, limit: Callable[[Path, bytes, float], Figures] = limit) -> None:
                figures = limit(scene.scratch, change, self._effort.limit_seconds)
                for row in rows:
                    row.runs[who].append(figures)

            self.jobs.append(job)

    def add_latency(self, scene: Scene) -> None:
        """From sending a change to its answer, and to a subscriber that has it; one change at a time."""
        names = {"answer": "PATCH to its answer", "update": "PATCH to a subscriber's update"}
        rows = {name: self._row(Row(text, "p50_ms", "ms")) for name, text in names.items()}
        options = {"port": scene.home.http_port, "broker_port": scene.mqtt_port, "services": WRITTEN}

        def job() -> None:
            figures = load("latency", samples=self._effort.samples, **options)
            for name, row in rows.items():
                row.runs[DAEMON].append({key: figures[f"{name}_{key}"] for key in ("p50_ms", "p99_ms")})
            _settle(scene.home)

        self.jobs.append(job)

    def run_rounds(self, note: Callable[[str], None]) -> None:
        """Every job once a round; backwards in every other round, so that none is always first."""
        for number in range(self._effort.rounds):
            note(f"round {number + 1} of {self._effort.rounds}")
            for job in self.jobs if number % 2 == 0 else reversed(self.jobs):
                job()

    def note_memory(self, scene: Scene) -> None:
        """What the daemon holds in the end."""
        self._row(Row("resident memory after all of this", "megabytes", "MB")).runs[DAEMON].append(_memory(scene.home))

    def _row(self, row: Row) -> Row:
        self.rows.append(row)
        return row

    def _load(self, row: Row, who: str, kind: str, **options: object) -> None:
        self.jobs.append(lambda: row.runs[who].append(load(kind, **options, **self._timing)))


def open_scene(stack: ExitStack, scratch: Path) -> Scene:
    """Start everything; ``stack`` stops it."""
    mqtt_port = stack.enter_context(mosquitto(scratch / "broker"))
    home = stack.enter_context(daemon(scratch / "home", mqtt_port))
    mqtt_document, http_document, log = (scratch / name for name in ("mqtt.json", "http.json", "responders.log"))
    load("ask", port=mqtt_port, topic=GET_TOPIC, document=mqtt_document)
    http_document.write_bytes(_get(home, f"/config/{READ}"))
    stack.enter_context(responder("mqtt", log, document=mqtt_document, port=mqtt_port, topic=BARE_TOPIC))
    bare_http_port = stack.enter_context(responder("http", log, document=http_document))
    services = [item["service"] for item in json.loads(_get(home, "/configs"))["configs"]]
    return Scene(mqtt_port, bare_http_port, home, services, mqtt_document, http_document, scratch)


def _get(home: Daemon, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{home.http_port}{path}", timeout=10) as answer:
        return answer.read()


def _memory(home: Daemon) -> Figures:
    megabytes = home.memory_mb()
    return {} if megabytes is None else {"megabytes": megabytes}


def _settle(home: Daemon) -> None:
    """Wait until the bus holds what was written, so that the next measurement has the machine to itself."""
    end = time.monotonic() + SETTLE_SECONDS
    while json.loads(_get(home, "/health"))["outbox_pending"]:
        if time.monotonic() > end:
            raise BenchmarkError(f"the updates of the writes are not on the bus after {SETTLE_SECONDS:g} s")
        time.sleep(0.02)


def _title(scene: Scene, effort: Effort) -> str:
    return (
        f"aliciacfg beside the least that its libraries need: {len(scene.services)} services, an answer of "
        f"{scene.http_document.stat().st_size:,} bytes, {effort.rounds} rounds of {effort.seconds:g} s; "
        f"Python {platform.python_version()}, {os.cpu_count()} processors"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute instead of under five")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures there")
    options = parser.parse_args()
    effort = QUICK if options.quick else FULL
    # Ends like any other error, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Beside the sources: the system's own temporary directory may be in memory, and writes go to a disk.
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    bench = Bench(effort)
    try:
        with tempfile.TemporaryDirectory(dir=results) as directory, ExitStack() as stack:
            scratch = Path(directory)
            _note("starting and stopping the daemon")
            bench.measure_starts(scratch)
            scene = open_scene(stack, scratch)
            bench.add_reads(scene)
            bench.add_writes(scene)
            bench.add_latency(scene)
            bench.run_rounds(_note)
            bench.note_memory(scene)
            title = _title(scene, effort)
    except BenchmarkError as error:
        sys.exit(f"bench.py: {error}")
    show(bench.rows, title=title)
    if options.json is not None:
        options.json.write_text(json.dumps({"title": title, "rows": [row.plain() for row in bench.rows]}, indent=1))


def _note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
