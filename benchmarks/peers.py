"""Servers beside the daemon, where they are installed: etcd, NATS, Redis, PostgreSQL; their data is on the disk."""

import base64
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wire
from processes import PATH, START_SECONDS, BenchmarkError, free_port, process, wait_for_port

KEY = b"config"


@dataclass(frozen=True)
class Peer:
    """A server that runs."""

    pid: int
    port: int


def found(program: str) -> str | None:
    """Return where a program is; None if it is not installed."""
    return shutil.which(program, path=PATH)


def version(program: str, *arguments: str) -> str:
    """Return the version of a program, as it tells it; empty if it is not installed."""
    place = found(program)
    if place is None:
        return ""
    told = subprocess.run([place, *arguments], check=False, capture_output=True, text=True)
    match = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
    return match[0] if match else "?"


@contextmanager
def etcd(directory: Path, document: bytes) -> Iterator[Peer]:
    """An etcd of one member that has the document under ``KEY``."""
    directory.mkdir(parents=True)
    port, peer_port = free_port(), free_port()
    url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    command = [
        _program("etcd"), "--data-dir", str(directory / "data"), "--listen-client-urls", url,
        "--advertise-client-urls", url, "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
        "--initial-cluster", f"default={peer_url}", "--log-level", "error", "--logger", "zap",
    ]  # fmt: skip
    log = directory / "etcd.log"
    with process(command, log) as child:
        wait_for_port(child, port, log)
        request = urllib.request.Request(f"{url}/v3/kv/put", etcd_put(document))
        urllib.request.urlopen(request, timeout=10).read()
        yield Peer(child.pid, port)


def etcd_range() -> bytes:
    """The JSON request for ``KEY``."""
    return json.dumps({"key": base64.b64encode(KEY).decode()}).encode()


def etcd_put(document: bytes) -> bytes:
    """The JSON request that puts the document under ``KEY``."""
    return json.dumps({"key": base64.b64encode(KEY).decode(), "value": base64.b64encode(document).decode()}).encode()


@contextmanager
def redis(directory: Path, *, durable: bool) -> Iterator[Peer]:
    """A Redis; durable with an append-only file that is flushed before each answer."""
    directory.mkdir(parents=True)
    port = free_port()
    command = [_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    command += ["--save", "", "--daemonize", "no", "--appendonly", "yes" if durable else "no"]
    log = directory / "redis.log"
    with process([*command, "--appendfsync", "always"], log) as child:
        wait_for_port(child, port, log)
        yield Peer(child.pid, port)


@contextmanager
def nats(directory: Path) -> Iterator[Peer]:
    """A NATS server with JetStream, whose key-value store flushes as its defaults have it: not before each answer."""
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "nats.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nserver_name: bench\njetstream {{ store_dir: "{directory / "data"}" }}\n'
    )
    log = directory / "nats.log"
    with process([_program("nats-server"), "-c", str(config)], log) as child:
        wait_for_port(child, port, log)
        yield Peer(child.pid, port)


def h2load(peer: Peer, method: str, message: bytes, *, streams: int, seconds: float, scratch: Path) -> dict[str, float]:
    """Call one of etcd's gRPC methods on ``streams`` streams of one connection: a probe for the rate, then the run.

    A unary call is an HTTP/2 request with a frame of five bytes before the message; h2load sends just that.
    """
    body = scratch / "grpc.bin"
    body.write_bytes(b"\x00" + len(message).to_bytes(4, "big") + message)
    url = f"http://127.0.0.1:{peer.port}/etcdserverpb.KV/{method}"
    command = [_program("h2load"), "-c", "1", "-m", str(streams), "-t", "1", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    count, rate = 200, 0.0
    for _ in range(2):
        done = subprocess.run(
            [*command, "-n", str(count), url], check=False, capture_output=True, text=True, timeout=60
        )
        told = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
        if told is None or f"{count} succeeded" not in done.stdout:
            raise BenchmarkError(f"h2load: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        rate = float(told[1])
        count = max(streams, int(rate * seconds))
    return {"per_second": rate}


def grpc_range() -> bytes:
    """``RangeRequest`` for ``KEY`` in Protocol Buffers."""
    return _field(1, KEY)


def grpc_put(document: bytes) -> bytes:
    """``PutRequest`` of the document under ``KEY``."""
    return _field(1, KEY) + _field(2, document)


def _field(number: int, value: bytes) -> bytes:
    # A length is a variable integer of the same form as MQTT's.
    return bytes([number << 3 | 2]) + wire.variable_integer(len(value)) + value


def _program(name: str) -> str:
    place = found(name)
    if place is None:
        raise BenchmarkError(f"there is no {name}; `make bench-peers` installs it")
    return place


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server that runs, with its own settings."""

    pid: int
    directory: Path

    def url(self, database: str) -> str:
        return f"postgresql://aliciacfg@/{database}?host={self.directory}"


def postgres_programs() -> Path | None:
    """Return the directory of PostgreSQL's programs, which Debian has in one of their own; None if there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = found("postgres")
    return places[-1] if places else Path(on_path).parent if on_path else None


def postgres_version() -> str:
    """Return the version of PostgreSQL; empty if it is not installed."""
    programs = postgres_programs()
    return "" if programs is None else version(str(programs / "postgres"), "--version")


@contextmanager
def postgres(databases: tuple[str, ...]) -> Iterator[Postgres]:
    """A server with empty databases that flushes each commit, as Debian sets it up; ended and removed at the end."""
    programs = postgres_programs()
    if programs is None:
        raise BenchmarkError("there is no PostgreSQL; `make bench` installs it")
    user: dict[str, Any] = {}
    # A short path, as sockets need, on a disk, and open to the user whom it has to run as.
    with tempfile.TemporaryDirectory(prefix="aliciacfg-bench-", dir="/var/tmp") as made:
        directory = Path(made)
        if os.geteuid() == 0:
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            account = names.get("postgres") or names["nobody"]
            user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(directory, account.pw_uid, account.pw_gid)
        options = [
            f"--pgdata={directory}/data",
            "--username=aliciacfg",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
        ]
        subprocess.run([programs / "initdb", *options], check=True, capture_output=True, cwd=directory, **user)
        command = [
            str(programs / "postgres"), "-D", f"{directory}/data",
            "-c", f"unix_socket_directories={directory}", "-c", "listen_addresses=",
        ]  # fmt: skip
        log = directory / "log"
        with process(command, log, directory=directory, user=user) as child:
            server = Postgres(child.pid, directory)
            end = time.monotonic() + START_SECONDS
            create = [programs / "createdb", "--host", directory, "--username", "aliciacfg"]
            for database in databases:
                while subprocess.run([*create, database], check=False, capture_output=True, cwd=directory).returncode:
                    if child.poll() is not None or time.monotonic() > end:
                        raise BenchmarkError(f"PostgreSQL does not answer: {log.read_text()[-2000:]}")
                    time.sleep(0.05)
            yield server
