"""What a supervisor does with real processes: groups, signals, terminals, orphans, exit codes."""

import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from machine import wait_until
from supervised import Supervised

SLEEP = "while :; do sleep 1; done"


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Run a shell script under a supervisor, with ``V`` as its first variable."""
    made: list[Supervised] = []

    def start(script: str, **options: Any) -> Supervised:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        values = options.pop("values", {"V": "1"})
        made.append(Supervised(directory, ["sh", "-c", script], **options))
        return made[-1].start(**values)

    yield start
    for each in made:
        each.stop()


def alive(pid: str | int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_restart_replaces_everything_that_the_old_command_started(supervised: Callable[..., Supervised]):
    """A grandchild that ignores SIGTERM, a daemon that left group and session, and what that one started in turn."""
    stubborn = f"trap '' TERM; echo $(exec sh -c 'echo $PPID') > $OUT/$1; {SLEEP}"
    script = f"""
        if [ $V = 2 ]; then
            for old in $(cat $OUT/stubborn $OUT/daemon $OUT/worker); do
                state=$(cut -d' ' -f3 /proc/$old/stat 2>/dev/null)
                [ -z "$state" ] || echo $old $state >> $OUT/left
            done
            echo 2 > $OUT/second
            {SLEEP}
        fi
        echo "{stubborn.replace("$", chr(92) + "$")}" > $OUT/script
        echo 'setsid sh $OUT/script worker & . $OUT/script' > $OUT/parent
        sh $OUT/script stubborn &
        (setsid sh $OUT/parent daemon &)
        {SLEEP}
    """
    run = supervised(script, timing={"stop_seconds": 0.2})
    old = [run.until(name).strip() for name in ("stubborn", "daemon", "worker")]
    assert parent(old[1]) == run.process.pid
    assert parent(old[2]) == int(old[1])
    run.configure(V="2")
    run.until("second", "2\n")
    assert not run.file("left").exists(), run.file("left").read_text()
    assert not [pid for pid in old if alive(pid)]
    assert "still running 0.2 s after SIGTERM; sending SIGKILL" in run.log.read_text()


def parent(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.soak
def test_no_two_commands_ever_run_at_a_time(supervised: Callable[..., Supervised]):
    """In hundreds of changes, whose commands leave processes of all kinds behind, which hold a lock while they live."""
    script = """
        exec 9>$OUT/lock; flock -n 9 || echo $V >> $OUT/overlap
        trap '' USR1 HUP
        (trap '' TERM; while :; do sleep 0.5; done) &
        setsid sh -c '(trap "" TERM; setsid sh -c "while :; do sleep 0.5; done" & while :; do sleep 0.5; done) &' &
        echo $V > $OUT/now
        while :; do sleep 0.05; done
    """
    run = supervised(script, timing={"stop_seconds": 0.03})
    run.until("now", "1\n")
    for number in range(2, 500):
        run.configure(V=str(number))
        if number % 3:
            run.until("now", f"{number}\n")
        else:
            run.send(signal.SIGUSR1)
    run.until("now", "499\n")
    assert not run.file("overlap").exists(), run.file("overlap").read_text()
    assert len(list(Path(f"/proc/{run.process.pid}/fd").iterdir())) < 12


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139), (":", 0)])
def test_the_exit_code_is_the_commands(supervised: Callable[..., Supervised], script: str, code: int):
    """128 and the number of the signal that ended it, as a shell has it."""
    run = supervised(script, timing={"settle_seconds": 3600})
    assert run.wait() == code
    assert f"report: revision 1 {'rejected' if code else 'applied'}" in run.log.read_text()


def test_signals_reach_the_command(supervised: Callable[..., Supervised]):
    """HUP, USR1 and USR2 one by one; TERM ends it in its own way, and only when all of it is gone."""
    traps = "".join(f"trap 'echo {name} >> $OUT/got' {name}; " for name in ("HUP", "USR1", "USR2"))
    run = supervised(
        f"{traps} trap 'echo TERM >> $OUT/got; exit 5' TERM; echo > $OUT/ready; while :; do sleep 0.05; done"
    )
    run.until("ready")
    expected = ""
    for name in ("HUP", "USR1", "USR2"):
        run.send(getattr(signal, f"SIG{name}"))
        expected += f"{name}\n"
        run.until("got", expected)
    run.send(signal.SIGTERM)
    assert run.wait() == 5
    assert run.file("got").read_text() == f"{expected}TERM\n"


def test_what_was_ignored_before_stays_ignored(supervised: Callable[..., Supervised]):
    """SIGHUP under ``nohup``: neither the supervisor nor the command gets it."""
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    script = "trap 'echo TERM > $OUT/got; exit 0' TERM; echo > $OUT/ready; while :; do sleep 0.05; done"
    run = supervised(script, before=ignoring)
    run.until("ready")
    run.send(signal.SIGHUP)
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert run.file("got").read_text() == "TERM\n"


def test_what_the_command_inherits(supervised: Callable[..., Supervised], tmp_path: Path):
    """Directory, standard input, signal mask and dispositions as without a supervisor, and no descriptor of its own."""
    look = "grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd"
    (tmp_path / "given").write_text("typed\n")
    with (tmp_path / "given").open() as given:
        run = supervised(
            f"read line; echo $line $PWD > $OUT/first; ({look}) > $OUT/second; echo > $OUT/ready",
            popen={"stdin": given, "cwd": tmp_path},
        )
    assert run.wait() == 0
    assert run.file("first").read_text() == f"typed {tmp_path}\n"
    plain = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=True).stdout
    assert without_internal(run.file("second").read_text()) == without_internal(plain)


def without_internal(text: str) -> str:
    """The signals 32 and 33 are of the C library's own use, which ignores them in what it spawns."""
    return re.sub(r"(?<=^SigIgn:\t)\w+", lambda found: f"{int(found[0], 16) & ~(3 << 31):x}", text, flags=re.MULTILINE)


