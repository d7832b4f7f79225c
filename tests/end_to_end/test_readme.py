"""Every snippet of the README, run in order and unchanged."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import on_terminal
from daemons import Daemon
from doc_shell import Shell
from machine import wait_until
from repository import ROOT

README = (ROOT / "README.md").read_text()
OWN_HOME, _, ALICIA_HOME = README.partition("## The Alicia home")
SNIPPET = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = SNIPPET.findall(ALICIA_HOME)
# How many of them change something, and how many after these inspect and undo.
CHANGING, LOOKING = 11, 5

Runner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The programs that the snippets start."""
    with Shell(tmp_path_factory.mktemp("readme"), {}) as made:
        yield made


@pytest.fixture
def run(shell: Shell) -> Runner:
    """Run a snippet, in the daemon's directory by default; only ports and the path of the program are replaced."""

    def run(daemon: Daemon, snippet: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        script = snippet.replace("http://127.0.0.1:8026", daemon.url).replace(".venv/bin/aliciacfg", "aliciacfg")
        # `seal` pins the daemon's key at first use; the pin must not go into the home directory of the tests' user.
        home = {"XDG_CONFIG_HOME": str(daemon.directory / "config")}
        environment = {**daemon.environment(), **home, "PATH": shell.environ["PATH"]}
        return in_shell(script, directory or daemon.directory, environment)

    return run


def in_shell(script: str, directory: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def comments(snippet: str) -> list[str]:
    """What a snippet says that its command prints."""
    return [line.removeprefix("# ") for line in snippet.splitlines() if line.startswith("# ")]


def test_the_first_five_minutes_are_as_the_readme_has_them(
    tmp_path: Path, make_daemon: Callable[..., Daemon], run: Runner
):
    """A home of one's own in an empty directory: service, secret, change, mistake, way back, import, and prod."""
    daemon = make_daemon("unused", arguments=["--dev"])
    daemon.directory = tmp_path / "my-home"
    init, add, sub, secret, patch, refused, back, import_, prod = SNIPPET.findall(OWN_HOME)
    laid_out = run(daemon, init, tmp_path)
    assert laid_out.returncode == 0, laid_out.stderr
    assert daemon.start().ready_line.count(" 1 configuration,") == 1
    done = {
        name: run(daemon, snippet)
        for name, snippet in {"add": add, "sub": sub, "secret": secret, "patch": patch}.items()
    }
    assert [one.returncode for one in done.values()] == [0] * 4, [one.stderr for one in done.values()]
    assert json.loads(done["sub"].stdout)["config"]["settings"]["target_celsius"] == 21
    assert json.loads(done["secret"].stdout)["loaded"] is True
    assert json.loads(done["patch"].stdout)["config"]["settings"]["target_celsius"] == 23
    mistake = run(daemon, refused)
    assert (mistake.returncode, mistake.stderr.splitlines()) == (4, comments(refused))
    assert run(daemon, back).returncode == 0
    assert daemon.config("thermostat")["config"]["settings"]["target_celsius"] == 21
    taken = run(daemon, import_)
    assert [item["from"] for item in json.loads(taken.stdout)["secrets"]] == ["BOT_TOKEN"], taken.stderr
    moved = run(daemon, prod)
    assert moved.returncode == 0, moved.stderr
    assert daemon.config("telegram_bot")["environment"] == "prod"


def test_every_snippet_does_what_the_readme_says(make_daemon: Callable[..., Daemon], run: Runner):
    """All interfaces answer the same document; changes, the refusal, file edit and sealing are as shown."""
    assert len(SNIPPETS) == CHANGING + LOOKING + 1
    daemon = make_daemon().start()
    done = [run(daemon, snippet) for snippet in SNIPPETS[:CHANGING]]
    rr, get, sub, watch, curl, patch, edit, conditional, unset, file_set, refused = done
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
    assert refused.stderr.splitlines() == comments(SNIPPETS[CHANGING - 1])
    inspect_and_undo(daemon, run)
    sealed = run(daemon, SNIPPETS[-1])
    assert sealed.returncode == 0, sealed.stderr
    assert sealed.stdout.splitlines()[-1].startswith("sealed:v1:")
    text = (daemon.environments / "dev-secrets.yaml").read_text()
    assert re.search(r'ha_token: "sealed:v1:[^"]+"  # comments stay$', text, re.MULTILINE)
    daemon.http("POST", "/reload")
    assert daemon.config("ha_bridge")["config"]["settings"]["ha_token"] == "***"


def inspect_and_undo(daemon: Daemon, run: Runner) -> None:
    """The snippets of the section that inspects the changes made before, and undoes them."""
    block = README.partition("<!-- explain:")[2].partition("<!-- /explain -->")[0]
    tree = [line.removeprefix("    ") for line in block.splitlines()[1:]]
    arguments = ["explain", "voice_router", "/limits/max_queued_requests"]
    wait_until(
        lambda: on_terminal(daemon, *arguments).text.splitlines() == tree,
        why=f"it is explained as the README has it, not as {on_terminal(daemon, *arguments).text}",
    )
    done = [run(daemon, snippet) for snippet in SNIPPETS[CHANGING : CHANGING + LOOKING]]
    assert [one.returncode for one in done] == [0] * LOOKING, [one.stderr for one in done]
    explain, trial, back, batch, check = done
    assert json.loads(explain.stdout)["values"]["/limits/max_queued_requests"]["value"] == 60
    patch = json.loads(trial.stdout)["difference"]["voice_router"]
    assert patch == [{"op": "replace", "path": "/settings/max_sessions", "value": 20}]
    history, difference, rolled = [json.loads(text) for text in back.stdout.replace("}\n{", "}\0{").split("\0")]
    assert [item["revision"] for item in history["revisions"]] == [5, 4, 3, 2, 1]
    assert difference["changed"]["/settings/max_sessions"] == {"env1": 12, "env2": 10}
    assert (rolled["revision"], rolled["config"]["settings"]["max_sessions"]) == (6, 12)
    assert json.loads(batch.stdout)["applied"] == 2
    assert json.loads(check.stdout)["store"]["broken"] == []
