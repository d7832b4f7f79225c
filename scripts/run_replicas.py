"""Run a home on several daemons of this machine, without containers: ``make run-replicas``.

PostgreSQL, a broker, three daemons and a load balancer, each in a directory below ``data/replicas``. Ctrl-C ends what
was started here, and leaves the data for the next run. A daemon that ends, because somebody killed it for example, is
started again after some seconds.

It is a script of the repository and no command of the program, because it is for trials: where a home is to last, the
database and each daemon are started by what looks after the machine. It is in Python rather than shell, because it
looks after processes that end at any time, and takes the broker as ``serve --dev`` does.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import asyncpg

from aliciacfg.errors import AliciacfgError
from aliciacfg.mqtt.address import broker_address
from aliciacfg.mqtt.broker.dev_broker import dev_broker
from aliciacfg.sealing.key_encryption import FILE_NAME, SETTING, KeyEncryptionKey
from aliciacfg.settings import read_dotenv, resolve

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
_LOOPBACK = "127.0.0.1"
_NAME = "aliciacfg"
_OLDEST_POSTGRES = 14
# Debian has servers and daemons where the PATH of an ordinary user does not lead.
_MORE_PATHS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
POSTGRES_PLACES = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")
_POSTGRES_START_SECONDS = 30.0
# The daemon needs at most 10.
_STOP_SECONDS = 12.0
_RESTART_SECONDS = 3.0
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 20.0
# A path of a socket has at most 107 bytes.
_MAX_SOCKET_DIRECTORY = 80


class CannotRun(Exception):
    """Something is missing or failed; the text says what, and what to do."""


def say(line: str) -> None:
    """Print a line for people at once."""
    print(line, flush=True)


def main() -> None:
    """Run until Ctrl-C; exit with 1 and one line if something is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=3, help="how many daemons")
    parser.add_argument("--port", type=int, default=8026, help="of the load balancer; the daemons have the next ones")
    parser.add_argument("--data", type=Path, default=Path("data/replicas"), help="where everything is kept")
    options = parser.parse_args()
    try:
        asyncio.run(_until_signal(options.data.absolute(), options.count, options.port))
    except (CannotRun, AliciacfgError) as error:
        print(f"run-replicas: {error}", file=sys.stderr)
        sys.exit(1)


async def _until_signal(data: Path, count: int, port: int) -> None:
    """Run everything; a signal cancels it, and what was started is ended in reverse order."""
    running = asyncio.current_task()
    assert running is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            say("ending everything")
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await _run(data, count, port)
    except asyncio.CancelledError:
        if not stopped:
            raise
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        raise first from None
    say(f"ended; {data} is kept")


async def _run(data: Path, count: int, port: int) -> None:
    ports = _ports(port, count + 1)
    async with AsyncExitStack() as stack:
        lock = stack.enter_context(locked(data))
        url, server = await stack.enter_async_context(_postgres(data, lock))
        resolved = resolve({}, environ=os.environ, dotenv_values=read_dotenv(Path.cwd()))
        address = broker_address(resolved.settings)
        explicit = resolved.explicit("mqtt_broker")
        broker = await stack.enter_async_context(dev_broker(address, explicit=explicit, data_dir=data))
        say(f"broker: {broker.description}")
        common = {"ALICIACFG_DATABASE_URL": url, "ALICIACFG_HTTP_HOST": _LOOPBACK, SETTING: str(data / FILE_NAME)}
        if not explicit:
            common |= {"MQTT_BROKER": broker.address.host, "MQTT_PORT": str(broker.address.port)}
        replicas = [
            Replica(f"replica{number}", data / f"replica{number}", ports[number], common, lock)
            for number in range(1, count + 1)
        ]
        _make_key(data / FILE_NAME)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        # The first one creates the tables and loads the files; the others find that done.
        for few in (replicas[:1], replicas[1:]):
            for replica in few:
                group.create_task(replica.run(), name=replica.name)
            for replica in few:
                await replica.wait_ready()
        group.create_task(_until_end("PostgreSQL", server, data / "postgres.log"))
        if (balancer := await stack.enter_async_context(_balancer(data, lock, ports[0], ports[1:]))) is not None:
            watched = group.create_task(_until_end("the load balancer", balancer, data / "balancer.log"))
            stack.callback(watched.cancel)
        say("READY. Ctrl-C ends everything and keeps the data.")
        await asyncio.Event().wait()


