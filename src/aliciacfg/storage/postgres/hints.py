"""Listens to the notifications that transactions of other daemons send."""

import asyncio
import contextlib

from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.driver import ServerError
from aliciacfg.storage.postgres.statements import CHANNEL

_PAUSE_SECONDS = 1.0


async def listen_hints(connections: Connections, event: asyncio.Event) -> None:
    """Set an event at each notification of another daemon, as long as there is a server; connect again when it is lost.

    Some poolers do not support LISTEN; then only the daemon's own polling finds what others changed.
    """

    def heard(process: int) -> None:
        if process != connections.writer_process:
            event.set()

    while True:
        with contextlib.suppress(ServerError):
            link = await connections.connect()
            try:
                await link.listen(CHANNEL, heard)
                # What came before it listened.
                event.set()
                await link.ended.wait()
            finally:
                link.terminate()
        await asyncio.sleep(_PAUSE_SECONDS)
