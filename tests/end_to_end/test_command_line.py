"""The command line against a real daemon, over MQTT and over HTTP, on a pipe and on a terminal."""

import contextlib
import getpass
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brokers import Broker
from commands import aliciacfg, on_terminal, typed
from daemons import Daemon
from machine import free_port
from repository import ROOT, SERVICES


@pytest.mark.parametrize("http", [False, True])
def test_get_edit_set_and_unset_over_both_transports(shared: Daemon, http: bool):
    """A document is read, set with one changed key, and the change is removed."""
    service = "security_gateway" if http else "metrics_collector"
    document = json.loads(aliciacfg(shared, "get", service, http=http).stdout)
    document["limits"]["edited"] = 1
    done = aliciacfg(shared, "set", service, "-", "-m", "because", stdin=json.dumps(document), http=http)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["changed"] == ["/limits/edited"]
    whole = json.loads(aliciacfg(shared, "get", service, "--answer", http=http).stdout)
    assert whole["revision"] == 2
    old = json.loads(aliciacfg(shared, "get", service, "--revision", "1", http=http).stdout)
    assert "edited" not in old["limits"]
    dry = json.loads(aliciacfg(shared, "unset", service, "/limits/edited", "--dry-run", http=http).stdout)
    assert dry["difference"][service] == [{"op": "remove", "path": "/limits/edited"}]
    dropped = json.loads(aliciacfg(shared, "unset", service, "/limits/edited", http=http).stdout)
    assert "edited" not in dropped["config"]["limits"]
    assert json.loads(aliciacfg(shared, "delete", service, http=http).stdout)["unchanged"] is True


@pytest.mark.parametrize("http", [False, True])
def test_exit_codes_of_refusals(shared: Daemon, http: bool):
    """Not found 3, invalid 4, conflict 5; standard error has the message, or with ``-o json`` the answer."""
    cases = [
        (("get", "nobody"), 3, "not_found"),
        (("get", "not a name"), 4, "invalid_request"),
        (("patch", "stt_service", '{"settings": {"max_audio_seconds": "x"}}'), 4, "validation_failed"),
        (("patch", "stt_service", "{}", "--expected-revision", "77"), 5, "conflict"),
        (("schema", "nobody"), 3, "not_found"),
    ]
    for arguments, code, name in cases:
        done = aliciacfg(shared, *arguments, http=http)
        assert done.returncode == code, (arguments, done.stderr)
        assert (done.stdout, done.stderr.startswith("error: ")) == ("", True)
        told = aliciacfg(shared, "-o", "json", *arguments, http=http)
        assert (told.returncode, told.stdout, json.loads(told.stderr)["code"]) == (code, "", name)


def test_wrong_usage_exits_with_2_and_no_answer_with_7(shared: Daemon):
    """The message of a missing daemon says what to check."""
    assert aliciacfg(shared, "frobnicate").returncode == 2
    assert aliciacfg(shared, "patch", "voice_router").returncode == 2
    unused_port = free_port()
    away = aliciacfg(shared, "--broker", f"127.0.0.1:{unused_port}", "get", "voice_router")
    assert away.returncode == 7
    assert str(unused_port) in away.stderr
    gone = aliciacfg(shared, "--http", f"http://127.0.0.1:{unused_port}", "get", "voice_router")
    assert gone.returncode == 7
    assert "is the daemon running" in gone.stderr


def test_a_broker_without_a_daemon_is_reported(shared: Daemon, broker: Broker):
    """If only the broker answers, the message asks whether the daemon runs."""
    done = aliciacfg(shared, "--timeout", "0.5", "--broker", f"127.0.0.1:{broker.port}", "list")
    assert done.returncode == 7
    assert "is the daemon running" in done.stderr


@pytest.mark.parametrize("http", [False, True])
def test_list_validate_schema_environments_reload(shared: Daemon, http: bool, tmp_path: Path):
    """The other commands that read, also with YAML files."""
    listed = json.loads(aliciacfg(shared, "list", http=http).stdout)
    assert [item["service"] for item in listed if item["service"] in SERVICES] == SERVICES
    file = tmp_path / "config.yaml"
    file.write_text("limits: {a: b}\n")
    invalid = aliciacfg(shared, "validate", "voice_router", str(file), http=http)
    assert (invalid.returncode, json.loads(invalid.stdout)["valid"]) == (4, False)
    file.write_text(aliciacfg(shared, "get", "voice_router").stdout)
    assert aliciacfg(shared, "validate", "voice_router", str(file), http=http).returncode == 0
    assert "allOf" in json.loads(aliciacfg(shared, "schema", "voice_router", http=http).stdout)
    assert json.loads(aliciacfg(shared, "environments", http=http).stdout)["active"] == "dev"
    assert json.loads(aliciacfg(shared, "reload", http=http).stdout)["changed"] == []


