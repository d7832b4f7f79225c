"""A real daemon in a process and a directory of its own."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forking
from brokers import Broker
from machine import SECONDS, wait_until
from postgres import Postgres
from repository import ROOT

# Variables that the loader or the interpreter reads before it imports anything; what forks knows LD_PRELOAD.
BEFORE_IMPORTS = ("LD_LIBRARY_", "LC_", "LANG", "MALLOC_", "PYTHON")


@dataclass
class Databases:
    """Where daemons have their databases: in their data directories, or on a server, one for each directory.

    Attributes:
        server: The server; None for the data directories.
    """

    server: Postgres | None = None
    _urls: dict[Path, str] = field(default_factory=dict[Path, str])

    def environment(self, directory: Path) -> dict[str, str]:
        """The setting of a daemon in this directory."""
        if self.server is None:
            return {}
        if directory not in self._urls:
            self._urls[directory] = self.server.create()
        return {"ALICIACFG_DATABASE_URL": self._urls[directory]}


DATABASES = Databases()


@dataclass
class Daemon:
    """A daemon in a process and a directory of its own, with copies of the repository's files."""

    directory: Path
    broker_port: int
    environ: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    # Whether it runs in asyncio's debug mode; None: if the tests do. It is then on asyncio's own loop, not on uvloop as
    # in production, and requests take three times as long.
    asyncio_debug: bool | None = None
    # Put before its command, to run it elsewhere.
    before: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | forking.ForkedProcess | None = None
    url: str = ""
    # For clients of a daemon that serves HTTPS.
    tls: ssl.SSLContext | None = None
    ready_line: str = ""
    output: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def name_file(self) -> Path:
        """Holds what its health says as ``instance``: which home it serves."""
        return self.data / ("instance" if DATABASES.server is None else "home")

    @property
    def key_file(self) -> Path:
        """Opens all secrets: it holds the keys, or the key that those in the database are wrapped with."""
        return self.data / ("keys.json" if DATABASES.server is None else "key-encryption.key")

    @property
    def environments(self) -> Path:
        return self.directory / "environments"

    def prepare(self) -> "Daemon":
        self.directory.mkdir(parents=True, exist_ok=True)
        for name in ("environments", "schemas"):
            if not (self.directory / name).exists():
                shutil.copytree(ROOT / name, self.directory / name)
        return self

    def keep_services(self, *names: str) -> "Daemon":
        """Reduce its files to some services, before it starts: fewer to compose, to check and to make passwords for."""
        self.prepare()
        for schema in (self.directory / "schemas").glob("*.yaml"):
            if schema.stem not in names:
                schema.unlink()
        for file in ("base.yaml", "dev.yaml", "staging.yaml", "prod.yaml"):
            path = self.environments / file
            head, _, services = path.read_text().partition("\nservices:\n")
            kept = [
                part
                for part in re.split(r"^(?=  \w+:)", services, flags=re.MULTILINE)
                if part[2:].split(":")[0] in names
            ]
            path.write_text(f"{head}\nservices:\n{''.join(kept)}" if kept else head)
        return self

    def environment(self) -> dict[str, str]:
        # Asyncio's debug mode writes to standard error; it is for daemons, whose log takes it.
        ours = ("MQTT_", "ALICIA", "ENVIRON", "PYTHONASYNCIODEBUG")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        return {
            **kept,
            # Hundreds of processes would each read the system's authorities; none of ours is signed by one.
            "SSL_CERT_FILE": os.devnull,
            "MQTT_BROKER": "127.0.0.1",
            "MQTT_PORT": str(self.broker_port),
            "ALICIACFG_HTTP_PORT": "0",
            **DATABASES.environment(self.directory),
            **self.environ,
        }

    def spawn(self) -> "Daemon":
        """Start the process without waiting for it."""
        self.prepare()
        self.output.clear()
        arguments, environ = ["serve", *self.arguments], self._debugged()
        with self.log.open("a") as log:
            if self.before or any(name.startswith(BEFORE_IMPORTS) for name in self.environ):
                self.process = subprocess.Popen(
                    [*self.before, sys.executable, "-m", "aliciacfg", *arguments],
                    cwd=self.directory,
                    env=environ,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            else:
                self.process = forking.start(arguments, directory=self.directory, environ=environ, stderr=log)
        return self

    def _debugged(self) -> dict[str, str]:
        debug = self.asyncio_debug
        if debug is None:
            debug = bool(os.environ.get("PYTHONASYNCIODEBUG"))
        given = {**self.environment(), "PYTHONASYNCIODEBUG": "1" if debug else ""}
        return {key: value for key, value in given.items() if value}

    def start(self) -> "Daemon":
        """Start and wait for READY."""
        self.spawn()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if line.startswith("READY"):
                self.ready_line = line.rstrip("\n")
                found = re.search(r"https?://[^ ]+", line)
                assert found is not None
                self.url = found[0]
                return
        raise AssertionError(f"the daemon ended with {self.process.wait()}: {self.log.read_text()[-4000:]}")

    def wait_exit(self, seconds: float = SECONDS) -> int:
        assert self.process is not None
        code = self.process.wait(seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.wait_exit()

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def hang_up(self, event: str) -> None:
        """Send SIGHUP and wait for an event in the log."""
        before = len(self.logged(event))
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self.logged(event)) > before, why=event)

    def events(self) -> list[dict[str, Any]]:
        """What it logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the entries of an event; the last ones may be missing, since a thread of the daemon writes the log."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{") and event in line]
        return [entry for entry in map(json.loads, lines) if entry.get("event") == event]

    def first_logged(self, event: str) -> dict[str, Any]:
        """Return the first entry of an event; wait for it, since the log may be behind READY and behind answers."""
        wait_until(lambda: self.logged(event))
        return self.logged(event)[0]

    def stored_rows(self) -> dict[str, list[dict[str, Any]]]:
        """All rows of the database, by table."""
        if DATABASES.server is None:
            with contextlib.closing(sqlite3.connect(self.data / "aliciacfg.db")) as database:
                database.row_factory = sqlite3.Row
                names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                return {name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")] for name in names}
        server, url = DATABASES.server, self.environment()["ALICIACFG_DATABASE_URL"]
        tables = server.execute("SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'aliciacfg'", url=url)
        found = {name: server.execute(f"SELECT * FROM aliciacfg.{name}", url=url) for (name,) in tables}
        return {name: [dict(row) for row in rows] for name, rows in found.items()}

    def edit_database(self, *statements: str) -> None:
        """Change rows behind its back, in SQL that both backends have."""
        if DATABASES.server is None:
            with contextlib.closing(sqlite3.connect(self.data / "aliciacfg.db")) as database, database:
                for statement in statements:
                    database.execute(statement)
        else:
            url = self.environment()["ALICIACFG_DATABASE_URL"]
            DATABASES.server.execute("SET search_path = aliciacfg", *statements, "SELECT 1", url=url)

    def http(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> "HttpAnswer":
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {**({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=self.tls) as response:
                return HttpAnswer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return HttpAnswer(error.code, dict(error.headers), error.read())

    def local(self, operation: str, body: object = None) -> dict[str, Any]:
        """Return the answer to an operation of the socket in the data directory."""
        connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.data / "admin.sock"))
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            connection.request("POST", f"/local/{operation}", json.dumps(body or {}), headers)
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", answer
        return answer

    def undo_changes(self, service: str) -> None:
        """Give a service what the files say again, whatever other tests changed."""
        answer = self.http("POST", f"/config/{service}/unset", {"pointer": "", "allow_breaking": True})
        assert answer.status == 200, answer.body

    def config(self, service: str, query: str = "") -> dict[str, Any]:
        """The answer to a get over HTTP."""
        answer = self.http("GET", f"/config/{service}{query}")
        assert answer.status == 200, answer.body
        return answer.json


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def tracebacks(daemon: Daemon) -> list[str]:
    """Lines of a daemon's log with a traceback, which no test's daemon may write.

    When a broker dies, aiomqtt may register a socket for writing that is closed already; asyncio logs that, and the
    connection is made anew. In debug mode asyncio also logs every client that does not agree on TLS.
    """
    lines = [line for line in daemon.log.read_text().splitlines() if "Traceback" in line]
    harmless = ("_add_writer", "Error on transport creation for incoming connection")
    return [line for line in lines if not ('"logger":"asyncio"' in line and any(text in line for text in harmless))]


@contextlib.contextmanager
def serving(
    directory: Path, prepare: Callable[[Daemon], object] = Daemon.prepare, *, asyncio_debug: bool | None = True
) -> Iterator[Daemon]:
    """A READY daemon on a broker of its own, whose files ``prepare`` wrote; it ends with 0 and logs no traceback."""
    broker = Broker(directory / "broker").start()
    made = Daemon(directory / "home", broker_port=broker.port, asyncio_debug=asyncio_debug)
    prepare(made)
    made.start()
    try:
        yield made
    finally:
        code = made.stop()
        broker.stop()
    assert code == 0
    assert not tracebacks(made), made.log.read_text()[-6000:]


def files_under(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path


def wait_nothing_pending(daemon: Daemon) -> None:
    wait_until(lambda: daemon.http("GET", "/health").json["outbox_pending"] == 0)
