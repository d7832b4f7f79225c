"""Bare writers of a hash chain in PostgreSQL, without the daemon: what one row that is locked for each commit allows.

chained.py prepare --url URL                          makes the tables
chained.py alone   --url URL --writers N --seconds S  N connections, each commits a link by itself
chained.py grouped --url URL --writers N --seconds S  one connection commits what N writers have waiting

A link is a row with some content and the digest of the one before it. A transaction locks the row with the chain's end,
reads it in a second statement, adds the links and replaces the end, and commits. The last line is the result as JSON.
"""

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable

import asyncpg
import uvloop

from meter import percentiles

_TABLES = """
    DROP TABLE IF EXISTS chain_end, links;
    CREATE TABLE chain_end (number bigint, digest bytea) WITH (fillfactor = 20);
    CREATE TABLE links (number bigint PRIMARY KEY, digest bytea, content bytea);
    INSERT INTO chain_end VALUES (0, '')
"""
_ADD = """
    WITH added AS (INSERT INTO links SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]))
    UPDATE chain_end SET number = $4, digest = $5
"""
# As large as an answer of the daemon here.
_CONTENT = b"x" * 1162
_WARM_SECONDS = 0.3


async def _connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url)


async def _add(connection: asyncpg.Connection, links: int) -> None:
    """Add links in one transaction."""
    await connection.execute("BEGIN; SELECT FROM chain_end FOR UPDATE")
    number, digest = await connection.fetchrow("SELECT * FROM chain_end")
    numbers = [number + place for place in range(1, links + 1)]
    digests: list[bytes] = []
    for _ in numbers:
        digest = hashlib.sha256(digest + _CONTENT).digest()
        digests.append(digest)
    await connection.fetch(_ADD, numbers, digests, [_CONTENT] * links, numbers[-1], digest)
    await connection.execute("COMMIT")


async def _prepare(options: argparse.Namespace) -> dict[str, float]:
    connection = await _connect(options.url)
    await connection.execute(_TABLES)
    await connection.close()
    return {}


async def _alone(options: argparse.Namespace) -> dict[str, float]:
    connections = [await _connect(options.url) for _ in range(options.writers)]
    return await _measure(options, [lambda link=link: _add(link, 1) for link in connections])


async def _grouped(options: argparse.Namespace) -> dict[str, float]:
    connection = await _connect(options.url)
    waiting: list[asyncio.Future[None]] = []
    wake = asyncio.Event()

    async def commit_for_ever() -> None:
        while True:
            await wake.wait()
            wake.clear()
            while waiting:
                batch = list(waiting)
                waiting.clear()
                await _add(connection, len(batch))
                for link in batch:
                    link.set_result(None)

    async def write() -> None:
        waiting.append(asyncio.get_running_loop().create_future())
        wake.set()
        await waiting[-1]

    committing = asyncio.create_task(commit_for_ever())
    found = await _measure(options, [write] * options.writers)
    committing.cancel()
    return found


async def _measure(options: argparse.Namespace, writers: list[Callable[[], Awaitable[None]]]) -> dict[str, float]:
    """Have every writer write, one link after the other."""
    taken: list[float] = []
    total = 0
    begin = time.perf_counter() + _WARM_SECONDS
    end = begin + options.seconds

    async def write_on(write: Callable[[], Awaitable[None]]) -> None:
        nonlocal total
        while (began := time.perf_counter()) < end:
            await write()
            total += 1
            if began >= begin:
                taken.append(time.perf_counter() - began)

    await asyncio.gather(*map(write_on, writers))
    return {"per_second": len(taken) / (time.perf_counter() - begin), "total": total, **percentiles(taken)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"prepare": _prepare, "alone": _alone, "grouped": _grouped}
    parser.add_argument("kind", choices=list(kinds))
    parser.add_argument("--url", required=True)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    json.dump(uvloop.run(kinds[options.kind](options)), sys.stdout)


if __name__ == "__main__":
    main()
