"""Takes over the keys that another daemon of the home changed, and notices when another program did."""

import asyncio
from collections.abc import Callable

import structlog

from aliciacfg.errors import KeyFileError, Unavailable
from aliciacfg.monitoring.alerts import Alerts
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.key_file import KeyFile
from aliciacfg.storage.store import StoreError

_log = structlog.get_logger(__name__)

ALERT = "keys_outdated"
# A program that is no daemon may write to the database without notifying others.
_LOOK_SECONDS = 60.0


class KeyReloads:
    """Reads the keys again, and gives them to the keyring that every part holds."""

    def __init__(self, keys: KeyFile, keyring: Keyring, alerts: Alerts, *, look_seconds: float = _LOOK_SECONDS) -> None:
        """Hold the parts.

        Args:
            keys: The keys.
            keyring: Gets them.
            alerts: Holds an alert as long as they cannot be used as they are stored.
            look_seconds: The time between two looks of ``run``.
        """
        self._keys = keys
        self._keyring = keyring
        self._alerts = alerts
        self._look_seconds = look_seconds
        # One after another: what was read before must not be taken for newer than what is read while it is taken over.
        self._reloading = asyncio.Lock()
        self.when_changed: list[Callable[[], None]] = []
        """Called when there are other keys."""

    async def reload(self) -> bool:
        """Read the keys again; return whether those here are the latest."""
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> bool:
        try:
            keyring = await asyncio.to_thread(self._keys.reloaded)
        except (KeyFileError, StoreError, Unavailable) as error:
            reason = str(error).rstrip(".")
            # Every few seconds; the alert is logged when its reason is another one.
            _log.debug("keys_not_reloaded", reason=reason)
            self._alerts.raise_(ALERT, f"The keys changed, and this daemon goes on with those before: {reason}.")
            return False
        self._alerts.clear(ALERT)
        if keyring is not None:
            self._keyring.replace_with(keyring)
            for callback in self.when_changed:
                callback()
        return True

    async def run(self) -> None:
        """Read them once a minute until cancelled, whether another daemon said that it changed them or not."""
        while True:
            await asyncio.sleep(self._look_seconds)
            await self.reload()
