"""Every snippet of the README, run in order as it stands there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

from support import PATH, ROOT, Daemon

SNIPPETS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run(daemon: Daemon, snippet: str) -> subprocess.CompletedProcess[str]:
    """Run a snippet in the daemon's directory; only ports and the way to the program are the test's own."""
    script = snippet.replace("http://127.0.0.1:8026", daemon.url)
    script = re.sub(r"\b(mosquitto_rr|mosquitto_sub)\b", rf"\1 -W 10 -p {daemon.broker_port}", script)
    script = script.replace(".venv/bin/aliciacfg", f"{sys.executable} -m aliciacfg")
    # What is pinned at first use is not to be pinned for whoever runs the tests.
    home = {"XDG_CONFIG_HOME": str(daemon.directory / "config")}
    environment = {**daemon.environment(), **home, "PATH": PATH + os.pathsep + os.environ.get("PATH", "")}
    return subprocess.run(
        ["sh", "-c", script],
        cwd=daemon.directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_snippet_does_what_the_readme_says(make_daemon: Callable[..., Daemon]):
    """The three ways in answer the same document; changes, the refusal, file edit and sealing are as shown."""
    assert len(SNIPPETS) == 12
    daemon = make_daemon().start()
    done = [run(daemon, snippet) for snippet in SNIPPETS]
    rr, get, sub, watch, curl, patch, edit, conditional, unset, file_set, refused, sealed = done
    for name, one in (("rr", rr), ("get", get), ("sub", sub), ("watch", watch), ("curl", curl), ("patch", patch)):
        assert one.returncode == 0, (name, one.stderr)
    assert json.loads(rr.stdout) == json.loads(curl.stdout)
    assert json.loads(get.stdout) == json.loads(rr.stdout)["config"]
    assert json.loads(sub.stdout) == json.loads(watch.stdout)
    assert json.loads(sub.stdout)["config"] == json.loads(get.stdout)
    assert json.loads(patch.stdout)["config"]["settings"]["max_sessions"] == 12
    assert edit.returncode == 0, edit.stderr
    edited = json.loads(edit.stdout)
    assert edited["changed"] == ["/settings/max_sessions"]
    assert edited["config"]["settings"]["max_sessions"] == 14
    trial = json.loads(conditional.stdout)
    assert (trial["status"], trial["dry_run"]) == ("success", True)
    assert json.loads(unset.stdout)["config"]["settings"]["max_sessions"] == 10
    assert file_set.returncode == 0, file_set.stderr
    assert "max_queued_requests: 60" in (daemon.environments / "dev.yaml").read_text()
    assert refused.returncode == 4
    shown = [line.removeprefix("# ") for line in SNIPPETS[-2].splitlines() if line.startswith("# ")]
    assert refused.stderr.splitlines() == shown
    assert sealed.returncode == 0, sealed.stderr
    assert sealed.stdout.splitlines()[-1].startswith("sealed:v1:")
    text = (daemon.environments / "dev-secrets.yaml").read_text()
    assert re.search(r'ha_token: "sealed:v1:[^"]+"  # comments stay$', text, re.MULTILINE)
    daemon.http("POST", "/reload")
    assert daemon.config("ha_bridge")["config"]["settings"]["ha_token"] == "***"


def test_the_readme_begins_with_the_two_commands():
    """Whoever opens it sees at once how to start and how to test."""
    text = (ROOT / "README.md").read_text()
    assert text.index("make run") < text.index("make test") < text.index("## Three ways in")
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test", "lint", "bench", "soak"} <= set(targets)
