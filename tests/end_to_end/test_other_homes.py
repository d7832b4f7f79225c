"""Commands in a home whose daemon does not run, on a broker that the daemon of another home serves."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping

import pytest

import forking
from commands import aliciacfg, on_terminal
from daemons import Daemon

# The services of its daemons.
HOME_SERVICES = ("voice_router",)

_PLACE = "/services/voice_router/settings/max_sessions"


def _unnamed(
    home: Daemon, *arguments: str, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a script sees of a command that nobody told where the broker is; the home's last daemon noted its port."""
    given = {name: value for name, value in home.environment().items() if name not in {"MQTT_BROKER", "MQTT_PORT"}}
    return forking.run(arguments, directory=home.directory, environ={**given, **(environ or {})}, stdin=b"")


@pytest.fixture
def homes(make_daemon: Callable[..., Daemon]) -> tuple[Daemon, Daemon]:
    """A home with its daemon, and one whose daemon ran before and noted the broker that the first one has now."""
    first, second = (make_daemon(name).keep_services("voice_router") for name in ("first", "second"))
    second.start().stop()
    (second.data / "dev-broker-port").write_text(f"{first.broker_port}\n")
    return first.start(), second


def test_a_change_by_the_daemon_of_another_home_is_refused(homes: tuple[Daemon, Daemon]):
    """With what to do; nothing of the other home changes. Who names the broker means its daemon."""
    first, second = homes
    instance = first.name_file.read_text()
    where = f"127.0.0.1:{first.broker_port}"
    change = '{"settings": {"max_sessions": 3}}'
    for arguments in (
        ("patch", "voice_router", change),
        ("set", "voice_router", change),
        ("unset", "voice_router", "/settings/max_sessions"),
        ("delete", "voice_router"),
        ("rollback", "voice_router", "1"),
        ("batch", f'[{{"service": "voice_router", "patch": {change}}}]'),
        ("activate", "prod"),
        ("reload",),
        ("seal", "--service", "voice_router", "--pointer", "/settings/token"),
    ):
        done = _unnamed(second, *arguments)
        assert done.returncode == 9, (arguments, done.stderr)
        assert f"no daemon runs in this home; {where} is served by the daemon of another one" in done.stderr
        assert instance in done.stderr
        assert f"hint: start yours (`aliciacfg serve --dev`), or name that one: --broker {where}" in done.stderr
    told = json.loads(_unnamed(second, "-o", "json", "patch", "voice_router", change).stderr)
    assert told["code"] == "another_daemon"
    assert len(json.loads(aliciacfg(first, "history", "voice_router").stdout)["revisions"]) == 1
    assert _unnamed(second, "--broker", where, "patch", "voice_router", change).returncode == 0
    named = {"MQTT_BROKER": "127.0.0.1", "MQTT_PORT": str(first.broker_port)}
    assert _unnamed(second, "patch", "voice_router", change, environ=named).stderr == ""
    assert _unnamed(second, "--http", first.url, "get", "voice_router").stderr == ""


