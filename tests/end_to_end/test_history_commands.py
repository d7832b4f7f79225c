"""The commands that preview, inspect and undo changes, against a real daemon: on a pipe and on a terminal."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from commands import aliciacfg, on_terminal, typed
from daemons import Daemon
from machine import wait_until
from mqtt_clients import client

HOME_SERVICES = ("grok_integration", "health_monitor", "load_balancer", "sonos_service", "voice_router")


def create(daemon: Daemon, service: str, **settings: Any) -> None:
    """Create a configuration for a service that no file names."""
    config = daemon.config("voice_router")["config"]
    del config["service_name"]
    config["settings"] = settings
    config["mqtt_config"]["password"] = "planted-secret"
    done = aliciacfg(daemon, "set", service, json.dumps(config))
    assert done.returncode == 0, done.stderr


def patch(daemon: Daemon, service: str, patch: dict[str, Any], *options: str) -> dict[str, Any]:
    done = aliciacfg(daemon, "patch", service, json.dumps(patch), *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("http", [False, True])
def test_a_change_is_found_in_the_history_and_undone(shared: Daemon, http: bool):
    """Each revision has author, cause and comment; a rollback is tried, then made, and is itself a revision."""
    service = f"undone_{'http' if http else 'mqtt'}"
    create(shared, service, size=1)
    patch(shared, service, {"settings": {"size": 2}}, "-m", "for the party")
    found = json.loads(aliciacfg(shared, "history", service, http=http).stdout)
    newest, oldest = found["revisions"]
    assert (newest["revision"], newest["cause"], newest["comment"]) == (2, "api", "for the party")
    assert newest["changed"] == ["/settings/size"]
    assert (oldest["revision"], found["next"]) == (1, None)
    tried = json.loads(aliciacfg(shared, "rollback", service, "1", "--dry-run", http=http).stdout)
    assert tried["difference"] == {service: [{"op": "replace", "path": "/settings/size", "value": 1}]}
    done = json.loads(aliciacfg(shared, "rollback", service, "1", "-m", "enough", http=http).stdout)
    assert (done["revision"], done["config"]["settings"]) == (3, {"size": 1})
    newest = json.loads(aliciacfg(shared, "history", service, "--limit", "1", http=http).stdout)["revisions"][0]
    assert (newest["cause"], newest["comment"]) == ("rollback", "enough")
    late = aliciacfg(shared, "rollback", service, "1", "--expected-revision", "2", http=http)
    assert (late.returncode, late.stdout) == (5, "")
    never = aliciacfg(shared, "rollback", service, "99", http=http)
    assert (never.returncode, never.stdout) == (3, "")


def test_history_comes_in_pages_or_whole(shared: Daemon):
    """A page names the start of the next one; --all follows all pages."""
    create(shared, "paged", size=0)
    for start in range(0, 1100, 100):
        updates = [{"service": "paged", "patch": {"settings": {"size": start + n + 1}}} for n in range(100)]
        assert shared.http("POST", "/configs/batch", {"updates": updates}).json["applied"] == 100
    first = json.loads(aliciacfg(shared, "history", "paged", "--limit", "2").stdout)
    assert ([item["revision"] for item in first["revisions"]], first["next"]) == ([1101, 1100], 1100)
    second = json.loads(aliciacfg(shared, "history", "paged", "--limit", "2", "--before", "1100").stdout)
    assert [item["revision"] for item in second["revisions"]] == [1099, 1098]
    everything = json.loads(aliciacfg(shared, "history", "paged", "--all").stdout)
    assert [item["revision"] for item in everything["revisions"]] == list(range(1101, 0, -1))
    assert everything["next"] is None
    assert "For older revisions add --before 1082 or --all." in on_terminal(shared, "history", "paged").text


@pytest.mark.parametrize("columns", [80, 140])
def test_history_is_a_table_for_people(shared: Daemon, columns: int):
    """Author, time, comment, changes and breaking changes fit the terminal's width."""
    service = f"told_{columns}"
    create(shared, service, size=1, gone=2)
    patch(shared, service, {"settings": {"size": 2}}, "-m", "for the party \x1b[2J")
    refused = aliciacfg(shared, "patch", service, '{"settings": {"gone": null}}')
    assert (refused.returncode, "/settings/gone" in refused.stderr) == (5, True)
    patch(shared, service, {"settings": {"gone": None}}, "--allow-breaking")
    seen = on_terminal(shared, "history", service, columns=columns)
    assert seen.returncode == 0
    when = r"(just now|\d+ s ago|1 min ago)"
    assert re.search(rf"3 +2\.0\.0 +{when} +\S+ +breaking: /settings/gone", seen.text)
    assert re.search(rf"2 +\d\.\d\.\d +{when} +\S+ +for the party \\u001b\[2J", seen.text)
    assert re.search(r"\n +/settings/size", seen.text)
    assert "\x1b[2J" not in seen.raw
    full = on_terminal(shared, "history", service, "--times", "full", columns=columns)
    assert re.search(r"3 +2\.0\.0 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +", full.text)
    assert max(map(len, seen.text.splitlines())) <= columns


