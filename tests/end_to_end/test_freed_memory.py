"""Memory that was freed goes back to the system: what only a process of its own shows, as its settings hold for all."""

import asyncio
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from daemons import Daemon
from repository import ROOT

HOME_SERVICES = ("tts_service", "voice_router")
PAGES = ["/", "/docs", "/openapi.json", "/asyncapi.json", "/metrics", "/docs/swagger-ui-bundle.js"] + [
    f"/console/{file.name}" for file in sorted((ROOT / "src/aliciacfg/http/console").glob("*.js"))
]

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")


@glibc
def test_large_blocks_are_given_back_when_they_are_freed():
    """Also after one was freed before: glibc would keep those that lie between others, and only a restart would help.

    In a process of its own, because the setting holds for all of it.
    """
    program = """
import resource
from pathlib import Path
from aliciacfg.process import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

memory.keep_large_blocks_apart()
bytes(8 * 2**20)
before = resident()
large, small = [], []
for number in range(40):
    large.append(bytes([number]) * (2 * 2**20))
    small.append(bytes([number]) * 100_000)
grown = resident() - before
del large
print(grown, resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    grown, kept = map(float, done.stdout.split())
    assert grown > 60
    assert kept < 8


def test_cycles_out_of_sight_do_not_add_up():
    """Each change of very many leaves some; when as many are out of sight as stayed before, all are looked at."""
    program = """
import gc
from aliciacfg.process import memory

with memory.making_what_stays():
    pass
needed = gc.get_freeze_count()
for _ in range(9):
    with memory.making_what_stays():
        circles = [[] for _ in range(needed // 2)]
        for circle in circles:
            circle.append(circle)
print(needed, gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    needed, out_of_sight = map(int, done.stdout.split())
    assert needed > 0
    assert out_of_sight < 5 * needed


async def in_turn(count: int, act: Callable[[int], object], *, clients: int = 20) -> None:
    """Await ``act`` of each number, of so many at a time."""
    numbers = iter(range(count))

    async def client(rest: Iterator[int]) -> None:
        for number in rest:
            await act(number)  # pyright: ignore[reportGeneralTypeIssues]

    await asyncio.gather(*(client(numbers) for _ in range(clients)))


class Clients:
    """What clients of a daemon do in a round, each time with other values."""

    def __init__(self, daemon: Daemon, session: aiohttp.ClientSession) -> None:
        self._daemon = daemon
        self._session = session
        self._written = 0

    async def write(self, _number: int) -> None:
        self._written += 1
        change = {"limits": {"requests_per_minute": 1 + self._written}}
        async with self._session.patch("/config/voice_router", json=change) as response:
            assert response.status == 200, await response.text()

    async def ask_for_nothing(self, number: int) -> None:
        async with self._session.get(f"/config/none_{self._written}_{number}") as response:
            assert response.status == 404

    async def look_at_events(self, _number: int) -> None:
        async with self._session.get("/events") as response:
            assert await response.content.readany()
            response.close()

    async def look_at_page(self, number: int) -> None:
        async with self._session.get(PAGES[number]) as response:
            assert response.status == 200
            await response.read()

    async def edit_files(self, number: int) -> None:
        path = self._daemon.environments / "dev.yaml"
        text, added = path.read_text().partition("# added")[0], f"added_{self._written}_{number}"
        path.write_text(f"{text}# added\n  {added}: {{settings: {{room: hall}}}}\n")
        async with self._session.post("/reload") as response:
            assert response.status == 200, await response.text()
        async with self._session.get(f"/config/{added}") as response:
            assert response.status == 200

    async def read_events(self) -> None:
        async with self._session.get("/events") as response:
            async for _ in response.content.iter_any():
                pass

    async def round(self) -> None:
        """Everything once, while a hundred read the events."""
        readers = [asyncio.create_task(self.read_events()) for _ in range(100)]
        await in_turn(2000, self.write)
        await in_turn(500, self.ask_for_nothing)
        await in_turn(300, self.look_at_events)
        await in_turn(len(PAGES), self.look_at_page)
        await in_turn(5, self.edit_files, clients=1)
        assert not any(reader.done() for reader in readers)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


@pytest.mark.soak
@glibc
async def test_what_clients_do_again_takes_no_more_memory(make_daemon: Callable[..., Daemon]):
    """The first rounds fill what is kept; of eight more, with 16,000 writes, nothing stays."""
    # The variable has it start anew: a forked daemon shares memory with the process that forked it.
    daemon = make_daemon(environ={"PYTHONUNBUFFERED": "1", "ALICIACFG_MAX_EVENT_STREAMS": "200"})
    await asyncio.to_thread(daemon.start)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(daemon.url, connector=connector, timeout=aiohttp.ClientTimeout(None)) as session:
        clients = Clients(daemon, session)
        for _ in range(2):
            await clients.round()
        before = await at_rest_mb(daemon)
        for _ in range(8):
            await clients.round()
        grown = await at_rest_mb(daemon) - before
    # Up to 8 MB that were freed are not given back.
    assert grown < 10, f"{grown:.1f} MB more than {before:.1f}"
    await asyncio.to_thread(daemon.stop)


async def at_rest_mb(daemon: Daemon) -> float:
    """Return the least resident memory in the seconds in which what was freed goes back."""
    assert daemon.process is not None
    least, end = resident_mb(daemon.process.pid), time.monotonic() + 45
    while time.monotonic() < end:
        await asyncio.sleep(1)
        least = min(least, resident_mb(daemon.process.pid))
    return least


def resident_mb(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6
