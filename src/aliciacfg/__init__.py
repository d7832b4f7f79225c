"""aliciacfg: configurations for services on MQTT."""

from importlib.metadata import version

__version__ = version("aliciacfg")
