"""A real Mosquitto on a port of its own."""

import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from aliciacfg.mqtt.broker.dev_broker import dev_config
from machine import PATH, free_port, listens, wait_until


@dataclass
class Broker:
    """A Mosquitto of its own; ``config`` is added to the project's mosquitto.conf."""

    directory: Path
    config: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Broker":
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "mosquitto.conf"
        file.write_text(self.settings())
        program = shutil.which("mosquitto", path=PATH)
        assert program is not None, "run make test, which installs Mosquitto"
        self.process = subprocess.Popen([program, "-c", str(file)], stderr=subprocess.DEVNULL)
        wait_until(self._answers, why="Mosquitto listens")
        return self

    def settings(self) -> str:
        """The text of its mosquitto.conf."""
        return dev_config(self.port, self.directory) + self.config

    def reload(self) -> None:
        """Have it read its password file and access list again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        return listens(self.port)

    def kill(self) -> None:
        """End it at once, its memory with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def wipe(self) -> None:
        for file in self.directory.glob("*.db*"):
            file.unlink()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None
