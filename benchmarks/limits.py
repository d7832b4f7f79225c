"""What the disk and SQLite can do by themselves: the limits of a durable write, one at a time."""

import os
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path


def append_and_sync(directory: Path, data: bytes, seconds: float) -> dict[str, float]:
    """Append the bytes to a file and fdatasync it, again and again."""
    file = directory / "append.bin"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    # macOS has no fdatasync.
    sync = getattr(os, "fdatasync", os.fsync)
    taken: list[float] = []
    try:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            os.write(descriptor, data)
            sync(descriptor)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(descriptor)
        file.unlink()
    return _result(taken)


def insert_and_commit(directory: Path, data: bytes, seconds: float) -> dict[str, float]:
    """Insert the bytes into a table of a database as durable as the daemon's, a commit for each."""
    file = directory / "insert.db"
    taken: list[float] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, document BLOB NOT NULL)")
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            connection.execute("INSERT INTO entries (document) VALUES (?)", (data,))
            taken.append(time.perf_counter() - begun)
    for path in directory.glob("insert.db*"):
        path.unlink()
    return _result(taken)


def _result(taken: list[float]) -> dict[str, float]:
    return {
        "per_second": len(taken) / sum(taken),
        "p50_ms": statistics.median(taken) * 1000,
        "p99_ms": sorted(taken)[len(taken) * 99 // 100] * 1000,
    }
