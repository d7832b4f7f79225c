"""What tests need of the machine: programs, free ports, and waiting for a condition."""

import contextlib
import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
# Less is a matter of how busy the machine is; a test that succeeds never waits for that long.
SECONDS = 40.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.3


# Below the ports that the system gives to clients, and to each process of the tests a part of its own: between the
# look for a free port and its use, nobody else takes it.
_FIRST_PORT, _LAST_PORT = 10_000, 32_000
_SHARES = 8


def _ports() -> Iterator[int]:
    share = (_LAST_PORT - _FIRST_PORT) // _SHARES
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    start = random.randrange(share)
    for number in itertools.count(start):
        yield _FIRST_PORT + worker * share + number % share


_PORTS = _ports()


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def listens(port: int) -> bool:
    """Return whether a process accepts connections on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


def wait_until(what: Any, *, seconds: float = SECONDS, why: str | Callable[[], str] = "") -> Any:
    """Poll until ``what()`` is true, and return it; fail after ``seconds``, with what ``why`` says, or returns then.

    It asks more and more rarely: what takes seconds would otherwise be asked hundreds of times.
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {why() if callable(why) else why or what}")
        threading.Event().wait(pause)
        pause = min(1.2 * pause, _LONGEST_PAUSE_SECONDS)
