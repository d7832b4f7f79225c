"""Keeps the outbox in step with the active environment: what the bus has to hold, and what it was seen to hold."""

from collections.abc import Callable

import msgspec

from aliciacfg import documents
from aliciacfg.api.bus_messages import UpdateMessage
from aliciacfg.core.commits import Commits
from aliciacfg.core.outbox import ENVIRONMENT, KEY, Outbox, announce_record, service_subject, subject_service
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.state import State
from aliciacfg.core.views import Views
from aliciacfg.model.records import Record, Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.write_queue import WriteQueue

_CONTEXT = ChangeContext("config_service", "file", operation="announce")


class Announcements:
    """Compares the outbox with the state, and stores which messages the bus confirmed."""

    def __init__(
        self,
        *,
        state: State,
        outbox: Outbox,
        views: Views,
        commits: Commits,
        queue: WriteQueue,
        keyring: Keyring,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._outbox = outbox
        self._views = views
        self._commits = commits
        self._queue = queue
        self._keyring = keyring
        self._clock = clock

    async def reconcile(self) -> None:
        """Announce whatever the outbox lacks or holds wrongly: at a start, and after a restore.

        Raises:
            Unavailable: The store cannot write.
        """
        async with self._commits.change(_CONTEXT) as plan:
            self.plan(plan)

    def plan(self, plan: Plan, *, views: Views | None = None) -> None:
        """Add to a plan what the outbox lacks or holds wrongly.

        Args:
            plan: The plan.
            views: What readers will see once the plan is durable, if that differs from what they see now.
        """
        views = views or self._views
        live = dict(self._state.live(self._state.active))
        for service, record in live.items():
            known = self._outbox.current.get(service_subject(service))
            shown = views.public(record)
            if known is None or not self._announces(known.payload, record, shown):
                plan.announcements.append(
                    announce_record(self._outbox, record, shown=shown, epoch=self._state.epoch, now=self._clock())
                )
        for subject, item in self._outbox.current.items():
            service = subject_service(subject)
            if service is not None and service not in live and item.payload:
                plan.announcements.append(self._outbox.create(subject, b""))
        self._plan_subject(plan, ENVIRONMENT, self.environment_message(self._state.active))
        self._plan_subject(plan, KEY, documents.encode(self._keyring.published))

    def environment_message(self, name: str) -> bytes:
        """Return the retained message that names the active environment."""
        return documents.encode({"environment": name, "epoch": self._state.epoch})

    async def store_confirmations(self) -> None:
        """Store which messages the bus was seen to hold, so that the next start need not publish them again.

        Raises:
            Unavailable: The store cannot write.
        """
        confirmed = self._outbox.drain_confirmed()
        if confirmed:
            await self._queue.submit(Write(confirmed=confirmed))

    def _plan_subject(self, plan: Plan, subject: str, payload: bytes) -> None:
        known = self._outbox.current.get(subject)
        if known is None or known.payload != payload:
            plan.announcements.append(self._outbox.create(subject, payload))

    def _announces(self, payload: bytes, record: Record, shown: documents.JsonObject) -> bool:
        """Return whether a retained message holds a revision, as readers see it now."""
        if not payload:
            return False
        try:
            message = msgspec.json.decode(payload, type=UpdateMessage)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        held = (message.environment, message.revision, message.epoch, message.checksum, message.config)
        return held == (record.environment, record.revision, self._state.epoch, record.checksum, shown)
