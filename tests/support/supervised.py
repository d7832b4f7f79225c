"""Runs a command under a supervisor whose configurations are lines of JSON, without a broker.

As a program: ``supervised.py DESCRIPTOR TIMING COMMAND…``. Each line on the descriptor is an object; its members become
variables of the same names. Reports go to standard error.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import wait_until
from repository import ROOT

QUICK: dict[str, float] = {"debounce_seconds": 0, "limit_seconds": 0, "settle_seconds": 0.01, "stop_seconds": 10}


@dataclass
class Supervised:
    """A running supervisor, and how to give it configurations; its standard error is in a file."""

    directory: Path
    command: Sequence[str]
    timing: dict[str, float] = field(default_factory=dict[str, float])
    before: Sequence[str] = ()
    popen: dict[str, Any] = field(default_factory=dict[str, Any])

    def start(self, **values: str) -> "Supervised":
        ours, theirs = os.pipe()
        os.set_inheritable(ours, True)
        self._writer = theirs
        self.configure(**values)
        program = [sys.executable, __file__, str(ours), json.dumps({**QUICK, **self.timing}), *self.command]
        environ = {
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests' / 'support'}",
            "OUT": str(self.directory),
        }
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **self.popen}
        with self.log.open("ab") as log:
            options.setdefault("stderr", log)
            self.process = subprocess.Popen([*self.before, *program], env=environ, pass_fds=[ours], **options)
        os.close(ours)
        return self

    @property
    def log(self) -> Path:
        return self.directory / "stderr"

    def configure(self, **values: str) -> None:
        """Have it another configuration."""
        os.write(self._writer, json.dumps(values).encode() + b"\n")

    def file(self, name: str) -> Path:
        """A file that the command writes into its directory ``$OUT``."""
        return self.directory / name

    def until(self, name: str, content: str | None = None) -> str:
        """Wait for a file, of some content, that the command writes."""
        path = self.file(name)

        def found() -> str:
            there = repr(path.read_text()) if path.exists() else "no such file"
            return f"{name}: {there}, not {content!r}; {self.log.read_text()}"

        wait_until(
            lambda: path.exists() and (path.read_text() == content if content is not None else path.read_text()),
            why=found,
        )
        return path.read_text()

    def until_said(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text(), why=text)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return its exit code, as Popen has it."""
        try:
            return self.process.wait(20)
        finally:
            os.close(self._writer)

    def stop(self) -> None:
        """End it, whatever the test left."""
        if self.process.returncode is None:
            self.send(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _main(descriptor: int, timing: dict[str, float], command: list[str]) -> int:
    from aliciacfg.execution import environment
    from aliciacfg.execution.supervision import supervise
    from aliciacfg.execution.supervisor import Configuration, Task
    from aliciacfg.execution.timing import Timing

    class Lines:
        def __init__(self) -> None:
            self._count = 0

        async def current(self) -> Configuration:
            return await self._next()

        async def _next(self) -> Configuration:
            if not self._count:
                self._reader = asyncio.StreamReader()
                protocol = asyncio.StreamReaderProtocol(self._reader)
                pipe = os.fdopen(descriptor, "rb")
                await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
            line = await self._reader.readline()
            if not line:
                await asyncio.Event().wait()
            self._count += 1
            return Configuration(
                label=f"revision {self._count}", config=json.loads(line), name_of=lambda pointer: pointer[1:]
            )

        async def changes(self) -> AsyncIterator[Configuration | None]:
            while True:
                yield await self._next()

        async def report(self, configuration: Configuration, status: str, error: str | None = None) -> None:
            _say(f"report: {configuration.label} {status} {error or ''}")

    task = Task(command=command, inherited=environment.inherited(), timing=Timing(**timing))
    return asyncio.run(supervise(task, Lines(), _say))


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)
    sys.exit(_main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]))