@contextmanager
def locked(data: Path) -> Generator[int]:
    """Make the directory, hold a lock on it, and yield its file descriptor.

    A process that inherits the descriptor holds the lock as well. So if this process is killed, the next run waits
    until PostgreSQL and the daemons, which the kernel then asks to end, have left their files.

    Raises:
        CannotRun: Another run has it, or processes of one that was killed do not end.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data / "lock").open("a+") as lock:
        end = time.monotonic() + _STOP_SECONDS
        while not _took(lock):
            lock.seek(0)
            if _is_running(lock.read()):
                raise CannotRun(f"{data} is used by another run; end that one, or name another directory: --data")
            if time.monotonic() > end:
                raise CannotRun(f"{data} is used by processes of a run that was killed; end them: fuser {lock.name}")
            time.sleep(_POLL_SECONDS)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock.fileno()


def _took(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_running(process: str) -> bool:
    """Return whether a process runs; True if its number is not known yet."""
    try:
        os.kill(int(process or os.getpid()), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _ports(first: int, count: int) -> list[int]:
    """Return free ports on loopback: those from the first one on, others in place of those that are taken."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for preferred in [first + number if first else 0 for number in range(count)]:
            for port in (preferred, 0):
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((_LOOPBACK, port))
                except OSError:
                    continue
                found.append(probe.getsockname()[1])
                break
    return found


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_MORE_PATHS]))


def _ending_with_this(number: signal.Signals) -> list[str]:
    """Return what to put before a command so that the kernel ends it when this process is killed; none if it cannot."""
    setpriv = _program("setpriv")
    if setpriv is None or subprocess.run([setpriv, "--pdeathsig", "keep", "true"], check=False).returncode:
        return []
    # If this process ended before the request, the command would have another parent already, and stay.
    still_ours = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), *still_ours]


async def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """End a process and wait for it; kill it if it does not end in time."""
    if process.returncode is None:
        process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _until_end(name: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait for the end of what is not started again.

    Raises:
        CannotRun: It ended.
    """
    code = await process.wait()
    raise CannotRun(f"{name} ended with {_ending(code)}; see {log}")


def _ending(code: int) -> str:
    return f"code {code}" if code >= 0 else signal.Signals(-code).name


# PostgreSQL


@asynccontextmanager
async def _postgres(data: Path, lock: int) -> AsyncGenerator[tuple[str, asyncio.subprocess.Process]]:
    """Start a server that only listens on a socket in a private directory; yield the address of the database, and it.

    Raises:
        CannotRun: Its programs are missing, or it does not start.
    """
    user = unprivileged()
    files = database_directory(data, user)
    programs = postgres_programs(files)
    log = data / "postgres.log"
    if not (files / "PG_VERSION").exists():
        await asyncio.to_thread(_make_database_files, programs / "initdb", files, user)
    with _socket_directory(data, user) as sockets:
        # Who may enter the directory of the socket is this user, so no password is needed.
        settings = {"listen_addresses": "", "unix_socket_directories": str(sockets)}
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *_ending_with_this(signal.SIGINT),
                str(programs / "postgres"),
                "-D",
                str(files),
                *arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                pass_fds=[lock],
                **user,
            )
        try:
            await _create_database(sockets, process, log)
            url = f"postgresql://{_NAME}@/{_NAME}?host={sockets}"
            say(f"database: {programs / 'postgres'} in {files}; look into it with: psql '{url}'")
            yield url, process
        finally:
            # Ends the connections that are left, and writes what is in memory.
            await _end(process, signal.SIGINT)


def _make_database_files(initdb: Path, files: Path, user: dict[str, Any]) -> None:
    options = [f"--username={_NAME}", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-instructions"]
    command = [initdb, f"--pgdata={files}", *options]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **user)
    if made.returncode:
        raise CannotRun(f"PostgreSQL cannot make a database in {files}: {made.stderr.strip()}")


def unprivileged() -> dict[str, Any]:
    """Return the arguments of ``subprocess`` for a user that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def database_directory(data: Path, user: dict[str, Any]) -> Path:
    """Return the directory of the database's files, which belongs to its user.

    A home of root's is closed to others; then it is a directory outside, to which a link leads. So data that is removed
    and begun again has a new database: nothing could open the secrets of the one before.

    Raises:
        CannotRun: Another user has put something in its place.
    """
    files = data / "postgres"
    if user:
        # The directories of the daemons below it are closed all the same.
        data.chmod(0o711)
        if files.is_symlink():
            files = files.readlink()
        elif not _may_enter(data, user):
            above = Path("/var/lib/postgresql")
            above = above if _may_enter(above, user) else Path("/var/tmp")
            outside = Path(tempfile.mkdtemp(prefix=f"{_NAME}-", dir=above))
            files.symlink_to(outside)
            files = outside
    files.mkdir(mode=0o700, exist_ok=True)
    if user:
        os.chown(files, user["user"], user["group"])
    if files.is_symlink() or files.stat().st_uid != user.get("user", os.geteuid()):
        raise CannotRun(f"{files} belongs to another user; remove it, or name another directory: --data")
    files.chmod(0o700)
    return files


def _may_enter(directory: Path, user: dict[str, Any]) -> bool:
    tried = subprocess.run(["test", "-x", str(directory)], check=False, cwd="/", **user)
    return tried.returncode == 0


def postgres_programs(files: Path) -> Path:
    """Return the directory of PostgreSQL's programs: the newest one, or the one that made the files.

    Raises:
        CannotRun: There is none.
    """
    found: dict[int, Path] = {}
    on_path = _program("postgres")
    candidates = [Path(on_path)] if on_path else []
    for place in map(Path, POSTGRES_PLACES):
        candidates += [*place.glob("*/bin/postgres"), *place.glob("postgresql*/bin/postgres")]
    for candidate in candidates:
        answer = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"(\d+)", answer):
            found.setdefault(int(version[1]), candidate.parent)
    version_file = files / "PG_VERSION"
    wanted = int(version_file.read_text()) if version_file.exists() else max(found, default=0)
    if wanted < _OLDEST_POSTGRES or wanted not in found:
        which = f"{wanted}, which made {files}," if version_file.exists() else f"{_OLDEST_POSTGRES} or newer"
        raise CannotRun(
            f"PostgreSQL {which} is missing. Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql"
        )
    return found[wanted]


