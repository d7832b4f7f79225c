"""The files that serve a home of several daemons: their texts are in the database; the disks may hold others.

Each daemon has directories of its own, and a machine may have other files than the rest. So what serves is stored in
the transaction that puts it in force; the others compose from that. The files on a disk come into force when all
daemons that live show the same ones (``replicas.edit_turn``), when a daemon is asked to load its own, or at the
start of a daemon that is alone.

The row is a keyed digest of the texts, a *generation*, and the texts. These are encrypted, because files may hold
secrets as people type them, with a key that a rotation replaces. The generation rises with each row: a client that can
write to the database could otherwise put earlier files back, with the access rules in them.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from aliciacfg.atomic_files import replace_file
from aliciacfg.core.plan import Plan
from aliciacfg.core.restore import SERVED
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.file_errors import reason
from aliciacfg.model.records import StoredState
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.keyed_hash import KeyedHash
from aliciacfg.sealing.wrapped import Wrapper
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.source_files import SourceFiles

_log = structlog.get_logger(__name__)

NOTE_FILE = "files"
"""The name of the file in the data directory with the digest of the files that the daemon last followed others with,
and the highest generation that it has seen."""

_PURPOSE = "/served_files"
_DIGEST_BYTES = 16
# An edit takes its time to reach all machines.
_REACHES_ALL_SECONDS = 10.0
_MAX_NAMED = 20
_UNKNOWN = "-"
_MAX_DIGITS = 18


class OthersLoaded(Exception):
    """Other files came into force than those that a load was begun beside."""


class ServedFiles:
    """What serves, what is on the disk of this daemon, and how both differ.

    Attributes:
        own_digest: The digest of the files on the disk; empty if they cannot be read.
        put_back: Whether an earlier row was put back into the database, as far as is known.
    """

    def __init__(
        self,
        source_files: SourceFiles,
        keyring: Keyring,
        *,
        stored: str | None,
        note: Path,
        alone: Callable[[], Awaitable[bool]],
        went_back: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what the database holds; nothing is in force.

        Args:
            source_files: Reads the files of this machine.
            keyring: Has the keys of the home.
            stored: The row; None if there is none, or it is not what was written.
            note: The file for what this daemon has to remember.
            alone: Returns whether no other daemon of the home lives; raises Unavailable.
            went_back: Whether the whole database is of an earlier time than this daemon has seen, or was restored.
            clock: Seconds, monotonic.
        """
        self._source_files = source_files
        self._wrapper = Wrapper(keyring, _PURPOSE)
        self._digest = KeyedHash(keyring.derive(b"aliciacfg file digests v1")).digest
        self._alone = alone
        self._clock = clock
        self._note = note
        self._stored: str | None = None
        # The texts in force here, and their digest.
        self._in_force: FileTexts | None = None
        self._in_force_digest = ""
        self._own: FileTexts | None = None
        self._own_problems: tuple[SourceProblem, ...] = ()
        self.own_digest = ""
        # The digest of the files on the disk when others came into force; what differs from it was edited since.
        self._followed_with, noted = self._read_note()
        # The highest generation that was seen.
        self._generation = 0 if went_back else noted
        self.put_back = False
        self._differing: tuple[str, ...] = ()
        self._differs_since: float | None = None
        # How often others put something in force, and which of these this daemon has loaded or refused.
        self._changes = self._loaded = self._refused = 0
        if stored is not None and self._is_earlier(stored):
            self._report_put_back()
        elif stored is not None:
            self._take(stored)

    @property
    def digest(self) -> str:
        """The digest of what serves; empty if nothing is stored."""
        return "" if self._stored is None else self._stored.partition(" ")[0]

    @property
    def composes(self) -> bool:
        """Whether this daemon composes from any files that serve, or served; or something else than these is wrong."""
        return self._in_force is not None or self._stored is not None

    @property
    def pending(self) -> bool:
        """Whether others put something in force that this daemon has not tried to load yet."""
        return self._changes > max(self._loaded, self._refused)

    @property
    def stale(self) -> bool:
        """Whether others put something in force that this daemon has not loaded."""
        return self._changes != self._loaded

    @property
    def edited(self) -> bool:
        """Whether the files on the disk were changed since others came into force."""
        return self.own_digest not in ("", self.digest, self._followed_with)

    @property
    def differing(self) -> tuple[str, ...]:
        """The names of what differs on the disk from what serves, once that is no edit that still reaches others."""
        since = self._differs_since
        return () if since is None or self._clock() - since < _REACHES_ALL_SECONDS else self._differing

    async def look(self) -> None:
        """Read the files on the disk."""
        try:
            self._own = await asyncio.to_thread(self._source_files.read_texts)
            self._own_problems = ()
            self.own_digest = await asyncio.to_thread(self._digest_of, self._own)
        except SourceError as error:
            self._own, self._own_problems, self.own_digest = None, error.problems, ""
        self._compare()

    @property
    def own(self) -> FileTexts:
        """What the last look found on the disk.

        Raises:
            SourceError: It cannot be read.
        """
        if self._own is None:
            raise SourceError(self._own_problems)
        return self._own

    async def to_start_with(self) -> FileTexts | None:
        """Return the files on the disk if this daemon is to put them in force at its start; None for what is stored.

        Raises:
            SourceError: Nothing is stored, and what is on the disk cannot be read, or others have stored something.
            Unavailable: The database cannot be read.
        """
        await self.look()
        if self._stored is None:
            if not await self._alone():
                message = "what serves is missing in the database; the daemon that leads stores it again"
                raise SourceError([SourceProblem("", None, message)])
            return self.own
        was_edited = self._followed_with is None or self.edited
        if self._own is None:
            return None
        if self.own_digest == self.digest or not was_edited:
            try:
                await self.stored_texts()
            except SourceError:
                # With a key that was removed since, in a backup for example.
                return self._own if await self._alone() else None
            return None
        return self._own if await self._alone() else None

    async def stored_texts(self) -> FileTexts:
        """Return what serves.

        Raises:
            SourceError: Nothing is stored, or it does not open.
        """
        return await asyncio.to_thread(self._open, self._stored or "")

    async def to_serve(self, texts: FileTexts, *, beside: str | None) -> Callable[[Plan], None]:
        """Return what adds to a plan that texts serve from then on; to be called at the beginning of the plan.

        Args:
            texts: The texts.
            beside: The digest of what has to serve until then; None if it may be anything. If it is something else,
                what is returned raises OthersLoaded.
        """
        digest = await asyncio.to_thread(self._digest_of, texts)
        wrapped = _wrapped(self._stored or "")
        if digest != self.digest or not self._wrapper.is_current(wrapped):
            wrapped = await asyncio.to_thread(self._wrap, texts)

        def serve(plan: Plan) -> None:
            if beside not in (None, self.digest):
                raise OthersLoaded
            row = self._stored
            if row is None or (digest, wrapped) != (self.digest, _wrapped(row)):
                row = plan.meta[SERVED] = self._next_row(digest, wrapped)
            changes = self._changes
            plan.on_commit.append(lambda: self._note_stored(texts, row, changes))

        return serve

    def plan_again(self, plan: Plan) -> None:
        """Add to a plan what serves, which is missing in the database."""
        if self._stored is None:
            return
        # Later than all that was seen: a failover may have lost a row that another daemon saw before it stopped.
        row = plan.meta[SERVED] = self._next_row(self.digest, _wrapped(self._stored))
        plan.on_commit.append(lambda: self._take(row))

    def _next_row(self, digest: str, wrapped: str) -> str:
        """Return a row of the next generation: no lower than the time, so that it is higher after a failover, too."""
        return f"{digest} {max(self._generation + 1, int(time.time()))} {wrapped}"

    def follow(self, change: StoredState) -> None:
        """Note what other daemons changed of what serves."""
        row = change.meta.get(SERVED)
        if row is not None and self._is_earlier(row):
            self._report_put_back()
            row = None
        is_other = False
        if row is not None:
            self._take(row)
            is_other = self.digest != self._in_force_digest or self.stale
        if not (is_other or change.schemas):
            return
        # Also if schemas alone came into force, by a migration.
        self._changes += 1

    def _is_earlier(self, row: str) -> bool:
        return _generation(row) < self._generation

    def _report_put_back(self) -> None:
        if not self.put_back:
            _log.error(
                "served_files_put_back", remedy="find out what wrote to the database; the leader stores them again"
            )
        self.put_back = True

    def _take(self, row: str) -> None:
        """Note that a row serves from now on."""
        before = self.digest
        self.put_back = False
        self._stored, self._generation = row, _generation(row)
        self._remember(own=self.digest != before)

    @property
    def changes(self) -> int:
        """How often others put something in force so far."""
        return self._changes

    def followed(self, texts: FileTexts, digest: str, changes: int) -> None:
        """Note that what others put in force is in force here.

        Args:
            texts: The texts.
            digest: Their digest.
            changes: ``changes`` when they were read.
        """
        starting = self._in_force is None
        self._in_force, self._in_force_digest = texts, digest
        self._loaded = max(self._loaded, changes)
        self._compare()
        if starting and self._differs_since is not None:
            # No edit that others still wait for.
            self._differs_since -= _REACHES_ALL_SECONDS

    def _note_stored(self, texts: FileTexts, row: str, changes: int) -> None:
        if row != self._stored:
            self._take(row)
        self.followed(texts, self.digest, changes)

    def refuse(self, changes: int) -> None:
        """Note that what others put in force cannot be loaded here."""
        self._refused = changes

    @property
    def refused(self) -> bool:
        """Whether what others put in force cannot be loaded here."""
        return self._refused > self._loaded

    def _remember(self, *, own: bool) -> None:
        """Remember the generation.

        Args:
            own: Whether others came into force: then the files on the disk are remembered as those that were there.
        """
        if own:
            self._followed_with = self.own_digest or self._followed_with
        note = f"{self._followed_with or _UNKNOWN} {self._generation}\n"
        if note == self._noted:
            return
        self._noted = note
        try:
            replace_file(self._note, note.encode(), mode=0o600, follow_links=False)
        except OSError as error:
            _log.warning("files_not_noted", file=str(self._note), reason=reason(error))

    def _read_note(self) -> tuple[str | None, int]:
        try:
            self._noted = self._note.read_text("ascii", "replace")
        except OSError:
            self._noted = ""
        digest, _, number = self._noted.strip().partition(" ")
        return None if digest in ("", _UNKNOWN) else digest, _number(number)

    def _compare(self) -> None:
        """Compare the files on the disk with those in force."""
        if self.own_digest == self.digest:
            self._remember(own=True)
        found: list[str] = []
        if self._in_force is not None and self.own_digest != self._in_force_digest:
            found = [problem.file for problem in self._own_problems]
            if self._own is not None:
                found = self._own.differing(self._in_force)
        more = len(found) - _MAX_NAMED
        self._differing = (*found[:_MAX_NAMED], *([f"{more} more"] if more > 0 else []))
        if not found:
            self._differs_since = None
        elif self._differs_since is None:
            self._differs_since = self._clock()

    def _digest_of(self, texts: FileTexts) -> str:
        return self._digest(texts.encoded())[:_DIGEST_BYTES].hex()

    def _wrap(self, texts: FileTexts) -> str:
        return self._wrapper.wrap(zlib.compress(texts.encoded()))

    def _open(self, row: str) -> FileTexts:
        digest = row.partition(" ")[0]
        opened = self._wrapper.unwrap(_wrapped(row))
        try:
            texts = None if opened is None else msgspec.json.decode(zlib.decompress(opened), type=FileTexts)
        except (zlib.error, msgspec.MsgspecError):
            texts = None
        if texts is None or self._digest_of(texts) != digest:
            message = (
                "what serves does not open in the database; `aliciacfg --http URL reload` puts the files of a machine "
                "in force"
            )
            raise SourceError([SourceProblem("", None, message)])
        return texts


def _generation(row: str) -> int:
    """Return the generation in a row; 0 if it has none."""
    return _number(row.split(" ", 2)[1]) if row.count(" ") > 1 else 0


def _wrapped(row: str) -> str:
    """Return the wrapped texts in a row; empty if there are none."""
    return row.split(" ", 2)[2] if row.count(" ") > 1 else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _MAX_DIGITS else 0