def test_the_env_file_of_a_home_does_not_mean_another_home(homes: tuple[Daemon, Daemon]):
    """Two homes may have the same line; the one whose daemon is stopped changes nothing in the other."""
    first, second = homes
    (second.data / "dev-broker-port").unlink()
    for home in homes:
        (home.directory / ".env").write_text(f"MQTT_PORT={first.broker_port}\nMQTT_BROKER=127.0.0.1\n")
        (home.directory / ".env").chmod(0o600)
    change = ("patch", "voice_router", '{"settings": {"max_sessions": 3}}')
    refused = _unnamed(second, *change)
    assert refused.returncode == 9, refused.stderr
    assert "is served by the daemon of another one" in refused.stderr
    for arguments in (("get", "voice_router"), ("exec", "voice_router", "--allow-redacted", "--", "true")):
        done = _unnamed(second, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("is served by the daemon of another one") == 1, done.stderr
    done = _unnamed(first, *change)
    assert (done.returncode, done.stderr) == (0, "")


def test_exec_in_a_home_reads_the_broker_of_its_env_file(daemon: Daemon):
    """As other commands do; a ``.env`` that stands in no home is that of the program."""
    for place in (daemon.directory, daemon.directory / "program"):
        place.mkdir(exist_ok=True)
        (place / ".env").write_text("MQTT_PORT=9\nMQTT_BROKER=127.0.0.1\n")
        (place / ".env").chmod(0o600)
    asks = ("--timeout", "1", "exec", "voice_router", "--allow-redacted", "--", "true")
    assert "127.0.0.1:9" in _unnamed(daemon, *asks).stderr
    elsewhere = Daemon(daemon.directory / "program", daemon.broker_port)
    assert "127.0.0.1:9" not in _unnamed(elsewhere, *asks).stderr
    (daemon.directory / ".env").write_text(f"MQTT_PORT={daemon.broker_port}\nMQTT_BROKER=127.0.0.1\n")
    done = _unnamed(daemon, *asks)
    assert done.returncode == 0, done.stderr


def test_what_is_read_from_the_daemon_of_another_home_is_marked(homes: tuple[Daemon, Daemon]):
    """Once for each command; a dry run reads, too, and a home that never ran is another one as well."""
    first, second = homes
    for arguments in (
        ("get", "voice_router"),
        ("explain", "voice_router"),
        ("status",),
        ("list",),
        ("watch", "voice_router", "--count", "1"),
        ("reload", "--dry-run"),
        ("env", "voice_router", "--allow-redacted", "--all"),
        ("exec", "voice_router", "--allow-redacted", "--", "true"),
    ):
        done = _unnamed(second, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
        assert done.stderr.count("is served by the daemon of another one") == 1, (arguments, done.stderr)
    shutil.rmtree(second.data)
    port = {"ALICIACFG_DATA_DIR": str(second.directory / "new")}
    (second.directory / "new").mkdir(mode=0o700)
    (second.directory / "new" / "dev-broker-port").write_text(f"{first.broker_port}\n")
    assert "warning: no daemon runs in this home" in _unnamed(second, "get", "voice_router", environ=port).stderr


def test_the_home_of_the_daemon_and_a_directory_without_one_are_no_other_home(homes: tuple[Daemon, Daemon]):
    """Commands go on as before; outside of any home a terminal shows once which daemon answered, a script does not."""
    first, second = homes
    (first.data / "dev-broker-port").write_text(f"{first.broker_port}\n")
    for arguments in (("get", "voice_router"), ("patch", "voice_router", '{"settings": {"max_sessions": 4}}')):
        done = _unnamed(first, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    outside = second.directory / "outside"
    (outside / "data").mkdir(parents=True, mode=0o700)
    (outside / "data" / "dev-broker-port").write_text(f"{first.broker_port}\n")
    nowhere = Daemon(outside, second.broker_port)
    done = _unnamed(nowhere, "patch", "voice_router", '{"settings": {"max_sessions": 5}}')
    assert (done.returncode, done.stderr) == (0, "")
    seen = on_terminal(nowhere, "list", without=("MQTT_BROKER", "MQTT_PORT"), columns=400).text
    name = first.name_file.read_text().strip()
    said = f"note: answered by the daemon on 127.0.0.1:{first.broker_port} (instance {name}, environment dev): "
    assert seen.count(said) == 1
    for where, options in ((nowhere, ("--broker", f"127.0.0.1:{first.broker_port}")), (first, ())):
        named = on_terminal(where, "list", *options)
        assert (named.returncode, "answered by" in named.text) == (0, False)


def test_a_home_whose_name_cannot_be_read_is_no_reason_to_refuse(homes: tuple[Daemon, Daemon]):
    """The data directory may be that of the daemon's user."""
    _, second = homes
    second.name_file.unlink()
    second.name_file.mkdir()
    done = _unnamed(second, "patch", "voice_router", '{"settings": {"max_sessions": 6}}')
    assert (done.returncode, done.stderr) == (0, "")
    findings = _unnamed(second, "doctor")
    assert (findings.stderr, "of another data directory serves" in findings.stdout) == ("", True)


def test_exec_says_that_it_asks_another_port_than_the_one_of_its_variable(daemon: Daemon):
    """As ``get`` does: the broker that the daemon of this home noted counts."""
    (daemon.data / "dev-broker-port").write_text(f"{daemon.broker_port}\n")
    for arguments in (("get", "voice_router"), ("exec", "voice_router", "--allow-redacted", "--", "true")):
        done = _unnamed(daemon, *arguments, environ={"MQTT_PORT": "19"})
        assert done.returncode == 0, done.stderr
        assert (
            f"MQTT_PORT (environment) is 19; the daemon of this home uses the broker on port {daemon.broker_port}"
            in (done.stderr)
        )
    # One that was killed does not take its note away; the next one that chooses no broker by itself does.
    daemon.kill()
    assert (daemon.data / "dev-broker-port").exists()
    daemon.start()
    assert not (daemon.data / "dev-broker-port").exists()
