"""What a change costs the core alone: in this process, without HTTP, MQTT and logs; the result is printed as JSON.

inside.py set     --data DIR --seconds S   planned, and applied in memory; nothing is stored
inside.py refused --data DIR --seconds S   refused by the schema
inside.py stored  --data DIR --seconds S --writers N
                  set and stored, with N changes under way
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import structlog

from aliciacfg.access.caller import Caller
from aliciacfg.bootstrap import Core, open_core
from aliciacfg.errors import ValidationFailed
from aliciacfg.model.records import Write
from aliciacfg.operations.table import BY_NAME
from aliciacfg.settings import resolve
from aliciacfg.storage.data_directory import DataDirectory
from processes import ROOT
from scene import WRITTEN

_CALLER = Caller("bench", "http", role="admin", proven=True, private=True)
_WARM_CHANGES = 200


async def change(core: Core, value: object) -> None:
    fields = {"patch": {"limits": {"requests_per_minute": value}}}
    with contextlib.suppress(ValidationFailed):
        await BY_NAME["patch"].run(core.service, _CALLER, WRITTEN, fields)


def store_nothing(core: Core) -> None:
    """Have every change count as durable at once."""

    def submit(_write: Write, on_commit: Callable[[], None] | None = None) -> asyncio.Future[None]:
        if on_commit is not None:
            on_commit()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    core.queue.submit = submit


async def measure(core: Core, options: argparse.Namespace) -> dict[str, float]:
    if options.kind != "stored":
        store_nothing(core)
    numbers = count(1)
    values = (f"no number {number}" if options.kind == "refused" else number for number in numbers)
    for _ in range(_WARM_CHANGES):
        await change(core, next(values))
    done, begun, end = 0, time.process_time(), time.perf_counter() + options.seconds

    async def writer() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await change(core, next(values))
            done += 1

    async with asyncio.TaskGroup() as writers:
        for _ in range(options.writers):
            writers.create_task(writer())
    return {"cpu_us": (time.process_time() - begun) / done * 1e6, "per_second": done / options.seconds}


async def run(options: argparse.Namespace) -> dict[str, float]:
    flags = {
        "data_dir": str(options.data),
        "environments_dir": str(ROOT / "environments"),
        "schemas_dir": str(ROOT / "schemas"),
        "environment": "dev",
    }
    settings = resolve(flags, environ={}, dotenv_values={}).settings
    data = DataDirectory(options.data)
    try:
        async with open_core(settings, data) as core:
            await core.start("dev")
            return await measure(core, options)
    finally:
        data.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["set", "refused", "stored"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--writers", type=int, default=1)
    options = parser.parse_args()
    # No line is written for any of them, as little as an answer is.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    json.dump(asyncio.run(run(options)), sys.stdout)


if __name__ == "__main__":
    main()
