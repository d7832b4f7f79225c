"""``make run-replicas``: a home on several daemons of this machine, and what stands before them."""

import contextlib
import http.client
import http.server
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import run_replicas
from daemons import Daemon
from machine import PATH, SECONDS, free_port, listens, wait_until
from repository import ROOT

HAPROXY = (ROOT / "deploy" / "haproxy.cfg").read_text()
NGINX = (ROOT / "deploy" / "nginx-replicas.conf").read_text()


def balancer(name: str) -> str:
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_haproxy_accepts_its_file(tmp_path: Path):
    """As it is, and for daemons on one machine."""
    program = balancer("haproxy")
    for text in (HAPROXY, run_replicas.haproxy_config(HAPROXY, free_port(), [free_port(), free_port()])):
        config = tmp_path / "haproxy.cfg"
        config.write_text(text)
        done = subprocess.run([program, "-c", "-f", config], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_nginx_accepts_its_file(tmp_path: Path):
    """For daemons on one machine: it wants addresses that it can find."""
    program = balancer("nginx")
    config = tmp_path / "nginx.conf"
    config.write_text(run_replicas.nginx_config(NGINX, free_port(), [free_port(), free_port()]))
    done = subprocess.run([program, "-t", "-p", tmp_path, "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Run:
    """One run of the script in a directory of its own."""

    def __init__(self, directory: Path, *arguments: str, path: str = os.environ["PATH"]) -> None:
        directory.mkdir(exist_ok=True)
        Daemon(directory, broker_port=0).keep_services("voice_router")
        home = directory / "home"
        home.mkdir(exist_ok=True)
        self.data = directory / "data" / "replicas"
        self.output = directory / "output"
        ours = ("MQTT_", "ALICIA", "ENVIRON", "PYTHONASYNCIODEBUG")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environ |= {"HOME": str(home), "PATH": path, "MQTT_PORT": str(free_port())}
        # Of the ports that the system gives to clients, one may be taken before the script's daemons have it.
        port = free_port()
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "scripts" / "run_replicas.py", "--port", str(port), *arguments],
                cwd=directory,
                env=environ,
                stdout=output,
                stderr=output,
            )

    def says(self, pattern: str, *, seconds: float = 4 * SECONDS) -> re.Match[str]:
        """What it printed, once it did."""

        def found() -> re.Match[str] | None:
            text = self.output.read_text()
            assert self.process.poll() is None, text
            return re.search(pattern, text, re.MULTILINE)

        return wait_until(found, seconds=seconds, why=f"{pattern} in the output")

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(4 * SECONDS)


@contextlib.contextmanager
def running(directory: Path, *arguments: str) -> Iterator[Run]:
    run = Run(directory, *arguments)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.end()


def ask(url: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, text if text.startswith(b"<") else json.loads(text or b"null")


def limit(url: str) -> Any:
    return ask(f"{url}/config/voice_router")[1]["config"]["limits"].get("x")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory for runs; the database, which may lie outside, is removed with it."""
    yield tmp_path
    database = tmp_path / "data" / "replicas" / "postgres"
    if database.is_symlink():
        shutil.rmtree(database.readlink(), ignore_errors=True)


@pytest.mark.timeout(180)
def test_three_daemons_share_one_home_and_one_may_be_killed(home: Path):
    """A write at one is read at the others; a killed one comes back; the next run has what this one wrote."""
    with running(home) as run:
        run.says("^READY")
        found = re.findall(r"^replica\d: (\S+), process (\d+),", run.output.read_text(), re.MULTILINE)
        urls, processes = [url for url, _ in found], [int(process) for _, process in found]
        assert len(urls) == 3
        for number, url in enumerate(urls):
            assert ask(f"{url}/config/voice_router", "PATCH", {"limits": {"x": number}})[0] == 200
            wait_until(lambda number=number: all(limit(other) == number for other in urls), why="all have it")
        if front := re.search(r"^load balancer: (\S+)", run.output.read_text(), re.MULTILINE):
            urls.append(front[1])
        os.kill(processes[0], signal.SIGKILL)
        assert all(limit(url) == 2 for url in urls[1:])
        run.says("replica1 ended with SIGKILL")
        run.says("(?s)^replica1: .*^replica1: ")
        ports = [int(url.rpartition(":")[2]) for url in urls]
        run.end()
        assert run.process.returncode == 0, run.output.read_text()
    assert not any(map(listens, ports))
    with running(home, "--count", "1") as again:
        url = again.says(r"^replica1: ([^,]+),")[1]
        assert limit(url) == 2
        again.process.kill()
        again.process.wait()
        left = sockets(again)
    # It waits for what the kernel ends with the script.
    with running(home, "--count", "1") as last:
        last.says("^READY")
        assert left != sockets(last)
        assert not left.exists()
        files = last.says(r"^database: \S+ in ([^;]+);")[1]
        os.kill(int((Path(files) / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        # It is not started again, as the daemons are: without it nothing works, and nobody would know why.
        assert last.process.wait(4 * SECONDS) == 1
        assert "PostgreSQL ended with SIGKILL; see" in last.output.read_text()
        assert not sockets(last).exists()


def sockets(run: Run) -> Path:
    """The directory of its server's socket."""
    found = re.search("[?]host=([^']+)'", run.output.read_text())
    assert found is not None
    return Path(found[1])


def test_data_that_is_begun_again_has_a_new_database(home: Path):
    """Also where the database lies outside; until then it is the same one."""
    data = home / "data" / "replicas"
    user = run_replicas.unprivileged()
    found: list[Path] = []
    for _ in range(2):
        data.mkdir(parents=True)
        found += [run_replicas.database_directory(data, user) for _ in range(2)]
        (found[-1] / "PG_VERSION").write_text("15")
        assert (data / "postgres" / "PG_VERSION").exists()
        shutil.rmtree(data)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert (found[1] == found[2]) == (found[0].parent == data)
    for outside in {*found}:
        shutil.rmtree(outside, ignore_errors=True)


def test_a_second_run_is_refused(tmp_path: Path):
    """Two would start two servers on the same files."""
    data = tmp_path / "data" / "replicas"
    with run_replicas.locked(data):
        run = Run(tmp_path)
        assert run.process.wait(SECONDS) == 1
    assert "is used by another run" in run.output.read_text()


def test_a_missing_postgresql_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the command that installs it."""
    monkeypatch.setattr(run_replicas, "POSTGRES_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(run_replicas.CannotRun, match="apt-get install postgresql") as told:
        run_replicas.postgres_programs(tmp_path)
    assert "\n" not in str(told.value)


class Member:
    """Stands for a daemon: is ready, and answers, or takes a request and closes the connection."""

    def __init__(self, *, answers: bool) -> None:
        taken = self.taken = queue.SimpleQueue[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.take
                raise AttributeError(name)

            def take(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                if self.path != "/ready":
                    taken.put(self.path)
                if self.path == "/ready" or answers:
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                else:
                    self.close_connection = True

            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class calls it so
                """Stay silent."""

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Stay silent: a check of the balancer does not wait for the end of the answer."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def paths(self) -> list[str]:
        return [self.taken.get() for _ in range(self.taken.qsize())]


@contextlib.contextmanager
def in_front(name: str, directory: Path, ports: list[int]) -> Iterator[str]:
    """A load balancer with the file of the repository, before members that it has looked at."""
    program, port = balancer(name), free_port()
    config = directory / "config"
    if name == "haproxy":
        config.write_text(run_replicas.haproxy_config(HAPROXY, port, ports))
        arguments = ["-db", "-f", config]
    else:
        config.write_text(run_replicas.nginx_config(NGINX, port, ports))
        arguments = ["-p", directory, "-c", config, "-e", directory / "log"]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), why="the balancer listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_balancer_sends_no_write_twice_and_passes_dead_daemons_over(name: str, tmp_path: Path):
    """What one took and did not answer is repeated if it is a read, and what could not be sent in any case."""
    well, ill = Member(answers=True), Member(answers=False)
    try:
        with in_front(name, tmp_path, [well.port, free_port(), ill.port]) as url:
            # HAProxy gives up after four tries, which may all be at these two until it has noticed that one is dead.
            wait_until(lambda: {ask(f"{url}/config/{number}")[0] for number in range(12)} == {200}, why="all answered")
            assert well.paths()
            assert ill.paths()
            answered: list[str] = []
            for number in range(12):
                method = ("PATCH", "POST", "PUT", "DELETE")[number % 4]
                with contextlib.suppress(urllib.error.URLError, http.client.HTTPException, ConnectionError):
                    if ask(f"{url}/{method}/{number}", method, {})[0] == 200:
                        answered.append(f"/{method}/{number}")
            taken = well.paths()
            assert len(set(taken)) == len(taken)
            # On a busy machine the balancer may give up one that is well, and what it has taken with it.
            assert set(answered) <= set(taken)
            assert not set(taken) & set(ill.paths())
        # Nothing but dead daemons and one that is well.
        with in_front(name, tmp_path, [free_port(), well.port, free_port()]) as url:
            for number in range(8):
                wait_until(
                    lambda number=number: ask(f"{url}/{number}", ("PATCH", "POST")[number % 2], {})[0] == 200,
                    why="one that is well answers",
                )
    finally:
        for member in (well, ill):
            member.server.shutdown()
            member.server.server_close()
