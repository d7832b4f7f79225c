"""Measures what a home costs as it grows: the real daemon and a Mosquitto, with N generated services.

    growth.py                                   1,000 and 10,000 beside 100 services, about two minutes
    growth.py --services 100 10000 100000       as many as wanted; 100,000 take a quarter of an hour
    growth.py --source ../other/src             another version, to be compared
    growth.py --json growth.json                every figure of every row

Each home is started with an empty data directory, then once more with all stored; both times one client reads one
configuration over and over in the seconds after READY. Then one edit of dev.yaml changes every service.
"""

import argparse
import http.client
import json
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from processes import HERE, SOURCE, BenchmarkError, Daemon, daemon, mosquitto
from report import titled_table, wide_console

SERVICES = (100, 1_000, 10_000)
# Beside what a home of few services takes.
START_SECONDS = 60.0
START_SECONDS_PER_SERVICE = 0.02
CHANGE_SECONDS = 60.0
CHANGE_SECONDS_PER_SERVICE = 0.02
# How long the client reads after a start, and how often it asks for anything else.
AFTER_START_SECONDS = 3.0
SAMPLES = 200
LIST_SAMPLES = 40
PAUSE_SECONDS = 0.002
# A file may have 16 MiB; what has no room in dev.yaml is in base.yaml.
_PER_FILE = 60_000


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The figures of one home.

    Attributes:
        services: How many it has.
        start_s: From the start of the process to READY, with nothing stored.
        start_processor_s: What the daemon used of a processor until then; less depends on what else the machine does.
        restart_s: The same as ``start_s``, with all stored.
        restart_processor_s: The same as ``start_processor_s``, with all stored.
        memory_mb: Resident memory after the restart, when it rests.
        changed_memory_mb: The same after a change of all, when the broker has it.
        get_ms: A get over HTTP, one at a time: the median.
        started_get_ms: The same in the seconds after the restart.
        started_worst_get_ms: The longest of these.
        list_ms: ``list`` of 100, with a cursor in the middle: the median.
        started_list_ms: The same in the seconds after the restart.
        explain_ms: ``explain``: the median.
        patch_ms: A durable PATCH, one at a time: the median.
        created_ms: A PUT that makes a service which no file names: the median.
        changed_patch_ms: The longest PATCH from the moment at which a change of all is served until a second after
            the broker has it.
        change_s: From an edit that changes all to the moment at which the last configuration is served.
        told_s: From the same edit to the moment at which the broker has all.
        change_worst_get_ms: The longest get from the edit until the broker has all.
        change_get_ms: The median of these.
    """

    services: int
    start_s: float
    start_processor_s: float
    restart_s: float
    restart_processor_s: float
    memory_mb: float
    changed_memory_mb: float
    get_ms: float
    started_get_ms: float
    started_worst_get_ms: float
    list_ms: float
    started_list_ms: float
    explain_ms: float
    patch_ms: float
    created_ms: float
    changed_patch_ms: float
    change_s: float
    told_s: float
    change_get_ms: float
    change_worst_get_ms: float


def measure(services: Sequence[int], scratch: Path, *, source: Path = SOURCE) -> list[Growth]:
    """The figures of a home of each size.

    Args:
        services: How many services each home has.
        scratch: A directory for the homes, on a disk.
        source: The directory of the package that is run.
    """
    return [_measure(count, scratch / f"{count}-services", source) for count in services]


class Home:
    """The files of a home with generated services."""

    def __init__(self, directory: Path, services: int) -> None:
        self.environments, self.schemas = directory / "environments", directory / "schemas"
        self.names = [f"svc_{number:06}" for number in range(services)]
        for path in (self.environments, self.schemas):
            path.mkdir(parents=True)
        (self.environments / "base.yaml").write_text(_BASE + self._services(self.names[_PER_FILE:], _PER_FILE))
        self.write(tracing=False)

    def write(self, *, tracing: bool) -> None:
        """Write dev.yaml; each of its services has ``features.tracing`` as it is here."""
        services = self._services(self.names[:_PER_FILE], 0)
        (self.environments / "dev.yaml").write_text(_DEV.format(tracing=str(tracing).lower()) + services)

    def _services(self, names: Sequence[str], first: int) -> str:
        return "".join(_SERVICE.format(name=name, port=1024 + at % 60000) for at, name in enumerate(names, first))

    @property
    def settings(self) -> dict[str, str]:
        return {
            "ALICIACFG_ENVIRONMENTS_DIR": str(self.environments),
            "ALICIACFG_SCHEMAS_DIR": str(self.schemas),
            "ALICIACFG_MAX_SERVICES": str(len(self.names) + SAMPLES),
        }


_BASE = """\
defaults:
  mqtt_config: {host: alicia_bus_core, port: 1883, tls_enabled: false, keepalive: 60}
  api_config: {host: 0.0.0.0, port: 8000}
  features: {metrics: true, debug_endpoints: false, experimental: false}
  limits: {max_payload_bytes: 1048576, max_queued_messages: 1000, requests_per_minute: 600}
