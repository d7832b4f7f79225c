"""The question of a daemon that cannot follow the database: whether another one of the home takes requests and can.

It goes over the bus, because the database, by which the daemons know each other, is what cannot be reached. All daemons
of a home hear what is sent below the topics of their markers. Who asks sends a number that it has just drawn; who
answers has read the database after that, and sends a code over the number, which only the home's keys make. So no
stranger has daemons leave, neither by words of his own nor by an answer that he heard before.
"""

import asyncio
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from aliciacfg import documents
from aliciacfg.errors import Unavailable
from aliciacfg.mqtt.background import BackgroundTasks
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.messages import Inbound
from aliciacfg.replicas.turns import Turns
from aliciacfg.sealing.keyed_hash import KeyedHash

# A healthy daemon answers within some milliseconds; who reads the database for longer is little better than who asks.
_ANSWER_SECONDS = 1.0
_READ_SECONDS = 0.7
# So many questions are answered at a time; each daemon of a home asks one.
_MAX_ANSWERS = 32
_NUMBER_BYTES = 16
_MAX_MESSAGE_BYTES = 256

_Kind = Literal["question", "answer"]


class _Message(msgspec.Struct, frozen=True):
    """A question or an answer.

    Attributes:
        number: Drawn by who asks.
        code: Over kind and number.
    """

    number: str
    code: str


class ReadyMembers:
    """Asks whether another daemon of the home can confirm its answers, and answers when it is asked.

    Attributes:
        asked: How many questions were asked.
    """

    def __init__(
        self,
        prefix: str,
        key: bytes,
        *,
        is_ready: Callable[[], bool],
        read: Callable[[], Awaitable[None]],
        background: BackgroundTasks,
        turns: Turns,
    ) -> None:
        """Ask nothing yet.

        Args:
            prefix: Of the topics, which every daemon of the home is subscribed to.
            key: The home's; secret.
            is_ready: Returns whether this daemon takes requests and is ready for them.
            read: Reads the database; raises Unavailable if it cannot.
            background: Runs what answers.
            turns: Notified when an answer comes.
        """
        self._topics: dict[str, _Kind] = {f"{prefix}ready/question": "question", f"{prefix}ready/answer": "answer"}
        self._question, self._answer = self._topics
        self._code = KeyedHash(key).digest
        self._is_ready = is_ready
        self._read = read
        self._background = background
        self._turns = turns
        self._connection: Connection | None = None
        # The number of the question under way, and whether it was answered.
        self._number = ""
        self._answered = False
        self.asked = 0
        self._answering = 0

    def attach(self, connection: Connection) -> None:
        """Answer on a new connection from now on."""
        self._connection = connection

    def detach(self) -> None:
        """Answer nothing until the next connection: this one is gone."""
        self._connection = None

    async def any_other(self, connection: Connection, *, goes_on: Callable[[], bool]) -> bool:
        """Return whether another daemon takes requests and has just read the database.

        Args:
            connection: Where to ask.
            goes_on: Returns whether it still matters; asked whenever ``turns`` is notified.
        """
        self._number, self._answered = secrets.token_hex(_NUMBER_BYTES), False
        self.asked += 1
        connection.send(self._question, self._encoded("question", self._number))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._turns.until(lambda: self._answered or not goes_on())
        except TimeoutError:
            return False
        finally:
            self._number = ""
        return self._answered

    def receive(self, inbound: Inbound) -> bool:
        """Handle a question or an answer; return False for any other message."""
        kind = self._topics.get(inbound.topic)
        if kind is None:
            return False
        number = self._confirmed(kind, inbound)
        if not number:
            return True
        if kind == "answer":
            if number == self._number:
                self._answered = True
                self._turns.notify()
        elif number != self._number and self._is_ready() and self._answering < _MAX_ANSWERS:
            self._answering += 1
            self._background.start(self._answer_question(number), name="answer to another daemon of the home")
        return True

    async def _answer_question(self, number: str) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._read()
        except (Unavailable, TimeoutError):
            return
        finally:
            self._answering -= 1
        if self._connection is not None and self._is_ready():
            self._connection.send(self._answer, self._encoded("answer", number))

    def _encoded(self, kind: _Kind, number: str) -> bytes:
        return documents.encode(_Message(number, self._code_of(kind, number)))

    def _code_of(self, kind: _Kind, number: str) -> str:
        return self._code(f"{kind} {number}".encode()).hex()

    def _confirmed(self, kind: _Kind, inbound: Inbound) -> str:
        """Return the number in a message of this home's daemons; empty for any other message."""
        if inbound.retained or len(inbound.payload) > _MAX_MESSAGE_BYTES:
            return ""
        try:
            message = msgspec.json.decode(inbound.payload, type=_Message)
            code = self._code_of(kind, message.number)
            return message.number if hmac.compare_digest(code.encode(), message.code.encode()) else ""
        except (msgspec.DecodeError, UnicodeError):
            return ""