def test_watch_prints_the_current_one_and_every_change(shared: Daemon):
    """A pipe gets JSON lines: first the retained message, then each change."""
    with subprocess.Popen(
        [sys.executable, "-m", "aliciacfg", "watch", "configuration_manager", "--count", "2"],
        cwd=shared.directory,
        env=shared.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        aliciacfg(shared, "patch", "configuration_manager", '{"limits": {"seen": 1}}')
        second = json.loads(process.stdout.readline())
        assert process.wait(20) == 0
    assert second["revision"] == first["revision"] + 1
    assert second["changed"] == ["/limits/seen"]


def test_invalid_input_files_are_reported_with_their_line(shared: Daemon, tmp_path: Path):
    """A file that is not YAML, not an object or missing is reported before a request is sent."""
    file = tmp_path / "bad.yaml"
    file.write_text("limits:\n  a: [1\n")
    broken = aliciacfg(shared, "set", "voice_router", str(file))
    assert broken.returncode == 4
    assert f"{file}:" in broken.stderr
    file.write_text("- 1\n")
    assert "expected a JSON or YAML object" in aliciacfg(shared, "set", "voice_router", str(file)).stderr
    missing = aliciacfg(shared, "set", "voice_router", str(tmp_path / "none.yaml"))
    assert missing.returncode == 1
    assert "none.yaml" in missing.stderr


def test_file_set_and_unset_keep_comments(shared: Daemon, tmp_path: Path):
    """One value changes; all comments and other lines stay."""
    file = tmp_path / "env.yaml"
    file.write_text("# top\nservices:\n  one:  # the first\n    limits:\n      x: 1  # few\n      y: 2\n")
    assert aliciacfg(shared, "file", "set", str(file), "/services/one/limits/x", "5").returncode == 0
    assert aliciacfg(shared, "file", "unset", str(file), "/services/one/limits/y").returncode == 0
    assert file.read_text() == "# top\nservices:\n  one:  # the first\n    limits:\n      x: 5  # few\n"
    refused = aliciacfg(shared, "file", "set", str(file), "/services/one/limits/x/y", "5")
    assert refused.returncode != 0
    assert "env.yaml" in refused.stderr


def test_schema_export_writes_a_schema_from_a_struct(shared: Daemon):
    """A msgspec Struct becomes a schema file whose settings it describes."""
    (shared.directory / "home_structs.py").write_text(
        "import msgspec\n\n\nclass Lamp(msgspec.Struct):\n    brightness: int = 50\n    color: str = 'warm'\n"
    )
    exported = json.loads(aliciacfg(shared, "schema", "export", "home_structs:Lamp").stdout)
    assert exported["title"] == "Lamp"
    assert "brightness" in json.dumps(exported)
    wrong = aliciacfg(shared, "schema", "export", "home_structs:Nothing")
    assert wrong.returncode == 1
    assert "package.module:Struct" in wrong.stderr


def test_settings_prints_origins_and_hides_secrets(shared: Daemon):
    """Each setting has name, value, default and origin; the password is not shown."""
    shared.environ["MQTT_PASSWORD"] = "never-shown"
    try:
        done = aliciacfg(shared, "settings", "--log-level", "debug")
    finally:
        del shared.environ["MQTT_PASSWORD"]
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["MQTT_PASSWORD"]["value"] == "***"
    assert rows["MQTT_BROKER"]["from"] == "environment"
    assert rows["ALICIACFG_LOG_LEVEL"]["from"] == "flag"
    assert rows["ALICIACFG_MAX_SERVICES"]["from"] == "default"
    assert "never-shown" not in done.stdout


def test_on_a_terminal_people_get_tables_and_sentences(shared: Daemon):
    """Lists are tables, writes are sentences, and each problem is a line; nothing is JSON."""
    listed = on_terminal(shared, "list").text
    assert "voice_router" in listed
    assert '"service"' not in listed
    written = on_terminal(shared, "patch", "event_scheduler", '{"limits": {"frob": 1}}').text
    assert "event_scheduler in dev is at revision 2 (was 1)" in written
    assert "/limits/frob" in written
    refused = on_terminal(shared, "patch", "event_scheduler", '{"limits": {"frob": "x"}}').text
    assert "/limits/frob: found 'x'; expected a number" in refused
    assert "event_scheduler  dev  revision 2" in on_terminal(shared, "watch", "event_scheduler", "--count", "1").text
    assert "ALICIACFG_HTTP_PORT" in on_terminal(shared, "settings").text
    assert "Traceback" not in listed + written + refused


def test_output_longer_than_the_terminal_goes_through_the_pager(shared: Daemon):
    """The one that is set, and only if somebody sits at the terminal; a short answer is printed as it is."""
    pager = {"ALICIACFG_PAGER": "sed s/^/paged:/"}
    paged = typed(shared, "settings", keys="", environ=pager)
    assert "paged:" in paged
    assert "ALICIACFG_HTTP_PORT" in paged
    assert "paged:" not in typed(shared, "list", "--prefix", "voice_router", keys="", environ=pager)
    assert "paged:" not in typed(shared, "--no-pager", "settings", keys="", environ=pager)
    assert "ALICIACFG_HTTP_PORT" in typed(shared, "settings", keys="", environ={"ALICIACFG_PAGER": "no-such-pager"})
    watched = typed(shared, "-o", "yaml", "watch", "voice_router", "--count", "1", keys="", environ=pager)
    assert "service: voice_router" in watched
    assert "paged:" not in watched


def test_the_caller_is_who_the_broker_knows(shared: Daemon):
    """MQTT_USERNAME, of the environment or of .env; --as comes first, and a name that cannot be a caller's last."""

    def author(*arguments: str, name: str | None = None) -> str:
        environ = {} if name is None else {"MQTT_USERNAME": name}
        patch = json.dumps({"limits": {"by": time.time()}})
        assert aliciacfg(shared, *arguments, "patch", "grok_integration", patch, environ=environ).returncode == 0
        return json.loads(aliciacfg(shared, "history", "grok_integration", "--limit", "1").stdout)["revisions"][0][
            "author"
        ]

    assert author(name="kitchen") == "kitchen"
    assert author("--as", "mario", name="kitchen") == "mario"
    assert author(name="not a caller") == getpass.getuser()
    (shared.directory / ".env").write_text("MQTT_USERNAME=from_file\n")
    try:
        assert author() == "from_file"
    finally:
        (shared.directory / ".env").unlink()


@pytest.mark.parametrize("option", ["--broker", "--http"])
def test_ctrl_c_twice_at_once_is_ctrl_c(tmp_path: Path, option: str):
    """Of a command that waits for an answer: one line, and no traceback of what it left half done."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        line = [option, where if option == "--broker" else f"http://{where}", "get", "voice_router"]
        process = subprocess.Popen(
            [sys.executable, "-m", "aliciacfg", *line], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        connection, _ = silent.accept()
        with connection:
            # What it sends is written in its loop.
            connection.recv(1)
            for _ in range(20):
                process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=40)
    # With asyncio's debug mode, a busy machine has lines about slow steps before it.
    lines = [line for line in said.strip().splitlines() if line and not line.startswith("Executing <")]
    assert (process.returncode, lines) == (1, ["error: interrupted"])


def test_ctrl_c_while_the_program_is_imported_is_no_traceback(tmp_path: Path):
    """A line, as later."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-m", "aliciacfg", "--version"], capture_output=True, text=True, env=environ, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: interrupted\n")