def test_explain_names_the_place_of_every_value(shared: Daemon):
    """The JSON has file and line, or the overlay's revision; a pointer selects a part."""
    patch(shared, "load_balancer", {"limits": {"max_queued_messages": 7}})
    found = json.loads(aliciacfg(shared, "explain", "load_balancer").stdout)
    value = found["values"]["/limits/max_queued_messages"]
    assert (value["value"], value["layer"], value["revision"]) == (7, "overlay", 2)
    file, line = value["overridden"][0]["layer"].partition("#")[0], value["overridden"][0]["line"]
    assert "max_queued_messages" in (shared.directory / file).read_text().splitlines()[line - 1]
    part = json.loads(aliciacfg(shared, "explain", "load_balancer", "/limits", http=True).stdout)
    assert part["values"] == {key: one for key, one in found["values"].items() if key.startswith("/limits/")}


def test_explain_is_a_tree_for_people(shared: Daemon):
    """Values appear with their origins and the values they override, removed places too; secrets stay hidden."""
    before = shared.config("health_monitor")["config"]["limits"]["max_payload_bytes"]
    done = aliciacfg(
        shared, "patch", "health_monitor", "--allow-breaking",
        '{"limits": {"max_payload_bytes": null, "requests_per_minute": 7}}',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = on_terminal(shared, "explain", "health_monitor").text
    assert seen.startswith("health_monitor in dev, revision 2\n")
    assert re.search(r"── requests_per_minute +7 +← overlay, revision 2\n", seen)
    assert re.search(
        r"instead of \d+  ← environments/dev\.yaml:\d+ \(defaults\), shadowed by overlay, revision 2\n", seen
    )
    assert re.search(r"── max_payload_bytes +removed +← overlay, revision 2\n", seen)
    assert f"instead of {before}  ← environments/" in seen
    assert re.search(r'── password +"\*\*\*" +← environments/dev\.yaml:\d+', seen)
    part = on_terminal(shared, "explain", "health_monitor", "/limits/requests_per_minute").text
    assert "requests_per_minute" in part
    assert "mqtt_config" not in part


def test_no_line_of_a_tree_is_cut_on_a_narrow_terminal(shared: Daemon):
    """The terminal folds long lines, so that the origin of a value is always readable."""
    lines = on_terminal(shared, "explain", "voice_router", columns=40).text.splitlines()
    assert any(len(line) > 40 for line in lines)
    assert not [line for line in lines if "environments/" in line and not line.endswith(")")]


@pytest.mark.parametrize(
    ("pointer", "code", "message"), [("/nowhere", 3, "There is nothing at /nowhere"), ("limits", 2, "does not begin")]
)
def test_explain_at_a_place_that_does_not_exist(shared: Daemon, pointer: str, code: int, message: str):
    """A missing place exits with 3, an invalid pointer with 2."""
    done = aliciacfg(shared, "explain", "voice_router", pointer)
    assert (done.returncode, message in done.stderr, done.stdout) == (code, True, "")


def test_diff_of_revisions(shared: Daemon):
    """One revision is compared with the current one, two_environments with each other; secrets are named, not shown."""
    create(shared, "compared", size=1, old=True)
    patch(shared, "compared", {"settings": {"size": 2, "new": {"deep": [1]}}})
    patch(shared, "compared", {"settings": {"old": None}}, "--allow-breaking")
    found = json.loads(aliciacfg(shared, "diff", "compared", "--rev", "1", "--rev", "2", http=True).stdout)
    assert found["changed"] == {"/settings/size": {"env1": 1, "env2": 2}}
    assert (found["rev1"], found["rev2"], found["only_in_env1"]) == (1, 2, {})
    seen = on_terminal(shared, "diff", "compared", "--rev", "1")
    assert seen.returncode == 0
    assert seen.text.splitlines() == [
        "--- compared in dev, revision 1",
        "+++ compared in dev, revision 3",
        "+ /settings/new/deep  [1]",
        "- /settings/old  true",
        "~ /settings/size  1 → 2",
        "Only administrators see whether these secrets differ: /mqtt_config/password",
    ]
    assert "\x1b[31m- /settings/old" in seen.raw
    assert "\x1b[32m+ /settings/new" in seen.raw
    assert aliciacfg(shared, "diff", "compared", "--rev", "1", "--exit-code").returncode == 1
    equal = on_terminal(shared, "diff", "compared", "--rev", "2", "--rev", "2", "--exit-code")
    assert (equal.returncode, equal.text.splitlines()[0]) == (
        0,
        "compared is equal in dev, revision 2 and dev, revision 2.",
    )
    assert aliciacfg(shared, "diff", "compared", "--rev", "9").returncode == 3


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dev",),
        ("dev", "prod", "staging"),
        ("dev", "prod", "-e", "dev"),
        ("dev", "prod", "--rev", "1"),
        ("--rev", "1", "--rev", "2", "--rev", "3"),
        ("--rev", "0"),
        ("--rev", "x"),
    ],
)
def test_diff_of_anything_else_is_wrong_usage(shared: Daemon, arguments: tuple[str, ...]):
    """It is refused before a request is sent."""
    done = aliciacfg(shared, "diff", "voice_router", *arguments)
    assert (done.returncode, "usage: " in done.stderr) == (2, True)