@contextmanager
def _socket_directory(data: Path, user: dict[str, Any]) -> Generator[Path]:
    # A link to it: the next run removes what a run that was killed has left.
    link = data / "sockets"
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    above = tempfile.gettempdir()
    above = above if len(above) < _MAX_SOCKET_DIRECTORY else "/tmp"
    directory = Path(tempfile.mkdtemp(prefix="aliciacfg-postgres-", dir=above))
    link.symlink_to(directory)
    try:
        if user:
            os.chown(directory, user["user"], user["group"])
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        link.unlink()


async def _create_database(sockets: Path, process: asyncio.subprocess.Process, log: Path) -> None:
    """Wait until the server answers, and create the database if there is none.

    Raises:
        CannotRun: The server does not start.
    """
    end = time.monotonic() + _POSTGRES_START_SECONDS
    while True:
        try:
            connection = await asyncpg.connect(host=str(sockets), user=_NAME, database="postgres", timeout=5)
            break
        except (OSError, asyncpg.PostgresError) as error:
            if process.returncode is not None or time.monotonic() > end:
                raise CannotRun(f"PostgreSQL does not start; see {log}") from error
            await asyncio.sleep(_POLL_SECONDS)
    try:
        with contextlib.suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f"CREATE DATABASE {_NAME}")
    finally:
        await connection.close()


# The daemons


@dataclass
class Replica:
    """One daemon, which is started again when it ends.

    Attributes:
        name: Names it among the others.
        directory: Its data directory.
        port: Where it serves HTTP.
        common: Variables that all of them have.
        lock: The descriptor of ``locked``.
        ready: Set when it was ready for the first time.
    """

    name: str
    directory: Path
    port: int
    common: dict[str, str]
    lock: int
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log(self) -> Path:
        """Where its log goes, of this run only."""
        return self.directory.with_suffix(".log")

    async def wait_ready(self) -> None:
        """Wait until it was ready for the first time; say so from time to time if it is not."""
        while not self.ready.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ready.wait(), _PATIENCE_SECONDS)
                return
            say(f"{self.name} is not ready yet; see {self.log}")

    async def run(self) -> None:
        """Keep it running until cancelled.

        Raises:
            CannotRun: It ended before it was ready.
        """
        self.log.unlink(missing_ok=True)
        while True:
            code = await self._run_once()
            how = _ending(code)
            if not self.ready.is_set():
                raise CannotRun(f"{self.name} ended with {how} before it was ready; see {self.log}")
            say(f"{self.name} ended with {how}; it is started again")
            await asyncio.sleep(_RESTART_SECONDS)

    async def _run_once(self) -> int:
        environ = {
            **os.environ,
            **self.common,
            "ALICIACFG_DATA_DIR": str(self.directory),
            "ALICIACFG_HTTP_PORT": str(self.port),
            "ALICIACFG_REPLICA": self.name,
        }
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *_ending_with_this(signal.SIGTERM),
                sys.executable,
                "-m",
                "aliciacfg",
                "serve",
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for this script, which ends one after the other.
                start_new_session=True,
                pass_fds=[self.lock],
            )
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                text = line.decode(errors="replace").rstrip()
                if text.startswith("READY"):
                    say(f"{self.name}: http://{_LOOPBACK}:{self.port}, process {process.pid}, log {self.log}")
                    self.ready.set()
            return await process.wait()
        finally:
            await _end(process, signal.SIGTERM)


