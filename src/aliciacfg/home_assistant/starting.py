"""What a daemon does for Home Assistant: serve it, or remove what an earlier run has left."""

import structlog

from aliciacfg.core.restore import HOME_ASSISTANT
from aliciacfg.errors import OperationError
from aliciacfg.home_assistant.removal import Removal
from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
from aliciacfg.home_assistant.topics import Topics
from aliciacfg.model.records import Write
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)


class HomeAssistantPart:
    """The part of a daemon that is about Home Assistant.

    The store has the prefix under which something may be retained, written before anything is published: so it is
    removed also after a crash, and after the prefix was changed.
    """

    def __init__(
        self, wire: Wire, session: HomeAssistantSession | None, *, prefix: str, noted: str, queue: WriteQueue
    ) -> None:
        """Do nothing yet.

        Args:
            wire: How to connect.
            session: Serves Home Assistant; None where that is off.
            prefix: The discovery prefix.
            noted: The prefix that the store has; empty for none.
            queue: Writes to the store.
        """
        self._wire = wire
        self._session = session
        self._prefix = prefix
        self._noted = noted
        self._queue = queue

    async def run(self) -> None:
        """Remove what is not to be there any more; then serve until cancelled, or return where that is off."""
        wanted = "" if self._session is None else self._prefix
        if self._noted and self._noted != wanted:
            await Removal(self._wire, Topics(self._noted, "")).run()
        if self._noted != wanted:
            await self._note(wanted)
        if self._session is not None:
            await self._session.run()

    async def stop(self) -> None:
        """Say that nothing is available."""
        if self._session is not None:
            await self._session.stop()

    async def _note(self, prefix: str) -> None:
        try:
            await self._queue.submit(Write(meta=((HOME_ASSISTANT, prefix),)))
        except OperationError as error:
            _log.warning(
                "home_assistant_not_noted",
                reason=error.message,
                remedy="none needed; without the note, turning it off does not remove what was published",
            )
        else:
            self._noted = prefix
