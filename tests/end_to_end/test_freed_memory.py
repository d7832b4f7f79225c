"""Memory that was freed goes back to the system: what only a process of its own shows, as its settings hold for all."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library is not glibc")
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
