"""Has memory follow what other daemons commit to the same database.

The store tells of each change in order. A change becomes a plan, as if it had been made here, and ``Commits`` puts it
in memory: so there is one way into memory, and everybody who waits for a change learns of it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
import structlog

from aliciacfg.access.authorizer import Authorizer
from aliciacfg.core import restore
from aliciacfg.core.commits import Commits
from aliciacfg.core.composer import Composer, Effective
from aliciacfg.core.file_marks import FileMarks
from aliciacfg.core.loaded_files import LoadedFiles
from aliciacfg.core.outbox import KEY, Outbox
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.core.restore import SharedTexts, opened_entry
from aliciacfg.core.served_files import ServedFiles
from aliciacfg.core.state import Entry, State
from aliciacfg.errors import Answered, OperationError, OtherFormat, Unavailable, WentBack
from aliciacfg.memory import free_slowly
from aliciacfg.model.config_id import ConfigId
from aliciacfg.model.records import Overlay, Record, StoredState, Token, Told
from aliciacfg.monitoring.instances import Instances
from aliciacfg.replicas.clock import boottime
from aliciacfg.replicas.readiness import MAX_LAG_SECONDS
from aliciacfg.sealing.boxes import Keyring, key_ids
from aliciacfg.sealing.sealed_documents import open_document, open_record, sealed_pointers
from aliciacfg.storage.store import Store

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_OTHERS = ChangeContext("another daemon", "api", operation="follow")
_POLL_SECONDS = 0.5
# So long a write waits at most for files that others put in force: a megabyte of them is loaded in about one.
_LOADED_SECONDS = 5.0
# So long a requester waits at most for what the database has to say about an answer; less if it has not answered for
# a while.
_CONFIRMED_SECONDS = 2.0
_CUT_OFF_SECONDS = 0.5
# Configurations that are composed before anything else goes on: some milliseconds.
_SLICE = 10
# Announcements that follow together with the configurations.
_ANNOUNCED = 1000
# After which time keys that could not be read are read again.
_KEYS_AGAIN_SECONDS = 3.0
# Documents that are looked through for keys before anything else goes on.
_TEXTS = 100
_MAX_NAMED = 20


@dataclass(slots=True)
class _Step:
    """A step that waits for its turn among the changes of others."""

    run: Callable[[], Awaitable[None]]
    done: asyncio.Future[None]


class Following:
    """Puts the changes of other daemons and the commits of this one in memory, in the order in which they were made.

    Register ``deliver`` with the store, ``in_turn`` with the write queue, and the object itself with ``Commits``.

    Attributes:
        followed: How many changes of others memory has followed.
    """

    def __init__(
        self,
        store: Store,
        commits: Commits,
        changes: "OthersChanges",
        *,
        served: ServedFiles,
        follow_files: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = boottime,
    ) -> None:
        """Begin with a memory that holds what the store held when it was loaded, just now.

        Args:
            store: Tells of the changes.
            commits: Puts them in memory.
            changes: Makes plans of them.
            served: Knows which files serve.
            follow_files: Puts them in force here; raises Unavailable if it is to be tried again.
            clock: Seconds, monotonic; those in which the machine slept count.
        """
        self._clock = clock
        # Memory holds everything that was committed until then.
        self._complete_until = clock()
        self.followed = 0
        self._store = store
        self._commits = commits
        self._changes = changes
        self._waiting: deque[StoredState | _Step] = deque()
        # How many items were ever added to those that wait, and how many of them are done.
        self._added = self._done = 0
        # Puts what waits in memory; a task of its own, as its waiters may be cancelled in the middle.
        self._applying: asyncio.Task[None] | None = None
        self._freeing: set[asyncio.Task[None]] = set()
        self._keys_again = 0.0
        self._served = served
        self._follow_files = follow_files
        self._loading: asyncio.Task[None] | None = None
        self._load_again = False

    @property
    def composes(self) -> bool:
        """Whether memory composes from the files that serve."""
        return not self._served.stale

    async def load_files(self) -> None:
        """Return when memory composes from the files that serve.

        Raises:
            Unavailable: They cannot be loaded, or not in time.
        """
        if self._loading is not None:
            await asyncio.wait({self._loading}, timeout=_LOADED_SECONDS)
        if not self.composes:
            raise Unavailable(
                "Other files serve the home since a moment ago, and this daemon has not loaded them yet; try again, or "
                "ask another daemon."
            )

    def load_files_again(self) -> None:
        """Have memory load once more what serves: with other keys, more of it may open. Plans go on meanwhile."""
        self._load_again = True
        self._begin_loading()

    def _begin_loading(self) -> None:
        if (self._served.pending or self._load_again) and self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="files that serve")

    async def _load(self) -> None:
        try:
            while self._served.pending or self._load_again:
                again, self._load_again = self._load_again, False
                try:
                    await self._follow_files()
                    await self.in_turn(self._recompose)
                except Unavailable as error:
                    self._load_again = self._load_again or again
                    _log.debug("files_not_followed", reason=error.message)
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._loading = None

    async def _recompose(self) -> None:
        """Compose what changed while the files were loaded."""
        await self._changes.recompose()

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait({self._loading})

    @property
    def untold(self) -> list[StoredState]:
        """What the store has told of and memory does not follow yet."""
        return [item for item in self._waiting if isinstance(item, StoredState)]

    def deliver(self, change: StoredState) -> None:
        """Take a change from the store; memory follows it soon, or in the next ``settle``."""
        self._add(change)
        self._commits.note_others(change)

    async def in_turn(self, step: Callable[[], Awaitable[None]]) -> None:
        """Await a step after everything that the store has told of so far, and before what it tells later."""
        waiting = _Step(step, asyncio.get_running_loop().create_future())
        self._add(waiting)
        await self.settle()
        await waiting.done

    async def settle(self) -> None:
        """Return when memory follows everything that the store has told of so far."""
        last = self._added
        while self._done < last:
            if self._applying is None:
                self._applying = asyncio.create_task(self._apply_waiting(), name="following")
            await asyncio.shield(self._applying)

    async def _apply_waiting(self) -> None:
        try:
            while self._waiting:
                await self._follow(self._waiting[0])
                # Not before: until it is in memory, plans are made on what was before.
                self._waiting.popleft()
                self._done += 1
        finally:
            self._applying = None

    async def catch_up(self) -> None:
        """Return when memory follows everything that others committed before the call.

        Raises:
            Unavailable: The database cannot be read.
        """
        began = self._clock()
        await self._store.catch_up()
        await self.settle()
        self._complete_until = max(self._complete_until, began)

    async def confirm(self) -> None:
        """Catch up so that an answer can be given, which does not wait for ever for a database that stands still.

        Raises:
            Unavailable: The database cannot be read, or does not answer in time.
        """
        seconds = _CONFIRMED_SECONDS if self.behind_seconds <= MAX_LAG_SECONDS else _CUT_OFF_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self.catch_up()
        except TimeoutError:
            raise Unavailable(
                f"The database did not answer within {seconds:g} seconds, so it is not known whether "
                "another daemon changed this; try again later."
            ) from None

    @property
    def behind_seconds(self) -> float:
        """Since when something may have been committed that memory does not hold."""
        return self._clock() - self._complete_until

    @property
    def commit(self) -> int:
        """The number of the last transaction that memory holds, its own included."""
        return self._store.followed

    def check_fresh(self) -> None:
        """Return if memory is at most two seconds behind.

        Raises:
            Unavailable: It may be further behind.
        """
        if self.behind_seconds > MAX_LAG_SECONDS:
            raise Unavailable(
                "The database cannot be reached, so it is not known whether another daemon changed this; try again "
                "later, or ask another daemon."
            )

    async def while_it_answers(self, read: Coroutine[Any, Any, T]) -> T:
        """Return what a read of the database returns, which takes as long as it takes; give it up if nothing is read.

        Raises:
            Unavailable: Nothing was read from the database for some seconds.
        """
        task = asyncio.create_task(read)
        # Of a failure that nobody waits for any more, too.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            patience = _CONFIRMED_SECONDS
            while not (await asyncio.wait({task}, timeout=patience))[0]:
                self.check_fresh()
                patience = _POLL_SECONDS
        finally:
            task.cancel()
        return task.result()

    async def follow_forever(self) -> None:
        """Follow the others until cancelled: twice a second, and whenever the store has a hint that there is news.

        Raises:
            WentBack: Memory holds what the database has lost; only a start can tell what is to be served.
            OtherFormat: Daemons of a newer version raised the format of the database.
        """
        hints = asyncio.Event() if self._store.shared is None else self._store.shared.hints()
        while True:
            hints.clear()
            try:
                await self.catch_up()
                await self._read_keys_again()
            except (WentBack, OtherFormat):
                raise
            except Unavailable as error:
                # The store's condition tells about it.
                _log.debug("not_followed", reason=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await hints.wait()

    async def _read_keys_again(self) -> None:
        """Read keys again from time to time that could not be read: what was wrong with a file may be put right."""
        if self._changes.keys_pending and self._clock() >= self._keys_again:
            self._keys_again = self._clock() + _KEYS_AGAIN_SECONDS
            self.deliver(StoredState(keys=True))
            await self.settle()

    def _add(self, item: StoredState | _Step) -> None:
        self._waiting.append(item)
        self._added += 1

    async def check_unanswered(self, requester: str, request_id: str) -> None:
        """Return if no daemon has kept an answer to a request.

        Raises:
            Answered: One has.
            Unavailable: The database cannot be read.
        """
        shared = self._store.shared
        kept = None if shared is None else await shared.answer(requester, request_id)
        if kept is not None:
            raise Answered(kept)

    async def _follow(self, item: StoredState | _Step) -> None:
        if isinstance(item, StoredState):
            plan, replaced = await self._changes.planned(item)
            self._commits.apply_others(plan)
            self.followed += 1
            self._begin_loading()
            await self._changes.announce_rest(item)
            if len(replaced) > _SLICE:
                freeing = asyncio.create_task(free_slowly(replaced))
                self._freeing.add(freeing)
                freeing.add_done_callback(self._freeing.discard)
            return
        try:
            await item.run()
        except Exception as error:  # noqa: BLE001 - passed on to the waiter of the step
            item.done.set_exception(error)
            # Marks the exception as retrieved: the waiter may be gone.
            item.done.exception()
        else:
            item.done.set_result(None)


class OthersChanges:
    """Makes plans of what other daemons committed; has no effect but through them."""

    def __init__(
        self,
        *,
        state: State,
        files: LoadedFiles,
        marks: FileMarks,
        served: ServedFiles,
        authorizer: Authorizer,
        instances: Instances,
        outbox: Outbox,
        keyring: Keyring,
        known_token: Callable[[Token], Token],
        reload_keys: Callable[[], Awaitable[bool]],
    ) -> None:
        """Hold the parts.

        Args:
            state: The configurations in memory.
            files: The files in force, from which contents are composed.
            marks: What the store says about the files.
            served: The files that serve.
            authorizer: Has the tokens.
            instances: Has the reports of services.
            outbox: Has the announcements.
            keyring: Opens overlays.
            known_token: Returns a token as far as its row is believed.
            reload_keys: Awaited when another daemon changed the keys, or published one that this one may not have;
                returns whether the keys here are the latest.
        """
        self._state = state
        self._files = files
        self._marks = marks
        self._served = served
        self._authorizer = authorizer
        self._instances = instances
        self._outbox = outbox
        self._keyring = keyring
        self._known_token = known_token
        self._reload_keys = reload_keys
        self._keys_pending = False

    @property
    def keys_pending(self) -> bool:
        """Whether the keys changed and could not be read."""
        return self._keys_pending

    async def planned(self, change: StoredState) -> tuple[Plan, list[object]]:
        """Return a plan whose entries are those after a change, and the entries that it replaces.

        It composes as a start does, and lets others go on in between.
        """
        if change.dropped:
            _log.warning(
                "rows_dropped",
                count=len(change.dropped),
                rows=change.dropped[:_MAX_NAMED],
                remedy="find out what wrote to the database; `aliciacfg check` lists the rows",
            )
        needs_keys = self._keys_pending or await self._needs_keys(change)
        if needs_keys:
            self._keys_pending = not await self._reload_keys()
        plan = Plan(self._state, _OTHERS)
        replaced: list[object] = []
        await self._plan_entries(plan, change, replaced)
        if needs_keys:
            await self._plan_reopened(plan, replaced)
        plan.epoch = max(plan.epoch, change.position.epoch)
        plan.sequence = change.position.sequence
        plan.records += change.records
        plan.announcements += change.announcements[:_ANNOUNCED]
        plan.schemas += change.schemas
        plan.recipients += change.recipients
        plan.told += change.told
        plan.meta |= change.meta
        active = change.meta.get(restore.ACTIVE)
        plan.activates = active if active != self._state.active else None
        plan.on_commit.append(lambda: self._apply_rest(change))
        return plan, replaced

    async def announce_rest(self, change: StoredState) -> None:
        """Have the outbox follow the announcements that a plan of ``planned`` left out, a few at a time.

        The broker may get them later than what is read here, and does so in any case.
        """
        for start in range(_ANNOUNCED, len(change.announcements), _ANNOUNCED):
            await asyncio.sleep(0)
            self._outbox.add(change.announcements[start : start + _ANNOUNCED])

    async def _needs_keys(self, change: StoredState) -> bool:
        """Return whether another key seals now, or values of a change are sealed with one that is not here."""
        if change.keys or any(item.subject == KEY for item in change.announcements):
            return True
        sealed = [*(item.config for item in change.records), *(item.patch for item in change.overlays if item.patch)]
        sealed.append(change.meta.get(restore.SERVED, "").encode())
        for number, text in enumerate(sealed, start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            if not all(map(self._keyring.has, key_ids(text))):
                return True
        return False

    def _apply_rest(self, change: StoredState) -> None:
        """Put in memory what is no configuration."""
        self._files.follow(change.schemas, change.meta)
        self._marks.follow(change.meta)
        self._served.follow(change)
        self._authorizer.apply_tokens(map(self._known_token, change.tokens))
        self._instances.follow(change.applied, change.forgotten)

    async def _plan_entries(self, plan: Plan, change: StoredState, replaced: list[object]) -> None:
        records = {_id(item): item for item in change.records}
        overlays = {_id(item): item for item in change.overlays}
        told = {_id(item): item.home_sequence for item in change.told}
        texts = SharedTexts()
        for number, config_id in enumerate(dict.fromkeys([*records, *overlays, *told]), start=1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            replaced.append(before)
            record = self._record(before, records.get(config_id), told.get(config_id, 0), texts)
            entry = self._entry(before, record, overlays.get(config_id))
            if entry is None:
                continue
            plan.entries[config_id] = entry
            if entry.live is None or entry.effective is not None:
                plan.settled.add(config_id)

    async def recompose(self) -> None:
        """Compose what the files before did not yield, and these may."""
        entries: dict[ConfigId, Entry] = {}
        for number, config_id in enumerate(self._state.all_heads(), start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            if before.live is not None and before.effective is None:
                entries[config_id] = self._composed(before, before)
        self._state.refresh(entries)

    async def _plan_reopened(self, plan: Plan, replaced: list[object]) -> None:
        """Plan the configurations whose overlays did not open before, and may now."""
        for number, config_id in enumerate(self._state.all_heads(), start=1):
            if number % _TEXTS == 0:
                await asyncio.sleep(0)
            before = self._state.committed(config_id)
            if config_id in plan.entries or before.overlay is None or not before.undecryptable:
                continue
            opened = open_document(
                before.overlay, self._keyring, service=config_id.service, environment=config_id.environment
            )
            sealed = {**before.sealed, **opened.secrets}
            entry = self._composed(before, Entry(before.record, opened.document, None, before.origins, sealed))
            if entry.undecryptable and not opened.secrets:
                continue
            replaced.append(before)
            plan.entries[config_id] = entry
            if entry.live is None or entry.effective is not None:
                plan.settled.add(config_id)

    def _record(self, before: Entry, changed: Record | None, told: int, texts: SharedTexts) -> Record | None:
        """Return the newest revision with the place of the last change that readers were told of."""
        record = changed or before.record
        if record is None:
            return None
        place = max(record.home_sequence, told)
        if before.record is not None and before.record.revision == record.revision:
            # The same revision, of which more is sealed now.
            place = max(place, before.record.home_sequence)
        return texts.replace(record, home_sequence=place)

    def _entry(self, before: Entry, record: Record | None, overlay: Overlay | None) -> Entry | None:
        """Return an entry after a change, its content composed if the files yield it; None if there is nothing."""
        if overlay is None:
            entry = Entry(record, before.overlay, None, before.origins, before.sealed)
        elif overlay.patch is None or not (overlay.confirmed or record is not None):
            entry = Entry(record)
        else:
            entry = opened_entry(record, overlay, self._keyring)
        if entry.record is None and entry.overlay is None and before.record is None and before.overlay is None:
            return None
        return self._composed(before, entry)

    def _composed(self, before: Entry, entry: Entry) -> Entry:
        record = entry.live
        if record is None or entry.undecryptable:
            return entry
        known = before.effective
        if known is not None and known.checksum == record.checksum and before.overlay == entry.overlay:
            # Readers are told anew of the same.
            effective = known
        else:
            found = None if self._files.current_planner is None else self._files.current_planner.composer
            effective = None if found is None else self._composed_by(found, record, entry)
        return entry if effective is None else Entry(record, entry.overlay, effective, entry.origins)

    def _composed_by(self, composer: Composer, record: Record, entry: Entry) -> Effective | None:
        """Return the content of a revision; None if these files and the overlay do not yield it."""
        environment = composer.sources.environments.get(record.environment)
        if environment is None or environment.problems:
            return None
        found = None
        with contextlib.suppress(OperationError):
            found = composer.compose(record.environment, record.service, entry.overlay)
            if found.checksum == record.checksum:
                return replace(found, checksum=record.checksum)
        if not self._has_more_secrets(record, found):
            return None
        with contextlib.suppress(OperationError):
            # What the schema does not mark any more stays a secret.
            kept = {**open_record(record, self._keyring).secrets, **entry.sealed}
            found = composer.compose(record.environment, record.service, entry.overlay, kept=kept)
            if found.checksum == record.checksum:
                return replace(found, checksum=record.checksum)
        return None

    def _has_more_secrets(self, record: Record, found: Effective | None) -> bool:
        """Return whether a revision holds secrets where the files and the schema have none."""
        if found is None:
            return True
        document = msgspec.json.decode(record.config)
        return not found.secrets.keys() >= set(sealed_pointers(document))


def _id(item: Record | Overlay | Told) -> ConfigId:
    return ConfigId(item.environment, item.service)
