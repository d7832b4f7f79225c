"""status, health and doctor against real daemons: running, in trouble, and gone."""

import json
from collections.abc import Callable

from brokers import Broker
from commands import aliciacfg, on_terminal
from daemons import Daemon
from machine import wait_until


def test_status_fits_on_one_screen(shared: Daemon):
    """80 columns, 24 lines; over the socket of the data directory, MQTT and HTTP alike."""
    seen = on_terminal(shared, "status", columns=80)
    lines = seen.text.strip().splitlines()
    assert seen.returncode == 0, seen.text
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for label in ("Config service", "Broker", "Environment", "Refused edits", "Alerts", "Drift", "Last changes"):
        assert any(line.startswith(label) for line in lines), seen.text
    ways = (["status"], ["--broker", f"127.0.0.1:{shared.broker_port}", "status"], ["--http", shared.url, "status"])
    found = [json.loads(aliciacfg(shared, *way).stdout) for way in ways]
    assert {status["health"]["instance"] for status in found} == {found[0]["health"]["instance"]}
    assert all("environments" in status for status in found)


def test_commands_tell_what_is_wrong_and_what_to_do(make_daemon: Callable[..., Daemon], broker: Broker):
    """An edit that is hidden, one that is refused, a broker that stops, and a daemon that does; with exit codes."""
    daemon = make_daemon().keep_services("voice_router").start()
    assert aliciacfg(daemon, "health", "-o", "name").stdout == "healthy\n"
    well = aliciacfg(daemon, "doctor")
    assert well.returncode == 0, well.stdout
    looked_at = {finding["about"] for finding in json.loads(well.stdout)}
    assert looked_at >= {"broker", "daemon", "access", "keys", "database", "disk", "clock", "files"}
    aliciacfg(daemon, "patch", "voice_router", '{"settings": {"max_sessions": 11}}')
    place = "/services/voice_router/settings/max_sessions"
    hidden = aliciacfg(daemon, "file", "set", "environments/dev.yaml", place, "12")
    assert "warning: /settings/max_sessions: shadowed by overlay, revision 2" in hidden.stderr
    dev = daemon.environments / "dev.yaml"
    dev.write_text(dev.read_text() + "\nnonsense: [\n")
    wait_until(lambda: aliciacfg(daemon, "health").returncode == 1, why="the edit was refused")
    assert "environments/dev.yaml" in on_terminal(daemon, "status", columns=80).text
    got = aliciacfg(daemon, "get", "voice_router")
    assert json.loads(got.stdout)["service_name"] == "voice_router"
    assert got.stderr.startswith("warning: not in force: environments/dev.yaml:")
    broker.stop()
    wait_until(lambda: "no broker" in aliciacfg(daemon, "health", "-o", "table").stdout, why="the broker is gone")
    # Over the socket of the data directory, as all that looks at the whole home.
    for command in ("drift", "replicas", "audit"):
        seen = aliciacfg(daemon, command)
        assert seen.returncode == 0, seen.stderr
    ill = aliciacfg(daemon, "doctor", "-o", "table")
    assert ill.returncode == 1
    assert f"nothing listens on 127.0.0.1:{broker.port}" in ill.stdout
    assert "environments/dev.yaml" in ill.stdout
    daemon.stop()
    gone = aliciacfg(daemon, "health")
    assert gone.returncode == 7
    assert "aliciacfg doctor" in gone.stderr
    assert "none runs in data" in aliciacfg(daemon, "doctor", "-o", "table").stdout
