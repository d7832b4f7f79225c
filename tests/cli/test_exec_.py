"""What ``exec`` refuses before it asks anybody."""

from pathlib import Path

import pytest

from aliciacfg.mqtt.broker.dev_port import noted_port
from command_runs import run
from machine import free_port


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--restart", "--", "true"], "--restart needs --watch"),
        (["--watch", "-e", "dev", "--", "true"], "--watch follows the active environment over MQTT"),
        (["python", "-m", "program"], "no such option '-m'. Write -- before the program"),
        ([], "missing argument"),
        (["--watch", "--stop-seconds", "-1", "--", "true"], "-1.0 is less than 0"),
    ],
)
def test_wrong_usage_says_what_to_do(arguments: list[str], said: str):
    """With exit code 2; nothing is started."""
    done = run("exec", "bell", *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


@pytest.mark.parametrize("broker", ["host:name", "host:", ":"])
def test_a_broker_that_is_none(broker: str):
    """Host, or host and port."""
    done = run("--broker", broker, "exec", "bell", "--", "true")
    assert done.exit_code == 2
    assert "expected HOST or HOST:PORT" in " ".join(done.output.split())


def test_beside_a_daemon_the_broker_is_the_one_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for every other command; a port is noted on which nothing listens. MQTT_BROKER still decides."""
    monkeypatch.chdir(tmp_path)
    for name in ("MQTT_BROKER", "MQTT_PORT", "ALICIACFG_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    port = free_port()
    with noted_port(tmp_path / "data", port):
        arguments = ("--timeout", "0.1", "exec", "bell", "--", "true")
        assert f"127.0.0.1:{port}" in run(*arguments).output
        monkeypatch.setenv("MQTT_BROKER", "localhost")
        monkeypatch.setenv("MQTT_PORT", "1")
        assert "localhost:1" in run(*arguments).output