services:
"""
_DEV = """\
defaults:
  mqtt_config: {{host: 127.0.0.1, password: benchmark-only}}
  features: {{tracing: {tracing}}}
services:
"""
_SERVICE = """\
  {name}:
    api_config:
      port: {port}
    settings:
      log_level: INFO
      room: living_room
      retries: 3
      timeout_seconds: 2.5
      topics: [home/{name}/state, home/{name}/set]
"""


class Client:
    """One connection to the daemon, kept alive; gives what an exchange took in milliseconds."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: object = None) -> tuple[float, dict[str, object]]:
        """Send a request that has to succeed; gives its milliseconds and its answer."""
        sent = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        begun = time.perf_counter()
        self._connection.request(method, path, sent, headers)
        response = self._connection.getresponse()
        content = response.read()
        taken = (time.perf_counter() - begun) * 1000
        if response.status >= 300:
            raise BenchmarkError(f"{method} {path}: {response.status} {content[:500]!r}")
        return taken, json.loads(content)

    def median(self, samples: int, method: str, paths: Iterable[str], body: Callable[[int], object]) -> float:
        """The median of some exchanges; each with the next of the paths."""
        found = iter(paths)
        return statistics.median(self.ask(method, next(found), body(number))[0] for number in range(samples))

    def pending(self) -> int:
        """How many retained messages the broker is not known to hold."""
        return int(str(self.ask("GET", "/health")[1]["outbox_pending"]))

    def close(self) -> None:
        self._connection.close()


def _nothing(_number: int) -> object:
    return None


def _measure(count: int, directory: Path, source: Path) -> Growth:
    home = Home(directory, count)
    patience = START_SECONDS + START_SECONDS_PER_SERVICE * count
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(directory / "broker", source=source))

        def run(stack: ExitStack) -> tuple[Daemon, Client]:
            started = stack.enter_context(
                daemon(directory / "home", broker, source=source, settings=home.settings, start_seconds=patience)
            )
            client = Client(started.http_port)
            stack.callback(client.close)
            return started, client

        with ExitStack() as first:
            started, client = run(first)
            start_processor = started.processor_seconds()
            _wait_until_told(client, count)
        restarted, client = run(stack)
        restart_processor = restarted.processor_seconds()
        after_start = _after_start(client, home)
        _wait_until_quiet(restarted)
        memory = restarted.memory_mb() or 0.0
        quiet = _quiet(client, home)
        changed = _change_all(client, home)
        _wait_until_quiet(restarted)
        return Growth(
            services=count,
            start_s=started.ready_seconds,
            start_processor_s=start_processor,
            restart_s=restarted.ready_seconds,
            restart_processor_s=restart_processor,
            memory_mb=memory,
            changed_memory_mb=restarted.memory_mb() or 0.0,
            **after_start,
            **quiet,
            **changed,
        )


def _after_start(client: Client, home: Home) -> dict[str, float]:
    gets: list[float] = []
    lists: list[float] = []
    end = time.perf_counter() + AFTER_START_SECONDS
    while time.perf_counter() < end:
        gets += [client.ask("GET", f"/config/{home.names[len(gets) % len(home.names)]}")[0] for _ in range(10)]
        lists.append(client.ask("GET", _page(home))[0])
        time.sleep(PAUSE_SECONDS)
    return {
        "started_get_ms": statistics.median(gets),
        "started_worst_get_ms": max(gets),
        "started_list_ms": statistics.median(lists),
    }


