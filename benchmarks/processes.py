"""Starts what is measured and what measures, each a process; stops by pid what it started."""

import contextlib
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCE = ROOT / "src"
# Debian puts daemons where an ordinary user's PATH does not look.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
START_SECONDS = 20.0
STOP_SECONDS = 10.0
# What a run here must not inherit: another home's settings, and the mode in which the daemon leaves uvloop out.
_NOT_INHERITED = ("MQTT_", "ALICIA", "ENVIRONMENT", "PYTHONASYNCIODEBUG", "PYTHONPATH")
_BROKER_CONFIG = """\
import sys
from pathlib import Path
from aliciacfg.mqtt.broker.dev_broker import dev_config
print(dev_config(int(sys.argv[1]), Path(sys.argv[2])))
"""


class BenchmarkError(Exception):
    """Something that is measured did not start or did not answer as it should; says what."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}


@contextmanager
def process(
    command: list[str],
    log: Path,
    *,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    user: Mapping[str, Any] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A child with its standard error in ``log``; ended at the end. ``user`` has arguments of ``subprocess``."""
    with log.open("a") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=directory,
            env=environment or _environment(),
            **(user or {}),
        )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if child.stdout is not None:
            child.stdout.close()


def ready_line(child: subprocess.Popen[str], log: Path, seconds: float = START_SECONDS) -> str:
    """The line that begins with READY; whoever ends or hangs without one is quoted."""
    assert child.stdout is not None
    stream: IO[str] = child.stdout
    patience = threading.Timer(seconds, child.kill)
    patience.start()
    try:
        for line in stream:
            if line.startswith("READY"):
                return line
    finally:
        patience.cancel()
    raise BenchmarkError(f"{child.args} ended with {child.wait()}: {log.read_text()[-2000:]}")


def _broker_config(port: int, directory: Path, source: Path) -> str:
    """The project's ``mosquitto.conf``, as the code in ``source`` makes it for a broker on this machine."""
    return subprocess.run(
        [sys.executable, "-c", _BROKER_CONFIG, str(port), str(directory)],
        check=True,
        capture_output=True,
        text=True,
        env={**_environment(), "PYTHONPATH": str(source)},
    ).stdout


def free_port() -> int:
    """Return a port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(child: subprocess.Popen[str], port: int, log: Path) -> None:
    """Wait until a child accepts connections; one that ends or hangs is quoted."""
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            # Another program may have taken the port meanwhile: then the child ends.
            time.sleep(0.05)
            if child.poll() is None:
                return
        if child.poll() is not None or time.monotonic() > end:
            raise BenchmarkError(f"{child.args} does not answer on {port}: {log.read_text()[-2000:]}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Broker:
    """A Mosquitto that runs."""

    pid: int
    port: int


@contextmanager
def mosquitto(directory: Path, *, source: Path = SOURCE, without: tuple[str, ...] = ()) -> Iterator[int]:
    """A Mosquitto with the project's settings, but those of ``without``, on a free port; gives the port."""
    with broker(directory, source=source, without=without) as running:
        yield running.port


@contextmanager
def broker(directory: Path, *, source: Path = SOURCE, without: tuple[str, ...] = ()) -> Iterator[Broker]:
    """The same; gives its process id as well."""
    program = shutil.which("mosquitto", path=PATH)
    if program is None:
        raise BenchmarkError("there is no mosquitto on the PATH; `make bench` installs it")
    directory.mkdir(parents=True)
    port = free_port()
    config, log = directory / "mosquitto.conf", directory / "mosquitto.log"
    lines = _broker_config(port, directory, source).splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith(without)))
    with process([program, "-c", str(config)], log) as child:
        wait_for_port(child, port, log)
        yield Broker(child.pid, port)


