"""A voice router that takes its settings from aliciacfg: python voice_router.py

It keeps a session for each TCP connection, and answers each line. How many sessions there may be, how long one may be
silent and how much is logged come from the configuration of the service "voice_router", and change while it runs. The
port changes at a restart.
"""

import asyncio
import contextlib
import logging
import signal
from typing import Literal

import msgspec

from aliciacfg.client import Change, ConfigClient

log = logging.getLogger("voice_router")

PORT = "/api_config/port"


class VoiceRouter(msgspec.Struct, frozen=True):
    """What this program needs of ``settings``; others that the schema has are passed over."""

    max_sessions: int
    session_timeout_seconds: float
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


class Router:
    """The sessions that are open, under the settings that hold now."""

    def __init__(self, settings: VoiceRouter) -> None:
        self.settings = settings
        self.open = 0
        self.apply(settings)

    def apply(self, settings: VoiceRouter) -> None:
        """Take new settings; sessions that are open stay, also when there are now too many."""
        self.settings = settings
        log.setLevel(settings.log_level)
        log.info("up to %d sessions", settings.max_sessions)

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of one connection."""
        with contextlib.closing(writer):
            if self.open >= self.settings.max_sessions:
                writer.write(b"busy\n")
                return
            self.open += 1
            try:
                writer.write(b"ready\n")
                while line := await self._next_line(reader):
                    writer.write(b"heard " + line)
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                self.open -= 1

    async def _next_line(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next line; nothing at the end, or when the session is silent for too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.session_timeout_seconds):
                return await reader.readline()
        return b""


async def follow(config: ConfigClient[VoiceRouter], router: Router) -> None:
    """Apply every change; each is reported as applied when the loop comes back for the next."""
    change: Change[VoiceRouter]
    async for change in config.changes():
        if change.deleted:
            log.warning("no configuration any more; the last one stays")
            continue
        router.apply(change.settings)
        if PORT in change.changed:
            log.warning("the port changes at the next start")
            await config.report("restart_pending", of=change)


async def serve() -> None:
    """Serve until cancelled."""
    async with ConfigClient("voice_router", VoiceRouter) as config:
        current = config.current
        log.info("revision %d from %s", current.revision, current.source)
        router = Router(current.settings)
        server = await asyncio.start_server(router.session, "127.0.0.1", current.config["api_config"]["port"])
        log.info("listening on port %d", server.sockets[0].getsockname()[1])
        async with server:
            await follow(config, router)


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    serving = asyncio.create_task(serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    await serving


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(main())
