"""Prompt publication: a single change goes to the broker in the turn of the event loop that follows its commit.

``Retained.publish_forever`` can do everything, and takes several tasks, timers and turns of the loop for it: 0.15 ms of
a lone write, and as much of the time until a subscriber has its update. While it waits for work, what is committed is
published here if nothing is in its way; else it is woken.
"""

import asyncio
from collections.abc import Callable, Sequence

from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.model.records import Announcement
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.pace import Pace

_MOST = 16


class PromptPublication:
    """Publishes on one connection what the outbox adds: of each subject the newest message, if none is under way.

    Whether the broker acknowledges at all is not watched here: the marker that ``Retained`` sends behind what does not
    come back shows it.

    Attributes:
        ready: Whether to publish; while it is false, whoever waits for ``Outbox.changed`` is woken instead.
    """

    def __init__(
        self,
        connection: Connection,
        outbox: Outbox,
        pace: Pace,
        *,
        on_published: Callable[[Announcement], None],
        on_refused: Callable[[Announcement, BrokerUnavailable], None],
        in_order: Callable[[], bool],
    ) -> None:
        """Publish nothing yet.

        Args:
            connection: Where to publish.
            outbox: Says what was added; ``take`` is to be its ``on_added``.
            pace: Bounds how fast messages are published.
            on_published: Called with each announcement that was handed over.
            on_refused: Called with the error if the broker refuses one.
            in_order: Returns whether nothing has to be put right before anything is published.
        """
        self.ready = False
        self._connection = connection
        self._outbox = outbox
        self._pace = pace
        self._on_published = on_published
        self._on_refused = on_refused
        self._in_order = in_order
        self._scheduled = False
        # The subjects whose message was not acknowledged yet.
        self._under_way: set[str] = set()

    def take(self) -> bool:
        """Return whether what was added will be published; once for all that is added in this turn of the loop."""
        if not self.ready:
            return False
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish_added)
        return True

    def _publish_added(self) -> None:
        self._scheduled = False
        items = self._outbox.added() if self._outbox.fresh <= _MOST else []
        if not items or not self._may(items):
            self._outbox.changed.set()
            return
        for item in items:
            try:
                self._begin(item)
            except BrokerUnavailable:
                # Larger than the broker takes, or the connection is gone.
                self._outbox.changed.set()
        # Before the answer to the writer is rendered, which takes as long as the way to the subscriber: 1.46 instead of
        # 1.57 ms until it has the update.
        self._connection.flush()

    def _may(self, items: Sequence[Announcement]) -> bool:
        return (
            self.ready
            # The other publisher waits for acknowledgements with patience, and skips what is replaced meanwhile.
            and self._under_way.isdisjoint(item.subject for item in items)
            and not self._connection.limit.careful
            and self._in_order()
            and self._pace.take_at_once(len(items))
        )

    def _begin(self, item: Announcement) -> None:
        self._connection.begin_publish(
            topics.subject_topic(item.subject), item.payload, retain=True, done=lambda error: self._done(item, error)
        )
        self._under_way.add(item.subject)
        self._on_published(item)

    def _done(self, item: Announcement, error: BrokerUnavailable | None) -> None:
        self._under_way.discard(item.subject)
        if error is not None:
            self._on_refused(item, error)
