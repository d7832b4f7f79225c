"""``aliciacfg exec``: programs that know only environment variables, with a real broker and a real daemon."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import forking
from aliciacfg.sealing.boxes import PrivateKey
from brokers import Broker
from commands import aliciacfg
from daemons import Daemon
from machine import wait_until

HOME_SERVICES = ("tts_service", "voice_router")
QUICK = ["--debounce-seconds", "0", "--limit-seconds", "0", "--settle-seconds", "0.01"]
# Notes its variables and waits for a signal.
PROGRAM = 'echo "$$ $MAX_SESSIONS $MQTT_PASSWORD" >> started; while :; do sleep 0.5; done'


Process = subprocess.Popen[bytes] | forking.ForkedProcess


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start ``exec`` in a directory of its own, in an interpreter of its own if ``alone``; end it after the test."""
    made: list[Process] = []

    def start(home: Daemon, *arguments: str, alone: bool = False, **environ: str) -> Process:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MQTT_", "ALICIA"))}
        settings = {
            "MQTT_BROKER": "127.0.0.1",
            "MQTT_PORT": str(home.broker_port),
            "ALICIACFG_SNAPSHOT_DIR": str(tmp_path / "state"),
        }
        with (tmp_path / "stderr").open("ab") as log:
            command, variables = ["exec", "voice_router", *arguments], {**kept, **settings, **environ}
            if alone:
                program = [sys.executable, "-m", "aliciacfg", *command]
                made.append(subprocess.Popen(program, cwd=tmp_path, env=variables, stderr=log))
            else:
                made.append(forking.start(command, directory=tmp_path, environ=variables, stderr=log))
        return made[-1]

    yield start
    for process in made:
        with suppress(ProcessLookupError):
            process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def home(make_daemon: Callable[..., Daemon]) -> Daemon:
    return make_daemon().keep_services("voice_router")


def started(directory: Path) -> list[list[str]]:
    file = directory / "started"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def applied(home: Daemon) -> list[tuple[int, str]]:
    instances = home.http("GET", "/config/voice_router/instances").json["instances"]
    return [(instance["revision"], instance["status"]) for instance in instances]


def test_exec_is_the_program(module_daemon: Daemon, run: Callable[..., Process], tmp_path: Path):
    """The same process, with the variables; what is a secret keeps the value that it has, and a note says so."""
    look = "grep -E '^Sig(Blk|Ign)' /proc/self/status > signals; ls /proc/self/fd > descriptors"
    script = f'echo "$$ $MAX_SESSIONS $MQTT_PASSWORD" > started; {look}; exit 3'
    process = run(module_daemon, "--", "sh", "-c", script, alone=True, MQTT_PASSWORD="mine")
    assert process.wait(20) == 3
    assert started(tmp_path) == [[str(process.pid), "10", "mine"]]
    assert "MQTT_PASSWORD keeps the value that it has" in (tmp_path / "stderr").read_text()
    found = [(tmp_path / name).read_text() for name in ("signals", "descriptors")]
    subprocess.run(["sh", "-c", look], cwd=tmp_path, check=True)
    assert found == [(tmp_path / name).read_text() for name in ("signals", "descriptors")]


def test_secrets_are_opened_with_the_key_of_the_service(module_daemon: Daemon, tmp_path: Path):
    """For the program alone: neither the snapshot nor standard error has them in the open."""
    key = PrivateKey.generate()
    (tmp_path / "key").write_text(key.reveal())
    (tmp_path / "key").chmod(0o600)
    assert aliciacfg(module_daemon, "recipient", "set", "tts_service", str(key.public)).returncode == 0
    environ = {"ALICIACFG_KEY_FILE": str(tmp_path / "key"), "ALICIACFG_SNAPSHOT_DIR": str(tmp_path / "state")}
    for options in ([], ["--watch"], ["-e", "dev"]):
        command = ["exec", "tts_service", *options, "--", "sh", "-c", "echo $MQTT_PASSWORD"]
        done = aliciacfg(module_daemon, *command, environ=environ)
        assert (done.returncode, done.stdout, done.stderr) == (0, "alicia-dev-only\n", "")
    kept = [path.read_text() for path in (tmp_path / "state").iterdir()]
    assert len(kept) == 2
    assert "alicia-dev-only" not in "".join(kept)


