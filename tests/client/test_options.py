"""Where broker, key and snapshot are: arguments, else variables."""

from pathlib import Path
from typing import Any

import pytest

from aliciacfg.client.options import Broker, Options, resolve
from aliciacfg.errors import SettingsError


def options(environ: dict[str, str], broker: Broker | None = None, **given: Any) -> Options:
    given = {"key_file": None, "snapshot_dir": None, "instance": None, **given}
    return resolve("bell", broker or Broker(), environ=environ, **given)


def test_an_argument_beats_a_variable_and_an_empty_variable_is_none(tmp_path: Path):
    """The variables are those of the daemon."""
    password = tmp_path / "password"
    password.write_text("from the file\nsecond line")
    variables = {"MQTT_BROKER": "home", "MQTT_PORT": "8883", "MQTT_USERNAME": "", "MQTT_PASSWORD_FILE": str(password)}
    address = options(variables).address
    assert (address.host, address.port, address.username, address.password) == ("home", 8883, "bell", "from the file")
    address = options({**variables, "MQTT_PASSWORD": "p"}, Broker(host="lab", port=1, username="u")).address
    assert (address.host, address.port, address.username, address.password) == ("lab", 1, "u", "p")
    address = options({}).address
    assert (address.host, address.port, address.username, address.password) == ("127.0.0.1", 1883, "bell", None)


def test_a_log_line_with_the_broker_tells_no_password():
    """Neither as the program names it nor as it was resolved."""
    broker = Broker(host="mqtt.home", password="hush")
    options = resolve("bell", broker, key_file=None, snapshot_dir=None, instance=None, environ={})
    assert options.address.password == "hush"
    assert "hush" not in repr([broker, options])


def test_the_brokers_user_is_who_asks():
    """An access list lets each user ask under its own name only; a user that is no name asks as the service."""
    assert options({}).requester == "bell"
    assert options({"MQTT_USERNAME": "mario"}).requester == "mario"
    assert options({"MQTT_USERNAME": "get"}).requester == "bell"


@pytest.mark.parametrize(
    ("variables", "directory"),
    [
        ({"ALICIACFG_SNAPSHOT_DIR": "/a", "STATE_DIRECTORY": "/b"}, "/a"),
        ({"STATE_DIRECTORY": "/b:/other", "XDG_STATE_HOME": "/c"}, "/b"),
        ({"XDG_STATE_HOME": "/c"}, "/c/aliciacfg"),
        ({}, "/home/mario/.local/state/aliciacfg"),
    ],
)
def test_the_snapshot_is_where_the_system_keeps_state(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], directory: str
):
    """Systemd's directory, else the user's."""
    monkeypatch.setenv("HOME", "/home/mario")
    assert options(variables).snapshot_dir == Path(directory)
    assert options(variables, snapshot_dir="/mine").snapshot_dir == Path("/mine")


@pytest.mark.parametrize("port", ["0", "65536", "x", "1883 "])
def test_a_port_is_checked(port: str):
    """The error names the variable."""
    if port == "1883 ":
        assert options({"MQTT_PORT": port}).address.port == 1883
        return
    with pytest.raises(SettingsError, match=r"MQTT_PORT: found .*; expected a whole number from 1 to 65535"):
        options({"MQTT_PORT": port})


def test_a_service_has_a_services_name():
    """It becomes a part of topics."""
    with pytest.raises(SettingsError, match="cannot name a service"):
        resolve("a/b", Broker(), key_file=None, snapshot_dir=None, instance=None, environ={})


def test_a_copy_is_named_by_its_machine():
    """Over restarts it stays the same copy to the daemon."""
    assert options({}).instance == options({}).instance != ""
    assert options({}, instance="x" * 200).instance == "x" * 128
