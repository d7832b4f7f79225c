"""What the disk and SQLite can do by themselves: the limits of a durable write, one at a time."""

import os
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

# The least that a store with a history has to write for a change.
TABLES = """
CREATE TABLE history (number INTEGER PRIMARY KEY, service TEXT, revision INTEGER, time REAL, document BLOB);
CREATE TABLE current (service TEXT PRIMARY KEY, revision INTEGER, time REAL, document BLOB);
"""
INSERT = "INSERT INTO history (service, revision, time, document) VALUES (?, ?, ?, ?)"
UPSERT = (
    "INSERT INTO current (service, revision, time, document) VALUES (?, ?, ?, ?) ON CONFLICT (service) DO UPDATE SET "
    "revision = excluded.revision, time = excluded.time, document = excluded.document"
)


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
    """Commit history and current row in a database as durable as the daemon's, one change at a time."""
    file = directory / "insert.db"
    taken: list[float] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(TABLES)
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            row = ("voice_router", len(taken) + 1, begun, data)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(INSERT, row)
            connection.execute(UPSERT, row)
            connection.execute("COMMIT")
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
