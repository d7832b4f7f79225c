"""aliciacfg: configurations for services on MQTT."""

__version__ = "0.2.0"