@pytest.fixture
def two_environments(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with a second environment ``lab``, a protected copy of ``dev`` with another limit."""
    daemon = make_daemon()
    text = (daemon.environments / "dev.yaml").read_text()
    lab, count = re.subn(r"max_queued_messages: \d+", "max_queued_messages: 77", text)
    assert count > 0
    (daemon.environments / "lab.yaml").write_text(f"protected: true\n{lab}")
    return daemon.start()


def test_environments_are_compared_tried_and_activated(two_environments: Daemon):
    """The difference, a dry run that changes nothing, and the activation, over both transports."""
    lines = on_terminal(two_environments, "diff", "voice_router", "dev", "lab").text.splitlines()
    assert lines[:2] == ["--- voice_router in dev, revision 1", "+++ voice_router in lab, revision 1"]
    assert [line for line in lines[2:-1] if line[0] in "+-~"] == ["~ /limits/max_queued_messages  10000 → 77"]
    tried = on_terminal(two_environments, "activate", "lab", "--dry-run").text
    assert f"  ~ /limits/max_queued_messages  10000 → 77  in all {len(HOME_SERVICES)} services\n" in tried
    assert json.loads(aliciacfg(two_environments, "environments").stdout)["active"] == "dev"
    moved = json.loads(aliciacfg(two_environments, "activate", "lab", "-m", "trial", http=True).stdout)
    assert (moved["environment"], moved["previous"], "voice_router" in moved["changed"]) == ("lab", "dev", True)
    assert two_environments.config("voice_router")["config"]["limits"]["max_queued_messages"] == 77
    back = on_terminal(two_environments, "activate", "dev", "--yes")
    assert (back.returncode, "dev is active (was lab)" in back.text) == (0, True)
    assert f"  ~ /limits/max_queued_messages  77 → 10000  in all {len(HOME_SERVICES)} services\n" in back.text

    # A person is asked before a protected environment becomes active, or no longer is; a script above was not.
    other = typed(two_environments, "activate", "lab", keys="lap\n")
    assert other.index("/limits/max_queued_messages") < other.index("lab is protected")
    assert "that is not the name; dev is still active" in other
    given_up = typed(two_environments, "activate", "lab", keys="\x04")
    assert "nothing was answered; dev is still active" in given_up
    assert "--yes activates without asking" in given_up
    agreed = typed(two_environments, "activate", "lab", keys="lab\n")
    assert "Type lab to make it active: lab" in agreed
    assert agreed.splitlines()[-1].startswith("lab is active (was dev)")
    stayed = typed(two_environments, "activate", "dev", keys="lab\n")
    assert stayed.index("/limits/max_queued_messages") < stayed.index("lab is protected, and active until then")
    assert "that is not the name; lab is still active" in stayed
    left = typed(two_environments, "activate", "dev", keys="dev\n")
    assert left.splitlines()[-1].startswith("dev is active (was lab)")
    for environment, options in (("dev", []), ("lab", ["--yes"]), ("lab", []), ("dev", ["--yes"])):
        seen = typed(two_environments, "activate", environment, *options, keys="")
        assert ("Type" in seen, f"{environment} is active" in seen) == (False, True)


def test_an_environment_that_cannot_be_activated(two_environments: Daemon):
    """An unknown one exits with 3, an impossible or invalid one with 4 and every problem; nothing changes."""
    assert aliciacfg(two_environments, "activate", "nowhere").returncode == 3
    reserved = aliciacfg(two_environments, "activate", "base")
    assert (reserved.returncode, "cannot name an environment" in reserved.stderr) == (4, True)
    invalid = on_terminal(two_environments, "activate", "prod")
    assert invalid.returncode == 4
    assert f"{len(HOME_SERVICES)} services lack /mqtt_config/password" in invalid.text
    assert "max_sessions" not in invalid.text
    tried = on_terminal(two_environments, "activate", "prod", "--dry-run")
    assert tried.returncode == 4
    assert "    ~ /settings/max_sessions  10 → 50\n" in tried.text.partition("Apart from that, it would change:")[2]
    assert json.loads(aliciacfg(two_environments, "environments").stdout)["active"] == "dev"


def test_a_migration_is_listed_tried_and_run(daemon: Daemon):
    """A schema with a new major version waits; the dry run shows the changed run-time change; then it is applied."""
    patch(daemon, "voice_router", {"settings": {"max_sessions": 12}})
    schema = daemon.directory / "schemas" / "voice_router.yaml"
    steps = daemon.directory / "schemas" / "voice_router" / "migrations" / "1-to-2.yaml"
    steps.parent.mkdir(parents=True)
    steps.write_text("- {op: move, from: /settings/max_sessions, path: /settings/most_sessions}\n")
    text = schema.read_text().replace("max_sessions", "most_sessions")
    schema.write_text(re.sub(r"^version: .*$", "version: 2.0.0", text, flags=re.MULTILINE))
    waiting = on_terminal(daemon, "reload").text
    assert "Migrations pending for voice_router; run: aliciacfg migrate --dry-run" in waiting
    tried = on_terminal(daemon, "migrate", "--dry-run")
    assert tried.returncode == 0
    assert "voice_router  1.0.0 → 2.0.0  would be migrated" in tried.text
    assert "schemas/voice_router/migrations/1-to-2.yaml" in tried.text
    assert "    - /settings/max_sessions  12\n    + /settings/most_sessions  12\n" in tried.text
    assert "most_sessions" not in daemon.config("voice_router")["config"]["settings"]
    done = json.loads(aliciacfg(daemon, "migrate").stdout)
    assert [(one["service"], one["done"]) for one in done["migrations"]] == [("voice_router", True)]
    assert daemon.config("voice_router")["config"]["settings"]["most_sessions"] == 12
    newest = json.loads(aliciacfg(daemon, "history", "voice_router", "--limit", "1").stdout)["revisions"][0]
    assert newest["cause"] == "migration"
    assert on_terminal(daemon, "migrate").text == "No migrations are pending.\n"


def test_a_migration_while_no_daemon_runs(daemon: Daemon):
    """With --data-dir it runs there, and the next start publishes it; a running daemon is asked instead."""
    patch(daemon, "voice_router", {"settings": {"max_sessions": 12}})
    asked = json.loads(aliciacfg(daemon, "migrate", "--data-dir", "data").stdout)
    assert asked["migrations"] == []
    daemon.stop()
    steps = daemon.directory / "schemas" / "voice_router" / "migrations" / "1-to-2.yaml"
    steps.parent.mkdir(parents=True)
    steps.write_text("- {op: move, from: /settings/max_sessions, path: /settings/most_sessions}\n")
    schema = daemon.directory / "schemas" / "voice_router.yaml"
    text = schema.read_text().replace("max_sessions", "most_sessions")
    schema.write_text(re.sub(r"^version: .*$", "version: 2.0.0", text, flags=re.MULTILINE))
    done = on_terminal(daemon, "migrate", "--data-dir", "data")
    assert (done.returncode, "1.0.0 → 2.0.0  migrated" in done.text) == (0, True), done.text
    daemon.start()
    assert daemon.config("voice_router")["config"]["settings"]["most_sessions"] == 12
    seen = json.loads(aliciacfg(daemon, "watch", "voice_router", "--count", "1").stdout)
    assert (seen["revision"], seen["config"]["settings"]["most_sessions"]) == (3, 12)


def test_a_migration_with_an_invalid_result_exits_with_4(daemon: Daemon):
    """Each problem has environment and place; the configuration stays."""
    patch(daemon, "voice_router", {"settings": {"max_sessions": 12}})
    schema = daemon.directory / "schemas" / "voice_router.yaml"
    steps = daemon.directory / "schemas" / "voice_router" / "migrations" / "1-to-2.yaml"
    steps.parent.mkdir(parents=True)
    steps.write_text("- {op: replace, path: /settings/max_sessions, value: many}\n")
    schema.write_text(re.sub(r"^version: .*$", "version: 2.0.0", schema.read_text(), flags=re.MULTILINE))
    for command in (("migrate", "--dry-run"), ("migrate",)):
        seen = on_terminal(daemon, *command)
        assert seen.returncode == 4, seen.text
        assert "cannot be migrated" in seen.text
        assert "/settings/max_sessions: dev: found a string of 4 characters; expected an integer" in seen.text
    assert daemon.config("voice_router")["config"]["settings"]["max_sessions"] == 12


async def test_drift_and_instances_show_what_runs(daemon: Daemon):
    """The report of an instance, and drift of a file, with --exit-code for scripts."""
    nothing = on_terminal(daemon, "drift", "--exit-code")
    assert (nothing.returncode, nothing.text) == (0, "No drift.\n")
    assert "No instance has reported" in on_terminal(daemon, "instances", "voice_router").text
    file = daemon.environments / "base.yaml"
    file.write_text(file.read_text().replace("defaults:", "defaults: [", 1))
    wait_until(lambda: json.loads(aliciacfg(daemon, "drift").stdout)["drift"], why="the file drifts")
    seen = on_terminal(daemon, "drift", "--exit-code")
    assert seen.returncode == 1
    assert re.search(r"file +environments/base\.yaml(?: on \S+)? +(just now|\d+ s ago)", seen.text)
    assert "Found since the daemon started: file 1" in seen.text
    async with client(daemon.broker_port) as bus:
        report = {"instance": "kitchen", "revision": 1, "checksum": "?", "status": "rejected", "error": "port in use"}
        await bus.publish("alicia/config/applied/voice_router", report)
    found = wait_until(
        lambda: json.loads(aliciacfg(daemon, "instances", "voice_router", http=True).stdout)["instances"]
    )
    assert (found[0]["instance"], found[0]["status"]) == ("kitchen", "rejected")
    seen = on_terminal(daemon, "instances", "voice_router")
    assert "voice_router in dev is at revision 1." in seen.text
    assert re.search(r"kitchen +1.* rejected .* port in use", seen.text)


BATCH = """
updates:
  - service: grok_integration
    patch: {limits: {batched: 1}}
  - service: grok_integration
    patch: {limits: {batched: many}}
  - {service: nobody_there, patch: {}}
  - {service: sonos_service, patch: {}, expected_revision: 77}
"""


def test_a_batch_prints_each_result(daemon: Daemon):
    """Valid updates are applied, others refused with reasons; the exit code is the highest one."""
    file = daemon.directory / "batch.yaml"
    file.write_text(BATCH)
    tried = on_terminal(daemon, "batch", "batch.yaml", "--dry-run")
    assert tried.returncode == 5
    assert "+ /limits/batched  1" in tried.text
    assert "1 would be applied, 3 refused" in tried.text
    refused = aliciacfg(daemon, "batch", "batch.yaml", "--atomic")
    assert refused.returncode == 4
    assert "/updates/1/limits/batched: found 'many'" in refused.stderr
    assert "batched" not in daemon.config("grok_integration")["config"]["limits"]
    seen = on_terminal(daemon, "batch", "batch.yaml", "-m", "all at once")
    assert seen.returncode == 5
    assert "ok       grok_integration in dev is at revision 2 (was 1)" in seen.text
    assert "refused  grok_integration: validation_failed:" in seen.text
    assert "  /limits/batched: found 'many'; expected a number" in seen.text
    assert "refused  sonos_service: conflict:" in seen.text
    assert "1 applied, 3 refused" in seen.text
    newest = json.loads(aliciacfg(daemon, "history", "grok_integration").stdout)["revisions"][0]
    assert newest["comment"] == "all at once"


@pytest.mark.parametrize("http", [False, True])
def test_a_batch_may_be_a_list(shared: Daemon, http: bool):
    """It is read from standard input or the argument; the exit code is 0 if all are applied."""
    service = f"listed_{'http' if http else 'mqtt'}"
    create(shared, service, size=1)
    updates = json.dumps([{"service": service, "patch": {"settings": {"size": n}}} for n in (2, 3)])
    done = aliciacfg(shared, "batch", "-", stdin=updates, http=http)
    assert done.returncode == 0, done.stderr
    assert [one["revision"] for one in json.loads(done.stdout)["results"]] == [2, 3]
    again = json.loads(aliciacfg(shared, "batch", updates.replace("3", "4"), "--atomic", http=http).stdout)
    assert (again["applied"], again["failed"]) == (2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("voice_router: {limits: {}}\n", "found an object with 'voice_router'"),
        ("updates: {}\n", "found object"),
        ("[]\n", "found an empty list"),
        ("- 1\n", "/0: found number"),
        ("- {patch: {}}\n", "service"),
        ("[", ":1"),
    ],
)
def test_a_batch_of_another_form_exits_with_4(shared: Daemon, text: str, message: str):
    """Command line or daemon report what was found; nothing changes."""
    file = shared.directory / "other.yaml"
    file.write_text(text)
    done = aliciacfg(shared, "batch", "other.yaml")
    assert (done.returncode, message in done.stderr) == (4, True), done.stderr


def test_no_command_shows_a_secret(shared: Daemon):
    """Neither the value nor the sealed box of a secret is printed."""
    create(shared, "discreet", size=1)
    patch(shared, "discreet", {"mqtt_config": {"password": "planted-later"}})
    for arguments in (
        ("history", "discreet"),
        ("explain", "discreet"),
        ("diff", "discreet", "--rev", "1"),
        ("rollback", "discreet", "1", "--dry-run"),
        ("rollback", "discreet", "1"),
    ):
        shown = aliciacfg(shared, *arguments).stdout + on_terminal(shared, *arguments).raw
        assert "planted" not in shown, arguments
        assert "sealed:" not in shown, arguments
