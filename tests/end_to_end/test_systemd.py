"""The daemon as systemd runs it: what it tells the service manager, its journal, and the units in deploy/."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aliciacfg import logs
from aliciacfg.settings import SETTINGS
from daemons import Daemon
from machine import wait_until
from manager_socket import ManagerSocket
from repository import ROOT

DEPLOY = ROOT / "deploy"
# The most that systemd may say against each, from 0 to 10. The programs that exec starts are not known.
UNITS = {"aliciacfg.service": 1.5, "aliciacfg-exec@.service": 2.5}
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ManagerSocket]:
    made = ManagerSocket(str(tmp_path / "notify"))
    yield made
    made.close()


def stopped(process: Any) -> bool:
    return "T (stopped)" in Path(f"/proc/{process.pid}/status").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is for Linux")
def test_the_service_manager_follows_the_daemon(make_daemon: Callable[..., Daemon], manager: ManagerSocket):
    """READY when the ports are usable, the status, signs of life unless it hangs, a reload, and the stop."""
    watched = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"}
    daemon = make_daemon(environ=watched).keep_services("voice_router").spawn()
    manager.wait_for("READY=1")
    assert manager.messages[0].startswith("EXTEND_TIMEOUT_USEC=")
    daemon.wait_ready()
    assert daemon.http("GET", "/ready").status == 200
    told = f"STATUS=healthy: environment dev, 1 configuration, mqtt://127.0.0.1:{daemon.broker_port}"
    manager.wait_for(told, known=True)
    manager.wait_for("WATCHDOG=1")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    manager.wait_for("READY=1")
    daemon.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: stopped(daemon.process))
    manager.received()
    assert not manager.receive(0.3)
    daemon.process.send_signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")
    daemon.process.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert daemon.wait_exit() == 0


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_the_units_are_valid(tmp_path: Path):
    """Without a warning; only the program is another one, which is here."""
    assert UNITS.keys() == {path.name for path in DEPLOY.glob("*.service")}
    for unit in UNITS:
        text = (DEPLOY / unit).read_text()
        assert "=/opt/aliciacfg/bin/aliciacfg " in text
        (tmp_path / unit.replace("@", "@door_bell")).write_text(
            text.replace("/opt/aliciacfg/bin/aliciacfg", sys.executable)
        )
        drop_ins = DEPLOY / f"{unit}.d"
        if drop_ins.is_dir():
            shutil.copytree(drop_ins, tmp_path / f"{unit}.d")
    assert analyze("verify", *(str(tmp_path / unit.replace("@", "@door_bell")) for unit in UNITS)) == ""


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_the_units_grant_little(unit: str):
    """Systemd's own assessment, from 0 to 10: what remains is the network, files of its own, and who asks."""
    told = analyze("security", "--offline=true", "--threshold=20", str(DEPLOY / unit))
    assert float(re.findall(r"exposure level for .*: ([0-9.]+)", told)[0]) <= UNITS[unit]


def test_the_units_set_what_the_daemon_knows():
    """Each setting in unit, drop-in and defaults is one of the daemon's; the defaults give the same paths."""
    unit = (DEPLOY / "aliciacfg.service").read_text()
    dropped_in = (DEPLOY / "aliciacfg.service.d" / "password.conf").read_text()
    defaults = (DEPLOY / "default.aliciacfg").read_text()
    given = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
    also = dict(re.findall(r"^#?([A-Z]\w+)=(.*)$", defaults, re.MULTILINE))
    credential = dict(re.findall(r"^Environment=(\w+)=(.*)$", dropped_in, re.MULTILINE))
    assert given.keys() | also.keys() | credential.keys() <= {setting.name for setting in SETTINGS}
    paths = {name: value.replace("%S", "/var/lib").replace("%E", "/etc") for name, value in given.items()}
    assert {name: also[name] for name in paths} == paths


@needs_systemd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_user_and_directories_are_made(tmp_path: Path):
    """By systemd-sysusers and systemd-tmpfiles, under a root of their own; only root writes what systemd reads."""
    (tmp_path / "etc").mkdir()
    for program in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        file = DEPLOY / f"{program[0].removeprefix('systemd-')}.d" / "aliciacfg.conf"
        # Named, the file would be looked for under that root.
        command = [*program, f"--root={tmp_path}", "-"]
        subprocess.run(command, input=file.read_bytes(), check=True, timeout=30, capture_output=True)
    user = re.findall(r"^aliciacfg:x:(\d+):(\d+):", (tmp_path / "etc" / "passwd").read_text(), re.MULTILINE)
    for name, mode in (("environments", 0o750), ("schemas", 0o755)):
        status = (tmp_path / "etc" / "aliciacfg" / name).stat()
        assert (str(status.st_uid), str(status.st_gid), status.st_mode & 0o7777) == (*user[0], mode)
    for name in ("", "exec"):
        assert (tmp_path / "etc" / "aliciacfg" / name).stat().st_uid == 0
    assert (tmp_path / "etc" / "aliciacfg" / ".env").readlink() == Path("/etc/default/aliciacfg")


JOURNAL = """
import os, structlog
from aliciacfg import logs
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
writer = logs.configure(level="info", form="%s")
log = structlog.get_logger("x")
log.info("listening", url="http://127.0.0.1:8026")
try:
    raise ValueError("broken")
except ValueError:
    log.exception("failed")
import logging
logging.getLogger("other").warning("careful")
import sys
print("error: no", "port\\nbecause it is used", file=sys.stderr)
writer.flush(5.0)
"""


def journal(form: str = "auto") -> list[str]:
    """The lines of the log in the journal."""
    done = subprocess.run(
        [sys.executable, "-c", JOURNAL % form], capture_output=True, check=True, timeout=30, text=True
    )
    return done.stderr.splitlines()


def test_the_journal_gets_lines_with_their_priority():
    """For people and without time, or as JSON; each line of a traceback has the priority too. Elsewhere none has."""
    lines = journal()
    assert re.fullmatch(r"<6>\[info +\] listening +url=http://127.0.0.1:8026", lines[0])
    assert len([line for line in lines if line.startswith("<3>")]) > 3
    assert lines[-3].startswith("<4>[warning")
    assert lines[-2:] == ["<3>error: no port", "<3>because it is used"]
    assert "\x1b" not in "".join(lines)
    events = [(line[:3], json.loads(line[3:])["event"]) for line in journal("json")[:-2]]
    assert events == [("<6>", "listening"), ("<3>", "failed"), ("<4>", "careful")]
    assert not logs._is_journal("1:1")
