"""What a daemon does for Home Assistant: serve it, or remove what an earlier run has left."""

import asyncio

import structlog

from aliciacfg.cancellation import end_task
from aliciacfg.core.restore import HOME_ASSISTANT
from aliciacfg.errors import OperationError
from aliciacfg.home_assistant.removal import Removal
from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.model.records import Write
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 10.0


class HomeAssistantPart:
    """The part of a daemon that is about Home Assistant.

    The store has the prefix under which something may be retained, written before anything is published: so it is
    removed also after a crash, and after the prefix was changed.
    """

    def __init__(
        self,
        wire: Wire,
        session: HomeAssistantSession | None,
        *,
        prefix: str,
        noted: str,
        queue: WriteQueue,
        again_seconds: float = _AGAIN_SECONDS,
    ) -> None:
        """Do nothing yet.

        Args:
            wire: How to connect.
            session: Serves Home Assistant; None where that is off.
            prefix: The discovery prefix.
            noted: The prefix that the store has; empty for none.
            queue: Writes to the store.
            again_seconds: How long after a write that failed the next one is tried.
        """
        self._wire = wire
        self._session = session
        self._prefix = prefix
        self._noted = noted
        self._queue = queue
        self._again_seconds = again_seconds

    async def run(self) -> None:
        """Remove what is not to be there any more; then serve until cancelled, or return where that is off."""
        wanted = "" if self._session is None else self._prefix
        if self._noted and self._noted != wanted:
            await Removal(self._wire, Topics(self._noted, "")).run()
        is_noted = await self._note(wanted)
        if self._session is None:
            return
        again = None if is_noted else asyncio.create_task(self._note_later(wanted), name="note for Home Assistant")
        try:
            await self._session.run()
        finally:
            if again is not None:
                await end_task(again)

    async def stop(self) -> None:
        """Publish that nothing is available."""
        if self._session is not None:
            await self._session.stop()

    async def _note(self, prefix: str) -> bool:
        """Have the store keep the prefix; return whether it does."""
        if self._noted == prefix:
            return True
        try:
            await self._queue.submit(Write(meta=((HOME_ASSISTANT, prefix),)))
        except OperationError as error:
            _log.warning(
                "home_assistant_not_noted",
                reason=error.message,
                remedy="none needed; it is tried again. Until then, turning it off does not remove what was published",
            )
            return False
        self._noted = prefix
        return True

    async def _note_later(self, prefix: str) -> None:
        """Try again until the store keeps the prefix."""
        while True:
            await asyncio.sleep(self._again_seconds)
            if await self._note(prefix):
                return
