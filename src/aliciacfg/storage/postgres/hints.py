"""Listens to the notifications that transactions of other daemons send."""

import asyncio
import contextlib

from aliciacfg.storage.postgres.connections import Connections
from aliciacfg.storage.postgres.driver import ServerError
from aliciacfg.storage.postgres.following import Following
from aliciacfg.storage.postgres.statements import CHANNEL

_PAUSE_SECONDS = 1.0
# Every client of the database may notify with any text.
_MAX_DIGITS = 20


async def listen_hints(connections: Connections, following: Following, event: asyncio.Event) -> None:
    """Set an event at each notification of another daemon, as long as there is a server; connect again when it is lost.

    A notification of a transaction that memory follows already sets nothing: a commit of this daemon has read it.

    Some poolers do not support LISTEN; then only the daemon's own polling finds what others changed.
    """

    def heard(process: int, number: str) -> None:
        if process == connections.writer_process:
            return
        is_number = len(number) < _MAX_DIGITS and number.isdecimal()
        if not is_number or int(number) > (following.commit or 0):
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
