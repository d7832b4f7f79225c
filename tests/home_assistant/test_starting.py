"""What the store has to know so that turning Home Assistant off removes what was published."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

from aliciacfg.core.restore import HOME_ASSISTANT
from aliciacfg.errors import Unavailable
from aliciacfg.home_assistant.starting import HomeAssistantPart
from aliciacfg.model.records import Write
from inprocess import eventually

if TYPE_CHECKING:
    from aliciacfg.home_assistant.session import HomeAssistantSession, Wire
    from aliciacfg.storage.write_queue import WriteQueue


class FullDisk:
    """A queue whose first writes fail."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.written: list[Any] = []

    async def submit(self, write: Write) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("The store cannot write: database or disk is full.")
        self.written += write.meta


class Session:
    """Serves until it is cancelled."""

    serving = False

    async def run(self) -> None:
        self.serving = True
        try:
            await asyncio.Event().wait()
        finally:
            self.serving = False


async def test_a_disk_that_is_full_at_the_start_is_asked_again():
    """Home Assistant is served meanwhile; without the note, what is published would stay when it is turned off."""
    disk, session = FullDisk(2), Session()
    part = HomeAssistantPart(
        cast("Wire", None),
        cast("HomeAssistantSession", session),
        prefix="homeassistant",
        noted="",
        queue=cast("WriteQueue", disk),
        again_seconds=0.001,
    )
    task = asyncio.create_task(part.run())
    await eventually(lambda: disk.written == [(HOME_ASSISTANT, "homeassistant")])
    assert session.serving
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (session.serving, disk.failures, len(disk.written)) == (False, 0, 1)
