"""From the daemon's settings to its broker; apart, so that a requester need not import the whole daemon."""

from pathlib import Path

from aliciacfg.errors import SettingsError
from aliciacfg.mqtt.connection import BrokerAddress
from aliciacfg.settings import Settings


def broker_address(settings: Settings) -> BrokerAddress:
    """The broker that the settings name.

    Raises:
        SettingsError: The file that holds the password cannot be used.
    """
    return BrokerAddress(
        host=settings.mqtt_broker,
        port=settings.mqtt_port,
        username=settings.mqtt_username,
        password=broker_password(settings),
        tls_ca=settings.mqtt_tls_ca,
        tls_cert=settings.mqtt_tls_cert,
        tls_key=settings.mqtt_tls_key,
    )


def broker_password(settings: Settings) -> str | None:
    """The daemon's own password: ``MQTT_PASSWORD``, or what the first line of ``MQTT_PASSWORD_FILE`` says.

    Raises:
        SettingsError: The file cannot be used.
    """
    if settings.mqtt_password is not None or settings.mqtt_password_file is None:
        return settings.mqtt_password
    name = f"MQTT_PASSWORD_FILE: {settings.mqtt_password_file}"
    try:
        text = Path(settings.mqtt_password_file).read_bytes().decode()
    except OSError as error:
        raise SettingsError(
            [f"{name} cannot be read ({error.strerror}); `aliciacfg setup` makes it, beside the broker's own files"]
        ) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"{name} is not UTF-8: byte {error.start} is invalid"]) from error
    password = text.partition("\n")[0].removesuffix("\r")
    if not password:
        raise SettingsError([f"{name} holds no password in its first line"])
    return password
