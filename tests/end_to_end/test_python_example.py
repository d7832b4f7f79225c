"""The example in Python, as it stands in examples/, with a real broker and daemon."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import Daemon, serving
from machine import SECONDS, free_port, wait_until
from repository import ROOT


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of a voice router on a free port."""

    def prepare(made: Daemon) -> None:
        made.keep_services("voice_router")
        base = made.environments / "base.yaml"
        base.write_text(base.read_text().replace("port: 8004", f"port: {free_port()}"))

    with serving(tmp_path, prepare) as made:
        yield made


def session(port: int) -> tuple[socket.socket, str]:
    """Open a session; return it and what it says first."""
    opened = socket.create_connection(("127.0.0.1", port), SECONDS)
    return opened, opened.recv(100).decode()


def test_the_voice_router_follows_its_configuration(home: Daemon, tmp_path: Path):
    """The limit holds at once, the port at a restart, and the daemon is told both; it starts without the daemon."""
    environ = home.environment() | {"STATE_DIRECTORY": str(tmp_path / "state"), "PYTHONPATH": str(ROOT / "src")}
    program = [sys.executable, "-W", "error", str(ROOT / "examples" / "python" / "voice_router.py")]

    def started() -> tuple["subprocess.Popen[str]", int]:
        process = subprocess.Popen(program, env=environ, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("listening on port "):
                return process, int(line.split()[-1])
        raise AssertionError(process.wait())

    def status() -> str:
        instances = home.http("GET", "/config/voice_router/instances").json["instances"]
        return instances[0]["status"] if instances and instances[0]["current"] else ""

    process, port = started()
    try:
        first, said = session(port)
        assert said == "ready\n"
        first.sendall(b"lights\n")
        assert first.recv(100) == b"heard lights\n"
        assert home.http("PATCH", "/config/voice_router", {"settings": {"max_sessions": 1}}).status == 200
        wait_until(lambda: status() == "applied")
        refused, said = session(port)
        assert said == "busy\n"
        refused.close()
        first.close()
        next_port = free_port()
        assert home.http("PATCH", "/config/voice_router", {"api_config": {"port": next_port}}).status == 200

        def pending() -> bool:
            (instance,) = home.http("GET", "/config/voice_router/instances").json["instances"]
            return instance["status"] == "restart_pending"

        wait_until(pending)
    finally:
        process.terminate()
        output = process.communicate(timeout=SECONDS)[1]
    assert (process.returncode, "Traceback" in output) == (0, False), output
    environ["MQTT_PORT"] = str(free_port())
    process, other_port = started()
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert other_port == next_port
