"""The address of the broker and the account there, out of settings."""

from pathlib import Path

import pytest

from aliciacfg.errors import SettingsError
from aliciacfg.mqtt.address import broker_address
from aliciacfg.settings import resolve


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"first", "first"), (b"first\n", "first"), (b"first\r\nsecond\n", "first"), (b" a b \n", " a b "),
        ("ä€".encode(), "ä€"), (b"", None), (b"\n", None), (b"\r\nx", None), (b"\xff\n", None),
    ],
)  # fmt: skip
def test_the_daemons_password_is_the_first_line_of_its_file(tmp_path: Path, content: bytes, password: str | None):
    """As written, blanks too; without one there is no start. MQTT_PASSWORD beats it."""
    file = tmp_path / "mqtt.password"
    file.write_bytes(content)
    environ = {"MQTT_PASSWORD_FILE": str(file)}
    settings = resolve({}, environ=environ, dotenv_values={}).settings
    if password is None:
        with pytest.raises(SettingsError, match="MQTT_PASSWORD_FILE"):
            broker_address(settings)
    else:
        assert broker_address(settings).password == password
    settings = resolve({}, environ=environ | {"MQTT_PASSWORD": "x"}, dotenv_values={}).settings
    assert broker_address(settings).password == "x"