def _make_key(file: Path) -> None:
    """Make the key-encryption key that all daemons have, if there is none."""
    if not file.exists():
        KeyEncryptionKey.create(file)


# The load balancer


@asynccontextmanager
async def _balancer(
    data: Path, lock: int, port: int, ports: Sequence[int]
) -> AsyncGenerator[asyncio.subprocess.Process | None]:
    """Start HAProxy or nginx before the daemons, and yield it; say which, or that there is none."""
    log = data / "balancer.log"
    if program := _program("haproxy"):
        config = data / "haproxy.cfg"
        config.write_text(haproxy_config((DEPLOY / "haproxy.cfg").read_text(), port, ports))
        arguments = ["-db", "-f", str(config)]
    elif program := _program("nginx"):
        config = data / "nginx.conf"
        config.write_text(nginx_config((DEPLOY / "nginx-replicas.conf").read_text(), port, ports))
        arguments = ["-p", str(data), "-c", str(config), "-e", str(log)]
    else:
        say(
            "no load balancer: neither haproxy nor nginx is installed; ask each daemon: "
            f"curl http://{_LOOPBACK}:{ports[0]}/health"
        )
        yield None
        return
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_ending_with_this(signal.SIGTERM),
            program,
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock],
        )
    try:
        await _until_listening(process, port, log)
        say(f"load balancer: http://{_LOOPBACK}:{port} ({program}, {config})")
        yield process
    finally:
        await _end(process, signal.SIGTERM)


async def _until_listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until the load balancer accepts connections.

    Raises:
        CannotRun: It ended, or does not listen in time.
    """
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection(_LOOPBACK, port)
        except OSError:
            if process.returncode is not None or time.monotonic() > end:
                raise CannotRun(f"the load balancer does not start; see {log}") from None
            await asyncio.sleep(_POLL_SECONDS)
        else:
            writer.close()
            return


def haproxy_config(text: str, port: int, ports: Sequence[int]) -> str:
    """Return ``deploy/haproxy.cfg`` for daemons on ports of this machine."""
    servers = "".join(f"    server replica{n} {_LOOPBACK}:{of}\n" for n, of in enumerate(ports, 1))
    text = re.sub(r"(?:^    server .*\n)+", servers, text, flags=re.MULTILINE)
    text = re.sub(r"^    default-server resolvers .*\n|^resolvers .*\n(?:    .*\n)+", "", text, flags=re.MULTILINE)
    return re.sub(r"^    bind .*$", f"    bind {_LOOPBACK}:{port}", text, flags=re.MULTILINE)


def nginx_config(text: str, port: int, ports: Sequence[int]) -> str:
    """Return a whole configuration of nginx with ``deploy/nginx-replicas.conf``, for daemons on this machine."""
    servers = "".join(f"    server {_LOOPBACK}:{of} max_fails=2 fail_timeout=2s;\n" for of in ports)
    text = re.sub(r"(?:^    server .*\n)+", servers, text, flags=re.MULTILINE)
    text = re.sub(r"^    listen .*$", f"    listen {_LOOPBACK}:{port};", text, flags=re.MULTILINE)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {kind}_temp;\n" for kind in kinds)
    # As root its workers would become a user that cannot write here.
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};\n" if os.geteuid() == 0 else ""
    head = f"daemon off;\npid nginx.pid;\nerror_log stderr;\n{user}events {{}}\n"
    return f"{head}http {{\naccess_log off;\n{places}{text}}}\n"


if __name__ == "__main__":
    main()
