"""The contract of a store: what every database backend offers to the rest of the daemon."""

from collections.abc import Callable, Sequence
from typing import Protocol

from aliciacfg.errors import AliciacfgError
from aliciacfg.model.records import Applied, Audited, Recipient, Record, RecordHead, StoredState, Token, Write
from aliciacfg.storage.verifier import Findings

Reseal = Callable[[bytes, str, str], bytes]
"""Returns a document sealed anew, as JSON: from the stored one, its environment and its service.

Raises InvalidRequest if the stored document is not JSON.
"""


class StoreError(AliciacfgError):
    """The database cannot be used as it is; the message names the remedy."""


class Store(Protocol):
    """Durable revisions, overlays, announcements, tokens and audit entries of one data directory.

    Every row that is written gets a code of ``hash_chain.Chain``; reads report rows whose code does not match as
    described at each method. All methods may be called concurrently. A read sees every ``commit`` that returned
    before the read was called. Times are Unix seconds.

    Writers do not call ``commit`` themselves: they submit to ``write_queue.WriteQueue``.
    """

    async def load(self) -> StoredState:
        """Return what a start needs: the newest revision of each configuration, and all other state as a whole.

        A newest revision whose content is not what was written keeps its revision number; its ``checksum`` is empty,
        and its ``config`` is an empty object if the stored bytes are not a JSON object. An overlay that is not what
        was written has ``confirmed=False``.

        Raises:
            StoreError: A row does not even name a configuration and a revision.
            Unavailable: The database cannot be read.
        """
        ...

    async def commit(self, writes: Sequence[Write]) -> None:
        """Apply writes, in order, in one transaction; when this returns they are durable.

        A cancelled call may still commit.

        Raises:
            Unavailable: The database cannot be written; none of the writes was applied.
        """
        ...

    async def record(self, environment: str, service: str, revision: int) -> Record | None:
        """Return one revision as it is stored, or None if it does not exist; the caller confirms its content.

        Raises:
            Unavailable: The database or the row cannot be read.
        """
        ...

    async def history(self, environment: str, service: str, *, before: int | None, limit: int) -> list[RecordHead]:
        """Return revisions of one configuration without their content, newest first.

        Args:
            environment: The environment of the configuration.
            service: The service of the configuration.
            before: Only revisions with a lower number; None for all.
            limit: The largest number of revisions to return.

        Raises:
            Unavailable: The database or a row cannot be read.
        """
        ...

    async def audit(self, *, before: int | None, limit: int, service: str | None) -> list[Audited]:
        """Return audit entries, newest first, with the checksums of the revisions that they name.

        Args:
            before: Only entries with a lower ``sequence``; None for all.
            limit: The largest number of entries to return.
            service: Only entries about this service; None for all.

        Raises:
            Unavailable: The database or a row cannot be read.
        """
        ...

    async def revisions(self, service: str) -> list[Record]:
        """Return every revision of a service in all environments, without rows that cannot be parsed.

        The caller confirms the content of each.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def tokens(self) -> list[Token]:
        """Return every token, revoked and expired ones included; a row that was not written so is not ``confirmed``.

        Rows that cannot be parsed are left out.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def recipients(self) -> list[Recipient]:
        """Return the public keys that services registered; rows that were not written so are left out.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def applied(self) -> list[Applied]:
        """Return what each running copy of a service last reported.

        Raises:
            Unavailable: The database or a row cannot be read.
        """
        ...

    async def reseal(self, reseal: Reseal) -> None:
        """Seal every stored configuration and overlay anew in one transaction.

        Codes of revisions do not change: they cover secrets in the open. Overlays that are not confirmed and
        revisions that are not JSON stay as they are, so that a verification still reports them.

        Args:
            reseal: Called for each document, in another thread than the caller's.

        Raises:
            Unavailable: The database cannot be written; nothing was changed.
        """
        ...

    async def key_ids(self) -> set[str]:
        """Return the ids of the keys that any value in the database is sealed with.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...

    async def scrub(self) -> None:
        """Remove what updates and deletions left readable in the database's files, such as a write-ahead log.

        Raises:
            Unavailable: The database cannot be written.
        """
        ...

    async def verify(self) -> Findings:
        """Compare every row with the keyed hash chain, without delaying reads and commits.

        A cancelled call ends within a few milliseconds.

        Raises:
            Unavailable: The database cannot be read.
        """
        ...