def _quiet(client: Client, home: Home) -> dict[str, float]:
    middle = home.names[len(home.names) // 2]
    same = f"/config/{middle}"
    return {
        "get_ms": client.median(SAMPLES, "GET", [same] * SAMPLES, _nothing),
        "list_ms": client.median(LIST_SAMPLES, "GET", [_page(home)] * LIST_SAMPLES, _nothing),
        "explain_ms": client.median(LIST_SAMPLES, "GET", [f"/config/{middle}/explain"] * LIST_SAMPLES, _nothing),
        "patch_ms": client.median(SAMPLES, "PATCH", [same] * SAMPLES, _limit),
        "created_ms": client.median(
            LIST_SAMPLES, "PUT", (f"/config/new_{number:06}" for number in range(LIST_SAMPLES)), _whole
        ),
    }


def _limit(number: int) -> object:
    return {"limits": {"requests_per_minute": 1000 + number}}


def _whole(_number: int) -> object:
    return {
        "mqtt_config": {"host": "127.0.0.1", "port": 1883, "username": "new", "password": "benchmark-only"},
        "api_config": {"host": "0.0.0.0", "port": 8000},
    }


def _change_all(client: Client, home: Home) -> dict[str, float]:
    """Change every service with one edit, and read and write one service meanwhile."""
    first, last = home.names[0], home.names[-1]
    home.write(tracing=True)
    begun = time.perf_counter()
    patience = begun + CHANGE_SECONDS + CHANGE_SECONDS_PER_SERVICE * len(home.names)
    gets: list[float] = []
    patches: list[float] = []
    served = told = 0.0
    while not told or time.perf_counter() < begun + told + 1.0:
        taken, answer = client.ask("GET", f"/config/{last}")
        gets.append(taken)
        now = time.perf_counter() - begun
        if not served:
            served = now if _has_tracing(answer) else 0.0
        else:
            patches.append(client.ask("PATCH", f"/config/{first}", _limit(len(patches)))[0])
            if not told and len(patches) % 10 == 0:
                # One message is that of the patch itself.
                told = now if client.pending() <= 1 else 0.0
        if time.perf_counter() > patience:
            raise BenchmarkError(f"the change of {len(home.names)} services is not served after {now:.0f} s")
        time.sleep(PAUSE_SECONDS)
    return {
        "change_s": served,
        "told_s": told,
        "change_get_ms": statistics.median(gets),
        "change_worst_get_ms": max(gets),
        "changed_patch_ms": max(patches),
    }


def _has_tracing(answer: dict[str, object]) -> bool:
    config = answer["config"]
    return isinstance(config, dict) and config["features"]["tracing"] is True


def _page(home: Home) -> str:
    return f"/configs?limit=100&after={home.names[len(home.names) // 2 - 1]}"


def _wait_until_told(client: Client, count: int) -> None:
    end = time.perf_counter() + CHANGE_SECONDS + CHANGE_SECONDS_PER_SERVICE * count
    while client.pending():
        if time.perf_counter() > end:
            raise BenchmarkError(f"the broker does not have all messages of {count} services")
        time.sleep(0.05)


def _wait_until_quiet(started: Daemon) -> None:
    """Wait until the daemon uses less than a tenth of a processor: it verifies its store after a start."""
    end = time.perf_counter() + CHANGE_SECONDS * 10
    used = started.processor_seconds()
    while time.perf_counter() < end:
        time.sleep(0.5)
        before, used = used, started.processor_seconds()
        if used - before < 0.05:
            return


def show(rows: Sequence[Growth]) -> None:
    """Print a line for each figure and a column for each home."""
    console, table = wide_console(), titled_table("What a home costs as it grows")
    table.add_column("services")
    for row in rows:
        table.add_column(f"{row.services:,}", justify="right")
    for field in fields(Growth)[1:]:
        table.add_row(field.name, *(f"{getattr(row, field.name):,.2f}" for row in rows))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, nargs="+", default=SERVICES, metavar="N")
    parser.add_argument("--source", type=Path, default=SOURCE, metavar="DIRECTORY")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    # Ends like any other error, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Beside the sources: the system's own temporary directory may be in memory, and writes go to a disk.
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    rows: list[Growth] = []
    try:
        for count in options.services:
            with tempfile.TemporaryDirectory(dir=results) as directory:
                rows += measure([count], Path(directory), source=options.source.resolve())
    except BenchmarkError as error:
        sys.exit(f"growth.py: {error}")
    finally:
        if rows:
            show(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
