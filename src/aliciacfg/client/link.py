"""The way to the broker: connects again and again, and reads everything anew at each connection."""

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Generic, Literal

from aliciacfg import documents
from aliciacfg.bus import topic_names
from aliciacfg.bus.address import BrokerAddress
from aliciacfg.bus.not_connected import NotConnected, explain
from aliciacfg.client.connection import Connection, Protocol, connect
from aliciacfg.client.current import SettingsT
from aliciacfg.client.errors import ConfigError, NotFound, Unavailable
from aliciacfg.client.intake import Intake
from aliciacfg.client.reports import Reports
from aliciacfg.client.tasks import end, is_cancelled
from aliciacfg.errors import BrokerUnavailable, SettingsError

_log = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""How long the daemon may take to answer before the question is given up, and asked anew later."""

# One of several daemons may have died with the question, or hang. It is sent again, the next time after twice as long.
_REPEAT_SECONDS = 0.7
_MAX_LATE = 8

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 30.0
# A connection that stood so long was a good one.
_STABLE_SECONDS = 5.0


class Link(Generic[SettingsT]):
    """Keeps a connection, and carries messages, questions and reports over it.

    Attributes:
        connected: Whether there is a connection.
        failures: How many attempts to connect have failed since the last one that did not.
        protocol: The version of MQTT that was spoken last.
    """

    def __init__(
        self,
        address: BrokerAddress,
        service: str,
        *,
        requester: str,
        intake: Intake[SettingsT],
        reports: Reports,
    ) -> None:
        self.connected = False
        self.failures = 0
        self.protocol: Protocol = "5"
        self._tried_other = False
        self._delays = _Delays()
        self._address = address
        self._service = service
        self._update_topic = topic_names.UPDATE + service
        self._asked_of = f"{service}/{requester}"
        self._answer_topics = f"{topic_names.REPLY}{requester}/{uuid.uuid4().hex}"
        self._intake = intake
        self._reports = reports
        self._connection: Connection | None = None
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        # Where answers to a ``get`` may still come, with the cause of each: a daemon may always be slower than we wait.
        self._late: dict[str, int] = {}

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            try:
                async with self._connected() as connection:
                    await self._serve(connection)
            except NotConnected as error:
                if self._tries_the_other(error):
                    continue
                self._not_connected(error)
            except (BrokerUnavailable, SettingsError) as error:
                self._failed(str(error))
            except Exception:  # noqa: BLE001 - logged; see below
                # With any error, the program keeps its configuration, and the next connection may do better.
                _log.exception("the connection to %s failed", self._address.url)
            if is_cancelled():
                return
            await asyncio.sleep(self._delays.next())

    async def ask(self, operation: Literal["get", "schema"] = "get") -> tuple[bytes, int]:
        """Ask the daemon; return its answer, and the cause of doubt (``Order.cause``) at which it was asked.

        Args:
            operation: For the configuration, or for its JSON Schema.

        Raises:
            Unavailable: There is no connection, or no answer.
        """
        connection = self._connection
        if connection is None:
            raise Unavailable(f"there is no connection to the broker at {self._address.url}")
        cause = self._intake.order.cause
        question = f"{topic_names.CONFIG}{operation}/{self._asked_of}"
        topic = f"{self._answer_topics}/{uuid.uuid4().hex}"
        answer = self._waiting[topic] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                pause = _REPEAT_SECONDS
                while not answer.done():
                    await connection.publish(question, documents.encode({"reply_to": topic}))
                    await asyncio.wait({answer}, timeout=random.uniform(pause, 1.5 * pause))  # noqa: S311 - spreads load
                    pause *= 2
                return await answer, cause
        except TimeoutError:
            if operation == "get":
                self._late[topic] = cause
                if len(self._late) > _MAX_LATE:
                    del self._late[next(iter(self._late))]
            raise Unavailable(
                f"no daemon answered at {self._address.url} within {ANSWER_SECONDS:g} s: is it running, and does the "
                f"broker let this user publish {question}?"
            ) from None
        except BrokerUnavailable as error:
            raise Unavailable(str(error)) from error
        finally:
            del self._waiting[topic]

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncGenerator[Connection, None]:
        async with connect(self._address, self.protocol) as connection:
            self.protocol = connection.protocol
            if self.failures:
                _log.info("connected to the broker again")
            self.failures = 0
            self._tried_other = False
            self._connection = connection
            self.connected = True
            begun = time.monotonic()
            try:
                yield connection
            finally:
                self._connection = None
                self._late.clear()
                self.connected = False
                self._intake.lose()
                if time.monotonic() - begun >= _STABLE_SECONDS:
                    # Else the broker accepts connections that it ends at once: it is not asked as often.
                    self._delays = _Delays()

    async def _serve(self, connection: Connection) -> None:
        """Handle what comes, for as long as the connection stands.

        Raises:
            BrokerUnavailable: It is gone.
        """
        heard = asyncio.Event()
        coroutines = {
            "messages": self._receive(connection, heard),
            "questions": self._subscribe_and_ask(connection, heard),
            "reports": self._reports.send(connection),
        }
        tasks = [asyncio.create_task(what, name=f"{name} of {self._service}") for name, what in coroutines.items()]
        try:
            # None of them ends while the connection stands.
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await next(iter(ended))
        finally:
            await end(tasks)

    async def _subscribe_and_ask(self, connection: Connection, heard: asyncio.Event) -> None:
        # The answers second: when the broker has acknowledged that, it has sent what it retains.
        await connection.subscribe(self._update_topic)
        await connection.subscribe(f"{self._answer_topics}/+")
        await asyncio.sleep(0)
        if not heard.is_set():
            self._intake.nothing_retained()
        await self._ask_when_wanted()

    async def _receive(self, connection: Connection, heard: asyncio.Event) -> None:
        async for topic, payload in connection.messages():
            if topic == self._update_topic:
                heard.set()
                self._take(payload)
            elif (answer := self._waiting.get(topic)) is not None and not answer.done():
                answer.set_result(payload)
            elif (cause := self._late.pop(topic, None)) is not None:
                self._take_answer(payload, cause)

    def _take(self, payload: bytes) -> None:
        try:
            self._intake.message(payload)
        except Exception:  # noqa: BLE001 - logged
            # With any content: it is retained, so a connection that ended for it would end again and again.
            _log.exception("a message about %s was not understood, and is ignored", self._service)

    async def _ask_when_wanted(self) -> None:
        while True:
            await self._intake.wanted.wait()
            self._intake.wanted.clear()
            delays = _Delays()
            while self._intake.needs_answer:
                await self._settle()
                await asyncio.sleep(delays.next())

    async def _settle(self) -> None:
        try:
            payload, cause = await self.ask()
        except Unavailable as error:
            self._intake.fail(error)
        else:
            self._take_answer(payload, cause)

    def _take_answer(self, payload: bytes, cause: int) -> None:
        try:
            self._intake.answer(payload, cause)
        except (NotFound, Unavailable):
            # Noted by the intake.
            pass
        except ConfigError as error:
            _log.warning("the configuration of %s: %s", self._service, error)

    def _tries_the_other(self, error: NotConnected) -> bool:
        """Return whether to try the other version of MQTT at once: a broker may not answer one that it lacks."""
        if error.reason not in {"ended", "timeout"}:
            return False
        self.protocol = "3.1.1" if self.protocol == "5" else "5"
        self._tried_other = not self._tried_other
        return self._tried_other

    def _not_connected(self, error: NotConnected) -> None:
        hint = "; if the broker is elsewhere, set MQTT_BROKER and MQTT_PORT" if error.reason == "failed" else ""
        self._failed(f"{self._address.host}:{self._address.port}: {explain(error, self._address)}{hint}")

    def _failed(self, reason: str) -> None:
        if self.failures == 0:
            _log.warning("no connection to the broker, trying again and again: %s", reason)
        self.failures += 1
        self._intake.fail(Unavailable(f"the broker cannot be reached: {reason}"))


class _Delays:
    """Ever longer delays up to half a minute, each of a random length, so that many clients do not come at once."""

    def __init__(self) -> None:
        self._longest = _FIRST_DELAY_SECONDS

    def next(self) -> float:
        """Return the next delay in seconds."""
        longest = self._longest
        self._longest = min(2 * longest, _LONGEST_DELAY_SECONDS)
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load
