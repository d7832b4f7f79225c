"""The files that serve a home of several daemons: their texts are in the database, whatever is on the disks.

Each daemon has directories of its own, and a machine may have other files than the rest. So what serves is stored in
the transaction that puts it in force; the others compose from that. The files on a disk come into force when all
daemons that live show the same ones (``replicas.edit_turn``), when somebody asks a daemon to load its own, or at the
start of a daemon that is alone.

The row begins with a keyed digest of the texts. It is encrypted, because files may hold secrets as people type them.
"""

import asyncio
import base64
import binascii
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
from aliciacfg.model.records import StoredState
from aliciacfg.sealing.boxes import Keyring
from aliciacfg.sealing.keyed_hash import KeyedHash
from aliciacfg.sealing.wrapped import Wrapper
from aliciacfg.sources.file_texts import FileTexts
from aliciacfg.sources.source_files import SourceFiles

_log = structlog.get_logger(__name__)

NOTE_FILE = "files"
"""The name of the file in the data directory with the digest of the files that the daemon last followed others with."""

_PURPOSE = b"aliciacfg served files v1"
_DIGEST_BYTES = 16
# An edit takes its time to reach all machines.
_REACHES_ALL_SECONDS = 10.0
_MAX_NAMED = 20


class OthersLoaded(Exception):
    """Other files came into force than those that a load was begun beside."""


class ServedFiles:
    """What serves, what is on the disk of this daemon, and how both differ.

    Attributes:
        own_digest: The digest of the files on the disk; empty if they cannot be read.
    """

    def __init__(
        self,
        source_files: SourceFiles,
        keyring: Keyring,
        *,
        stored: str | None,
        note: Path,
        alone: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with what the database holds; nothing is in force.

        Args:
            source_files: Reads the files of this machine.
            keyring: Has the keys of the home.
            stored: The row; None if there is none, or it is not what was written.
            note: The file for what this daemon has to remember.
            alone: Returns whether no other daemon of the home lives; raises Unavailable.
            clock: Seconds, monotonic.
        """
        self._source_files = source_files
        self._wrapper = Wrapper(keyring, _PURPOSE)
        self._digest = KeyedHash(keyring.derive(b"aliciacfg file digests v1")).digest
        self._alone = alone
        self._clock = clock
        self._note = note
        self._stored = stored
        # The texts in force here, and their digest.
        self._in_force: FileTexts | None = None
        self._in_force_digest = ""
        self._own: FileTexts | None = None
        self._own_problems: tuple[SourceProblem, ...] = ()
        self.own_digest = ""
        # The digest of the files on the disk when others came into force; what differs from it was edited since.
        self._followed_with = self._read_note()
        self._differing: tuple[str, ...] = ()
        self._differs_since: float | None = None
        # How often others put something in force, and which of these this daemon has loaded or refused.
        self._told = self._loaded = self._refused = 0

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
        return self._told > max(self._loaded, self._refused)

    @property
    def stale(self) -> bool:
        """Whether others put something in force that this daemon has not loaded."""
        return self._told != self._loaded

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
        if self._own is None or self.own_digest == self.digest or not was_edited:
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
        row = self._stored
        if row is None or digest != self.digest:
            row = await asyncio.to_thread(self._close, texts, digest)

        def serve(plan: Plan) -> None:
            if beside not in (None, self.digest):
                raise OthersLoaded
            if row != self._stored:
                plan.meta[SERVED] = row
            told = self._told
            plan.on_commit.append(lambda: self._note_stored(texts, row, told))

        return serve

    def plan_again(self, plan: Plan) -> None:
        """Add to a plan what serves, which is missing in the database."""
        if self._stored is not None:
            plan.meta[SERVED] = self._stored

    def follow(self, change: StoredState) -> None:
        """Note what other daemons changed of what serves."""
        if SERVED in change.meta and change.meta[SERVED] != self._stored:
            self._stored = change.meta[SERVED]
            self._remember()
        elif not change.schemas:
            return
        # Also if schemas alone came into force, by a migration.
        self._told += 1

    @property
    def told(self) -> int:
        """How often others put something in force so far."""
        return self._told

    def followed(self, texts: FileTexts, digest: str, told: int) -> None:
        """Note that what others put in force is in force here.

        Args:
            texts: The texts.
            digest: Their digest.
            told: ``told`` when they were read.
        """
        starting = self._in_force is None
        self._in_force, self._in_force_digest = texts, digest
        self._loaded = max(self._loaded, told)
        self._compare()
        if starting and self._differs_since is not None:
            # No edit that others still wait for.
            self._differs_since -= _REACHES_ALL_SECONDS

    def _note_stored(self, texts: FileTexts, row: str, told: int) -> None:
        if row != self._stored:
            self._stored = row
            self._remember()
        self.followed(texts, self.digest, told)

    def refused(self, told: int) -> None:
        """Note that what others put in force cannot be loaded here."""
        self._refused = told

    def _remember(self) -> None:
        """Remember the files on the disk as those that were there when others came into force."""
        if self.own_digest and self.own_digest != self._followed_with:
            self._followed_with = self.own_digest
            try:
                replace_file(self._note, f"{self.own_digest}\n".encode(), mode=0o600, follow_links=False)
            except OSError as error:
                _log.warning("files_not_noted", file=str(self._note), reason=error.strerror)

    def _read_note(self) -> str | None:
        try:
            return self._note.read_text("ascii", "replace").strip() or None
        except OSError:
            return None

    def _compare(self) -> None:
        """Compare the files on the disk with those in force."""
        if self.own_digest == self.digest:
            self._remember()
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

    def _close(self, texts: FileTexts, digest: str) -> str:
        return f"{digest} {base64.b64encode(self._wrapper.wrap(zlib.compress(texts.encoded()))).decode()}"

    def _open(self, row: str) -> FileTexts:
        digest, _, content = row.partition(" ")
        try:
            opened = self._wrapper.unwrap(base64.b64decode(content, validate=True))
            texts = None if opened is None else msgspec.json.decode(zlib.decompress(opened), type=FileTexts)
        except (binascii.Error, zlib.error, msgspec.MsgspecError):
            texts = None
        if texts is None or self._digest_of(texts) != digest:
            message = (
                "what serves does not open in the database; `aliciacfg --http URL reload` puts the files of a machine "
                "in force"
            )
            raise SourceError([SourceProblem("", None, message)])
        return texts
