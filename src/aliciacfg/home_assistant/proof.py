"""Whether the broker enforces that only Home Assistant's account sends commands."""

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.access.rules import Access
from aliciacfg.monitoring.alerts import Alerts

_KIND, _OF = "acl_missing", "home_assistant"


class CommandProof:
    """What an ``AccessProbe`` has found out about the topics of commands.

    Attributes:
        bus_proves: Whether a command can only be Home Assistant's; None before the first probe of a connection.
    """

    def __init__(self, authorizer: Authorizer, alerts: Alerts) -> None:
        """Begin without a proof.

        Args:
            authorizer: Has the rules; without any, nothing has to be proven.
            alerts: Raised while there are rules and nothing is proven.
        """
        self._authorizer = authorizer
        self._alerts = alerts
        self.bus_proves: bool | None = None

    @property
    def access(self) -> Access:
        """The rules in force."""
        return self._authorizer.access

    @property
    def proven(self) -> bool:
        """Whether a command is proven to be Home Assistant's."""
        return self.bus_proves is True

    def set_bus_proves(self, *, proves: bool) -> None:
        """Note the result of a probe."""
        self.bus_proves = proves
        if self.access.enforced and not proves:
            self._alerts.raise_(
                _KIND,
                "There are access rules, but the broker lets every program send commands in the place of Home "
                "Assistant, so all are refused. Load the list that `aliciacfg acl` prints into the broker, made with "
                "ALICIACFG_HOME_ASSISTANT=on; the daemon checks again within half a minute.",
                of=_OF,
            )
        else:
            self._alerts.clear(_KIND, of=_OF)

    def reset_bus_proves(self) -> None:
        """Forget it; the next connection may lead to another broker."""
        self.bus_proves = None
