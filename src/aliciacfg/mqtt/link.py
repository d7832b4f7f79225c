"""A link to the broker: one connection after the other, each made again when it is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from aliciacfg.bus.address import BrokerAddress
from aliciacfg.cancellation import end_task
from aliciacfg.errors import AnotherDaemon, BrokerUnavailable, leaves
from aliciacfg.monitoring.supervisor import Supervisor
from aliciacfg.mqtt.connecting import Session, answers_five, connect
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.log_limit import LogLimit
from aliciacfg.mqtt.packet_limit import PacketLimit

_log = structlog.get_logger(__name__)

# With the time that a hanging attempt to connect takes, the daemon is back five seconds after the broker at the latest.
_FIRST_RETRY_SECONDS = 0.3
_MAX_RETRY_SECONDS = 1.5
_FIRST_QUESTION_SECONDS = 5.0
_MAX_QUESTION_SECONDS = 60.0


class _LoggedReason:
    """The reason that was logged last: another one is news, and the same one after a minute."""

    def __init__(self) -> None:
        self._reason = ""
        self._limit = LogLimit()

    def is_news(self, reason: str) -> bool:
        """Return whether a reason is to be logged, and note that it was."""
        if reason != self._reason:
            self._reason, self._limit = reason, LogLimit()
        return self._limit.allows()


class Link:
    """Keeps a connection to the broker.

    Attributes:
        connection: The present connection; None while there is none.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        make_session: Callable[[], Session],
        serve: Callable[[Connection, asyncio.TaskGroup], Awaitable[None]],
        on_lost: Callable[[], bool],
        supervisor: Supervisor,
        limit: PacketLimit,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Make a link without a connection.

        Args:
            address: The broker.
            make_session: Returns what makes the next connection that of the daemon.
            serve: Called with each connection before anything that it delivers is handled, and with the group of its
                tasks, in which errors end the connection.
            on_lost: Called when a connection has ended, or was not made; returns whether it served.
            supervisor: Reports unexpected errors.
            limit: Learns the largest packet that the broker takes.
            before: Awaited before each connection is made; an error counts as one of the connection.
        """
        self._address = address
        self._before = before
        self._make_session = make_session
        self._serve = serve
        self._on_lost = on_lost
        self._supervisor = supervisor
        self._limit = limit
        self._logged = _LoggedReason()
        # Whether the broker spoke MQTT 5 at the previous connection.
        self._speaks_five = False
        self.connection: Connection | None = None

    async def run(self) -> None:
        """Connect again and again, until cancelled.

        Raises:
            AnotherDaemon: A daemon of another home is alive on this broker.
        """
        retry = _FIRST_RETRY_SECONDS
        try:
            while True:
                reason = await self._connect_once()
                if self.connection is None:
                    # Elsewhere it may have come back with other settings.
                    self._limit.forget()
                self.connection = None
                if self._on_lost():
                    retry = _FIRST_RETRY_SECONDS
                    self._logged = _LoggedReason()
                pause = retry * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
                # A broker that is away for a night would fill the log.
                log = _log.warning if self._logged.is_news(reason) else _log.debug
                log(
                    "broker_lost",
                    broker=f"{self._address.host}:{self._address.port}",
                    reason=reason,
                    retry_seconds=round(pause, 2),
                )
                await asyncio.sleep(pause)
                retry = min(retry * 2, _MAX_RETRY_SECONDS)
        finally:
            self.connection = None
            self._on_lost()

    def abort(self) -> None:
        """Close the connection without a DISCONNECT, so that the broker publishes the last will (MQTT 5 §3.1.2.5)."""
        if self.connection is not None:
            self.connection.abort()

    async def _connect_once(self) -> str:
        """Serve one connection; return why it ended.

        In a task of its own: before Python 3.13 a TaskGroup that fails drops a cancellation that comes at the same
        moment, and the daemon would go on connecting after SIGTERM. Here the waiting is cancelled.
        """
        task = asyncio.create_task(self._serve_once(), name="mqtt-connection")
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await end_task(task)
            raise
        try:
            task.result()
        except Exception as error:  # noqa: BLE001 - the boundary of a connection: the next one may do better
            return _expected_reason(error) or self._unexpected(error)
        return "the connection ended"

    async def _serve_once(self) -> None:
        """Serve one connection, from connecting to its end."""
        if self._before is not None:
            await self._before()
        speaks_five, self._speaks_five = self._speaks_five, False
        async with connect(
            self._address, self._make_session(), limit=self._limit, speaks_five=speaks_five
        ) as connection:
            self._speaks_five = connection.protocol == "5"
            self.connection = connection
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.wait_closed(), name="mqtt-closed")
                await self._serve(connection, group)
                if not connection.certain:
                    group.create_task(self._ask_for_five(), name="mqtt-version")

    async def _ask_for_five(self) -> None:
        """Ask the broker for MQTT 5 from time to time, after it was silent when it was asked at the connect.

        Raises:
            BrokerUnavailable: It answers; the next connection speaks MQTT 5.
        """
        pause = _FIRST_QUESTION_SECONDS
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            if await answers_five(self._address):
                raise BrokerUnavailable("the broker answers MQTT 5 now; connecting with it")
            pause = min(pause * 2, _MAX_QUESTION_SECONDS)

    def _unexpected(self, error: Exception) -> str:
        self._supervisor.report("MQTT connection", error, consequence="it is made again")
        return "an unexpected error, which was logged"


def _expected_reason(error: Exception) -> str | None:
    """Return why the broker is gone; None if something else happened.

    Raises:
        AnotherDaemon: It is among the errors.
    """
    found = list(leaves(error))
    for foreign in found:
        if isinstance(foreign, AnotherDaemon):
            raise AnotherDaemon(foreign.instance) from error
    reasons = dict.fromkeys(str(item) for item in found if isinstance(item, BrokerUnavailable))
    return "; ".join(reasons) if all(isinstance(item, BrokerUnavailable) for item in found) else None
