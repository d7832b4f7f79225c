"""What a program starts with: the daemon's configuration, else the snapshot, else the default."""

import asyncio
import logging
import time
from typing import Any, Generic, TypeAlias

import msgspec

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.client.current import Current, SettingsT, Trust
from aliciacfg.client.errors import ConfigError, NotFound, Refused, Rejected, Unavailable
from aliciacfg.client.hub import Hub
from aliciacfg.client.intake import Intake
from aliciacfg.client.messages import Update
from aliciacfg.client.snapshot import Snapshot
from aliciacfg.client.values import Reader

_log = logging.getLogger(__name__)

# A record, and the message that it was made of.
_Beginning: TypeAlias = tuple[Current[SettingsT], Update | None]


class Start(Generic[SettingsT]):
    """Waits for the first configuration, and puts it into the hub."""

    def __init__(
        self,
        service: str,
        address: BrokerAddress,
        *,
        reader: Reader[SettingsT],
        snapshot: Snapshot,
        intake: Intake[SettingsT],
        hub: Hub[SettingsT],
        default: Current[SettingsT] | None,
        timeout_seconds: float,
    ) -> None:
        self._service = service
        self._address = address
        self._reader = reader
        self._snapshot = snapshot
        self._intake = intake
        self._hub = hub
        self._default: _Beginning[SettingsT] | None = None if default is None else (default, None)
        self._timeout_seconds = timeout_seconds

    async def wait(self) -> None:
        """Wait until there is a configuration, while the link connects.

        Raises:
            ConfigError: There is none.
        """
        fallback = self._fallback()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._first(impatient=fallback is not None)
        except (TimeoutError, ConfigError) as error:
            # It may arrive in the moment in which the time ends.
            if not self._arrived:
                self._fall_back(fallback, error if isinstance(error, ConfigError) else self._unavailable())
                return
        state = self._hub.state
        if state.update is not None:
            self._snapshot.save(state.update)

    @property
    def _arrived(self) -> bool:
        """Whether a configuration of the daemon counts."""
        return self._intake.live and self._hub.has_state

    def _fall_back(self, fallback: _Beginning[SettingsT] | None, problem: ConfigError) -> None:
        """Start without the daemon.

        Raises:
            ConfigError: There is nothing to start with.
        """
        if fallback is None or (isinstance(problem, NotFound) and fallback[1] is not None):
            # The daemon knows better than a snapshot that there is no configuration.
            fallback = self._default
        if fallback is None:
            raise problem from None
        record, update = fallback
        _log.warning("%s starts with its %s: %s", self._service, _described(record), problem)
        self._intake.started_from(update)
        self._hub.put(record, update)

    async def _first(self, *, impatient: bool) -> None:
        """Wait for the first configuration of the daemon.

        Args:
            impatient: Whether there is another one, so that a broker or daemon that is away need not be waited for.

        Raises:
            ConfigError: There is none to wait for.
        """
        intake = self._intake
        while not self._arrived:
            intake.news.clear()
            failure = intake.failure
            if isinstance(failure, NotFound | Rejected | Refused) or (failure is not None and impatient):
                raise failure
            await intake.news.wait()

    def _fallback(self) -> _Beginning[SettingsT] | None:
        """Return what to start with if the daemon does not answer: the snapshot, else the default."""
        saved = self._snapshot.load()
        if saved is not None:
            try:
                record = self._reader.read(saved.update, source="snapshot", received_at=saved.saved_at)
            except Rejected as error:
                _log.warning("the snapshot of %s is not used: %s", self._service, error)
            else:
                self._intake.order.start_from(saved.update.numbers)
                return record, saved.update
        return self._default

    def _unavailable(self) -> Unavailable:
        """Return why nothing came in time."""
        failure = self._intake.failure
        if isinstance(failure, Unavailable):
            return failure
        return Unavailable(
            f"no configuration of {self._service} came from {self._address.url} within {self._timeout_seconds:g} s"
        )


def default_record(default: SettingsT | None, trust: Trust) -> Current[SettingsT] | None:
    """Return the record of the settings that a program starts with when there is nothing else; None for none."""
    if default is None:
        return None
    config = {"settings": msgspec.to_builtins(default)}
    return Current(settings=default, config=config, source="default", received_at=time.time(), trust=trust)


def _described(record: Current[Any]) -> str:
    """Return what a client starts with in place of the daemon's configuration."""
    if record.source != "snapshot":
        return record.source
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.received_at))
    return f"snapshot of revision {record.revision}, written {written}"
