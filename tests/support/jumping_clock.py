"""A wall clock that jumps when it is told to, for the process of a daemon: see jumping_clock.c."""

import struct
from pathlib import Path

from preloaded import preloaded


class JumpingClock:
    """A clock for processes with this environment."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "seconds"
        self._file.write_bytes(bytes(8))
        self.environ = {"LD_PRELOAD": preloaded(), "JUMPING_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Be so many seconds ahead of the machine's clock, or behind it, from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
