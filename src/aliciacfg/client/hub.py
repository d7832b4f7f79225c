"""The readers of a service's configuration, each at its own pace, and what became of it.

A watch gives the latest state, never every step: what came while its reader was busy is one change. So a slow reader
delays no other reader, and loses nothing but states that are already past. A configuration counts as applied when every
reader is done with it: when it asks for the next change.
"""

import asyncio
import contextlib
import dataclasses
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Generic

from aliciacfg.client.current import Change, Current, SettingsT, Trust
from aliciacfg.client.errors import Closed, Rejected
from aliciacfg.client.messages import Update
from aliciacfg.client.values import differences, opened_secrets
from aliciacfg.model.records import AppliedStatus
from aliciacfg.model.redaction import without_secrets

Settled = Callable[[Update, AppliedStatus, str | None], None]
"""Called with what became of a configuration."""


@dataclasses.dataclass(frozen=True, slots=True)
class State(Generic[SettingsT]):
    """One state of the configuration.

    Attributes:
        place: Counts the states of this client.
        record: What the program sees; in a deletion that of the state before.
        update: The message that it was made of; None for a default.
        deleted: Whether it is a deletion.
    """

    place: int
    record: Current[SettingsT]
    update: Update | None
    deleted: bool = False

    def redacted(self, text: str) -> str:
        """Return a text without the secrets of this state that it quotes."""
        return text if self.update is None else without_secrets(text, opened_secrets(self.update, self.record.config))


class Hub(Generic[SettingsT]):
    """The present state, and those who watch it.

    Attributes:
        rejection: Why the newest configuration does not count; None if it does.
    """

    def __init__(self, trust: Trust, settled: Settled, *, by_hand: Callable[[Update], None] | None = None) -> None:
        """Begin without a state.

        Args:
            trust: Learns which record is confirmed.
            settled: Called once for each configuration that every reader is done with, or that one could not apply.
            by_hand: The program itself reports what became of a configuration, and ``settled`` is called only for what
                does not fit. This is called with each one that counts, and again with one that is confirmed.
        """
        self._by_hand = by_hand
        self.rejection: Rejected | None = None
        self._trust = trust
        self._settled = settled
        self._state: State[SettingsT] | None = None
        # Until the first watch is made, which must not miss what happens before.
        self._first: State[SettingsT] | None = None
        self._first_restarts = Restarts()
        self._watches: weakref.WeakSet[Watch[SettingsT]] = weakref.WeakSet()
        # The state that a reader gave up in the middle: it is never settled.
        self._given_up = -1
        self._failed: tuple[int, str] | None = None
        self._marked: tuple[int, AppliedStatus] | None = None
        self._reported: tuple[int, AppliedStatus] | None = None
        self.closed = False

    @property
    def state(self) -> State[SettingsT]:
        """The present state.

        Raises:
            Closed: There was never one.
        """
        if self._state is None:
            raise Closed("the client has no configuration: enter it with `async with` first")
        return self._state

    @property
    def has_state(self) -> bool:
        """Whether there is a state."""
        return self._state is not None

    def note_restarts(self, restart_required: Iterable[str] | None) -> None:
        """Note what a message that counts says about restarts, before it becomes a state.

        Args:
            restart_required: JSON Pointers; None if that is not known of everything that changed since the last one.
        """
        for restarts in (self._first_restarts, *(watch.restarts for watch in self._watches)):
            restarts.add(restart_required)

    def put(self, record: Current[SettingsT], update: Update | None) -> None:
        """Make a record the present state."""
        live = record.source == "live"
        if live:
            self.rejection = None
        self._trust.confirmed = record.numbers if live else None
        self._set(State(self._next_place(), record, update))

    def delete(self) -> None:
        """Note that the daemon has no configuration any more."""
        self._trust.confirmed = None
        if self._state is not None and not self._state.deleted and self._state.update is not None:
            self._set(State(self._next_place(), self._state.record, self._state.update, deleted=True))

    def confirm(self) -> None:
        """Note that the broker or the daemon has sent the present state again.

        What became of it is reported again, too: the daemon, or the broker, may have missed it.
        """
        state = self.state
        record = dataclasses.replace(state.record, source="live", received_at=time.time())
        self._trust.confirmed = record.numbers
        self._state = dataclasses.replace(state, record=record)
        self._reported = None
        self._came()

    def reject(self, update: Update, error: Rejected) -> None:
        """Note that a configuration does not fit; the state stays."""
        self.rejection = error
        self._trust.confirmed = None
        self._settled(update, "rejected", str(error))

    def lose(self) -> None:
        """Note that the connection is gone."""
        self._trust.confirmed = None

    def watch(self, since: Current[SettingsT] | None = None) -> "Watch[SettingsT]":
        """Return a new watch.

        Args:
            since: What its reader knows; None is the first state for the first watch, and the present one for others.
        """
        known, restarts = (self._first, self._first_restarts) if self._first is not None else (self.state, Restarts())
        self._first = None
        if since is not None:
            # In every comparison, it is not the present one.
            known = State(known.place - 1, since, None)
            restarts.add(None)
        made = Watch(self, known, restarts)
        self._watches.add(made)
        return made

    def close(self) -> None:
        """End every watch."""
        self.closed = True
        for watch in self._watches:
            watch.wake()

    def mark(self, status: AppliedStatus) -> None:
        """Have the present state settled with another status than ``applied``."""
        self._marked = (self.state.place, status)

    def fail(self, state: State[SettingsT], error: str) -> None:
        """Note that a reader could not apply a state."""
        self._failed = (state.place, state.redacted(error))

    def give_up(self, place: int) -> None:
        """Note that a reader ended before it was done with a state."""
        self._given_up = max(self._given_up, place)

    def end(self, error: str) -> None:
        """Note that the program ends with an error; if it was busy with the present state, that failed."""
        state = self._state
        if state is not None and (
            self._given_up == state.place or any(watch.is_busy_with(state) for watch in self._watches)
        ):
            self.fail(state, error)
            self.settle()

    def settle(self) -> None:
        """Report what became of the present state, if that is known now and was not reported before."""
        state = self._state
        if (
            self._by_hand is not None
            or state is None
            or state.update is None
            or state.deleted
            or state.record.source != "live"
        ):
            return
        error = None
        if self._failed is not None and self._failed[0] == state.place:
            status: AppliedStatus = "rejected"
            error = self._failed[1]
        elif self._given_up == state.place or any(watch.done < state.place for watch in self._watches):
            return
        elif self._marked is not None and self._marked[0] == state.place:
            status = self._marked[1]
        else:
            status = "applied"
        if self._reported != (state.place, status):
            self._reported = (state.place, status)
            self._settled(state.update, status, error)

    def _next_place(self) -> int:
        return 1 if self._state is None else self._state.place + 1

    def _set(self, state: State[SettingsT]) -> None:
        if self._state is None:
            self._first, self._first_restarts = state, Restarts()
        self._state = state
        for watch in self._watches:
            watch.wake()
        self._came()

    def _came(self) -> None:
        """Report a state that has come, or come again."""
        state = self._state
        if self._by_hand is not None and state is not None and state.update is not None and not state.deleted:
            self._by_hand(state.update)
        self.settle()


