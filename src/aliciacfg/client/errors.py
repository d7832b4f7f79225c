"""What may go wrong with a service's configuration.

AliciacfgError
├── SettingsError          an argument or variable of the client is wrong, or a file that it names
└── ConfigError
    ├── NotFound           the daemon answered: it has no configuration of this service
    ├── Unavailable        no answer came, or the daemon cannot: there may be a configuration
    │   └── Refused        the daemon does not answer this service
    ├── Rejected           there is one, and it does not fit the program
    └── Closed             the client is closed
"""

from aliciacfg.errors import AliciacfgError


class ConfigError(AliciacfgError):
    """A service gets no configuration that it can use."""


class NotFound(ConfigError):
    """The daemon has no configuration of this service."""


class Unavailable(ConfigError):
    """Broker or daemon cannot be reached, or do not let this service ask; there may be a configuration."""


class Refused(Unavailable):
    """The daemon does not let this service read the configuration, or not in this way; the text is the daemon's."""


class Rejected(ConfigError):
    """A configuration does not fit the type of the program, or the program could not apply it.

    The text contains no secret that was opened.

    Attributes:
        revision: The revision that was rejected.
        environment: The environment of that revision.
    """

    def __init__(self, message: str, *, environment: str, revision: int) -> None:
        super().__init__(message)
        self.environment = environment
        self.revision = revision


class Closed(ConfigError):
    """The client is closed, or was never opened."""