def test_it_reaps_as_the_first_process_of_a_container(supervised: Callable[..., Supervised]):
    """Orphans that nobody else waits for, SIGTERM although PID 1 has no default for it, and the exit code."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not make a PID namespace")
    script = """
        for n in 1 2 3 4 5; do (sleep 0.01 &); done
        while grep -qsx sleep /proc/[0-9]*/comm || grep -qs ') Z ' /proc/[0-9]*/stat; do sleep 0.02; done
        trap 'exit 9' TERM; echo $PPID > $OUT/ready; while :; do sleep 0.05; done
    """
    run = supervised(script, before=namespace)
    run.until("ready", "1\n")
    (inside,) = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    os.kill(int(inside), signal.SIGTERM)
    assert run.wait() == 9


class Pty:
    """A terminal of its own with a session of its own, and what a person sees there."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.seen = b""
        os.set_blocking(self.ours, False)

    def read(self) -> str:
        # There may be nothing to read, or nobody left who writes.
        with contextlib.suppress(OSError):
            self.seen += os.read(self.ours, 65536)
        return self.seen.decode().replace("\r\n", "\n")

    def until(self, text: str) -> None:
        wait_until(lambda: text in self.read(), why=f"{text!r} in {self.read()!r}")

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())


@pytest.fixture
def terminal() -> Iterator[Pty]:
    made = Pty()
    yield made
    os.close(made.ours)
    os.close(made.theirs)


def on(terminal: Pty, **options: Any) -> dict[str, Any]:
    """How to start a process that has the terminal as its controlling one."""
    streams = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs, **options}
    return {**streams, "preexec_fn": lambda: (os.setsid(), _control(terminal.theirs))}


def _control(descriptor: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


def test_a_command_on_a_terminal_reads_keys_and_gets_ctrl_c_once(supervised: Callable[..., Supervised], terminal: Pty):
    """Also after a restart; Ctrl-C is the command's, which may go on."""
    script = "trap 'echo caught' INT; while :; do echo ready $V; read line; echo got $line; done"
    run = supervised(script, popen=on(terminal))
    terminal.until("ready 1")
    terminal.type("hello\n")
    terminal.until("got hello")
    terminal.type("\x03")
    terminal.until("caught")
    run.configure(V="2")
    terminal.until("ready 2")
    terminal.type("again\n")
    terminal.until("got again")
    terminal.type("\x03")
    wait_until(lambda: terminal.read().count("caught") == 2)
    terminal.type("end\n")
    terminal.until("got end")
    assert terminal.read().count("caught") == 2
    run.send(signal.SIGTERM)
    run.wait()


def test_a_terminal_that_a_job_of_the_old_command_had_is_the_new_ones(
    supervised: Callable[..., Supervised], terminal: Pty
):
    """A shell gives it to jobs in groups of their own, which are gone after the restart."""
    script = "echo ready $V; [ $V = 2 ] || { set -m; sleep 1000; }; read line; echo got $line; read line"
    run = supervised(script, popen=on(terminal), timing={"stop_seconds": 0.2})
    terminal.until("ready 1")
    wait_until(lambda: os.tcgetpgrp(terminal.ours) not in {run.process.pid, *children(run.process.pid)})
    run.configure(V="2")
    terminal.until("ready 2")
    terminal.type("typed\n")
    terminal.until("got typed")
    run.send(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_command_in_a_pipeline_gets_ctrl_c_once_and_the_terminal_when_it_asks(
    supervised: Callable[..., Supervised], terminal: Pty, tmp_path: Path
):
    """It runs in the background at first, so that the program behind the pipe can read the keys."""
    with (tmp_path / "pipe").open("w") as output:
        script = (
            "trap 'echo caught >> $OUT/caught' INT; echo > $OUT/ready; "
            "while [ ! -s $OUT/caught ]; do sleep 0.02; done; read line; echo $line > $OUT/line"
        )
        run = supervised(script, popen=on(terminal, stdout=output))
        run.until("ready")
        terminal.type("\x03")
        run.until("caught")
        terminal.type("typed\n")
        run.until("line", "typed\n")
    assert run.wait() == 0
    assert run.file("caught").read_text() == "caught\n"


def test_suspending_suspends_both_and_the_shell_resumes_both(supervised: Callable[..., Supervised], terminal: Pty):
    """Ctrl-Z, ``fg`` and the keys after it, in a shell with job control."""
    shell = ["bash", "--norc", "--noprofile", "-ic", '"$@"; echo suspended; fg; echo over', "bash"]
    run = supervised("echo ready; while read line; do echo got $line; done", before=shell, popen=on(terminal))
    terminal.until("ready")
    terminal.type("\x1a")
    terminal.until("suspended")
    terminal.type("after\n")
    terminal.until("got after")
    terminal.type("\x04")
    terminal.until("over")
    assert run.wait() == 0
