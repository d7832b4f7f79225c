"""The address of the broker that the daemon's settings name."""

from aliciacfg.bus.address import BrokerAddress, read_password
from aliciacfg.settings import Settings


def broker_address(settings: Settings) -> BrokerAddress:
    """Return the broker that the settings name.

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
    """Return the daemon's own password: ``MQTT_PASSWORD``, or the first line of ``MQTT_PASSWORD_FILE``.

    Raises:
        SettingsError: The file cannot be used.
    """
    if settings.mqtt_password is not None or settings.mqtt_password_file is None:
        return settings.mqtt_password
    return read_password(settings.mqtt_password_file)
