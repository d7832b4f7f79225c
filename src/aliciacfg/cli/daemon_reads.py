"""How a command asks one daemon several questions, the nearest way there is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from aliciacfg.cli import options, requests
from aliciacfg.cli.local_client import ask_daemon
from aliciacfg.cli.requests import Target
from aliciacfg.documents import JsonObject
from aliciacfg.errors import AliciacfgError, BrokerUnavailable

if TYPE_CHECKING:
    from aliciacfg.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DaemonReads:
    """Asks a daemon: through the socket in its data directory where that is at hand, else over the network.

    The socket works without a broker, and answers what only administrators may read.

    Attributes:
        target: Where requests go over the network.
        settings: The settings of the daemon whose socket answers; None for the network.
    """

    target: Target
    settings: "Settings | None"

    @classmethod
    def nearest(cls, target: Target, data_dir: str | None) -> "DaemonReads":
        """Return the way to the daemon that a command means.

        Args:
            target: With ``--http`` or ``--broker``, the daemon there.
            data_dir: The data directory that the command line names; with it, or without both of these, the daemon of
                the data directory if one listens there.
        """
        if data_dir is None and (target.http is not None or target.broker is not None):
            return cls(target, None)
        settings = options.daemon_settings({"data_dir": data_dir}).settings
        answers = ask_daemon(settings, "health", None, {}) is not None
        if not answers and data_dir is not None:
            raise BrokerUnavailable(f"no daemon listens in {data_dir}")
        return cls(target, settings if answers else None)

    def ask(self, operation: str, name: str | None, fields: dict[str, Any]) -> JsonObject:
        """Return an answer, a refusal too.

        Raises:
            BrokerUnavailable: There was no answer.
            OperationError: The answer is not a JSON object.
            SettingsError: The settings name no usable broker.
        """
        if self.settings is None:
            return requests.send(self.target, operation, name, fields)
        answer = ask_daemon(self.settings, operation, name, fields)
        if answer is None:
            raise BrokerUnavailable("the daemon does not answer any more")
        return answer

    def try_ask(self, operation: str, name: str | None, fields: dict[str, Any], kind: type[T]) -> T | None:
        """Return an answer, or None if it is refused, of another form, or does not come."""
        try:
            answer = self.ask(operation, name, fields)
            return None if answer.get("status") == "error" else msgspec.convert(answer, kind)
        except (AliciacfgError, msgspec.ValidationError):
            return None
