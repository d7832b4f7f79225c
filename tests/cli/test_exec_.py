"""What ``exec`` refuses before it asks anybody."""

import pytest

from command_runs import run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--restart", "--", "true"], "--restart needs --watch"),
        (["--watch", "-e", "dev", "--", "true"], "--watch follows the active environment over MQTT"),
        (["python", "-m", "program"], "no such option '-m'. Write -- before the program"),
        ([], "missing argument"),
        (["--watch", "--stop-seconds", "-1", "--", "true"], "-1.0 is not in the range"),
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
