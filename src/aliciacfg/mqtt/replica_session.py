"""The life on the bus of a daemon that is one of several of its home.

It has two connections. One takes its share of the requests for as long as the daemon is ready. The other one is that of
the home, and stands only while the daemon leads: its client id is fixed for the home, so that the broker ends the
connection of a leader that was frozen when another one takes over. On one connection for both, a daemon would have to
give up its part of the requests, and those under way with it, whenever the lead changes.
"""

import asyncio
import contextlib
from collections.abc import Callable

from aliciacfg.cancellation import end_task
from aliciacfg.mqtt.session import MqttSession
from aliciacfg.mqtt.shared_requests import SharedRequests
from aliciacfg.replicas.leadership import Leadership

# Longer than the lease of a daemon that is gone.
_PUBLISHED_SECONDS = 10.0
_LOOK_SECONDS = 0.05


class ReplicaSession:
    """Takes requests, and does what must happen once in the home while this daemon leads.

    Attributes:
        ready: Set when requests are taken for the first time, or it is known that only the leader takes them; and, if
            this daemon leads, or would be the only one, when the broker holds every retained message, or some seconds
            after that.
    """

    def __init__(
        self,
        *,
        home: MqttSession,
        requests: SharedRequests,
        leadership: Leadership,
        another_leads: Callable[[], bool],
    ) -> None:
        """Make a session that has not begun.

        Args:
            home: The connection of the home.
            requests: The connection for requests.
            leadership: Whether this daemon leads.
            another_leads: Returns whether another daemon of the home is known to lead.
        """
        self._home = home
        self._requests = requests
        self._leadership = leadership
        self._another_leads = another_leads
        self.ready = asyncio.Event()

    @property
    def serving(self) -> bool:
        """Whether there is a connection on which this daemon serves the home."""
        return self._home.serving

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            AnotherDaemon: A daemon of another home is alive on this broker.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests.run(), name="share of the requests")
            group.create_task(self._leadership.while_leading(self._lead), name="connection of the home")
            group.create_task(self._note_ready(), name="readiness of the session")

    async def stop(self) -> None:
        """Answer the requests that were received, and leave the home to the other daemons."""
        await self._requests.stop()
        await self._home.stop()

    def abort(self) -> None:
        """Close the connections without a DISCONNECT."""
        self._requests.abort()
        self._home.abort()

    async def _note_ready(self) -> None:
        await self._requests.ready.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PUBLISHED_SECONDS):
                # What is known of the others is read once a second, without a notification of changes.
                while not (self._home.ready.is_set() or self._another_leads()):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        self.ready.set()

    async def _lead(self) -> None:
        """Keep the connection of the home; make it anew when it is to take the requests, or no longer."""
        while True:
            sharing = await self._requests.known()
            serving = asyncio.create_task(self._home.run(), name="session of the home")
            changing = asyncio.create_task(self._requests.changed(sharing), name="change of sharing")
            try:
                await asyncio.wait({serving, changing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended = serving.done()
                changing.cancel()
                await end_task(serving)
            if ended:
                serving.result()
