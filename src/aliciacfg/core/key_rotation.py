"""Whose keys hold the secrets: the daemon's own, which change, and those that services register."""

import asyncio
import contextlib
from collections.abc import Callable

from aliciacfg import documents
from aliciacfg.core.configurations import Configurations
from aliciacfg.core.plan import ChangeContext, Plan
from aliciacfg.errors import NotFound, OperationError, SourceError
from aliciacfg.model.records import Recipient
from aliciacfg.sealing.boxes import Keyring, PublicKey, key_ids
from aliciacfg.sealing.sealed_documents import reseal
from aliciacfg.storage.store import Store
from aliciacfg.storage.write_queue import WriteQueue


class KeyRotation:
    """Changes keys, and everything that is sealed with them."""

    def __init__(
        self,
        configurations: Configurations,
        *,
        store: Store,
        queue: WriteQueue,
        keyring: Keyring,
        clock: Callable[[], float],
    ) -> None:
        """Take what it changes.

        Args:
            configurations: Hold the secrets.
            store: Has them sealed.
            queue: Commits what was sealed with the keys of before.
            keyring: In use everywhere; becomes another one in place.
            clock: Unix seconds.
        """
        self._configurations = configurations
        self._store = store
        self._queue = queue
        self._keyring = keyring
        self._clock = clock

    @property
    def published(self) -> dict[str, str]:
        """What anyone may know of the key that seals now."""
        return self._keyring.published

    async def used(self) -> set[str]:
        """The ids of the keys that anything in the store or the files is sealed with.

        Raises:
            Unavailable: The store cannot be read.
        """
        sources = self._configurations.sources
        files = [file for found in sources.environments.values() for file in found.files] if sources else []
        texts = (documents.encode([file.defaults, dict(file.services)]) for file in files)
        return await self._store.key_ids() | {key_id for text in texts for key_id in key_ids(text)}

    def take(self, keyring: Keyring) -> None:
        """The keys are others from now on; what is stored stays as it is."""
        self._keyring.take(keyring)

    async def rekey(self, change: Callable[[], Keyring]) -> None:
        """Change the keys, and seal everything that is stored anew with the one that seals then.

        What did not open and does now is in use again.

        Args:
            change: Changes the key file, and says what the keys are; called in a thread.

        Raises:
            KeyFileError: The file cannot be written; nothing changed.
            Unavailable: The store cannot write. The new key seals already, and the old ones open what they sealed.
        """
        configurations = self._configurations
        async with configurations.planning:
            await self._queue.flush()
            self._keyring.take(await asyncio.to_thread(change))
            await self._store.reseal(self._resealed)
            await configurations.look_again()
            await configurations.settle_announcements()
        await self._store.scrub()
        # What files are refused for is told where they are; the keys have changed all the same.
        with contextlib.suppress(SourceError, OperationError):
            await configurations.reload()

    async def set_recipient(self, service: str, key: PublicKey | None, origin: ChangeContext) -> None:
        """Seal a service's secrets to another key from now on, or to none; the bus is told at once.

        Raises:
            NotFound: The service has no configuration anywhere.
            Unavailable: The store cannot write; nothing was changed.
        """
        configurations = self._configurations
        async with configurations.planning:
            heads = configurations.state.all_heads()
            if not any(known == service and entry.live for (_, known), entry in heads.items()):
                raise NotFound(f"There is no configuration of {service}.")
            plan = Plan(configurations.state)
            plan.recipients.append(Recipient(service, None if key is None else str(key)))
            detail = "none" if key is None else f"key {key.key_id}"
            plan.audit.append(origin.done(self._clock(), service=service, detail=detail))
            await configurations.submit(plan)
            configurations.views.put(service, key)
            configurations.show_anew(service)
            await configurations.settle_announcements()

    def _resealed(self, document: bytes, environment: str, service: str) -> bytes:
        return reseal(document, self._keyring, service=service, environment=environment).document
