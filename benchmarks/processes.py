"""Starts what is measured and what measures, each a process; stops by pid what it started."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aliciacfg.mqtt.broker.dev_broker import dev_config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Debian puts daemons where an ordinary user's PATH does not look.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
START_SECONDS = 20.0
STOP_SECONDS = 10.0
# What a run here must not inherit: another home's settings, and the mode in which the daemon leaves uvloop out.
_NOT_INHERITED = ("MQTT_", "ALICIA", "ENVIRONMENT", "PYTHONASYNCIODEBUG")


class BenchmarkError(Exception):
    """Something that is measured did not start or did not answer as it should; says what."""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}


@contextmanager
def _process(
    command: list[str], log: Path, *, environment: dict[str, str] | None = None, directory: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A child with its standard error in ``log``; ended at the end."""
    with log.open("a") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=directory,
            env=environment or _environment(),
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


def _ready_line(child: subprocess.Popen[str], log: Path) -> str:
    """The line that begins with READY; whoever ends or hangs without one is quoted."""
    assert child.stdout is not None
    stream: IO[str] = child.stdout
    patience = threading.Timer(START_SECONDS, child.kill)
    patience.start()
    try:
        for line in stream:
            if line.startswith("READY"):
                return line
    finally:
        patience.cancel()
    raise BenchmarkError(f"{child.args} ended with {child.wait()}: {log.read_text()[-2000:]}")


@contextmanager
def mosquitto(directory: Path) -> Iterator[int]:
    """A Mosquitto with the project's settings on a free port of loopback; gives the port."""
    program = shutil.which("mosquitto", path=PATH)
    if program is None:
        raise BenchmarkError("there is no mosquitto on the PATH; `make mosquitto` installs it")
    directory.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config, log = directory / "mosquitto.conf", directory / "mosquitto.log"
    config.write_text(dev_config(port, directory))
    with _process([program, "-c", str(config)], log) as child:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                break
            if child.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"mosquitto does not answer on {port}: {log.read_text()[-2000:]}")
            time.sleep(0.01)
        yield port


@dataclass(frozen=True)
class Daemon:
    """The daemon, READY."""

    pid: int
    http_port: int
    ready_line: str
    ready_seconds: float

    def memory_mb(self) -> float | None:
        """Resident memory (VmRSS) in MB of a million bytes; None where there is no /proc."""
        with contextlib.suppress(FileNotFoundError):
            found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
            if found is not None:
                return int(found[1]) * 1024 / 1e6
        return None


@contextmanager
def daemon(directory: Path, broker_port: int) -> Iterator[Daemon]:
    """The real daemon with the repository's files; ``directory`` holds its data, and may hold an earlier run's."""
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
    }
    log = directory / "daemon.log"
    begun = time.perf_counter()
    # The directory has no .env, so the run depends on nothing but what is set above.
    command = [sys.executable, "-m", "aliciacfg", "serve"]
    with _process(command, log, environment=environment, directory=directory) as child:
        line = _ready_line(child, log)
        seconds = time.perf_counter() - begun
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if found is None:
            raise BenchmarkError(f"the READY line names no address: {line}")
        yield Daemon(child.pid, int(found[1]), line.strip(), seconds)


@contextmanager
def responder(kind: str, log: Path, **options: object) -> Iterator[int]:
    """A bare responder; gives the port it says, or 0."""
    with _process([sys.executable, str(HERE / "responders.py"), kind, *_arguments(options)], log) as child:
        _, *port = _ready_line(child, log).split()
        yield int(port[0]) if port else 0


def load(kind: str, **options: object) -> dict[str, float]:
    """Run a load generator to its end; gives what it measured."""
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), kind, *_arguments(options)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=_environment(),
    )
    if done.returncode != 0:
        raise BenchmarkError(done.stderr[-2000:])
    return json.loads(done.stdout)


def _arguments(options: dict[str, object]) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
