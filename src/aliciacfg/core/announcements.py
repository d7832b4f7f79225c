"""Keeps the outbox in step with the active environment: what the bus has to hold, and what it was seen to hold."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import msgspec
import structlog

from aliciacfg.api.bus_messages import EnvironmentMessage, KeyMessage, RetainedMessage, UpdateMessage
from aliciacfg.core.commits import Commits
from aliciacfg.core.outbox import ENVIRONMENT, KEY, Outbox, service_subject, subject_service
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.planner import announce_again
from aliciacfg.core.state import State
from aliciacfg.core.views import Views
from aliciacfg.errors import Busy, Unavailable
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Announcement, Record, Write
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.storage.write_queue import WriteQueue

_log = structlog.get_logger(__name__)

_CONFIRMATION_SECONDS = 1.0
_CONFIRMATIONS_AT_ONCE = 100
# Services that are compared before anything else goes on: half a millisecond.
_SLICE = 20
_CONTEXT = ChangeContext("config_service", "file", operation="announce")


class _Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared of a message about a configuration, the configuration as it is encoded."""

    epoch: int
    environment: str
    revision: int
    sequence: int
    checksum: str
    config: msgspec.Raw


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
        # Set when the bus was seen to hold everything, until that is stored.
        self._drained = asyncio.Event()

    async def reconcile(self) -> None:
        """Announce what the outbox lacks or holds wrongly: at a start, and after a restore.

        Raises:
            Unavailable: The store cannot write.
        """

        async def make(plan: Plan) -> None:
            # What is compared with the outbox is what is committed.
            await self._commits.flush()
            await self.plan(plan)

        await self._commits.change(_CONTEXT, make, exclusive=True)

    async def plan(self, plan: Plan, *, views: Views | None = None) -> None:
        """Add to a plan what the outbox lacks or holds wrongly; lets reads run in between.

        Args:
            plan: The plan, of an exclusive change: nothing else may be committed meanwhile.
            views: What readers will see once the plan is durable, if that differs from what they see now.
        """
        views = views or self._views
        active = self._state.active
        live = {service: entry.live for service, entry in plan.heads(active) if entry.live is not None}
        planned = {item.subject for item in plan.announcements}
        for number, (service, record) in enumerate(live.items()):
            if number % _SLICE == 0:
                # 10,000 services take 0.2 s together.
                await asyncio.sleep(0)
            if service_subject(service) not in planned:
                self._plan_service(plan, record, views)
        for subject, item in self._outbox.current.items():
            service = subject_service(subject)
            if service is not None and service not in live and item.payload:
                plan.announcements.append(self._outbox.remove(subject, plan.next_sequence()))
        if not self._is_announced(plan, ENVIRONMENT, EnvironmentMessage, {"environment": active}):
            plan.announcements.append(self.environment(plan, active))
        if not self._is_announced(plan, KEY, KeyMessage, self._keyring.published):
            plan.announcements.append(self.key(plan))

    def environment(self, plan: Plan, name: str) -> Announcement:
        """Return the announcement that names the active environment."""
        message = EnvironmentMessage(message_id="", epoch=plan.epoch, sequence=plan.next_sequence(), environment=name)
        return self._outbox.announce(ENVIRONMENT, message)

    def key(self, plan: Plan) -> Announcement:
        """Return the announcement of the key that seals now."""
        published = self._keyring.published
        message = KeyMessage(message_id="", epoch=plan.epoch, sequence=plan.next_sequence(), **published)
        return self._outbox.announce(KEY, message)

    def renew(self, plan: Plan, subject: str) -> None:
        """Add to a plan the announcement of a subject with a new place."""
        service = subject_service(subject)
        if service is not None:
            self.announce_again(plan, ConfigId(self._state.active, service))
        else:
            plan.announcements.append(self.key(plan) if subject == KEY else self.environment(plan, self._state.active))

    def announce_again(self, plan: Plan, config_id: ConfigId, *, views: Views | None = None) -> None:
        """Add to a plan that readers see a configuration in another way than before.

        Args:
            plan: The plan.
            config_id: The configuration; nothing is added if it does not exist.
            views: As for ``plan``.
        """
        announce_again(plan, config_id, outbox=self._outbox, views=views or self._views, now=self._clock())

    def note_drained(self) -> None:
        """Have stored soon which messages the bus was seen to hold."""
        self._drained.set()

    async def store_confirmations_forever(self) -> None:
        """Store what the bus was seen to hold, at most once a second, until cancelled.

        A transaction for each write would flush the disk twice for each. What is not stored when the daemon ends in
        another way than in order is published once more by the next start.
        """
        while True:
            await self._drained.wait()
            await asyncio.sleep(_CONFIRMATION_SECONDS)
            self._drained.clear()
            while (piece := self._submit_confirmations()) is not None:
                with contextlib.suppress(Busy, Unavailable):
                    # The store's condition says why.
                    await piece

    def store_confirmations(self) -> None:
        """Store which messages the bus was seen to hold, so that the next start need not publish them again.

        What the write queue does not accept is logged, and published once more by the next start.
        """
        self._drained.clear()
        while self._submit_confirmations() is not None:
            pass

    def _submit_confirmations(self) -> asyncio.Future[None] | None:
        """Submit the next confirmations; None if there are no more, or the queue accepts no write.

        In pieces: a write that comes meanwhile shares its transaction with one of them at most. It waited 110 ms for a
        single transaction of 10,000.
        """
        confirmed = self._outbox.drain_confirmed(_CONFIRMATIONS_AT_ONCE)
        if not confirmed:
            return None
        try:
            return self._queue.submit(Write(confirmed=confirmed))
        except (Busy, Unavailable) as error:
            _log.warning("confirmations_not_written", reason=error.message)
            return None

    def _plan_service(self, plan: Plan, record: Record, views: Views) -> None:
        """Add the announcement of a configuration, if the outbox does not have it as readers see it now."""
        if self._surely_announced(plan, record, views):
            return
        shown = views.public(record)
        fields = {
            "environment": record.environment, "revision": record.revision, "sequence": record.home_sequence,
            "checksum": record.checksum, "config": shown,
        }  # fmt: skip
        if not self._is_announced(plan, service_subject(record.service), UpdateMessage, fields):
            # Another place: readers may hold something else of the old one.
            self.announce_again(plan, ConfigId(record.environment, record.service), views=views)

    def _surely_announced(self, plan: Plan, record: Record, views: Views) -> bool:
        """Return whether the outbox has a message of a configuration with the very bytes that readers see now.

        Nearly every message has them. Rendering each configuration, to compare it with a decoded message, took a tenth
        of a start.
        """
        known = self._outbox.current.get(service_subject(record.service))
        if known is None:
            return False
        try:
            message = msgspec.json.decode(known.payload, type=_Encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        expected = _Encoded(
            epoch=plan.epoch,
            environment=record.environment,
            revision=record.revision,
            sequence=record.home_sequence,
            checksum=record.checksum,
            config=msgspec.Raw(views.encoded_public(record)),
        )
        return message == expected

    def _is_announced(
        self, plan: Plan, subject: str, form: type[RetainedMessage], fields: Mapping[str, object]
    ) -> bool:
        """Return whether the outbox has a message of a subject with these fields, of the plan's epoch.

        A stored message that has them, and was signed with keys that are lost, is signed again: for readers nothing
        changed.
        """
        known = self._outbox.current.get(subject)
        unsigned = self._outbox.unsigned(subject) if known is None else b""
        payload = unsigned if known is None else known.payload
        try:
            message = msgspec.json.decode(payload, type=form)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            # None, or the form of another version.
            return False
        if message.epoch != plan.epoch or any(getattr(message, name) != value for name, value in fields.items()):
            return False
        if unsigned:
            again = msgspec.structs.replace(message, message_id="")
            plan.announcements.append(self._outbox.announce(subject, again))
        return True
