"""One daemon of a home in a process of its own, which leads for as long as it is told to; for faults of a process.

    python replica_process.py DIRECTORY PORT

It answers each line of its standard input with ``done``: ``lead SECONDS``, or ``patch SERVICE VOLUME``.
"""

import asyncio
import sys
from pathlib import Path

from aliciacfg.bus.address import BrokerAddress
from inprocess import Home, eventually
from replicas import Replica


async def main(directory: Path, port: int) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Home(directory).core() as core:
        replica = Replica(core, BrokerAddress("127.0.0.1", port))
        replica.start()
        while line := (await lines.readline()).decode().split():
            if line[0] == "lead":
                replica.lead(float(line[1]))
                await eventually(replica.home.ready.is_set)
            else:
                await core.ask("patch", line[1], patch={"settings": {"volume": int(line[2])}})
            sys.stdout.write("done\n")
            sys.stdout.flush()
        await replica.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