class Restarts:
    """The places of which messages said that their change takes a restart; all places if a message was missed."""

    def __init__(self) -> None:
        self._pointers: set[str] | None = set()

    def add(self, pointers: Iterable[str] | None) -> None:
        """Add what a message says; None if it may be incomplete."""
        if pointers is None:
            self._pointers = None
        elif self._pointers is not None:
            self._pointers.update(pointers)

    def take(self, changed: tuple[str, ...]) -> tuple[str, ...]:
        """Return the places of a change that take a restart, and begin anew."""
        pointers, self._pointers = self._pointers, set()
        return changed if pointers is None else tuple(pointer for pointer in changed if pointer in pointers)


class Watch(Generic[SettingsT]):
    """An asynchronous iterator over changes, for one reader; it ends when the client is closed.

    Attributes:
        done: The place of the state with which its reader is done.
        restarts: What messages said since the state that its reader knows.
    """

    def __init__(self, hub: Hub[SettingsT], known: State[SettingsT], restarts: Restarts) -> None:
        self._hub = hub
        self._known = known
        self.done = known.place
        self._handed: State[SettingsT] | None = None
        self.restarts = restarts
        self._woken = asyncio.Event()
        self._woken.set()
        # Has the others' progress count if the reader ends before it is done.
        self._finalizer: weakref.finalize[..., Watch[SettingsT]] | None = None
        self._loop = asyncio.get_running_loop()

    def is_busy_with(self, state: State[SettingsT]) -> bool:
        """Return whether its reader was given a state, and is not done with it."""
        return self._handed is not None and self._handed.place == state.place

    def __aiter__(self) -> "Watch[SettingsT]":
        return self

    async def __anext__(self) -> Change[SettingsT]:
        """Return the next change; the reader is done with the one before.

        Raises:
            StopAsyncIteration: The client is closed.
        """
        self.finish()
        while not self._hub.closed:
            if (change := self._due()) is not None:
                return change
            self._woken.clear()
            await self._woken.wait()
        raise StopAsyncIteration

    def wake(self) -> None:
        """Have the reader look again."""
        self._woken.set()

    def finish(self) -> None:
        """Note that the reader is done with what it was given."""
        if self._handed is not None:
            self.done = self._handed.place
            self._handed = None
            if self._finalizer is not None:
                self._finalizer.detach()
            self._hub.settle()

    def redacted(self, text: str) -> str:
        """Return a text without the secrets of what the reader was given."""
        return text if self._handed is None else self._handed.redacted(text)

    def fail(self, error: str) -> None:
        """Note that the reader could not apply what it was given."""
        if self._handed is not None:
            self._hub.fail(self._handed, error)

    def _due(self) -> Change[SettingsT] | None:
        """Return what is different from what the reader knows; None if nothing is."""
        state, known = self._hub.state, self._known
        if state.place == known.place:
            self.done = state.place
            self._hub.settle()
            return None
        record = state.record
        changed = differences(known.record.config, record.config)
        self._known = state
        restart_required = self.restarts.take(changed)
        if not changed and state.deleted == known.deleted:
            self.done = state.place
            self._hub.settle()
            return None
        self._handed = state
        self._finalizer = weakref.finalize(self, _given_up, self._loop, self._hub, state.place)
        self._finalizer.atexit = False
        members = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
        return Change(
            **members,
            changed=changed,
            restart_required=restart_required,
            deleted=state.deleted,
        )


def _given_up(loop: asyncio.AbstractEventLoop, hub: Hub[SettingsT], place: int) -> None:
    """Have the others' progress count; called from whichever thread collects the watch."""
    hub.give_up(place)
    # The loop is closed when a program ends in the middle of a change.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(hub.settle)