def test_the_line_is_gone_before_the_result_is_printed(tmp_path: Path):
    """Also in a command whose log is written later, by a thread of its own."""
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from aliciacfg import logs\n"
        "from aliciacfg.cli import progress\n"
        "logs.configure(level='error', form='auto')\n"
        "progress._QUIET_SECONDS = 0\n"
        "for _ in range(100):\n"
        "    with progress.shown('restoring'):\n"
        "        time.sleep(0.002)\n"
        "    print('restored', flush=True)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, program], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""
    # Reading a terminal that no process has any more is an error.
    with contextlib.suppress(OSError):
        while data := os.read(ours, 65536):
            shown += data.decode()
    os.close(ours)
    assert process.wait(20) == 0
    assert re.sub(r"[^\n]*\x1b\[K", "", shown) == "restored\r\n" * 100


@pytest.mark.parametrize(
    ("redirect", "code", "said"),
    [
        ("<&- >&-", 0, ""),
        ("> /dev/full", 1, "error: standard output cannot be written: No space left on device; free some space\n"),
    ],
)
def test_a_standard_stream_that_cannot_be_used_is_no_traceback(shared: Daemon, redirect: str, code: int, said: str):
    """Closed before the start, whose number the next socket would get; or on a full disk."""
    command = f"{shlex.quote(sys.executable)} -m aliciacfg list {redirect}"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=shared.directory,
        env=shared.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, said)