@dataclass(frozen=True)
class Daemon:
    """The daemon, READY."""

    pid: int
    http_port: int
    ready_line: str
    ready_seconds: float

    def memory_mb(self, what: str = "VmRSS") -> float | None:
        """Resident memory, or its peak (VmHWM), in MB of a million bytes; None without /proc, or once it has ended."""
        with contextlib.suppress(FileNotFoundError):
            found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
            if found is not None:
                return int(found[1]) * 1024 / 1e6
        return None

    def forget_peak(self) -> None:
        """Begin VmHWM anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def processor_seconds(self) -> float:
        """What it has used of the processors; NaN once it has ended."""
        return processor_seconds(self.pid)


def processor_seconds(pid: int) -> float:
    """Return what a process has used of the processors, all its threads together; NaN once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def processor_seconds_of_all(pid: int) -> float:
    """Return the same of a process and its children, with those that have ended; NaN once it has ended itself."""
    total = math.nan
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            if stat.parent.name == str(pid):
                # Its own, and that of children which it has waited for.
                own = sum(map(int, fields[11:15]))
            elif fields[1] == str(pid):
                own = sum(map(int, fields[11:13]))
            else:
                continue
            total = own + (0 if math.isnan(total) else total)
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def daemon(
    directory: Path,
    broker_port: int,
    *,
    source: Path = SOURCE,
    settings: Mapping[str, str] | None = None,
    start_seconds: float = START_SECONDS,
    program: Sequence[str] = ("-m", "aliciacfg", "serve"),
) -> Iterator[Daemon]:
    """The real daemon with the repository's files; ``directory`` holds its data, and may hold an earlier run's.

    ``source`` is the directory of the package that is run, so that another version can be measured; a daemon that is
    not READY after ``start_seconds`` is ended. ``program`` is what Python runs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    environment = {
        **_environment(),
        "MQTT_BROKER": "127.0.0.1",
        "MQTT_PORT": str(broker_port),
        "ENVIRONMENT": "dev",
        "ALICIACFG_HTTP_PORT": "0",
        "ALICIACFG_DATA_DIR": str(directory / "data"),
        "ALICIACFG_ENVIRONMENTS_DIR": str(ROOT / "environments"),
        "ALICIACFG_SCHEMAS_DIR": str(ROOT / "schemas"),
        "PYTHONPATH": str(source),
        **(settings or {}),
    }
    log = directory / "daemon.log"
    begun = time.perf_counter()
    # The directory has no .env, so the run depends on nothing but what is set above.
    command = [sys.executable, *program]
    with process(command, log, environment=environment, directory=directory) as child:
        line = ready_line(child, log, start_seconds)
        seconds = time.perf_counter() - begun
        found = re.search(r"https?://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise BenchmarkError(f"the READY line names no address: {line}")
        yield Daemon(child.pid, int(found[1]), line.strip(), seconds)


@dataclass(frozen=True)
class Responder:
    """A bare responder that runs; its port is 0 if it is a client of the broker."""

    pid: int
    port: int


@contextmanager
def responder(
    kind: str, log: Path, *, program: str = "responders.py", python: Path | str = sys.executable, **options: object
) -> Iterator[Responder]:
    """One of the programs that give minimal answers, READY."""
    with process([str(python), str(HERE / program), kind, *_arguments(options)], log) as child:
        _, *port = ready_line(child, log).split()
        yield Responder(child.pid, int(port[0]) if port else 0)


@contextmanager
def load_beside(kind: str, log: Path, **options: object) -> Iterator[None]:
    """A load generator that runs beside what the block does; ended with it."""
    with process([sys.executable, str(HERE / "load.py"), kind, "--announce", *_arguments(options)], log) as child:
        ready_line(child, log)
        yield
        if child.poll() is not None:
            raise BenchmarkError(f"the load beside it ended too early: {log.read_text()[-2000:]}")


def load(kind: str, *, pid: int = 0, **options: object) -> dict[str, float]:
    """Run a load generator to its end; return what it measured.

    With the ``pid`` of what answers, also the processor time of an answer, ``cpu_us``.
    """
    before = processor_seconds(pid) if pid else 0.0
    measured = run_json("load.py", kind, timeout_seconds=120, **options)
    if pid and measured.get("total"):
        measured["cpu_us"] = (processor_seconds(pid) - before) / measured["total"] * 1e6
    return measured


def run_json(program: str, kind: str, *, timeout_seconds: float, **options: object) -> dict[str, Any]:
    """Run one of the programs beside this one to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, str(HERE / program), kind, *_arguments(options)],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env=_environment(),
    )
    if done.returncode != 0:
        raise BenchmarkError(done.stderr[-2000:])
    return json.loads(done.stdout)


def _arguments(options: dict[str, object]) -> list[str]:
    found: list[str] = []
    for name, value in options.items():
        # A flag stands alone.
        found += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return found
