"""``aliciacfg env``: the variables of a service as files for other programs."""

import json
import random
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import env_readers
from aliciacfg.variables.dialects import render
from aliciacfg.variables.resolution import Variable
from commands import aliciacfg
from daemons import Daemon
from yaml_readers import TEXTS

HOME_SERVICES = ("voice_router",)
HARD = [text for text in [*TEXTS, "a\\", "it's", "a\n\n", "\n", "\r\n", "'\\''", "!x"] if "\0" not in text]
# Of these, random texts are made.
TRAPS = [
    "'",
    '"',
    "\\",
    "$",
    "`",
    "!",
    "#",
    "~",
    "*",
    "=",
    ";",
    "&",
    " ",
    "\n",
    "\r",
    "\t",
    "a",
    "é",
    "\x01",
    "$(",
    "${V1}",
]


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_shells_read_what_went_in(tmp_path: Path, shell: str):
    """``. file`` and ``eval "$(cat file)"`` set each value exactly, and run nothing of it."""
    if shutil.which(shell) is None:
        pytest.skip(f"this machine has no {shell}")
    mixed = random.Random(shell)
    texts = [*HARD, *("".join(mixed.choices(TRAPS, k=mixed.randrange(1, 9))) for _ in range(300))]
    variables = [Variable(f"V{number}", "/v", text) for number, text in enumerate(texts)]
    (tmp_path / "file").write_bytes(render("export", variables).encode())
    for read in (". ./file", 'eval "$(cat file)"'):
        done = subprocess.run(
            [shell, "-euc", f"{read}; exec env -0"],
            cwd=tmp_path,
            capture_output=True,
            env={"PATH": "/usr/bin:/bin"},
            check=True,
        )
        found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
        assert {name: found.get(name) for name in (v.name for v in variables)} == {v.name: v.text for v in variables}
        assert not done.stderr


def test_the_variables_of_a_service(module_daemon: Daemon):
    """Named by the schema, over MQTT and HTTP alike; a secret that stays redacted fails unless it may be left out."""
    refused = aliciacfg(module_daemon, "env", "voice_router")
    assert refused.returncode == 6
    assert "MQTT_PASSWORD (/mqtt_config/password)" in refused.stderr
    assert not refused.stdout
    values: dict[str, object] = {}
    for http in (False, True):
        done = aliciacfg(module_daemon, "env", "voice_router", "--format", "json", "--allow-redacted", http=http)
        assert done.returncode == 0
        assert "MQTT_PASSWORD is left out" in done.stderr
        values = json.loads(done.stdout)
        assert values["MAX_SESSIONS"] == "10"
        assert values["MQTT_BROKER"] == "127.0.0.1"
        assert "MQTT_PASSWORD" not in values
    text = aliciacfg(module_daemon, "env", "voice_router", "--allow-redacted").stdout
    assert env_readers.dotenv(text) == values
    everything = aliciacfg(module_daemon, "env", "voice_router", "--all", "--allow-redacted", "--format", "json")
    assert json.loads(everything.stdout)["LIMITS_MAX_QUEUED_REQUESTS"] == "50"


def test_a_service_without_a_schema(module_daemon: Daemon):
    """Names are made from the pointers; a file is private from its first moment, and replaced as a whole."""
    settings = {"greeting": "it's $5", "http_proxy": "x"}
    assert module_daemon.http("PUT", "/config/gate", {"settings": settings, "tmp": "/x"}).status == 201
    file = module_daemon.directory / "gate.env"
    file.write_text("old")
    file.chmod(0o644)
    done = aliciacfg(module_daemon, "env", "gate", "--allow-redacted", "--format", "export", "--to", str(file))
    assert done.returncode == 0, done.stderr
    assert not done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    assert "SETTINGS_GREETING=it's $5" in shlex.split(file.read_text())
    assert "left out /tmp: TMP would change more than this value" in done.stderr


def test_a_value_that_a_format_cannot_hold_is_named(module_daemon: Daemon):
    """By variable and pointer, never by value; nothing is printed, and other formats hold it."""
    assert module_daemon.http("PUT", "/config/lamp", {"settings": {"glyph": "hush\uffff"}}).status == 201
    done = aliciacfg(module_daemon, "env", "lamp", "--format", "systemd", "--allow-redacted")
    assert done.returncode == 4
    assert "/settings/glyph: SETTINGS_GLYPH holds a noncharacter" in done.stderr
    assert "hush" not in done.stderr
    assert not done.stdout
    assert aliciacfg(module_daemon, "env", "lamp", "--format", "compose", "--allow-redacted").returncode == 0
