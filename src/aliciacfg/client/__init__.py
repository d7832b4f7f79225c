"""The configuration of a service, for Python programs: typed, live, and there when the broker is not.

    async with ConfigClient("voice_router", VoiceRouter) as config:   # a msgspec.Struct, or dict
        print(config.current.settings.max_sessions)
        async for change in config.changes():
            print(change.revision, change.changed)

Needs aiomqtt, msgspec and PyNaCl, and loads nothing else of the daemon. ``BlockingConfigClient`` is the same for
programs on threads.
"""

from aliciacfg.client.blocking import BlockingConfigClient
from aliciacfg.client.config_client import ConfigClient
from aliciacfg.client.current import Change, Current
from aliciacfg.client.errors import Closed, ConfigError, NotFound, Refused, Rejected, Unavailable
from aliciacfg.client.options import Broker
from aliciacfg.errors import SettingsError

__all__ = [
    "BlockingConfigClient",
    "Broker",
    "Change",
    "Closed",
    "ConfigClient",
    "ConfigError",
    "Current",
    "NotFound",
    "Refused",
    "Rejected",
    "SettingsError",
    "Unavailable",
]
