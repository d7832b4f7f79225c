"""Whether the daemon that a command reaches over MQTT is the one of the home that the command stands in.

Without a broker that the user names, a command asks the one of this machine, and what serves it may be the daemon of
another home. The daemon's health, retained on the broker, says which home it serves, so nothing more has to be asked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aliciacfg.cli import options
from aliciacfg.documents import JsonObject
from aliciacfg.errors import OtherHome

if TYPE_CHECKING:
    from aliciacfg.bus.address import BrokerAddress
    from aliciacfg.settings import Settings

_MQTT_PORT = 1883


@dataclass(frozen=True, slots=True)
class LocalHome:
    """The home in whose directory a command runs.

    Attributes:
        name: What its daemon says in its health; None if no daemon has run here yet.
        served: Whether its daemon runs.
    """

    name: str | None
    served: bool

    def mistake(self, health: JsonObject | None, address: "BrokerAddress") -> OtherHome | None:
        """Return the error of a daemon that serves another home; None if it is this one's, or does not say.

        Args:
            health: The daemon's health; None if it is not known.
            address: The broker on which it answers.
        """
        serves = None if health is None or health.get("status") == "offline" else _home_of(health)
        if serves is None or serves == self.name:
            return None
        where = f"{address.host}:{address.port}"
        other = f"--broker {address.host if address.port == _MQTT_PORT else where}"
        if self.served:
            return OtherHome(
                f"the daemon of this home is not on {where}; the one of another home is (instance {serves})",
                hint=f"name the broker of yours with --broker, or MQTT_BROKER and MQTT_PORT; or that one: {other}",
            )
        return OtherHome(
            f"no daemon runs in this home; {where} is served by the daemon of another one (instance {serves})",
            hint=f"start yours (`aliciacfg serve --dev`), or name that one: {other}",
        )


def local_home() -> LocalHome | None:
    """Return the home of this directory; None outside of one, where it cannot be read, or if a broker is named.

    A broker is named by MQTT_BROKER or MQTT_PORT in the environment. The home's own ``.env`` names the broker for its
    daemon and its commands alike, not another home. (``--broker`` and ``--http`` are of the target.)
    """
    from aliciacfg.storage.data_directory import is_in_use, read_instance

    resolved = options.daemon_settings({})
    if "environment" in {resolved.origins["mqtt_broker"], resolved.origins["mqtt_port"]}:
        return None
    data = Path(resolved.settings.data_dir)
    try:
        name = read_instance(data)
        if name is None and not is_home(resolved.settings):
            return None
    except OSError:
        # Another user's: which home it is cannot be known.
        return None
    return LocalHome(name, is_in_use(data))


def stands_in_none() -> bool:
    """Return whether this directory is no home and nothing names a broker, so that any home of this machine answers."""
    from aliciacfg.storage.data_directory import read_instance

    resolved = options.daemon_settings({})
    if resolved.explicit("mqtt_broker") or resolved.explicit("mqtt_port"):
        return False
    try:
        return not is_home(resolved.settings) and read_instance(Path(resolved.settings.data_dir)) is None
    except OSError:
        # Another user's home.
        return False


def who_answered(health: JsonObject | None, address: "BrokerAddress") -> str:
    """Return which daemon answered where no home and no broker was meant, as a note."""
    said = {} if health is None else health
    known = [f"{what} {said[what]}" for what in ("instance", "environment") if isinstance(said.get(what), str)]
    which = f" ({', '.join(known)})" if known else ""
    return (
        f"answered by the daemon on {address.host}:{address.port}{which}: this directory is no home, and no broker is "
        "named (--broker, MQTT_BROKER)"
    )


def is_home(settings: "Settings") -> bool:
    """Return whether the settings of this directory lead to the files of a home."""
    return Path(settings.environments_dir).is_dir()


def _home_of(health: JsonObject) -> str | None:
    """Return what a daemon's health calls the home that it serves; None if it does not say.

    Daemons that serve one home together say the same here.
    """
    found = health.get("instance")
    return found if isinstance(found, str) and found else None
