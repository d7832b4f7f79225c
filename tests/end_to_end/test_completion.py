"""Completion in a shell, and what a mistyped name may have meant, as a daemon knows it."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import aliciacfg
from daemons import Daemon
from machine import free_port


def completed(daemon: Daemon, *words: str, environ: dict[str, str] | None = None) -> list[str]:
    """What a shell is told about the last of these words."""
    asked = {
        "_ALICIACFG_COMPLETE": "bash_complete", "COMP_WORDS": shlex.join(["aliciacfg", *words]),
        "COMP_CWORD": str(len(words)), "ALICIACFG_COMPLETION_SECONDS": "20",
    }  # fmt: skip
    done = aliciacfg(daemon, environ={**asked, **(environ or {})})
    assert (done.returncode, done.stderr) == (0, "")
    return [line.removeprefix("plain,") for line in done.stdout.split()]


def test_names_complete_as_the_daemon_knows_them(shared: Daemon):
    """Services, environments, pointers and revisions; `unset` completes what was changed at run time."""
    service = "sonos_service"
    assert aliciacfg(shared, "patch", service, '{"limits": {"completed": 1}}').returncode == 0
    assert completed(shared, "get", "sonos") == [service]
    assert completed(shared, "diff", service, "d") == ["dev"]
    assert completed(shared, "list", "-e", "de") == ["dev"]
    assert "/mqtt_config/host" in completed(shared, "explain", service, "/mqtt")
    assert completed(shared, "unset", service, "") == ["/limits/completed"]
    assert completed(shared, "rollback", service, "") == ["2", "1"]
    assert "rollback" in completed(shared, "ro")
    assert completed(shared, "database", "migrate", "sqlite:", "p") == ["postgresql:"]


def test_a_shell_sees_no_error_and_does_not_wait(shared: Daemon):
    """Without a daemon there is nothing to complete, and nothing is said."""
    away = {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(free_port())}
    assert completed(shared, "get", "", environ=away) == []
    assert completed(shared, "get", "", environ={"MQTT_PORT": "none"}) == []
    assert completed(shared, "--http", "nonsense", "get", "") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(shared: Daemon, tmp_path: Path):
    """As a person does: the script is read, and Tab is pressed."""
    program = tmp_path / "aliciacfg"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m aliciacfg "$@"\n')
    program.chmod(0o755)
    script = (
        "source <(aliciacfg completion bash); COMP_WORDS=(aliciacfg get voice_r); COMP_CWORD=2; "
        '_aliciacfg_completion aliciacfg; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=shared.directory,
        env={**shared.environment(), "ALICIACFG_COMPLETION_SECONDS": "20", "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("voice_router\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_by_the_same_variable(shared: Daemon, shell: str):
    """And a shell that is not known is wrong usage."""
    script = aliciacfg(shared, "completion", shell).stdout
    assert f"_ALICIACFG_COMPLETE={shell}_complete" in script
    assert aliciacfg(shared, "completion", "csh").returncode == 2


@pytest.mark.parametrize("http", [False, True])
def test_a_mistyped_name_is_answered_with_what_was_meant(shared: Daemon, http: bool):
    """A service, an environment and a pointer; nothing is suggested for what is like nothing."""
    for arguments, meant in (
        (("get", "voice_rooter"), "voice_router"),
        (("history", "voice-router"), "voice_router"),
        (("get", "voice_router", "-e", "dve"), "dev"),
        (("activate", "dve"), "dev"),
        (("explain", "voice_router", "/mqtt_config/kepalive"), "/mqtt_config/keepalive"),
    ):
        done = aliciacfg(shared, *arguments, http=http)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (3, f"hint: did you mean {meant}?"), arguments
    assert "hint" not in aliciacfg(shared, "get", "zzzz", http=http).stderr
