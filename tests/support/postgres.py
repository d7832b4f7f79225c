"""A real PostgreSQL server on a socket of its own."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from aliciacfg.storage.threads import run_alone
from forking import SHARED, one_at_a_time
from machine import PATH, wait_until

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
_PATH = os.pathsep.join([PATH, *map(str, reversed(_PROGRAMS)), "/opt/homebrew/opt/postgresql/bin"])
USER = "aliciacfg"
_MAX_DIRECTORY = 40
# Nothing that a test writes has to survive a loss of power, and each test has a database of its own.
_FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "16MB", "jit": "off"}

# Ends the other connections of the database, and waits until they have.
END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, which Debian has in a directory of their own."""
    found = shutil.which(name, path=_PATH)
    assert found is not None, "run make test, which installs PostgreSQL"
    return found


def _short_directory() -> str:
    """Where temporary files are, if the path leaves room for the name of a socket."""
    found = tempfile.gettempdir()
    return found if len(found) < _MAX_DIRECTORY else "/tmp"


def _unprivileged() -> Any:
    """Arguments of ``subprocess`` for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """A server with a directory of its own, which ``remove`` ends it with.

    Attributes:
        directory: Holds its data (``data``), its log and its socket; a short path, as sockets need.
    """

    def __init__(self, *, fast: bool = True, standby_of: "Postgres | None" = None, **settings: str) -> None:
        """Make the files of a server that does not run.

        Args:
            fast: Whether it may lose what it has at a loss of power.
            standby_of: A server that runs, which this one follows under the name ``standby``.
            settings: Further settings of postgresql.conf.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir=_short_directory()))
        self.process: subprocess.Popen[Any] | None = None
        self._settings = {"unix_socket_directories": str(self.directory), "listen_addresses": ""}
        # In its directory, and so removed with it: a server that is killed leaves its POSIX segments behind.
        self._settings |= {"dynamic_shared_memory_type": "mmap"}
        self._settings |= (_FAST if fast else {}) | settings
        self._names = map("home{}".format, itertools.count(1))
        self._empty: list[str] = []
        self._given: list[str] = []
        self._user = _unprivileged()
        if self._user:
            os.chown(self.directory, self._user["user"], self._user["group"])
        if standby_of is not None:
            source = f"host={standby_of.directory} user={USER} application_name=standby"
            options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            self.run("pg_basebackup", f"--dbname={source}", f"--pgdata={self.data}", *options)
            return
        if SHARED is None:
            self._initialize(self.data)
            return
        # A copy takes a tenth of the processor time.
        template = SHARED / "postgres"
        with one_at_a_time(SHARED):
            if not template.exists():
                SHARED.chmod(0o711)
                template.mkdir(mode=0o700)
                self.as_user(template)
                self._initialize(template)
        self.run("cp", "-a", str(template), str(self.data))

    def _initialize(self, directory: Path) -> None:
        options = ["--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        self.run("initdb", f"--pgdata={directory}", "--no-sync", "--no-instructions", *options)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def run(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        subprocess.run(
            [program(name), *arguments],
            check=True,
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            env={"PATH": _PATH, "LC_ALL": "C", "TZ": "UTC"},
            **self._user,
        )

    def as_user(self, directory: Path) -> Any:
        """Give a directory to the server's user; return arguments of ``subprocess`` to run a program as that user."""
        if self._user:
            shutil.chown(directory, self._user["user"], self._user["group"])
        return self._user

    def start(self) -> "Postgres":
        options = [argument for name, value in self._settings.items() for argument in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(self.data), *options],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                env={"PATH": _PATH, "LC_ALL": "C", "TZ": "UTC"},
                **self._user,
            )
        wait_until(self._answers, why="PostgreSQL accepts connections")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            self.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def create(self) -> str:
        """Create an empty database; return its address."""
        if self._empty:
            name = self._empty.pop()
        else:
            name = next(self._names)
            self.execute(f"CREATE DATABASE {name} STRATEGY wal_log")
        self._given.append(name)
        return self.url(name)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Empty the databases that the block creates when it is left, to be created again: that is quicker."""
        count = len(self._given)
        yield
        while len(self._given) > count:
            name = self._given.pop()
            self.execute(
                "SET default_transaction_read_only = off",
                # What a test set for its database would be the next one's as well.
                f"ALTER DATABASE {name} RESET ALL",
                END_OTHERS,
                "DROP SCHEMA IF EXISTS aliciacfg CASCADE",
                "SELECT 1",
                url=self.url(name),
            )
            self._empty.append(name)

    def execute(self, *statements: str, url: str | None = None) -> list[Any]:
        """Carry statements out, each in a transaction of its own; return the rows of the last one."""

        async def work() -> list[Any]:
            connection = await asyncpg.connect(url or self.url(), timeout=5)
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return await connection.fetch(statements[-1])
            finally:
                await connection.close()

        return run_alone(work)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it: at once (SIGQUIT) as by a crash, or with the transactions under way rolled back (SIGINT)."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """End it and remove its files."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
