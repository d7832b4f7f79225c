"""From the daemon's settings to its broker; apart, so that a requester need not import the whole daemon."""

from aliciacfg.mqtt.connection import BrokerAddress
from aliciacfg.settings import Settings


def broker_address(settings: Settings) -> BrokerAddress:
    """The broker that the settings name."""
    return BrokerAddress(
        host=settings.mqtt_broker,
        port=settings.mqtt_port,
        username=settings.mqtt_username,
        password=settings.mqtt_password,
        tls_ca=settings.mqtt_tls_ca,
        tls_cert=settings.mqtt_tls_cert,
        tls_key=settings.mqtt_tls_key,
    )