def test_a_program_follows_its_configuration(home: Daemon, run: Callable[..., Process], tmp_path: Path, broker: Broker):
    """Changed over MQTT, it is restarted once with the right values, and not for what it does not read.

    While everything is away it starts from the snapshot. The daemon knows what it applied.
    """
    home.start()
    watching = ["--watch", "--allow-redacted", *QUICK, "--", "sh", "-c", PROGRAM]
    first = run(home, *watching)
    wait_until(lambda: [line[1] for line in started(tmp_path)] == ["10"])
    wait_until(lambda: applied(home) == [(1, "applied")])

    assert aliciacfg(home, "patch", "voice_router", '{"settings": {"max_sessions": 12}}').returncode == 0
    wait_until(lambda: [line[1] for line in started(tmp_path)] == ["10", "12"])
    wait_until(lambda: applied(home) == [(2, "applied")])

    assert aliciacfg(home, "patch", "voice_router", '{"features": {"session_management": false}}').returncode == 0
    wait_until(lambda: applied(home) == [(3, "applied")])
    assert [line[1] for line in started(tmp_path)] == ["10", "12"]

    home.stop()
    broker.stop()
    first.terminate()
    assert first.wait(20) == 128 + signal.SIGTERM
    second = run(home, *watching)
    wait_until(lambda: [line[1] for line in started(tmp_path)] == ["10", "12", "12"])
    assert "voice_router starts with its snapshot of revision 3, written " in (tmp_path / "stderr").read_text()

    broker.start()
    home.start()
    assert aliciacfg(home, "patch", "voice_router", '{"settings": {"max_sessions": 14}}').returncode == 0
    wait_until(lambda: [line[1] for line in started(tmp_path)] == ["10", "12", "12", "14"], seconds=40)
    wait_until(lambda: applied(home) == [(4, "applied")])
    second.terminate()
    second.wait(20)
    assert not [pid for pid, *_ in started(tmp_path) if Path(f"/proc/{pid}").exists()]


def test_new_values_that_make_it_fail_are_rejected(home: Daemon, run: Callable[..., Process], tmp_path: Path):
    """And ``exec`` ends with the program's exit code."""
    home.start()
    program = f'[ "$MAX_SESSIONS" = 10 ] || exit 7; {PROGRAM}'
    process = run(home, "--watch", "--allow-redacted", *QUICK, "--settle-seconds", "60", "--", "sh", "-c", program)
    wait_until(lambda: started(tmp_path))
    assert aliciacfg(home, "patch", "voice_router", '{"settings": {"max_sessions": 12}}').returncode == 0
    assert process.wait(20) == 7
    wait_until(lambda: applied(home) == [(2, "rejected")])
    assert "revision 2: the command ended with 7 after" in (tmp_path / "stderr").read_text()
    (instance,) = home.http("GET", "/config/voice_router/instances").json["instances"]
    assert "ended with 7" in json.dumps(instance)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--allow-redacted", "--", "no-such-program"], 127, "no-such-program: command not found"),
        (["--allow-redacted", "--", "./data"], 126, "./data: "),
        (["--watch", "--allow-redacted", "--", "./data"], 126, "./data: "),
        (["--", "touch", "started"], 6, "MQTT_PASSWORD (/mqtt_config/password)"),
        (["--watch", "--", "touch", "started"], 6, "MQTT_PASSWORD (/mqtt_config/password)"),
    ],
)
def test_what_goes_wrong_before_the_program_starts(
    module_daemon: Daemon, tmp_path: Path, arguments: list[str], code: int, said: str
):
    """The exit codes of a shell for the program, and of the other commands for the rest; nothing is started."""
    environ = {"ALICIACFG_SNAPSHOT_DIR": str(tmp_path / "state")}
    done = aliciacfg(module_daemon, "exec", "voice_router", *arguments, environ=environ)
    assert done.returncode == code
    assert said in done.stderr
    assert not (module_daemon.directory / "started").exists()


@pytest.mark.soak
def test_whatever_happens_the_program_ends_with_the_right_values(
    home: Daemon, run: Callable[..., Process], tmp_path: Path, broker: Broker
):
    """Broker and daemon are killed and come back, and so does ``exec``; one program runs, with the last value."""
    chance = random.Random()
    program = f"exec 9>lock; flock -n 9 || echo $$ >> overlap; {PROGRAM}"
    home.start()
    watching = ["--watch", "--allow-redacted", *QUICK, "--", "sh", "-c", program]
    process, value = run(home, *watching), 10
    wait_until(lambda: started(tmp_path))
    for _ in range(40):
        match chance.choice(["change", "change", "change", "broker", "daemon", "exec", "both"]):
            case "change":
                value = chance.randrange(1, 1000)
                patch = {"settings": {"max_sessions": value}}
                assert home.http("PATCH", "/config/voice_router", patch).status == 200
            case "exec":
                process.terminate()
                # It may still be starting.
                assert process.wait(30) in {0, 143, -signal.SIGTERM}
                process = run(home, *watching)
            case what:
                if what != "broker":
                    home.kill()
                if what != "daemon":
                    broker.kill()
                    broker.start()
                if what != "broker":
                    home.start()
        assert process.poll() is None, (tmp_path / "stderr").read_text()[-2000:]
    wait_until(lambda: started(tmp_path)[-1][1] == str(value), seconds=60)
    assert not (tmp_path / "overlap").exists()
    alive = [pid for pid, *_ in started(tmp_path) if Path(f"/proc/{pid}").exists()]
    assert alive == [started(tmp_path)[-1][0]]


def test_a_mistyped_service_is_answered_with_the_one_that_is_there(shared: Daemon):
    """By the daemon, so that the client in a program says it as well."""
    done = aliciacfg(shared, "exec", "voice_rooter", "--", "true")
    assert (done.returncode, "Did you mean voice_router? If it is new, add it" in done.stderr) == (3, True), done.stderr
