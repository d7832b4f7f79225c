"""Prompt publication: a single change goes to the broker in the turn of the event loop that follows its commit.

``Retained.publish_forever`` can do everything, and takes several tasks, timers and turns of the loop for it: without
them a lone write takes 0.92 ms of the loop instead of 1.10. While it waits for work, what is committed is published
here if nothing is in its way; else it is woken.
"""

import asyncio
from collections.abc import Callable

from aliciacfg.core.outbox import Outbox
from aliciacfg.errors import BrokerUnavailable
from aliciacfg.model.records import Announcement
from aliciacfg.mqtt import topics
from aliciacfg.mqtt.connection import Connection
from aliciacfg.mqtt.pace import Pace

# Takes a millisecond.
_MOST = 32
_PATIENCE_SECONDS = 5.0


class PromptPublication:
    """Publishes on one connection what the outbox adds: one message of a subject at a time, then the newest one.

    Whether the broker acknowledges at all is not watched here: ``Retained`` sends a marker behind what does not come
    back, and what waits for an acknowledgement too long is left to it.

    Attributes:
        ready: Whether to publish; while it is false, the waiters for ``Outbox.changed`` are woken instead.
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
        # Set while a newer message of one of them waits.
        self._patience: asyncio.TimerHandle | None = None

    def take(self) -> bool:
        """Return whether what was added will be published; once for all that is added in this turn of the loop."""
        if not self.ready:
            return False
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._publish_added)
        return True

    def close(self) -> None:
        """Publish nothing any more: the connection is gone."""
        self.ready = False
        if self._patience is not None:
            self._patience.cancel()

    def _publish_added(self) -> None:
        self._scheduled = False
        items = self._outbox.added() if self._outbox.fresh <= _MOST else []
        if not items or not self._may(len(items)):
            self._outbox.changed.set()
            return
        for item in items:
            if item.subject not in self._under_way:
                self._publish(item)
            elif self._patience is None:
                self._patience = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._end_patience)
        # Before the answer to the writer is rendered: the subscriber has the update after 1.46 instead of 1.57 ms, the
        # writer its answer after 1.60 instead of 1.50.
        self._connection.flush()

    def _may(self, count: int) -> bool:
        return self.ready and not self._connection.limit.careful and self._in_order() and self._pace.take_at_once(count)

    def _publish(self, item: Announcement) -> None:
        topic = topics.subject_topic(item.subject)
        try:
            self._connection.begin_publish(topic, item.payload, retain=True, done=lambda error: self._done(item, error))
        except BrokerUnavailable:
            # Larger than the broker takes, or the connection is gone.
            self._outbox.changed.set()
        else:
            self._under_way.add(item.subject)
            self._on_published(item)

    def _done(self, item: Announcement, error: BrokerUnavailable | None) -> None:
        """Note an acknowledgement, and publish what replaced the message meanwhile."""
        self._under_way.discard(item.subject)
        if error is not None:
            self._on_refused(item, error)
        newest = self._outbox.current[item.subject]
        if newest is item or not self._outbox.is_pending(newest):
            return
        if self._may(1):
            self._publish(newest)
        else:
            self._outbox.changed.set()

    def _end_patience(self) -> None:
        """Leave what waits for an acknowledgement to the other publisher, which watches that one comes."""
        self._patience = None
        self._outbox.changed.set()
